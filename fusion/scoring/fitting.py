"""Learns from a run without faults what is normal.

Every tick helps to say what is normal; how rare a distance is, is told by ticks that training never
saw, each held against the others: a distance looks smaller on the data that shaped it.

Shapes: N windows, V size of a member's vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.errors import RecipeError
from fusion.features import Layout, Normaliser
from fusion.features.extraction import MAX_DEVIATIONS
from fusion.manifest import Manifest
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant
from fusion.scoring.calibration import Calibration, Panel, panels_of
from fusion.scoring.members import FORGETTING, accumulated, kind_of
from fusion.scoring.normal import MAX_DISTANCE, Normal, in_mode
from fusion.scoring.normal_run import MemberRun, NormalRun
from fusion.scoring.tails import Tail, fit_tail, rarities, threshold_for_budget
from fusion.scoring.whitening import fit_whitener, limited, log_distance, running_averages

MIN_WINDOWS = 60
MIN_IN_MODE = 200
"""A mode that was seen in fewer windows is judged like the rest."""
NUM_FOLDS = 3
WANDERING = {"density"}
"""Kinds that are held against the ticks *before* only (prequential: Dawid 1984).

An embedding goes on to places where it never was, and no covariance says how far. Held against the
ticks on both sides it alarmed on 8 % of the normal rows that followed, held against those before on
0.4 %; the other kinds keep their budget either way (docs/experiments.md).
"""
FLOOR, FLOOR_SHARE = "chart", 0.5
"""The plain control chart may spend half of the budget: the whole is never much worse than it."""
FAR_OUT = 0.8 * MAX_DEVIATIONS
"""In standard deviations, all readings at once: no threshold lies beyond it.

Inputs are clipped a little farther out, so more cannot be told. A tail that was learned from a
minute or two, and a threshold that was extrapolated from it to a day, together asked for more than
any input can be: such a model never alarmed, however far off its plant was. After some minutes
thresholds lie below, and this changes nothing. Of several streams the one counts of which that says
most: a stream with a heavy tail must not lower the threshold of all.
"""
DEFAULT_ON_DELAY_S, DEFAULT_OFF_DELAY_S = 2.0, 10.0

Vectors = NDArray[np.float64]


Windows = tuple[Iterable[WindowOutputs], Iterable[WindowOutputs]]
"""Of a normal run: those that training learned from, and those that it never saw, in order."""


def fit_calibration(
    windows: Windows,
    plant: Plant,
    manifest: Manifest,
    normaliser: Normaliser,
    *,
    without: Mapping[str, Windows] | None = None,
) -> Calibration:
    """Return the calibration of a model from the windows of a normal run.

    ``without`` has the windows of the same run as they are while a stream is absent. All are read
    once, in order, and not kept.

    Raises:
        RecipeError: A part is too short to say what is normal.
    """
    layout = Layout.model_validate(manifest.layout)
    mean_R, std_R = (scale.astype(np.float64) for scale in normaliser.reading_scale(layout))

    def observed(windows: Windows) -> NormalRun:
        run = NormalRun(layout, manifest.horizons_ticks, plant, (mean_R, std_R))
        for part, is_learned in zip(windows, (True, False), strict=True):
            for window in part:
                run.add(window, is_learned=is_learned)
        return run

    run = observed(windows)
    if run.num_unseen < MIN_WINDOWS:
        raise RecipeError(
            f"calibration needs at least {MIN_WINDOWS} windows of normal running that training did "
            f"not see, got {run.num_unseen}; record longer, or hold out a larger part"
        )
    fitted = _Fitted(run)
    return Calibration(
        layout=layout,
        horizons_ticks=manifest.horizons_ticks,
        tick_s=plant.tick_s,
        normal=fitted.normal,
        without={
            stream: _Fitted(observed(part)).normal for stream, part in (without or {}).items()
        },
        panels={
            name: _panel({key: fitted.rarities[key] for key in keys}, fitted.normal.tails, plant)
            for name, keys in panels_of(fitted.rarities).items()
        },
        caveat=_caveat(run.num_unseen, plant),
        reading_mean_R=mean_R,
        reading_std_R=std_R,
        residual_std_R=run.residual_std(),
        widen_HG=run.widening(),
    )


class _Fitted:
    """Centres, whiteners and tails of every member that is there often enough."""

    def __init__(self, run: NormalRun) -> None:
        self._run = run
        self.centres: dict[str, Vectors] = {}
        self.whiteners: dict[str, Vectors] = {}
        self.tails: dict[str, Tail] = {}
        self.rarities: dict[str, Vectors] = {}
        """Of the windows that training never saw, [N]; 0 where the member is missing."""
        for name, member in run.members.items():
            is_unseen_N = np.array(member.rows) >= run.num_learned
            if is_unseen_N.sum() >= MIN_WINDOWS // 3:
                self._fit(name, member, is_unseen_N)

    @property
    def normal(self) -> Normal:
        """What was learned."""
        return Normal(self.centres, self.whiteners, self.tails)

    def _fit(self, name: str, member: MemberRun, is_unseen_N: NDArray[np.bool_]) -> None:
        vectors_NV = np.stack(member.vectors).astype(np.float64)
        modes = [self._run.modes[row] for row in member.rows]
        centred_NV = self._centre(name, vectors_NV, modes)
        at_once = fit_whitener(centred_NV)
        folds = np.array_split(np.flatnonzero(is_unseen_N), NUM_FOLDS)
        limited_NV = limited(centred_NV, at_once, most=MAX_DISTANCE)
        for weight in FORGETTING:
            key = accumulated(name, weight)
            averages_NV = centred_NV if weight == 1 else running_averages(limited_NV, weight)
            self.whiteners[key] = fit_whitener(centred_NV, weight=weight)
            distance_N = np.concatenate(
                [
                    _held_against(centred_NV, averages_NV, fold, name=name, weight=weight)
                    for fold in folds
                ]
            )
            unseen_modes = [
                mode for mode, is_unseen in zip(modes, is_unseen_N, strict=True) if is_unseen
            ]
            self._fit_tails(key, distance_N, unseen_modes, weight / (2 - weight))
            at_N = np.array(member.rows)[is_unseen_N] - self._run.num_learned
            self.rarities[key] = np.zeros(self._run.num_unseen)
            self.rarities[key][at_N] = self._rarities(key, distance_N, unseen_modes)

    def _centre(self, name: str, vectors_NV: Vectors, modes: Sequence[str | None]) -> Vectors:
        """Return the vectors less their centre, that of their mode where it is known."""
        self.centres[name] = vectors_NV.mean(axis=0)
        centred_NV = vectors_NV - self.centres[name]
        for mode, is_in_N in _modes(modes):
            self.centres[in_mode(name, mode)] = vectors_NV[is_in_N].mean(axis=0)
            centred_NV[is_in_N] = vectors_NV[is_in_N] - self.centres[in_mode(name, mode)]
        return centred_NV

    def _fit_tails(
        self, key: str, distance_N: Vectors, modes: Sequence[str | None], independent: float
    ) -> None:
        """Fit the tails of one average, of whose values the share ``independent`` is."""
        everywhere = [(key, np.ones(len(distance_N), bool))]
        in_modes = [(in_mode(key, mode), is_in_N) for mode, is_in_N in _modes(modes)]
        for name, is_in_N in everywhere + in_modes:
            values_N = distance_N[is_in_N]
            self.tails[name] = fit_tail(values_N, num_independent=independent * len(values_N))

    def _rarities(self, key: str, distance_N: Vectors, modes: Sequence[str | None]) -> Vectors:
        rarity_N = rarities(self.tails[key], distance_N)
        for mode, is_in_N in _modes(modes):
            rarity_N[is_in_N] = rarities(self.tails[in_mode(key, mode)], distance_N[is_in_N])
        return rarity_N


def _held_against(
    centred_NV: Vectors, averages_NV: Vectors, fold: NDArray[np.intp], *, name: str, weight: float
) -> Vectors:
    """Return how far the averages of a fold lie, by what is usual in other ticks."""
    if kind_of(accumulated(name, weight)) in WANDERING and fold[0] >= MIN_WINDOWS:
        before_NV = centred_NV[: fold[0]]
        centre_V = before_NV.mean(axis=0)
        usual = fit_whitener(before_NV - centre_V, weight=weight)
        return log_distance(averages_NV[fold] - centre_V, usual)
    usual = fit_whitener(np.delete(centred_NV, fold, axis=0), weight=weight)
    return log_distance(averages_NV[fold], usual)


def _modes(modes: Sequence[str | None]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the modes that were seen often enough, and where."""
    masks = [
        (mode, np.array([each == mode for each in modes]))
        for mode in dict.fromkeys(modes)
        if mode is not None
    ]
    return [(mode, is_in_N) for mode, is_in_N in masks if is_in_N.sum() >= MIN_IN_MODE]


