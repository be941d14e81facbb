"""Windows on a stream: live is like batched, a tick is encoded once, nothing crosses a jump."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.features import fit_normaliser
from fusion.manifest import Manifest, trained_streams
from fusion.model import WindowOutputs
from fusion.plant import Plant, parse_plant
from fusion.stream.windows import WindowEncoder

PLANT: Plant = parse_plant(
    """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [0, 1]},
      {name: wanted, unit: m, range: [0, 100], setpoint: true}]}
""",
    origin="p.yaml",
)
NUM_TICKS = 4
HORIZONS = (1, 2, 8)
Floats = NDArray[np.float32]


class Arithmetic:
    """Stands for both networks: answers that show which inputs they were made of."""

    def __init__(self) -> None:
        self.num_encoded = 0
        self.plans: list[NDArray[np.generic]] = []

    def infer(self, network: str, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Floats]:
        if network == "encoder":
            value_B = np.asarray(inputs["process"], np.float32).sum(axis=(1, 2, 3))
            self.num_encoded += len(value_B)
            one_B11 = value_B[:, None, None]
            return {
                "z": value_B[:, None],
                "p": one_B11,
                "cross": -one_B11,
                "cross_readings": 2 * value_B[:, None],
            }
        self.plans.append(inputs["plan"][0])
        z_BTD = np.asarray(inputs["z"], np.float32)
        # Each position expects what it is, and a tenth more per horizon.
        later_H1 = np.array([[0.0], [0.1], [0.2]], np.float32)
        return self.told((z_BTD[:, :, None] + later_H1).astype(np.float32))

    def told(self, every_BTHD: Floats) -> dict[str, Floats]:
        """Return the answer of the predictor, given what it expects at every position."""
        due_BSD = np.stack([every_BTHD[:, -2, 0], every_BTHD[:, -3, 1]], axis=1)
        return {
            "z_due": due_BSD,
            "p_due": due_BSD[..., None],
            "readings_due": due_BSD,
            "z_ahead": every_BTHD[:, -1],
            "forecast": np.zeros((len(every_BTHD), len(HORIZONS), 1, 3), np.float32),
        }

    def close(self) -> None:
        """Nothing to free."""


class ExportedByVersion01(Arithmetic):
    """Answers as networks did that are still served after an upgrade."""

    def told(self, every_BTHD: Floats) -> dict[str, Floats]:
        """Return an answer for every position."""
        return {
            "z_hat": every_BTHD,
            "p_hat": every_BTHD[..., None],
            "readings_hat": every_BTHD,
            "forecast": np.zeros((len(every_BTHD), len(HORIZONS), 1, 3), np.float32),
        }


def observation(tick: int) -> Observation:
    rows = np.array([[0.1 * (tick % 7), tick % 100]] * 2, np.float32)
    return Observation(tick, {"process": rows}, {"process": 1.0})


def encoder(inference: Arithmetic) -> WindowEncoder:
    normaliser = fit_normaliser([observation(tick) for tick in range(20)], PLANT)
    manifest = Manifest(
        name="p",
        version="1",
        plant_address=str(PLANT.address),
        plant_fingerprint=PLANT.fingerprint(),
        tick_s=PLANT.tick_s,
        streams=trained_streams(PLANT),
        window_ticks=NUM_TICKS,
        horizons_ticks=HORIZONS,
        layout={},
        recipe={},
        data_version="",
        code_version="",
        num_parameters=0,
        num_train_ticks=0,
        num_calibration_ticks=0,
        gauges=(),
    )
    return WindowEncoder(inference, PLANT, manifest, normaliser)


def same(one: WindowOutputs, other: WindowOutputs) -> None:
    for field in fields(WindowOutputs):
        np.testing.assert_equal(getattr(one, field.name), getattr(other, field.name))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 2, 9]), min_size=1, max_size=80))
def test_live_is_like_batched_and_no_window_crosses_a_jump(steps: list[int]) -> None:
    ticks = [observation(int(tick)) for tick in np.cumsum(steps)]
    live = encoder(Arithmetic())
    pushed = [window for window in map(live.push, ticks) if window is not None]
    batched = list(encoder(Arithmetic()).run_many(ticks))
    assert len(pushed) == len(batched)
    for one, other in zip(pushed, batched, strict=True):
        same(one, other)
    numbers = [o.tick for o in ticks]
    whole = [t for t in numbers if all(t - back in numbers for back in range(NUM_TICKS))]
    assert [window.tick for window in pushed] == whole


def test_networks_of_before_an_upgrade_say_the_same() -> None:
    ticks = [observation(tick) for tick in range(20)]
    windows = list(encoder(Arithmetic()).run_many(ticks))
    as_before = list(encoder(ExportedByVersion01()).run_many(ticks))
    assert len(windows) == len(as_before) == 20 - NUM_TICKS + 1
    for one, other in zip(windows, as_before, strict=True):
        same(one, other)


def test_a_tick_is_encoded_once() -> None:
    inference = Arithmetic()
    list(encoder(inference).run_many(observation(tick) for tick in range(50)))
    assert inference.num_encoded == 50


def test_the_plan_is_what_came_inside_the_window_and_held_beyond_it() -> None:
    inference = Arithmetic()
    (window,) = encoder(inference).run_many(observation(tick) for tick in range(NUM_TICKS))
    goal_T = window.setpoints_TU[:, 0]
    assert goal_T == pytest.approx([2 * tick / 100 - 1 for tick in range(NUM_TICKS)])
    expected = [[goal_T[min(t + h, NUM_TICKS - 1)] for h in HORIZONS] for t in range(NUM_TICKS)]
    np.testing.assert_array_equal(inference.plans[0][:, :, 0], expected)
