"""What the model expects of a plant under many plans at once.

Shapes: N plans, K moves, L ticks ahead, T ticks of the window, H horizons, U set-points, G measured
tags, D state embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.model.outputs import WindowOutputs, by_today_s_names
from fusion.planning.space import Floats, SetpointSpace, in_units, scaled
from fusion.plant import Plant
from fusion.ports import Inference
from fusion.scoring import Calibration
from fusion.scoring.forecasts import fans_in_units
from fusion.scoring.members import STATE, member_key

DENSITY = member_key("density", STATE, 1.0)
MAX_BATCH = 128


@dataclass(frozen=True, slots=True)
class Outlook:
    """N plans and what is expected of each, in the units of the plant file."""

    targets_NKU: Floats
    setpoints_NHU: Floats
    """Where the plan has led the set-points at each horizon."""
    low_NHG: Floats
    median_NHG: Floats
    high_NHG: Floats
    forecast_NHGQ: NDArray[np.float32]
    rarity_NH: Floats
    """``-log10 P`` of so unusual a state in normal running; NaN where it was never calibrated."""

    def __len__(self) -> int:
        return len(self.targets_NKU)


@dataclass(frozen=True, slots=True)
class PlanReader:
    """Asks the predictor what one moment of a plant leads to, under any plan."""

    inference: Inference
    plant: Plant
    calibration: Calibration
    window: WindowOutputs
    space: SetpointSpace

    @classmethod
    def at(
        cls,
        window: WindowOutputs,
        *,
        inference: Inference,
        plant: Plant,
        calibration: Calibration,
        moves_s: tuple[float, ...] = (0.0,),
    ) -> PlanReader:
        """Return the reader of the moment at which ``window`` ends."""
        num_setpoints = len(plant.setpoints)
        now_U = in_units(window.setpoints_TU[-1, :num_setpoints], plant)
        space = SetpointSpace.of(plant, now_U, moves_s=moves_s)
        return cls(inference, plant, calibration, window, space)

    def read(self, targets_NKU: Floats) -> Outlook:
        """Return what is expected of each plan.

        Raises:
            InferenceUnavailableError: The networks did not answer.
        """
        horizons, tick_s = np.array(self.calibration.horizons_ticks), self.calibration.tick_s
        times_L_s = np.arange(1, horizons[-1] + 1) * tick_s
        paths_NLU = self.space.paths(targets_NKU, times_L_s)
        plan_NTHU = self._plan(scaled(paths_NLU, self.plant), horizons)
        parts = [
            self._ask(plan_NTHU[begin : begin + MAX_BATCH])
            for begin in range(0, len(plan_NTHU), MAX_BATCH)
        ]
        z_NHD, forecast_NHGQ = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        low, median, high = fans_in_units(forecast_NHGQ, self.calibration)
        return Outlook(
            targets_NKU=targets_NKU,
            setpoints_NHU=paths_NLU[:, horizons - 1],
            low_NHG=low,
            median_NHG=median,
            high_NHG=high,
            forecast_NHGQ=forecast_NHGQ,
            rarity_NH=self._rarity(z_NHD),
        )

    def _plan(
        self, ahead_NLU: NDArray[np.float32], horizons: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the set-points at each position's targets: what was set, then what is planned."""
        setpoints_TU = self.window.setpoints_TU
        past_NTU = np.broadcast_to(setpoints_TU, (len(ahead_NLU), *setpoints_TU.shape))
        all_NLU = np.concatenate([past_NTU, ahead_NLU], axis=1)
        return all_NLU[:, np.arange(len(setpoints_TU))[:, None] + horizons]

    def _ask(
        self, plan_BTHU: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        window = self.window
        inputs = {
            "z": window.z_TD,
            "setpoints": window.setpoints_TU,
            "readings": np.nan_to_num(window.readings_TR),
        }
        told = self.inference.infer(
            "predictor",
            {
                name: np.repeat(values[None], len(plan_BTHU), axis=0)
                for name, values in inputs.items()
            }
            | {"plan": plan_BTHU},
        )
        horizons = self.calibration.horizons_ticks
        expected = by_today_s_names(told, len(window.z_TD), horizons)
        return expected["z_ahead"], expected["forecast"]

    def _rarity(self, z_NHD: NDArray[np.float32]) -> Floats:
        flat = z_NHD.reshape(-1, z_NHD.shape[-1]).astype(np.float64)
        member = DENSITY.rpartition("/")[0]
        normal = self.calibration.normal
        rarities = [normal.rarity(DENSITY, normal.centred(member, z_D, None), None) for z_D in flat]
        return np.array(
            [np.nan if rarity is None else rarity for rarity in rarities], np.float64
        ).reshape(z_NHD.shape[:2])