def _panel(rarities: dict[str, Vectors], tails: Mapping[str, Tail], plant: Plant) -> Panel:
    """Return weights and threshold with which some members together keep the plant's budget."""
    kinds = dict.fromkeys(kind_of(key) for key in rarities)
    num_others = sum(kind != FLOOR for kind in kinds)
    others_share = 1 - FLOOR_SHARE * (FLOOR in kinds)
    share = {kind: others_share / num_others for kind in kinds if kind != FLOOR}
    share |= {FLOOR: FLOOR_SHARE if num_others else 1.0} if FLOOR in kinds else {}
    bonus = {kind: math.log10(share[kind] * len(kinds)) for kind in kinds}
    weighted = [np.maximum(0, r + bonus[kind_of(key)]) for key, r in rarities.items()]
    far_out = [
        tails[key].rarity(math.log(FAR_OUT)) + bonus[FLOOR]
        for key in rarities
        if kind_of(key) == FLOOR and key == accumulated(key.rpartition("/")[0], 1.0)
    ]
    budget = threshold_for_budget(
        np.max(np.stack(weighted), axis=0),
        tick_s=plant.tick_s,
        on_delay_ticks=round(_delay_s(plant, "on") / plant.tick_s),
        off_delay_ticks=round(_delay_s(plant, "off") / plant.tick_s),
        per_day=plant.scoring.false_alarms_per_day,
        reach=max(far_out, default=math.inf),
    )
    return Panel(budget.threshold, bonus)


def _caveat(num_ticks: int, plant: Plant) -> str:
    per_day, minutes = plant.scoring.false_alarms_per_day, num_ticks * plant.tick_s / 60
    if per_day * minutes / (24 * 60) >= 1:
        return ""
    return (
        f"The budget of {per_day:g} false alarms a day is extrapolated from {minutes:.0f} min of "
        "normal running; a longer run would settle it."
    )


def _delay_s(plant: Plant, which: str) -> float:
    """Return the shortest delay of the alarms on surprise: the one that lets most through."""
    default = DEFAULT_ON_DELAY_S if which == "on" else DEFAULT_OFF_DELAY_S
    delays = [
        alarm.on_delay_s if which == "on" else alarm.off_delay_s
        for alarm in plant.alarms
        if alarm.finding == "surprise"
    ]
    return min(delays, default=default)
