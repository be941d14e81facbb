"""What planned set-points do: told to the predictor, and added to what is read from its answer.

Shapes: B windows, T ticks, H horizons, G horizons whose moves horizon H is told of, U set-points,
O outputs, D state embedding, R readings.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusion.features import Layout
from fusion.model.config import ModelConfig

SETPOINT_GAIN = 4.0
"""Set-points are scaled by their range, of which operators use about a quarter."""
STEP_GAIN = 8.0
"""A step of Adam moves a weight by the learning rate, and these start at 0: without a gain a few
hundred steps end before a tag moves by the standard deviations that a set-point moves it."""


class PlanCode(nn.Module):
    """Where the set-points will be at each horizon, and when they move until then.

    A plant that is a minute slower than its set-point is elsewhere after a move now than after one
    just before the horizon. Each horizon has weights of its own, which read as the plant's step
    responses, and sees no move after itself.
    """

    def __init__(self, layout: Layout, config: ModelConfig, num_outputs: int) -> None:
        super().__init__()
        num_horizons, num_setpoints = len(config.horizons_ticks), layout.num_setpoints
        told = (1 + num_horizons) * num_setpoints
        self.weight = nn.Parameter(torch.randn(num_horizons, told, num_outputs) / told**0.5)
        earlier_HG = torch.ones(num_horizons, num_horizons).tril()
        self.register_buffer("earlier_HG", earlier_HG, persistent=False)

    def forward(
        self, setpoints_BTU: Float[Tensor, "B T U"], plan_BTHU: Float[Tensor, "B T H U"]
    ) -> Float[Tensor, "B T H O"]:
        """Return the code of the plan for every position and horizon."""
        before_BTHU = torch.cat([setpoints_BTU[:, :, None], plan_BTHU[:, :, :-1]], dim=2)
        moves_BT1GU = (plan_BTHU - before_BTHU).unsqueeze(2)
        seen_BTHGU = moves_BT1GU * self.get_buffer("earlier_HG")[:, :, None]
        told = SETPOINT_GAIN * torch.cat([plan_BTHU.unsqueeze(3), seen_BTHGU], dim=3).flatten(3)
        return torch.einsum("bthp,hpo->btho", told, self.weight)


class Response(nn.Module):
    """What the plan adds to each reading: a step response per horizon, bent by the state.

    A predicted embedding says what kind of state comes, not how far each tag moves with a
    set-point: read from it alone, moves of tags came out at a tenth to a third of their size.
    """

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        self.straight = PlanCode(layout, config, layout.num_readings)
        self.plan = PlanCode(layout, config, 2 * config.width)
        self.now = nn.Linear(config.embedding + layout.num_readings, 2 * config.width)
        self.bent = nn.Linear(2 * config.width, layout.num_readings)
        nn.init.zeros_(self.straight.weight)
        nn.init.zeros_(self.bent.weight)
        nn.init.zeros_(self.bent.bias)

    def forward(
        self, z_now: Tensor, readings_now: Tensor, setpoints: Tensor, plan: Tensor
    ) -> Float[Tensor, "B T H R"]:
        """Return the change of every reading, in standard deviations."""
        now = self.now(torch.cat([z_now, readings_now], dim=-1)).unsqueeze(2)
        bent = self.bent(nn.functional.gelu(now + self.plan(setpoints, plan)))
        return STEP_GAIN * self.straight(setpoints, plan) + bent
