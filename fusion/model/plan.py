"""What planned set-points do: told to the predictor, and answered by tags beside the embedding.

Shapes: B windows, T ticks, H horizons, K pairs of position and horizon, G horizons whose moves
horizon H is told of, U set-points, O outputs, R readings, C of them measured tags, F features,
N ticks of a recording.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusion.features import Layout
from fusion.model.config import ModelConfig
from fusion.model.pairs import Pairs

SETPOINT_GAIN = 4.0
"""Set-points are scaled by their range, of which operators use about a quarter."""
RIDGE = 3.0
"""Weighs against the step response as three ticks would; a fit has thousands."""


class PlanCode(nn.Module):
    """Where the set-points will be at each horizon, and when they move until then.

    A plant that is a minute slower than its set-point is elsewhere after a move now than after one
    just before the horizon. Each horizon has weights of its own and sees no move after itself.
    """

    def __init__(self, layout: Layout, config: ModelConfig, num_outputs: int) -> None:
        super().__init__()
        num_horizons, num_setpoints = len(config.horizons_ticks), layout.num_setpoints
        told = (1 + num_horizons) * num_setpoints
        self.weight = nn.Parameter(torch.randn(num_horizons, told, num_outputs) / told**0.5)

    def forward(
        self, setpoints_BTU: Float[Tensor, "B T U"], plan_BTHU: Float[Tensor, "B T H U"]
    ) -> Float[Tensor, "B T H O"]:
        """Return the code of the plan for every position and horizon."""
        told = torch.cat([SETPOINT_GAIN * plan_BTHU, moves_until(setpoints_BTU, plan_BTHU)], dim=-1)
        return torch.einsum("bthp,hpo->btho", told, self.weight)


class Response(nn.Module):
    """What each reading does by itself and under the plan: a step response per horizon.

    Least squares of the readings on tags, set-points and moves; not trained by steps. An embedding
    says what kind of state comes, not by how much each tag moves with a set-point: read from it
    alone, tags moved by a tenth to a third of what they should. The readout adds what the
    embedding knows beyond this.
    """

    def __init__(self, layout: Layout, config: ModelConfig, columns: list[int]) -> None:
        super().__init__()
        num_horizons, num_setpoints = len(config.horizons_ticks), layout.num_setpoints
        num_features = len(columns) + 1 + (1 + num_horizons) * num_setpoints
        self.register_buffer("columns_C", torch.tensor(columns, dtype=torch.long), persistent=False)
        self.register_buffer("weight", torch.zeros(num_horizons, num_features, layout.num_readings))

    def forward(
        self, readings_now: Tensor, setpoints_BTU: Tensor, plan_BTHU: Tensor
    ) -> Float[Tensor, "B T H R"]:
        """Return what is added to each reading, in standard deviations."""
        features = self.features(readings_now, setpoints_BTU, plan_BTHU)
        return torch.einsum("bthf,hfr->bthr", features, self.get_buffer("weight"))

    def at(
        self, pairs: Pairs, readings_now: Tensor, setpoints_BTU: Tensor, plan_BTHU: Tensor
    ) -> Float[Tensor, "B K R"]:
        """Return what :meth:`forward` says of ``pairs`` of position and horizon."""
        features_BKF = pairs.of_both(self.features(readings_now, setpoints_BTU, plan_BTHU))
        weight_KFR = pairs.of_horizon(self.get_buffer("weight"))
        return torch.einsum("bkf,kfr->bkr", features_BKF, weight_KFR)

    def features(
        self, readings_now: Tensor, setpoints_BTU: Tensor, plan_BTHU: Tensor
    ) -> Float[Tensor, "B T H F"]:
        """Return what the fit reads: tags and set-points now, 1, and the moves until then."""
        tags = readings_now.index_select(-1, self.get_buffer("columns_C"))
        now = torch.cat([tags, setpoints_BTU, torch.ones_like(setpoints_BTU[..., :1])], dim=-1)
        moves = moves_until(setpoints_BTU, plan_BTHU)
        return torch.cat([now.unsqueeze(2).expand(*moves.shape[:3], -1), moves], dim=-1)

    @torch.no_grad()
    def fit(self, horizon: int, features_NF: Tensor, wanted_NR: Tensor) -> None:
        """Set the weights of one horizon by ridge regression; NaN in ``wanted`` is left out."""
        x, y = features_NF.double(), wanted_NR.double()
        is_known = ~y.isnan().any(dim=1)
        x, y = x[is_known], y[is_known]
        gram = x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
        self.get_buffer("weight")[horizon] = torch.linalg.solve(gram, x.T @ y).float()


def moves_until(
    setpoints_BTU: Float[Tensor, "B T U"], plan_BTHU: Float[Tensor, "B T H U"]
) -> Float[Tensor, "B T H GU"]:
    """Return, per horizon, by how much each set-point moves between the horizons up to it."""
    before_BTHU = torch.cat([setpoints_BTU[:, :, None], plan_BTHU[:, :, :-1]], dim=2)
    moves_BT1GU = SETPOINT_GAIN * (plan_BTHU - before_BTHU).unsqueeze(2)
    num_horizons = plan_BTHU.shape[2]
    earlier_HG = torch.ones(num_horizons, num_horizons, device=plan_BTHU.device).tril()
    return (moves_BT1GU * earlier_HG[:, :, None]).flatten(3)
