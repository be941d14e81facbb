"""Tennessee Eastman Process (a simulation): faults of a chemical plant, by the usual protocol.

Shapes: N rows, C channels, K principal components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from fusion.evaluation.calibrated import calibrate
from fusion.evaluation.protocol import WHOLE, Figure, Published, folder_of
from fusion.evaluation.scored import ablation, score_recording
from fusion.evaluation.tables import table_plant, table_ticks
from fusion.training import Recipe, train

Values = NDArray[np.float64]
FAULT_ROW = 160
"""Faults of the test files begin here, after 8 h."""
QUANTILE = 0.99
HARDLY_DETECTABLE = (3, 9, 15)
EXPLAINED = 0.9
DETECTED, DETECTED_EASY = "detection rate", "without faults 3, 9, 15"
FALSE, FALSE_BEFORE = "false alarms, normal test", "false alarms before the fault"


@dataclass(frozen=True, slots=True)
class Runs:
    """The normal run to learn from, and every test run by its fault; 0 is none."""

    channels: tuple[str, ...]
    normal_NC: Values
    tested: Mapping[int, Values]


class Tep:
    """One model of the normal run; limits from the normal test run, as in the literature."""

    name = "tep"
    title = "Tennessee Eastman Process (simulated)"
    headline = (DETECTED, DETECTED_EASY, FALSE, FALSE_BEFORE)
    published = (
        Published("DPCA T2|SPE", DETECTED, 0.686, "52 variables, faults 1-21, same limits"),
        Published("DPCA T2|SPE", DETECTED_EASY, 0.796),
        Published("PCA T2|SPE", DETECTED, 0.666),
        Published("PCA T2|SPE", DETECTED_EASY, 0.771),
    )
    rules = (
        "Everything is fitted on the 500 rows of normal training; each method's limit is the 99 % "
        "quantile of its score on the normal test run. The detection rate of a fault is the share "
        "of its rows after the 160th that lie beyond the limit; the figure is the mean over the "
        "faults that the folder holds. Each test run is scored by itself, from its first row."
    )

    def run(
        self, directory: Path, *, seed: int, recipe: Recipe, say: Callable[[str, float], None]
    ) -> Iterator[Figure]:
        """Yield detection and false-alarm rates of the product, its members, PCA and DPCA."""
        runs = load(folder_of(directory, "tep", "tep.parquet"))
        plant = table_plant("tep", runs.channels, tick_s=180.0)
        recipe = recipe.model_copy(update={"seed": seed})
        normal = table_ticks(runs.normal_NC)
        trained = train(
            normal,
            plant,
            recipe,
            may_collapse=True,
            on_step=lambda r: say(f"learning, step {r.step}", 0.7 * r.step / r.steps),
        )
        calibrated = calibrate(trained.model, recipe, normal, plant, normaliser=trained.normaliser)
        scores: dict[str, dict[int, Values]] = {}
        for number, (fault, values_NC) in enumerate(runs.tested.items()):
            say(f"fault {fault}", 0.7 + 0.3 * number / len(runs.tested))
            scored = score_recording(calibrated, table_ticks(values_NC))
            for method, surprise_N in ablation(scored, calibrated.calibration).items():
                scores.setdefault(method, {})[fault] = surprise_N
        for method, by_fault in scores.items():
            yield from _figures(method, by_fault, seed)
        for method, lags in (("PCA T2|SPE", 0), ("DPCA T2|SPE", 2)):
            yield from _figures(method, _pca_scores(runs, lags), None)


def load(folder: Path) -> Runs:
    """Return the runs of the folder, whichever faults it holds."""
    table = pl.read_parquet(folder / "tep.parquet").sort("sample")
    channels = tuple(name for name in table.columns if name.startswith("XM"))

    def values(split: str, fault: int) -> Values:
        chosen = table.filter((pl.col("split") == split) & (pl.col("fault") == fault))
        return chosen.select(channels).to_numpy().astype(np.float64)

    tests = table.filter(pl.col("split") == "test")["fault"].unique().sort().to_list()
    return Runs(channels, values("train", 0), {fault: values("test", fault) for fault in tests})


def _figures(method: str, by_fault: Mapping[int, Values], seed: int | None) -> Iterator[Figure]:
    """Yield the rates of one method from its score of every row; NaN is no alarm."""
    limit = float(np.nanquantile(by_fault[0], QUANTILE))
    rates = {
        fault: float((scores_N[FAULT_ROW:] > limit).mean())
        for fault, scores_N in by_fault.items()
        if fault
    }
    before = [(scores_N[:FAULT_ROW] > limit).mean() for f, scores_N in by_fault.items() if f]
    easy = [rate for fault, rate in rates.items() if fault not in HARDLY_DETECTABLE]
    yield Figure(method, WHOLE, DETECTED, float(np.mean(list(rates.values()))), seed)
    yield Figure(method, WHOLE, DETECTED_EASY, float(np.mean(easy)), seed)
    yield Figure(method, WHOLE, FALSE, float((by_fault[0] > limit).mean()), seed)
    yield Figure(method, WHOLE, FALSE_BEFORE, float(np.mean(before)), seed)
    for fault, rate in rates.items():
        yield Figure(method, f"fault {fault}", DETECTED, rate, seed)


def _pca_scores(runs: Runs, lags: int) -> dict[int, Values]:
    """Return the larger of T2 and SPE over its own limit (Ku, Storer & Georgakis 1995)."""
    mean_C, std_C = runs.normal_NC.mean(axis=0), runs.normal_NC.std(axis=0)

    def lagged(values_NC: Values) -> Values:
        scaled = (values_NC - mean_C) / std_C
        return np.hstack([scaled[lags - lag : len(scaled) - lag] for lag in range(lags + 1)])

    pca = PCA(n_components=EXPLAINED, svd_solver="full").fit(lagged(runs.normal_NC))

    def statistics(values_NC: Values) -> Values:
        rows = lagged(values_NC)
        parts_NK = pca.transform(rows)
        t2_N = (parts_NK**2 / pca.explained_variance_).sum(axis=1)
        spe_N = ((rows - pca.inverse_transform(parts_NK)) ** 2).sum(axis=1)
        return np.pad(np.stack([t2_N, spe_N]), ((0, 0), (lags, 0)), constant_values=np.nan)

    limits = np.nanquantile(statistics(runs.tested[0]), QUANTILE, axis=1, keepdims=True)
    return {
        fault: (statistics(values_NC) / limits).max(axis=0)
        for fault, values_NC in runs.tested.items()
    }
