"""One window to one score: how surprising, by which member, because of which stream and signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import tick_end_ns
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant
from fusion.schema import Score, SignalEvidence
from fusion.scoring.calibration import Calibration, is_alone
from fusion.scoring.evidence import Evidence, Measured
from fusion.scoring.forecasts import forecast_tags
from fusion.scoring.foresight import Foresight
from fusion.scoring.live_bands import LiveBands
from fusion.scoring.members import (
    RunningDeviations,
    deviations,
    member_key,
    member_name,
    owner,
)
from fusion.scoring.modes import mode_of
from fusion.scoring.running_means import ahead_of
from fusion.scoring.tails import TAIL

MAX_SIGNALS = 6
MIN_USABLE = 0.8
NORMAL_95 = 1.6449
_BULK = -float(np.log10(TAIL))
"""Rarities below this are ordinary and explain nothing."""


class Scorer:
    """Scores window after window; between ticks it keeps running averages and forecasts' bands."""

    def __init__(self, calibration: Calibration, plant: Plant, model_version: str) -> None:
        self._calibration = calibration
        self._plant = plant
        self._model_version = model_version
        self._running = RunningDeviations()
        self._bands = LiveBands(plant)
        self.foresight = Foresight(plant)
        """Whoever has a head gives it one."""

    def update(self, window: WindowOutputs) -> Score:
        """Return the score of the window's newest tick. ``surprise`` 1 is the alarm threshold.

        A stream that is absent contributes nothing, neither to the surprise nor to its shares.
        """
        return self.judge(self.observe(window))

    def observe(self, window: WindowOutputs, values: Mapping[str, float] | None = None) -> Evidence:
        """Return all of the score that this window alone decides. Changes nothing.

        ``values`` are those of its newest tick that limit alarms watch, in the tags' units.
        """
        calibration = self._calibration
        mode = mode_of(
            window,
            self._plant,
            calibration.layout,
            calibration.reading_mean_R,
            calibration.reading_std_R,
        )
        present = {
            stream.name: bool(window.presence_TM[-1, m])
            for m, stream in enumerate(calibration.layout.streams)
        }
        normal = calibration.normal_with(present)
        measured: list[Measured] = []
        for each in deviations(window, calibration.layout, calibration.horizons_ticks):
            key = member_key(each.member, each.stream, 1.0)
            name = member_name(each.member, each.stream)
            centred = normal.centred(name, each.vector, mode)
            rarity = normal.rarity(key, centred, mode)
            kept = normal.limit(key, centred)
            measured.append(Measured(each.member, each.stream, rarity, kept))
        return Evidence(
            tick=window.tick,
            measured=measured,
            mode=mode,
            present=present,
            signals=self._signals(window),
            forecasts=forecast_tags(window, self._plant, calibration),
            caveats=self._caveats(window, present),
            values=dict(values or {}),
            state_D=window.z_TD[-1].astype(np.float64),
            ahead_D=ahead_of(window),
        )

    def judge(self, evidence: Evidence) -> Score:
        """Return the score of ``evidence``, which comes tick after tick: averages move on."""
        rarities: dict[str, float] = {}
        normal = self._calibration.normal_with(evidence.present)
        for each in evidence.measured:
            if each.rarity is not None:
                rarities[member_key(each.member, each.stream, 1.0)] = each.rarity
            for key, average in self._running.follow(each.member, each.stream, each.limited):
                rarity = normal.rarity(key, average, evidence.mode)
                if rarity is not None:
                    rarities[key] = rarity
        surprises = {key: self._calibration.surprise(key, r) for key, r in rarities.items()}
        surprise = max(surprises.values(), default=0.0)
        return Score(
            plant=str(self._plant.address),
            tick=evidence.tick,
            t_end_ns=tick_end_ns(evidence.tick, self._plant),
            model_version=self._model_version,
            mode=evidence.mode,
            surprise=surprise,
            members=_strongest(surprises),
            shares=shares_of(rarities, evidence.present),
            present=evidence.present,
            signals=evidence.signals,
            forecasts=self._bands.follow(evidence.tick, evidence.forecasts),
            caveats=evidence.caveats,
            values=evidence.values,
            event_chances=self.foresight.follow(evidence.tick, evidence.ahead_D, surprise=surprise),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two ticks, for JSON."""
        kept = {**self._running.snapshot(), "bands": self._bands.snapshot()}
        foresight = self.foresight.snapshot()
        return kept if foresight is None else {**kept, "foresight": foresight}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``."""
        self._running = RunningDeviations(snapshot)
        # A checkpoint from before bands followed says nothing about them.
        if "bands" in snapshot:
            self._bands.restore(snapshot["bands"])
        if "foresight" in snapshot:
            self.foresight.restore(snapshot["foresight"])

    def _signals(self, window: WindowOutputs) -> tuple[SignalEvidence, ...]:
        """Return the readings farthest from what was expected of them, worst first."""
        calibration = self._calibration
        last = len(window.z_TD) - 1
        actual_R = window.readings_TR[last].astype(np.float64)
        expected_R = window.readings_due_SR[-1].astype(np.float64)
        deviation_R = np.nan_to_num((actual_R - expected_R) / calibration.residual_std_R)
        worst = np.argsort(-np.abs(deviation_R))[:MAX_SIGNALS]
        return tuple(
            self._signal(int(i), actual_R, expected_R, deviation_R)
            for i in worst
            if deviation_R[i] != 0
        )

    def _signal(
        self,
        index: int,
        actual_R: NDArray[np.float64],
        expected_R: NDArray[np.float64],
        deviation_R: NDArray[np.float64],
    ) -> SignalEvidence:
        calibration = self._calibration
        mean, std = calibration.reading_mean_R[index], calibration.reading_std_R[index]
        margin = NORMAL_95 * calibration.residual_std_R[index]
        stream, name, unit = _reading(calibration, index)
        return SignalEvidence(
            tag=name,
            unit=unit,
            stream=stream,
            actual=float(actual_R[index] * std + mean),
            expected=float(expected_R[index] * std + mean),
            band=(
                float((expected_R[index] - margin) * std + mean),
                float((expected_R[index] + margin) * std + mean),
            ),
            deviation=float(deviation_R[index]),
        )

    def _caveats(self, window: WindowOutputs, present: Mapping[str, bool]) -> tuple[str, ...]:
        caveats = [f"no data from {name}" for name, is_there in present.items() if not is_there]
        caveats += [
            f"only {share:.0%} of {name} was usable"
            for name, share in window.usable.items()
            if share < MIN_USABLE
        ]
        if self._calibration.caveat:
            caveats.append(self._calibration.caveat)
        return tuple(caveats)


def shares_of(rarities: Mapping[str, float], present: Mapping[str, bool]) -> dict[str, float]:
    """Return the share of each stream in the surprise; absent streams have 0, the rest sum to 1.

    A stream counts by how far its most surprised member lies beyond the ordinary. Members that hold
    it against the others cannot tell who is wrong: they decide only when nothing else does.

    Example:
        >>> shares_of({"ear/chart/1": 4.3, "eye/chart/1": 1.0}, {"ear": True, "eye": True})
        {'ear': 1.0, 'eye': 0.0}
    """
    alone, held_against = (
        {
            name: max([0.0, *(r - _BULK for k, r in rarities.items() if is_asked(k, name))])
            for name, is_there in present.items()
            if is_there
        }
        for is_asked in (is_alone, lambda key, name: owner(key) == name)
    )
    strength = alone if any(alone.values()) else held_against
    total = sum(strength.values())
    even = 1 / len(strength) if strength else 0.0
    return {
        name: (strength[name] / total if total > 0 else even) if name in strength else 0.0
        for name in present
    }


def _strongest(surprises: Mapping[str, float]) -> dict[str, float]:
    """Return per stream and member the strongest accumulation, 1 being the alarm threshold."""
    strongest: dict[str, float] = {}
    for key, surprise in surprises.items():
        name = key.rpartition("/")[0]
        strongest[name] = max(strongest.get(name, 0.0), surprise)
    return strongest


def _reading(calibration: Calibration, index: int) -> tuple[str, str, str]:
    for stream in calibration.layout.streams:
        columns = calibration.layout.columns(stream.name)
        if columns.start <= index < columns.stop:
            at = index - columns.start
            return stream.name, stream.readings[at], stream.units[at]
    raise AssertionError(f"reading {index} lies in no stream")
