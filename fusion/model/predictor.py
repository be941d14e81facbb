"""The future of the embedding: a causal transformer, asked per horizon and per planned set-point.

Shapes: B windows, T ticks, H horizons, K pairs of position and horizon, D state embedding,
M streams, P stream embedding, U set-points, R readings, Q quantiles, G measured tags.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusion.features import Layout
from fusion.model.config import QUANTILES, ModelConfig
from fusion.model.layers import Block, ConditionedMlp, mlp
from fusion.model.pairs import Pairs
from fusion.model.plan import PlanCode


class Predicted(NamedTuple):
    """What is expected ``h`` ticks after each position of the window."""

    z_BTHD: Float[Tensor, "B T H D"]
    p_BTHMP: Float[Tensor, "B T H M P"]


class PredictedPairs(NamedTuple):
    """What is expected of some pairs of position and horizon."""

    z_BKD: Float[Tensor, "B K D"]
    p_BKMP: Float[Tensor, "B K M P"]


class Predictor(nn.Module):
    """Predicts embeddings at several horizons directly, conditioned on planned set-points."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.num_streams = len(layout.streams)
        self.horizons_ticks = config.horizons_ticks
        self.from_z = nn.Linear(config.embedding, width)
        self.from_setpoints = nn.Linear(layout.num_setpoints, width)
        self.position = nn.Parameter(torch.randn(config.window_ticks, width) * 0.02)
        self.blocks = nn.ModuleList(
            [Block(width, config.num_heads, is_causal=True) for _ in range(config.predictor_layers)]
        )
        self.horizon = mlp(2 * 8, width, width)
        self.plan = PlanCode(layout, config, width)
        self.ask = nn.ModuleList([ConditionedMlp(width) for _ in range(2)])
        self.norm = nn.LayerNorm(width)
        self.to_z = nn.Linear(width, config.embedding)
        self.to_p = nn.Linear(width, self.num_streams * config.stream_embedding)
        self.register_buffer(
            "horizon_code_HC", horizon_code(config.horizons_ticks), persistent=False
        )

    def forward(
        self,
        z_BTD: Float[Tensor, "B T D"],
        setpoints_BTU: Float[Tensor, "B T U"],
        plan_BTHU: Float[Tensor, "B T H U"],
    ) -> Predicted:
        """Return the predicted embeddings for every position and horizon."""
        tokens = self._past(z_BTD, setpoints_BTU)
        condition = self._condition(setpoints_BTU, plan_BTHU)
        asked = tokens[:, :, None].expand(-1, -1, plan_BTHU.shape[2], -1)
        return Predicted(*self._answer(asked, condition, z_BTD[:, :, None]))

    def at(
        self,
        pairs: Pairs,
        z_BTD: Float[Tensor, "B T D"],
        setpoints_BTU: Float[Tensor, "B T U"],
        plan_BTHU: Float[Tensor, "B T H U"],
    ) -> PredictedPairs:
        """Return what :meth:`forward` says of ``pairs``, without computing the rest."""
        asked = pairs.of_position(self._past(z_BTD, setpoints_BTU))
        condition = pairs.of_both(self._condition(setpoints_BTU, plan_BTHU))
        return PredictedPairs(*self._answer(asked, condition, pairs.of_position(z_BTD)))

    def ahead(
        self,
        z_BTD: Float[Tensor, "B T D"],
        setpoints_BTU: Float[Tensor, "B T U"],
        horizons_ticks: tuple[int, ...],
    ) -> Float[Tensor, "B H D"]:
        """Return the state expected at any horizons after the newest tick, set-points held."""
        newest_BW = self._past(z_BTD, setpoints_BTU)[:, -1]
        now_B1U = setpoints_BTU[:, -1:]
        # A plan is told in the words of the horizons that were trained: the nearest one's.
        held = now_B1U[:, :, None].expand(-1, -1, len(self.horizons_ticks), -1)
        nearest = [
            min(range(len(self.horizons_ticks)), key=lambda i, h=h: abs(self.horizons_ticks[i] - h))
            for h in horizons_ticks
        ]
        plan_BHW = self.plan(now_B1U, held)[:, 0, nearest]
        condition_BHW = self.horizon(horizon_code(horizons_ticks)) + plan_BHW
        asked_BHW = newest_BW[:, None].expand_as(condition_BHW)
        for layer in self.ask:
            asked_BHW = layer(asked_BHW, condition_BHW)
        return z_BTD[:, -1:] + self.to_z(self.norm(asked_BHW))

    def _condition(self, setpoints_BTU: Tensor, plan_BTHU: Tensor) -> Tensor:
        """Return what is asked of each position, [B, T, H, W]: how far ahead, under which plan."""
        codes = self.get_buffer("horizon_code_HC")
        return self.horizon(codes) + self.plan(setpoints_BTU, plan_BTHU)

    def _answer(self, asked: Tensor, condition: Tensor, z_now: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings expected, [..., D] and [..., M, P], of tokens [..., W]."""
        for layer in self.ask:
            asked = layer(asked, condition)
        asked = self.norm(asked)
        p = self.to_p(asked)
        # The state mostly stays: predicting its change starts from persistence.
        return z_now + self.to_z(asked), p.reshape(*p.shape[:-1], self.num_streams, -1)

    def _past(self, z_BTD: Tensor, setpoints_BTU: Tensor) -> Tensor:
        """Return what each position knows of the window up to itself, [B, T, W]."""
        tokens = self.from_z(z_BTD) + self.from_setpoints(setpoints_BTU) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class Readout(nn.Module):
    """Predicted embeddings to numbers that people know; learns from detached embeddings only."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        self.num_tags = sum(
            len(stream.readings) for stream in layout.streams if stream.modality == "telemetry"
        )
        self.register_buffer(
            "tag_columns_G", torch.tensor(tag_columns(layout), dtype=torch.long), persistent=False
        )
        inputs = 2 * config.embedding + layout.num_readings
        num_outputs = layout.num_readings + len(QUANTILES) * self.num_tags
        self.num_readings = layout.num_readings
        self.hidden = mlp(inputs + 16, 3 * config.width, 2 * config.width)
        self.out = nn.Linear(2 * config.width, num_outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.keep = nn.Parameter(torch.full((len(config.horizons_ticks), layout.num_readings), 2.0))
        self.register_buffer(
            "horizon_code_HC", horizon_code(config.horizons_ticks), persistent=False
        )

    def forward(self, z_hat: Tensor, z_now: Tensor, readings_now: Tensor) -> tuple[Tensor, Tensor]:
        """Return readings [..., H, R] and tag quantiles [..., H, G, Q] in standard deviations.

        ``z_hat`` is [..., H, D], ``z_now`` [..., D], ``readings_now`` [..., R] with 0 for missing.
        """
        assert z_hat.shape[-2] == len(self.keep), "one row of the readout per horizon"
        now = torch.cat([z_now, readings_now], dim=-1).unsqueeze(-2)
        now = now.expand(*z_hat.shape[:-1], now.shape[-1])
        kept = torch.sigmoid(self.keep) * readings_now.unsqueeze(-2)
        return self._decode(z_hat, now, self.get_buffer("horizon_code_HC"), kept)

    def at(
        self, pairs: Pairs, z_BKD: Tensor, z_now_BTD: Tensor, readings_now_BTR: Tensor
    ) -> tuple[Float[Tensor, "B K R"], Float[Tensor, "B K G Q"]]:
        """Return what :meth:`forward` says of ``pairs``, given their predicted embeddings."""
        readings_now = pairs.of_position(readings_now_BTR)
        now = torch.cat([pairs.of_position(z_now_BTD), readings_now], dim=-1)
        kept = torch.sigmoid(pairs.of_horizon(self.keep)) * readings_now
        codes = pairs.of_horizon(self.get_buffer("horizon_code_HC"))
        return self._decode(z_BKD, now, codes, kept)

    def _decode(
        self, z_hat: Tensor, now: Tensor, codes: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return readings [..., R] and tag quantiles [..., G, Q]."""
        codes = codes.expand(*z_hat.shape[:-1], -1)
        hidden = nn.functional.gelu(self.hidden(torch.cat([z_hat, now, codes], dim=-1)))
        out = self.out(hidden)
        readings = kept + out[..., : self.num_readings]
        spread = out[..., self.num_readings :].reshape(
            *z_hat.shape[:-1], self.num_tags, len(QUANTILES)
        )
        base = readings.index_select(-1, self.get_buffer("tag_columns_G")).detach()
        middle = base + spread[..., 1]
        low = middle - nn.functional.softplus(spread[..., 0] - 1)
        high = middle + nn.functional.softplus(spread[..., 2] - 1)
        return readings, torch.stack([low, middle, high], dim=-1)


def tag_columns(layout: Layout) -> list[int]:
    """Return where the measured tags lie among all readings."""
    return [
        column
        for stream in layout.streams
        if stream.modality == "telemetry"
        for column in range(layout.columns(stream.name).start, layout.columns(stream.name).stop)
    ]


def horizon_code(horizons_ticks: tuple[int, ...]) -> Float[Tensor, "H 16"]:
    """Return sines and cosines of the horizons' logarithms (Vaswani et al. 2017, 3.5)."""
    rates = torch.tensor([0.25 * 2**k for k in range(8)]) * math.pi
    angles = torch.log2(torch.tensor(horizons_ticks, dtype=torch.float32) + 1)[:, None] / 8 * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
