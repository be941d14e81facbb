"""What normal looks like, learned from a run without faults.

The ticks that the model was trained on fit means and covariances; ticks that it never saw fit the
tails, the threshold and the forecasts' bands: a distance looks smaller on the data that shaped it.

Shapes: N windows, V size of a member's vector, R readings, G tags, H horizons, Q quantiles.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.errors import InputError, RecipeError
from fusion.features import Layout, Normaliser
from fusion.manifest import Manifest
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant
from fusion.scoring.members import RunningDeviations, deviations, owner
from fusion.scoring.tails import Budget, Tail, fit_tail, threshold_for_budget

ARRAYS_FILE = "calibration.safetensors"
SCALARS_FILE = "calibration.json"
MIN_WINDOWS = 60
MAX_DISTANCE = 3.0
"""Per dimension, in standard deviations: more than this does not count in running averages."""
SHRINK = 0.1
"""Weight of the diagonal in the covariance: correlated ticks are fewer than they look."""
DEFAULT_ON_DELAY_S, DEFAULT_OFF_DELAY_S = 2.0, 10.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whiteners and tails of every member, the threshold, and the forecasts' corrections."""

    layout: Layout
    horizons_ticks: tuple[int, ...]
    tick_s: float
    means: dict[str, NDArray[np.float64]]
    whiteners: dict[str, NDArray[np.float64]]
    tails: dict[str, Tail]
    threshold: float
    stream_thresholds: dict[str, float]
    """The threshold that each stream would have alone, for the same budget."""
    caveat: str
    reading_mean_R: NDArray[np.float64]
    reading_std_R: NDArray[np.float64]
    residual_std_R: NDArray[np.float64]
    """Robust standard deviation of readings less expected readings, standardised."""
    widen_HG: NDArray[np.float64]
    """Added to both ends of the forecasts' band (conformalised quantiles, Romano et al. 2019)."""

    def rarity(self, key: str, vector: NDArray[np.float64]) -> float | None:
        """Return ``-log10 P`` of a member's vector; None for a member that was never calibrated."""
        if key not in self.whiteners:
            return None
        return self.tails[key].rarity(log_distance(vector, self.means[key], self.whiteners[key]))

    def limit(self, key: str, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``vector``, shortened if it lies very far out."""
        return limited(vector, self.means.get(key), self.whiteners.get(key))

    def save(self, folder: Path) -> None:
        """Write the calibration into a model's folder."""
        arrays = {
            **{f"mean/{key}": value for key, value in self.means.items()},
            **{f"whitener/{key}": value for key, value in self.whiteners.items()},
            "reading_mean": self.reading_mean_R,
            "reading_std": self.reading_std_R,
            "residual_std": self.residual_std_R,
            "widen": self.widen_HG,
        }
        save_file(
            {name: np.ascontiguousarray(value, np.float64) for name, value in arrays.items()},
            folder / ARRAYS_FILE,
        )
        scalars = {
            "layout": self.layout.model_dump(mode="json"),
            "horizons_ticks": self.horizons_ticks,
            "tick_s": self.tick_s,
            "threshold": self.threshold,
            "stream_thresholds": self.stream_thresholds,
            "caveat": self.caveat,
            "tails": {key: asdict(tail) for key, tail in self.tails.items()},
        }
        (folder / SCALARS_FILE).write_text(json.dumps(scalars, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Return the calibration of the model version in ``folder``.

        Raises:
            InputError: It is not there.
        """
        if not (folder / ARRAYS_FILE).is_file() or not (folder / SCALARS_FILE).is_file():
            raise InputError(
                f"a model folder must hold {ARRAYS_FILE} and {SCALARS_FILE}, {folder} does not; "
                "train the model again"
            )
        arrays = load_file(folder / ARRAYS_FILE)
        scalars: dict[str, Any] = json.loads((folder / SCALARS_FILE).read_text(encoding="utf-8"))
        return cls(
            layout=Layout.model_validate(scalars["layout"]),
            horizons_ticks=tuple(scalars["horizons_ticks"]),
            tick_s=scalars["tick_s"],
            means=_with_prefix(arrays, "mean/"),
            whiteners=_with_prefix(arrays, "whitener/"),
            tails={key: Tail(**tail) for key, tail in scalars["tails"].items()},
            threshold=scalars["threshold"],
            stream_thresholds=scalars["stream_thresholds"],
            caveat=scalars["caveat"],
            reading_mean_R=arrays["reading_mean"],
            reading_std_R=arrays["reading_std"],
            residual_std_R=arrays["residual_std"],
            widen_HG=arrays["widen"],
        )


def limited(
    vector_V: NDArray[np.float64],
    mean_V: NDArray[np.float64] | None,
    whitener_VV: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return the vector moved towards the mean until its distance is at most ``MAX_DISTANCE``."""
    if mean_V is None or whitener_VV is None:
        return vector_V
    distance = math.exp(log_distance(vector_V, mean_V, whitener_VV))
    return mean_V + (vector_V - mean_V) * min(1.0, MAX_DISTANCE / distance)


def log_distance(
    vector_V: NDArray[np.float64], mean_V: NDArray[np.float64], whitener_VV: NDArray[np.float64]
) -> float:
    """Return the logarithm of the Mahalanobis distance per dimension."""
    white = whitener_VV @ (vector_V - mean_V)
    return float(np.log(np.sqrt(np.mean(white**2)) + 1e-6))


def fit_calibration(
    learned: Iterable[WindowOutputs],
    unseen: Iterable[WindowOutputs],
    plant: Plant,
    manifest: Manifest,
    normaliser: Normaliser,
) -> Calibration:
    """Return the calibration of a model, from windows that it learned from and ones it never saw.

    Both are read once, in order, and not kept.

    Raises:
        RecipeError: A part is too short to say what is normal.
    """
    layout = Layout.model_validate(manifest.layout)
    horizons = manifest.horizons_ticks
    means, whiteners = _fit_distances(learned, layout, horizons)
    seen = _Seen(layout, horizons, means, whiteners)
    for window in unseen:
        seen.add(window)
    if len(seen.ticks) < MIN_WINDOWS or not means:
        raise RecipeError(
            f"calibration needs at least {MIN_WINDOWS} windows of normal running that training did "
            f"not see, got {len(seen.ticks)}; record longer, or hold out a larger part"
        )
    distances = {key: np.array(values) for key, values in seen.distances.items()}
    tails = {
        key: fit_tail(values[np.isfinite(values)])
        for key, values in distances.items()
        if np.isfinite(values).sum() >= MIN_WINDOWS // 3
    }
    rarities = {
        key: np.array([tail.rarity(d) if np.isfinite(d) else 0.0 for d in distances[key]])
        for key, tail in tails.items()
    }
    budget = _budget(list(rarities.values()), plant)
    mean_R, std_R = normaliser.reading_scale(layout)
    return Calibration(
        layout=layout,
        horizons_ticks=horizons,
        tick_s=plant.tick_s,
        means={key: means[key] for key in tails},
        whiteners={key: whiteners[key] for key in tails},
        tails=tails,
        threshold=budget.threshold,
        stream_thresholds={
            stream.name: _budget(alone, plant).threshold
            for stream in layout.streams
            if (alone := [r for key, r in rarities.items() if is_alone(key, stream.name)])
        },
        caveat=_caveat(budget, plant),
        reading_mean_R=mean_R.astype(np.float64),
        reading_std_R=std_R.astype(np.float64),
        residual_std_R=seen.residual_std(),
        widen_HG=seen.widening(),
    )


class _Seen:
    """What is kept of the unseen windows: distances, residuals, forecasts and what came."""

    def __init__(
        self,
        layout: Layout,
        horizons: tuple[int, ...],
        means: dict[str, NDArray[np.float64]],
        whiteners: dict[str, NDArray[np.float64]],
    ) -> None:
        self._layout, self._horizons = layout, horizons
        self._means, self._whiteners = means, whiteners
        self._running = RunningDeviations(means)
        self._tags = tag_columns(layout)
        self.ticks: list[int] = []
        self.distances: dict[str, list[float]] = {}
        self._residuals: list[NDArray[np.float32]] = []
        self._forecasts: list[NDArray[np.float32]] = []
        self._came: list[NDArray[np.float32]] = []

    def add(self, window: WindowOutputs) -> None:
        """Measure one window; a member that it lacks has the distance NaN."""
        index, last = len(self.ticks), len(window.z_TD) - 1
        self.ticks.append(window.tick)
        for deviation in deviations(window, self._layout, self._horizons):
            for key, vector in self._running.update(deviation, self._limit):
                if key in self._means:
                    series = self.distances.setdefault(key, [])
                    series += [np.nan] * (index - len(series))
                    distance = log_distance(vector, self._means[key], self._whiteners[key])
                    series.append(distance)
        for series in self.distances.values():
            series.extend([np.nan] * (index + 1 - len(series)))
        column, horizon = [(c, h) for c, h in enumerate(self._horizons) if h <= last][-1]
        expected = window.readings_hat_THR[last - horizon, column]
        self._residuals.append(window.readings_TR[last] - expected)
        self._forecasts.append(window.forecast_HGQ.copy())
        self._came.append(window.readings_TR[last, self._tags])

    def _limit(self, key: str, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return limited(vector, self._means.get(key), self._whiteners.get(key))

    def residual_std(self) -> NDArray[np.float64]:
        """Return the robust standard deviation of readings less expected readings, [R]."""
        residuals_NR = np.nan_to_num(np.stack(self._residuals).astype(np.float64))
        centred_NR = residuals_NR - np.median(residuals_NR, axis=0)
        return np.maximum(1.4826 * np.median(np.abs(centred_NR), axis=0), 1e-2)

    def widening(self) -> NDArray[np.float64]:
        """Return how much each 5-95 % band must grow so that it held 90 % of what came, [H, G]."""
        at = {tick: index for index, tick in enumerate(self.ticks)}
        widen_HG = np.zeros((len(self._horizons), len(self._tags)))
        for row, horizon in enumerate(self._horizons):
            misses = [
                np.maximum(said[row, :, 0] - came, came - said[row, :, 2])
                for tick, said in zip(self.ticks, self._forecasts, strict=True)
                if tick + horizon in at
                for came in [self._came[at[tick + horizon]]]
            ]
            if misses and self._tags:
                known = np.ma.masked_invalid(np.stack(misses)).filled(0.0)
                widen_HG[row] = np.quantile(known, 0.9, axis=0)
        return widen_HG


def _fit_distances(
    windows: Iterable[WindowOutputs], layout: Layout, horizons: tuple[int, ...]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return mean and whitener of every accumulated member that is there often enough."""
    running = RunningDeviations({})
    found: dict[str, list[NDArray[np.float32]]] = {}
    for window in windows:
        for deviation in deviations(window, layout, horizons):
            for key, vector in running.update(deviation):
                found.setdefault(key, []).append(vector.astype(np.float32))
    means: dict[str, NDArray[np.float64]] = {}
    whiteners: dict[str, NDArray[np.float64]] = {}
    for key, vectors in found.items():
        if len(vectors) >= MIN_WINDOWS // 3:
            vectors_NV = np.stack(vectors).astype(np.float64)
            means[key], whiteners[key] = vectors_NV.mean(axis=0), whitener(vectors_NV)
    return means, whiteners


def _caveat(budget: Budget, plant: Plant) -> str:
    if not budget.is_extrapolated:
        return ""
    minutes = budget.num_ticks * plant.tick_s / 60
    return (
        f"The budget of {plant.scoring.false_alarms_per_day:g} false alarms a day is extrapolated "
        f"from {minutes:.0f} min of normal running; a longer run would settle it."
    )


def is_alone(key: str, stream: str) -> bool:
    """Whether a member looks at ``stream`` without help from the other streams' present."""
    return owner(key) == stream and "contradiction" not in key


def _budget(rarities_KN: Sequence[NDArray[np.float64]], plant: Plant) -> Budget:
    """Return the threshold for the strongest of some members, by the plant's budget."""
    return threshold_for_budget(
        np.max(np.stack(rarities_KN), axis=0),
        tick_s=plant.tick_s,
        on_delay_ticks=round(_delay_s(plant, "on") / plant.tick_s),
        off_delay_ticks=round(_delay_s(plant, "off") / plant.tick_s),
        per_day=plant.scoring.false_alarms_per_day,
    )


def whitener(vectors_NV: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return W with ``W cov W' = 1``, the covariance shrunk towards its diagonal."""
    covariance = np.atleast_2d(np.cov(vectors_NV, rowvar=False))
    diagonal = np.diag(covariance).copy()
    # A reading that never moved must not make every later step infinitely surprising.
    diagonal = np.maximum(diagonal, 1e-3 * max(float(diagonal.mean()), 1e-6))
    shrunk = (1 - SHRINK) * covariance + SHRINK * np.diag(diagonal)
    shrunk[np.diag_indices_from(shrunk)] = diagonal
    values, axes = np.linalg.eigh(shrunk)
    return (axes / np.sqrt(np.maximum(values, 1e-9 * values.max()))).T


def tag_columns(layout: Layout) -> list[int]:
    """Return where the measured tags lie among all readings."""
    return [
        column
        for stream in layout.streams
        if stream.modality == "telemetry"
        for column in range(layout.columns(stream.name).start, layout.columns(stream.name).stop)
    ]


def _delay_s(plant: Plant, which: str) -> float:
    """Return the shortest delay of the alarms on surprise: the one that lets most through."""
    default = DEFAULT_ON_DELAY_S if which == "on" else DEFAULT_OFF_DELAY_S
    delays = [
        alarm.on_delay_s if which == "on" else alarm.off_delay_s
        for alarm in plant.alarms
        if alarm.finding == "surprise"
    ]
    return min(delays, default=default)


def _with_prefix(arrays: dict[str, Any], prefix: str) -> dict[str, NDArray[np.float64]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
