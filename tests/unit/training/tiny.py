"""A plant of two groups of tags, a recipe of seconds and a recording."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.alignment import Observation
from fusion.model import ModelConfig
from fusion.plant import Plant, parse_plant
from fusion.training import Recipe, Trained

PLANT: Plant = parse_plant(
    """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [-5, 5]}, {name: heat, unit: K, range: [-5, 5]},
      {name: flow, unit: l/min, range: [-5, 5]},
      {name: goal, unit: m, range: [-1, 1], setpoint: true}]}
  - {name: other, modality: telemetry, rate_hz: 2, tags: [
      {name: current, unit: A, range: [-5, 5]}, {name: speed, unit: rpm, range: [-5, 5]}]}
""",
    origin="duo.yaml",
)


def recipe(**changes: Any) -> Recipe:
    """A tiny recipe with other values for some fields of it or of its model."""
    model = {
        "width": 32,
        "embedding": 16,
        "stream_embedding": 8,
        "fusion_layers": 1,
        "predictor_layers": 1,
        "window_ticks": 8,
        "horizons_ticks": (1, 4, 16, 40),
    }
    own = {"name": "test", "steps": 10, "batch_windows": 12, "warmup_steps": 3, "gauge_every": 5}
    mine = {key: value for key, value in changes.items() if key in Recipe.model_fields}
    models = {key: value for key, value in changes.items() if key in ModelConfig.model_fields}
    return Recipe.model_validate({**own, "threads": 1, **mine, "model": {**model, **models}})


def recording(count: int = 160, *, seed: int = 0, is_constant: bool = False) -> list[Observation]:
    """Return a plant that swings; now and then a stream or a cell is absent."""
    draw = np.random.default_rng(seed)
    ticks: list[Observation] = []
    for tick in range(count):
        phase = 2 * np.pi * (tick + np.arange(2)[:, None] / 2) / np.array([37, 23, 51, 67, 41])
        rows = np.sin(phase) + 0.1 * draw.standard_normal(phase.shape)
        goal = np.full((2, 1), float(tick // 40 % 2))
        process = np.concatenate([rows[:, :3], goal], axis=1).astype(np.float32)
        if tick % 5 == 1:
            process[0, tick % 3] = np.nan
        if is_constant:
            process, rows = np.zeros_like(process), np.zeros_like(rows)
        senses = {"process": process, "other": rows[:1, 3:].astype(np.float32)}
        if tick % 11 == 3 and not is_constant:
            del senses["other"]
        ticks.append(Observation(tick, senses, dict.fromkeys(senses, 1.0)))
    return ticks


def weights(trained: Trained) -> dict[str, bytes]:
    """Return every weight, bit for bit."""
    return {name: value.numpy().tobytes() for name, value in trained.model.state_dict().items()}
