"""SKAB: a real water circulation testbed with labelled valve faults, by its official split.

Shapes: N rows, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusion.evaluation.calibrated import calibrate
from fusion.evaluation.protocol import WHOLE, Figure, Published, folder_of
from fusion.evaluation.scored import ablation, score_recording
from fusion.evaluation.tables import table_plant, table_ticks
from fusion.evaluation.transfer import train_on_rigs
from fusion.features import fit_normaliser
from fusion.plant import Scoring
from fusion.training import Recipe

TRAIN_ROWS = 400
"""The first rows of every experiment are for training; the rest is the test (core/utils.py)."""
BUDGET_PER_DAY = 24.0
"""What plants/skab.yaml asks for: a testbed with people beside it."""
NOT_CHANNELS = {"datetime", "anomaly", "changepoint", "group", "experiment"}


def _published(method: str, f1: float, far: float, mar: float) -> tuple[Published, ...]:
    return (
        Published(method, "f1", f1),
        Published(method, "false alarm rate", far),
        Published(method, "missed alarm rate", mar),
    )


@dataclass(frozen=True, slots=True)
class Experiment:
    """One labelled experiment."""

    name: str
    rows_NC: NDArray[np.float64]
    is_anomaly_N: NDArray[np.bool_]


class Skab:
    """Each experiment is watched by the one model, calibrated on its own first 400 rows."""

    name = "skab"
    title = "SKAB v0.9, a real water circulation testbed"
    headline = ("f1", "false alarm rate", "missed alarm rate")
    published = (
        *_published("Conv-AE", 0.784, 0.1355, 0.2802),
        *_published("MSET", 0.780, 0.3973, 0.1413),
        *_published("T2+Q", 0.758, 0.2662, 0.2492),
        *_published("LSTM-AE", 0.741, 0.2996, 0.2592),
    )
    rules = (
        "Official split: of each labelled experiment the first 400 rows are normal running, the "
        "rest is the test. One model learns from the first rows of all experiments, each "
        "normalised and calibrated by its own; thresholds come from a budget of 24 false alarms a "
        "day. Counted over all test rows together (micro average)."
    )

    def run(
        self, directory: Path, *, seed: int, recipe: Recipe, say: Callable[[str, float], None]
    ) -> Iterator[Figure]:
        """Yield the official metrics of the product, of each kind of member, and of constants."""
        experiments, channels = load(folder_of(directory, "skab", "skab.parquet"))
        plant = table_plant("skab", channels, tick_s=1.0).model_copy(
            update={"scoring": Scoring(false_alarms_per_day=BUDGET_PER_DAY)}
        )
        recipe = recipe.model_copy(update={"seed": seed})
        normal = [table_ticks(each.rows_NC[:TRAIN_ROWS]) for each in experiments]
        model = train_on_rigs(
            normal,
            plant,
            recipe,
            on_step=lambda r: say(f"learning, step {r.step}", 0.6 * r.step / r.steps),
        )
        verdicts: dict[str, list[NDArray[np.bool_]]] = {}
        for number, (each, ticks) in enumerate(zip(experiments, normal, strict=True)):
            say(each.name, 0.6 + 0.4 * number / len(experiments))
            own = fit_normaliser(ticks, plant)
            calibrated = calibrate(model, recipe, ticks, plant, normaliser=own)
            scored = score_recording(calibrated, table_ticks(each.rows_NC))
            for method, surprise_N in ablation(scored, calibrated.calibration).items():
                verdicts.setdefault(method, []).append(surprise_N[TRAIN_ROWS:] >= 1)
        truth_N = np.concatenate([each.is_anomaly_N[TRAIN_ROWS:] for each in experiments])
        for method, parts in verdicts.items():
            yield from _figures(point_metrics(truth_N, np.concatenate(parts)), method, seed)
        always = point_metrics(truth_N, np.ones_like(truth_N))
        yield from _figures(always, "always alarm", None)


def load(folder: Path) -> tuple[list[Experiment], list[str]]:
    """Return the labelled experiments of the folder, and the names of their channels."""
    table = pl.read_parquet(folder / "skab.parquet")
    channels = [name for name in table.columns if name not in NOT_CHANNELS]
    labelled = table.filter(pl.col("group") != "anomaly-free")
    return [
        Experiment(
            str(name[0]),
            part.select(channels).to_numpy().astype(np.float64),
            part["anomaly"].to_numpy().astype(bool),
        )
        for name, part in labelled.group_by("experiment", maintain_order=True)
        if len(part) > TRAIN_ROWS
    ], channels


def _figures(metrics: PointMetrics, method: str, seed: int | None) -> Iterator[Figure]:
    for metric, value in (
        ("f1", metrics.f1),
        ("false alarm rate", metrics.false_alarm_rate),
        ("missed alarm rate", metrics.missed_alarm_rate),
    ):
        yield Figure(method, WHOLE, metric, value, seed)


@dataclass(frozen=True, slots=True)
class PointMetrics:
    """Micro-averaged over rows. Rates are parts of 1."""

    f1: float
    false_alarm_rate: float
    missed_alarm_rate: float
    num_rows: int


def point_metrics(is_anomaly_N: NDArray[np.bool_], is_alarm_N: NDArray[np.bool_]) -> PointMetrics:
    """Return F1, FP / (FP + TN) and FN / (FN + TP).

    Example:
        >>> point_metrics(np.array([True, True, False]), np.array([True, False, False])).f1
        0.6666666666666666
    """
    true_positives = int((is_anomaly_N & is_alarm_N).sum())
    false_positives = int((~is_anomaly_N & is_alarm_N).sum())
    false_negatives = int((is_anomaly_N & ~is_alarm_N).sum())
    true_negatives = int((~is_anomaly_N & ~is_alarm_N).sum())
    return PointMetrics(
        f1=_ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives),
        false_alarm_rate=_ratio(false_positives, false_positives + true_negatives),
        missed_alarm_rate=_ratio(false_negatives, false_negatives + true_positives),
        num_rows=len(is_anomaly_N),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
