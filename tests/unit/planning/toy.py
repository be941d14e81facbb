"""A plant whose predictor is a formula, so that the best plan is known.

The level is the ``goal`` set-point at the horizon plus a known rest; the heat is a parabola of the
``warmth`` set-point; the state embedding is how far ``warmth`` lies from the middle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fusion.features import layout_of
from fusion.model import WindowOutputs
from fusion.planning import PlanReader
from fusion.planning.outlook import DENSITY
from fusion.plant import Plant, parse_plant
from fusion.scoring import Calibration
from fusion.scoring.normal import Normal
from fusion.scoring.tails import Tail

Floats = NDArray[np.float32]
PLANT: Plant = parse_plant(
    """
prefix: toy
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 1
streams:
  - name: process
    modality: telemetry
    rate_hz: 1
    tags:
      - {name: level, unit: m, range: [-9, 9], limits: {high: 0.9}}
      - {name: goal, unit: m, range: [0, 1], setpoint: true, limits: {low: 0.2, high: 0.95},
         rate_limit_per_s: 0.02}
      - {name: heat, unit: K, range: [-9, 9]}
      - {name: warmth, unit: K, range: [0, 10], setpoint: true}
""",
    origin="toy.yaml",
)
HORIZONS = (1, 5, 20)
NUM_TICKS = 6
HALF_BAND = 0.02
"""Of the forecasts, in standard deviations."""


class Formula:
    """Stands for the predictor; counts what it is asked."""

    def __init__(self, *, is_wild: bool = False) -> None:
        self.is_wild = is_wild
        self.num_calls = 0
        self.plans: list[Floats] = []

    def infer(self, network: str, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Floats]:
        assert network == "predictor"
        self.num_calls += 1
        plan_BTHU = np.asarray(inputs["plan"], np.float32)
        assert plan_BTHU.shape[1:] == (NUM_TICKS, len(HORIZONS), 2)
        assert len(inputs["z"]) == len(inputs["readings"]) == len(plan_BTHU)
        self.plans.append(plan_BTHU)
        goal_BH = (plan_BTHU[:, -1, :, 0] + 1) / 2
        warmth_BH = 5 * (plan_BTHU[:, -1, :, 1] + 1)
        heat_BH = (warmth_BH - 7) ** 2
        median_BHG = np.stack([goal_BH, heat_BH], axis=-1)
        quantiles = [median_BHG - HALF_BAND, median_BHG, median_BHG + HALF_BAND]
        far_BH = np.abs(warmth_BH - 5) * (3.0 if self.is_wild else 0.0)
        return {
            "z_ahead": far_BH[..., None].astype(np.float32),
            "forecast": np.stack(quantiles, axis=-1).astype(np.float32),
        }

    def close(self) -> None:
        """Nothing to free."""


def calibration(**changes: object) -> Calibration:
    """Return a calibration in which units are standard deviations."""
    fields: dict[str, object] = {
        "layout": layout_of(PLANT),
        "horizons_ticks": HORIZONS,
        "tick_s": PLANT.tick_s,
        "normal": Normal(
            centres={DENSITY.rpartition("/")[0]: np.zeros(1)},
            whiteners={DENSITY: np.eye(1)},
            tails={DENSITY: Tail(start=np.log(2.0), scale=0.2, share=0.05, num_peaks=100.0)},
        ),
        "without": {},
        "panels": {},
        "caveat": "",
        "reading_mean_R": np.zeros(2),
        "reading_std_R": np.ones(2),
        "residual_std_R": np.ones(2),
        "widen_HG": np.zeros((len(HORIZONS), 2)),
    }
    return Calibration(**(fields | changes))  # type: ignore[arg-type]


def window(goal: float = 0.5, warmth: float = 5.0) -> WindowOutputs:
    """Return a moment at which the set-points have these values."""
    setpoints_U = np.array([2 * goal - 1, warmth / 5 - 1], np.float32)
    readings_R = np.array([goal, (warmth - 7) ** 2], np.float32)
    num_horizons = len(HORIZONS)
    return WindowOutputs(
        tick=99,
        presence_TM=np.ones((NUM_TICKS, 1), np.float32),
        z_TD=np.zeros((NUM_TICKS, 1), np.float32),
        p_TMP=np.zeros((NUM_TICKS, 1, 1), np.float32),
        cross_TMP=np.zeros((NUM_TICKS, 1, 1), np.float32),
        readings_TR=np.tile(readings_R, (NUM_TICKS, 1)),
        cross_readings_TR=np.zeros((NUM_TICKS, 2), np.float32),
        z_due_SD=np.zeros((num_horizons, 1), np.float32),
        p_due_SMP=np.zeros((num_horizons, 1, 1), np.float32),
        readings_due_SR=np.zeros((num_horizons, 2), np.float32),
        z_ahead_HD=np.zeros((num_horizons, 1), np.float32),
        forecast_HGQ=np.zeros((num_horizons, 2, 3), np.float32),
        setpoints_TU=np.tile(setpoints_U, (NUM_TICKS, 1)),
        usable={"process": 1.0},
    )


def reader(
    goal: float = 0.5,
    warmth: float = 5.0,
    *,
    inference: Formula | None = None,
    moves_s: tuple[float, ...] = (0.0,),
    calibrated: Calibration | None = None,
) -> PlanReader:
    """Return the reader of that moment."""
    return PlanReader.at(
        window(goal, warmth),
        inference=inference or Formula(),
        plant=PLANT,
        calibration=calibrated or calibration(),
        moves_s=moves_s,
    )
