"""The whole model and its loss: predict the embedding of the future, from some of the senses.

Shapes: B windows, T ticks of context, E far targets, H horizons, K pairs of position and horizon,
M streams, D and P embeddings, R readings, U set-points, G measured tags, Q quantiles.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion.features import Layout
from fusion.model.across import ALONE, Across, mean_of, own_rows
from fusion.model.config import QUANTILES, ModelConfig
from fusion.model.encoder import CrossModal, Encoder
from fusion.model.layers import mlp
from fusion.model.pairs import Pairs
from fusion.model.plan import Response
from fusion.model.predictor import Predictor, Readout, tag_columns
from fusion.model.regularisers import (
    NUM_DIRECTIONS,
    random_directions,
    sigreg_along,
    vicreg,
)

DROP_STREAM = 0.25
"""Chance that a context does without a stream; never without all of them."""
CROSS_SHARE = 4
"""Cross-modal terms are computed for every fourth tick: they cost a fusion per stream."""
INVERSE_TICKS = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows: those of this process. Ticks 0 to T-1 are the context.

    The E ticks after it are targets of far horizons.
    """

    inputs: Mapping[str, Tensor]
    """Per stream [B, T + E, ...]."""
    presence_BLM: Tensor
    setpoints_BTU: Tensor
    plan_BTHU: Tensor
    readings_BLR: Tensor
    """Standardised, NaN where missing; L = T + E."""
    has_far_BE: Tensor
    """Whether the far target exists (the recording goes on that long)."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``."""
        return Batch(
            inputs={name: values.to(device) for name, values in self.inputs.items()},
            presence_BLM=self.presence_BLM.to(device),
            setpoints_BTU=self.setpoints_BTU.to(device),
            plan_BTHU=self.plan_BTHU.to(device),
            readings_BLR=self.readings_BLR.to(device),
            has_far_BE=self.has_far_BE.to(device),
        )


@dataclass(frozen=True, slots=True)
class Chances:
    """What one step leaves to chance, drawn before it is computed."""

    is_kept_BM: Tensor
    """Whether a stream of a window stays in its context, 0 or 1."""
    directions: tuple[Tensor, ...]
    """What SIGReg projects on, [D, A] of the state and then of each stream; alike everywhere."""


