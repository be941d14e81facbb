"""What normal looks like, learned from a run without faults that the model was not trained on.

The older half fits means and covariances, the newer half the tails and the threshold: a distance
looks smaller on the data that shaped it.

Shapes: N windows, V size of a member's vector, G tags, H horizons, Q quantiles.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def log_distance(
    vector_V: NDArray[np.float64], mean_V: NDArray[np.float64], whitener_VV: NDArray[np.float64]
) -> float:
    """Return the logarithm of the Mahalanobis distance per dimension."""
    white = whitener_VV @ (vector_V - mean_V)
    return float(np.log(np.sqrt(np.mean(white**2)) + 1e-6))


def fit_calibration(
    windows: Sequence[WindowOutputs], plant: Plant, manifest: Manifest, normaliser: Normaliser
) -> Calibration:
    """Return the calibration of a model on consecutive windows of a normal run.

    Raises:
        RecipeError: The run is too short to say what is normal.
    """
    if len(windows) < MIN_WINDOWS:
        raise RecipeError(
            f"calibration needs at least {MIN_WINDOWS} windows of normal running, got "
            f"{len(windows)}; record longer, or hold out a larger part in the recipe"
        )
    layout = Layout.model_validate(manifest.layout)
    horizons = manifest.horizons_ticks
    vectors = _vectors(windows, layout, horizons)
    half = len(windows) // 2
    means: dict[str, NDArray[np.float64]] = {}
    whiteners: dict[str, NDArray[np.float64]] = {}
    tails: dict[str, Tail] = {}
    rarities: dict[str, NDArray[np.float64]] = {}
    for key, (at_N, vectors_NV) in vectors.items():
        older, newer = vectors_NV[at_N < half], vectors_NV[at_N >= half]
        if min(len(older), len(newer)) < MIN_WINDOWS // 3:
            continue  # A stream that is hardly ever there cannot be judged.
        means[key], whiteners[key] = older.mean(axis=0), whitener(older)
        distances = np.array([log_distance(v, means[key], whiteners[key]) for v in newer])
        tails[key] = fit_tail(distances)
        rarities[key] = np.zeros(len(windows) - half)
        rarities[key][at_N[at_N >= half] - half] = [tails[key].rarity(d) for d in distances]
    budget = _budget(list(rarities.values()), plant)
    minutes = budget.num_ticks * plant.tick_s / 60
    caveat = (
        f"The budget of {plant.scoring.false_alarms_per_day:g} false alarms a day is extrapolated "
        f"from {minutes:.0f} min of normal running; a longer run would settle it."
        if budget.is_extrapolated
        else ""
    )
    mean_R, std_R = normaliser.reading_scale(layout)
    return Calibration(
        layout=layout,
        horizons_ticks=horizons,
        tick_s=plant.tick_s,
        means=means,
        whiteners=whiteners,
        tails=tails,
        threshold=budget.threshold,
        stream_thresholds={
            stream.name: _budget(alone, plant).threshold
            for stream in layout.streams
            if (alone := [r for key, r in rarities.items() if is_alone(key, stream.name)])
        },
        caveat=caveat,
        reading_mean_R=mean_R.astype(np.float64),
        reading_std_R=std_R.astype(np.float64),
        residual_std_R=_residual_std(windows, horizons),
        widen_HG=_widening(windows, layout, horizons),
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


def _vectors(
    windows: Sequence[WindowOutputs], layout: Layout, horizons: tuple[int, ...]
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Return for each accumulated member the windows that had it and its vectors."""
    running = RunningDeviations()
    found: dict[str, tuple[list[int], list[NDArray[np.float64]]]] = {}
    for index, window in enumerate(windows):
        for deviation in deviations(window, layout, horizons):
            for key, vector in running.update(deviation):
                at, vectors = found.setdefault(key, ([], []))
                at.append(index)
                vectors.append(vector)
    return {key: (np.array(at), np.stack(vectors)) for key, (at, vectors) in found.items()}


def _residual_std(
    windows: Sequence[WindowOutputs], horizons: tuple[int, ...]
) -> NDArray[np.float64]:
    last = len(windows[0].z_TD) - 1
    column, horizon = [(c, h) for c, h in enumerate(horizons) if h <= last][-1]
    residuals_NR = np.stack(
        [w.readings_TR[last] - w.readings_hat_THR[last - horizon, column] for w in windows]
    )
    filled = np.nan_to_num(residuals_NR.astype(np.float64))
    spread = 1.4826 * np.median(np.abs(filled - np.median(filled, axis=0)), axis=0)
    return np.maximum(spread, 1e-2)


def _widening(
    windows: Sequence[WindowOutputs], layout: Layout, horizons: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return how much the 5-95 % band must grow so that it held 90 % of what came."""
    tags = tag_columns(layout)
    by_tick = {window.tick: window for window in windows}
    widen_HG = np.zeros((len(horizons), len(tags)))
    for row, horizon in enumerate(horizons):
        misses = [
            np.maximum(w.forecast_HGQ[row, :, 0] - came, came - w.forecast_HGQ[row, :, 2])
            for w in windows
            if w.tick + horizon in by_tick
            for came in [by_tick[w.tick + horizon].readings_TR[-1, tags]]
        ]
        if misses and tags:
            with np.errstate(all="ignore"):
                widen_HG[row] = np.nan_to_num(np.nanquantile(np.stack(misses), 0.9, axis=0))
    return widen_HG


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
