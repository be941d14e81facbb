"""Gauges of a model on held-out windows: is the embedding alive, and does it know the plant?

Shapes: B windows, T ticks, H horizons, D state embedding, M streams, R readings.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from fusion.model.jepa import Batch, Jepa
from fusion.model.regularisers import sigreg

RIDGE = 1.0
HEALTHY: Final = {
    "sigreg": (0.0, 3.0),
    "rankme": (6.0, math.inf),
    "std_mean": (0.1, 3.0),
    "skill": (0.0, math.inf),
    "probe_r2": (0.0, math.inf),
    "shuffled_setpoints": (1.0, math.inf),
}
"""Between what a gauge lies in a run that goes well: a warning for people, not what stops a run.

SIGReg reads 1 of a whole embedding and 8 of one with 8 directions; of the others, what lies outside
is worse than saying nothing, or twice as near to collapse as one should come.
"""


@torch.no_grad()
def measure(model: Jepa, batch: Batch) -> dict[str, float]:
    """Return every gauge by name; the model is left in the mode in which it came.

    ``sigreg`` near 1 and ``rankme`` far from 1 are healthy; ``skill.h*`` is the part of the
    persistence error that prediction removes; ``probe_r2`` says how well readings are read from z,
    of all streams together and of each;
    ``skill_without.*`` is the skill when contexts lack that stream.
    """
    was_training = model.training
    model.eval()
    try:
        return _measure(model, batch)
    finally:
        model.train(was_training)


def is_healthy(gauge: str, value: float) -> bool:
    """Return whether ``value`` is what ``gauge`` shows in a run that goes well.

    Example:
        >>> is_healthy("skill.h4", 0.1), is_healthy("skill.h4", math.nan)
        (True, False)
    """
    family = gauge.partition(".")[0]
    if family not in HEALTHY:
        return True
    low, high = HEALTHY[family]
    return low <= value <= high


def _measure(model: Jepa, batch: Batch) -> dict[str, float]:
    config = model.config
    batch_size, length = batch.presence_BLM.shape[:2]
    flat = {name: x.flatten(0, 1) for name, x in batch.inputs.items()}
    presence = batch.presence_BLM.flatten(0, 1)
    tokens = model.encoder.tokens(flat)
    z_BLD = model.encoder.fuse(tokens, presence).view(batch_size, length, -1)
    z_BTD = z_BLD[:, : config.window_ticks]
    generator = torch.Generator().manual_seed(0)
    within = z_BTD.var(dim=1).mean()
    gauges = {
        "sigreg": sigreg(z_BTD.transpose(0, 1), generator=generator).item(),
        "rankme": rankme(z_BTD.flatten(0, 1)),
        "std_min": z_BTD.flatten(0, 1).std(dim=0).min().item(),
        "std_mean": z_BTD.flatten(0, 1).std(dim=0).mean().item(),
        "within_over_between": (
            within / z_BTD.mean(dim=1).var(dim=0).mean().clamp_min(1e-9)
        ).item(),
        "probe_r2": probe_r2(z_BTD, batch.readings_BLR[:, : config.window_ticks]),
    }
    readings_BTR = batch.readings_BLR[:, : config.window_ticks]
    for stream in model.layout.streams:
        # Most readings may be one camera's pixels: the median of all hides the other streams.
        columns = model.layout.columns(stream.name)
        gauges[f"probe_r2.{stream.name}"] = probe_r2(z_BTD, readings_BTR[..., columns])
    gauges |= _skills(model, batch, z_BTD, "skill")
    shuffled = batch.plan_BTHU.roll(1, dims=0)
    gauges["shuffled_setpoints"] = _error(model, z_BTD, batch.setpoints_BTU, shuffled) / max(
        1e-9, _error(model, z_BTD, batch.setpoints_BTU, batch.plan_BTHU)
    )
    p = model.encoder.stream_embeddings(tokens)
    cross, _ = model.cross(model.without_each(tokens, presence))
    for m, stream in enumerate(model.layout.streams):
        error = ((cross[:, m] - p[:, m]) ** 2).mean() / p[:, m].var(dim=0).mean().clamp_min(1e-9)
        gauges[f"cross_error.{stream.name}"] = error.item()
        if len(model.layout.streams) > 1:
            without = presence.clone()
            without[:, m] = 0
            partial = model.encoder.fuse(tokens, without).view(batch_size, length, -1)
            first = f"skill.h{config.horizons_ticks[0]}"
            skills = _skills(model, batch, z_BTD, "skill", partial[:, : config.window_ticks])
            gauges[f"skill_without.{stream.name}"] = skills[first]
    return gauges


def rankme(embeddings_ND: Tensor) -> float:
    """Return the effective rank (Garrido et al. 2023, RankMe, equation 1) of centred embeddings.

    Embeddings that are not finite say nothing: 0.
    """
    if not torch.isfinite(embeddings_ND).all():
        return 0.0
    values = torch.linalg.svdvals(embeddings_ND - embeddings_ND.mean(dim=0))
    shares = values / values.sum().clamp_min(1e-12) + 1e-7
    return torch.exp(-(shares * shares.log()).sum()).item()


def probe_r2(z_BTD: Tensor, readings_BTR: Tensor) -> float:
    """Return the median R2 of ridge regressions from z to each reading.

    Fitted on every other window, tested on those between: neighbours in time are alike, and a split
    in the middle would test on another hour of the plant than the one it was fitted on.
    """

    def part(offset: int) -> tuple[Tensor, Tensor]:
        x, y = z_BTD[offset::2].flatten(0, 1), readings_BTR[offset::2].flatten(0, 1)
        known = ~y.isnan().any(dim=1)
        return torch.cat([x[known], x.new_ones(int(known.sum()), 1)], dim=1), y[known]

    (x, y), (x_test, y_test) = part(0), part(1)
    if len(x) < x.shape[1] or not len(x_test):
        return float("nan")
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1], device=x.device), x.T @ y)
    residual = ((y_test - x_test @ weights) ** 2).mean(dim=0)
    return (1 - residual / y_test.var(dim=0).clamp_min(1e-6)).median().item()


def _skills(
    model: Jepa, batch: Batch, z_BTD: Tensor, name: str, context: Tensor | None = None
) -> dict[str, float]:
    predicted = model.predictor(
        z_BTD if context is None else context, batch.setpoints_BTU, batch.plan_BTHU
    )
    skills: dict[str, float] = {}
    for column, horizon in enumerate(model.config.scored_horizons):
        came, was = z_BTD[:, horizon:], z_BTD[:, :-horizon]
        error = ((predicted.z_BTHD[:, :-horizon, column] - came) ** 2).mean()
        skills[f"{name}.h{horizon}"] = (
            1 - error / ((was - came) ** 2).mean().clamp_min(1e-9)
        ).item()
    return skills


def _error(model: Jepa, z_BTD: Tensor, setpoints: Tensor, plan: Tensor) -> float:
    horizon = model.config.scored_horizons[-1]
    column = len(model.config.scored_horizons) - 1
    predicted = model.predictor(z_BTD, setpoints, plan).z_BTHD[:, :-horizon, column]
    return ((predicted - z_BTD[:, horizon:]) ** 2).mean().item()