class Jepa(nn.Module):
    """Encoder, predictor, cross-modal heads and readouts of one plant.

    ``across`` are the processes that train it together, each on a part of every batch.
    """

    def __init__(self, layout: Layout, config: ModelConfig, across: Across = ALONE) -> None:
        super().__init__()
        self.layout, self.config, self.across = layout, config, across
        self.encoder = Encoder(layout, config)
        self.cross = CrossModal(layout, config)
        self.predictor = Predictor(layout, config)
        self.readout = Readout(layout, config)
        self.response = Response(layout, config, tag_columns(layout))
        self.inverse = mlp(2 * config.embedding, config.width, layout.num_setpoints)
        self.teacher = copy.deepcopy(self.encoder) if config.target == "ema" else None
        if self.teacher is not None:
            self.teacher.requires_grad_(requires_grad=False)

    def update_teacher(self) -> None:
        """Move the EMA target encoder towards the encoder; nothing for other targets."""
        if self.teacher is None:
            return
        with torch.no_grad():
            for slow, fast in zip(
                self.teacher.state_dict().values(), self.encoder.state_dict().values(), strict=True
            ):
                if slow.is_floating_point():
                    slow.lerp_(fast, 1 - self.config.ema_decay)
                else:
                    slow.copy_(fast)

    def chances(self, batch: Batch, generator: torch.Generator) -> Chances:
        """Return what is left to chance with ``batch``; ``generator`` stands alike everywhere."""
        batch_size, _, num_streams = batch.presence_BLM.shape
        config, device = self.config, batch.presence_BLM.device
        drawn_BM = torch.rand(batch_size * self.across.size, num_streams, generator=generator)
        sizes = (config.embedding, *[config.stream_embedding] * num_streams)
        return Chances(
            (own_rows(drawn_BM, self.across) >= DROP_STREAM).to(batch.presence_BLM),
            tuple(
                random_directions(size, NUM_DIRECTIONS, generator).to(device)
                for size in (sizes if config.regulariser == "sigreg" else ())
            ),
        )

    def loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return every term of the loss, with chances of ``generator``."""
        return self(batch, self.chances(batch, generator))

    def forward(self, batch: Batch, chances: Chances) -> dict[str, Tensor]:
        """Return every term of the loss by name; ``total`` is what is minimised.

        Each is that of the global batch, equal in all processes.

        ``sum_h MSE(z) + 1/2 MSE(p) + 1/2 cross + 10 regulariser / N + 0.1 inverse dynamics``, and
        the readouts, which learn from detached embeddings.
        """
        config, num_ticks = self.config, self.config.window_ticks
        batch_size, length = batch.presence_BLM.shape[:2]
        flat = {name: x.flatten(0, 1) for name, x in batch.inputs.items()}
        presence = batch.presence_BLM.flatten(0, 1)
        tokens = self.encoder.tokens(flat)
        z_BLD = self.encoder.fuse(tokens, presence).view(batch_size, length, -1)
        p_BLMP = self.encoder.stream_embeddings(tokens).view(
            batch_size, length, -1, config.stream_embedding
        )
        z_target, p_target = self._targets(flat, presence, z_BLD, p_BLMP)

        kept_BLM = _drop_streams(batch.presence_BLM, chances.is_kept_BM)[:, :num_ticks]
        context_tokens = tokens.view(batch_size, length, *tokens.shape[1:])[:, :num_ticks]
        z_context = self.encoder.fuse(context_tokens.flatten(0, 1), kept_BLM.flatten(0, 1))
        z_context = z_context.view(batch_size, num_ticks, -1)
        predicted = self.predictor(z_context, batch.setpoints_BTU, batch.plan_BTHU)
        target_BTH, is_valid_BTH = self._target_index(batch)
        is_there = _gather(batch.presence_BLM, target_BTH)
        terms = {
            "predict_z": self._mean(
                (predicted.z_BTHD - _gather(z_target, target_BTH)) ** 2, is_valid_BTH
            ),
            "predict_p": self._mean(
                (predicted.p_BTHMP - _gather(p_target, target_BTH)) ** 2,
                is_valid_BTH[..., None] * is_there,
            ),
            **self._cross_terms(tokens, batch, p_target),
            "regularise": self._regularise(z_BLD, p_BLMP, chances.directions),
            "inverse": self._inverse(z_context, batch),
            "readout": self._readout(
                predicted.z_BTHD.detach(), z_context.detach(), batch, target_BTH, is_valid_BTH
            ),
        }
        terms["total"] = (
            len(config.horizons_ticks) * terms["predict_z"]
            + 0.5 * terms["predict_p"]
            + 0.5 * terms["cross"]
            + 10 * terms["regularise"]
            + 0.1 * terms["inverse"]
            + terms["readout"]
            + terms["cross_readout"]
        )
        return terms

    def read(
        self, z_hat: Tensor, z_now: Tensor, readings_now: Tensor, *, setpoints: Tensor, plan: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return readings [B, T, H, R] and tag quantiles [B, T, H, G, Q] under the plan."""
        readings, quantiles = self.readout(z_hat, z_now, readings_now)
        moved = self.response(readings_now, setpoints, plan)
        of_tags = moved.index_select(-1, self.readout.get_buffer("tag_columns_G"))
        return readings + moved, quantiles + of_tags[..., None]

    def read_at(
        self,
        pairs: Pairs,
        z_BKD: Tensor,
        z_now: Tensor,
        readings_now: Tensor,
        *,
        setpoints: Tensor,
        plan: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return what :meth:`read` says of ``pairs``: [B, K, R] and [B, K, G, Q]."""
        readings, quantiles = self.readout.at(pairs, z_BKD, z_now, readings_now)
        moved = self.response.at(pairs, readings_now, setpoints, plan)
        of_tags = moved.index_select(-1, self.readout.get_buffer("tag_columns_G"))
        return readings + moved, quantiles + of_tags[..., None]

    def without_each(self, tokens: Tensor, presence: Tensor) -> Tensor:
        """Return the state embedding without each stream in turn, [N, M, D]."""
        num_streams = presence.shape[1]
        states = [
            self.encoder.fuse(
                tokens,
                presence * (1 - nn.functional.one_hot(torch.tensor(m), num_streams).to(presence)),
            )
            for m in range(num_streams)
        ]
        return torch.stack(states, dim=1)

    def _targets(
        self, flat: Mapping[str, Tensor], presence: Tensor, z_BLD: Tensor, p_BLMP: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.config.target == "live":
            return z_BLD, p_BLMP
        if self.teacher is None:
            return z_BLD.detach(), p_BLMP.detach()
        with torch.no_grad():
            slow = self.teacher(flat, presence)
        return slow.z_BD.view_as(z_BLD), slow.p_BMP.view_as(p_BLMP)

    def _target_index(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return where the target of each position and horizon lies in the batch, and its weight.

        The weight is 0 where the recording has no such tick.
        """
        config = self.config
        batch_size, num_ticks = batch.setpoints_BTU.shape[:2]
        index_TH = torch.zeros(num_ticks, len(config.horizons_ticks), dtype=torch.long)
        valid_BTH = batch.has_far_BE.new_zeros(batch_size, *index_TH.shape)
        num_near = len(config.scored_horizons)
        for column, horizon in enumerate(config.horizons_ticks):
            if column < num_near:
                index_TH[: num_ticks - horizon, column] = torch.arange(horizon, num_ticks)
                # Every horizon counts alike, however few positions have a target there.
                valid_BTH[:, : num_ticks - horizon, column] = 1 / (num_ticks - horizon)
            else:
                index_TH[num_ticks - 1, column] = num_ticks + column - num_near
                valid_BTH[:, num_ticks - 1, column] = batch.has_far_BE[:, column - num_near]
        index_TH = index_TH.to(valid_BTH.device)
        return index_TH.expand(batch_size, -1, -1), valid_BTH

    def _cross_terms(self, tokens: Tensor, batch: Batch, p_target: Tensor) -> dict[str, Tensor]:
        # Every fourth tick of the global batch, whoever has it.
        num_before = self.across.rank * batch.presence_BLM[..., 0].numel()
        told = slice(-num_before % CROSS_SHARE, None, CROSS_SHARE)
        presence = batch.presence_BLM.flatten(0, 1)[told]
        cross_p, cross_readings = self.cross(self.without_each(tokens[told], presence))
        wanted = p_target.flatten(0, 1)[told]
        readings = batch.readings_BLR.flatten(0, 1)[told]
        # A stream can be told from the others only when it and one of them are there.
        is_told = presence * (presence.sum(1, keepdim=True) > 1)
        return {
            "cross": self._mean((cross_p - wanted) ** 2, is_told),
            "cross_readout": self._mean(
                (cross_readings - readings.nan_to_num()) ** 2, (~readings.isnan()).float()
            ),
        }

    def _regularise(self, z_BLD: Tensor, p_BLMP: Tensor, directions: tuple[Tensor, ...]) -> Tensor:
        """Return the regulariser per window of the batch, of the state and of each stream."""
        across = self.across
        batch_size = len(z_BLD) * across.size
        # Variances and characteristic functions need float32, whatever the networks compute in.
        with torch.autocast(z_BLD.device.type, enabled=False):
            each = [x[:, ::3].transpose(0, 1) for x in (z_BLD, *p_BLMP.unbind(2))]
            each = [x.float() if x.dtype is torch.bfloat16 else x for x in each]
            if self.config.regulariser == "vicreg":
                values = [vicreg(x, across=across) for x in each]
            else:
                values = [
                    sigreg_along(x, along.to(x), across=across) / batch_size
                    for x, along in zip(each, directions, strict=True)
                ]
        return values[0] + torch.stack(values[1:]).mean()

    def _inverse(self, z_BTD: Tensor, batch: Batch) -> Tensor:
        """Return how badly the change of set-points is read from two embeddings."""
        pairs = torch.cat([z_BTD[:, :-INVERSE_TICKS], z_BTD[:, INVERSE_TICKS:]], dim=-1)
        change = batch.setpoints_BTU[:, INVERSE_TICKS:] - batch.setpoints_BTU[:, :-INVERSE_TICKS]
        return self._mean((self.inverse(pairs) - change) ** 2, torch.ones_like(change))

    def _readout(
        self, z_hat: Tensor, z_now: Tensor, batch: Batch, target_BTH: Tensor, is_valid: Tensor
    ) -> Tensor:
        now_BTR = batch.readings_BLR[:, : self.config.window_ticks].nan_to_num()
        readings, quantiles = self.read(
            z_hat, z_now, now_BTR, setpoints=batch.setpoints_BTU, plan=batch.plan_BTHU
        )
        wanted = _gather(batch.readings_BLR, target_BTH)
        is_known = is_valid[..., None] * (~wanted.isnan()).float()
        wanted = wanted.nan_to_num()
        squared = self._mean((readings - wanted) ** 2, is_known)
        columns = self.readout.get_buffer("tag_columns_G")
        if not len(columns):
            return squared
        error = wanted.index_select(-1, columns)[..., None] - quantiles
        levels = torch.tensor(QUANTILES, device=quantiles.device)
        pinball = torch.maximum(levels * error, (levels - 1) * error).sum(-1)
        return squared + self._mean(pinball, is_known.index_select(-1, columns))

    def _mean(self, values: Tensor, weights: Tensor) -> Tensor:
        return mean_of(values, weights, self.across)


def _drop_streams(presence_BLM: Tensor, is_kept_BM: Tensor) -> Tensor:
    """Return the presence with whole streams of a window dropped, at least one kept per tick."""
    dropped = presence_BLM * is_kept_BM[:, None]
    has_any = dropped.sum(-1, keepdim=True) > 0
    return torch.where(has_any, dropped, presence_BLM)


def _gather(values_BLX: Tensor, index_BTH: Tensor) -> Tensor:
    """Return ``values[b, index[b, t, h]]``, [B, T, H, ...]."""
    rows = torch.arange(len(values_BLX), device=values_BLX.device)[:, None, None]
    return values_BLX[rows, index_BTH]
