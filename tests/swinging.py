"""A synthetic plant whose five tags swing: small enough to be trained anew within seconds."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows import wiring
from flows.plant_files import load_plant
from flows.replay import replay
from flows.retraining import asked_for
from flows.retraining_run import Asked, Policy
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.gate import Better, Floor, GateRecipe, NotWorse
from fusion.retraining.incidents import PeriodRecipe
from fusion.retraining.quality import QualityRecipe
from fusion.schema import Quality, TelemetryBatch

PLANT_TEXT = """
prefix: {prefix}
address: {{enterprise: e, site: s, area: a, line: l, cell: c, asset: x}}
tick_s: 1.0
streams:
  - {{name: process, modality: telemetry, rate_hz: 2, tags: [
      {{name: level, unit: m, range: [-5, 5]}}, {{name: heat, unit: K, range: [-5, 5]}},
      {{name: flow, unit: l/min, range: [-5, 5]}}, {{name: current, unit: A, range: [-5, 5]}},
      {{name: goal, unit: m, range: [-1, 1], setpoint: true}}]}}
"""
TAGS = ("level", "heat", "flow", "current", "goal")
T_BEGIN_NS = 1_700_000_000 * NANOSECONDS
RATE_HZ = 2
Values = NDArray[np.float64]

QUALITY = QualityRecipe(min_train_s=200, flat_s=20)
PERIODS = PeriodRecipe(test_share=0.25, renew_after_s=150, margin_s=5)
LENIENT = GateRecipe(
    better=(Better(figure="false_alarms", is_higher_better=False, by=0.5),),
    not_worse=(NotWorse(figure="skill", is_higher_better=True, slack=0.5),),
    floors=(Floor(figure="alarm_share", is_higher_better=False, limit=0.9),),
    first_floors=(),
)
"""What models of a few steps can pass: these tests are about the way, not about the model."""


POLICY = Policy(periods=PERIODS, quality=QUALITY, gate=LENIENT)


def asked(plant_file: Path, **changes: object) -> Asked:
    """Return what a test asks of a retraining."""
    told: dict[str, object] = {"reason": "a test", "recipe": "quick", "seed": 1, "steps": 4}
    return asked_for(plant_file, policy=POLICY, **(told | changes))  # pyright: ignore[reportArgumentType]


def write_plant(folder: Path, prefix: str = "swinging") -> Path:
    """Write the plant file."""
    path = folder / f"{prefix}.yaml"
    path.write_text(PLANT_TEXT.format(prefix=prefix))
    return path


def swing(begin_s: int, num_s: int, *, seed: int = 0) -> Values:
    """Return the rows of so many seconds: sines with noise, and a set-point."""
    draw = np.random.default_rng(seed + begin_s)
    rows = np.arange(begin_s * RATE_HZ, (begin_s + num_s) * RATE_HZ)
    values = np.sin(rows[:, None] / np.array([6, 9, 14, 5]))
    values += 0.1 * draw.standard_normal(values.shape)
    return np.concatenate([values, (rows[:, None] // 240 % 2).astype(np.float64)], axis=1)


def send(plant_file: Path, settings: Settings, begin_s: int, values: Values) -> Plant:
    """Send ``values`` to the broker, from ``begin_s`` seconds of the plant's time on."""
    plant = load_plant(plant_file)
    wiring.prepare_topics(settings, plant)
    t_ns = T_BEGIN_NS + (begin_s * NANOSECONDS) + np.arange(len(values)) * NANOSECONDS // RATE_HZ
    batches = [
        TelemetryBatch(
            "process",
            TAGS,
            t_ns[at : at + 20],
            t_ns[at : at + 20],
            t_ns[at : at + 20],
            values[at : at + 20],
            np.full((len(values[at : at + 20]), len(TAGS)), Quality.GOOD, np.uint8),
            np.zeros((len(values[at : at + 20]), len(TAGS)), np.uint32),
        )
        for at in range(0, len(values), 20)
    ]
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        replay(batches, publisher, plant, speed=None, clock=wiring.open_clock())
    return plant
