"""SKAB's official point metrics: F1, false-alarm rate, missed-alarm rate, over all test rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRAIN_ROWS = 400
"""The first rows of every experiment are for training; the rest is the test (core/utils.py)."""


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
