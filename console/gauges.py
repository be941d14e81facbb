"""Signals beside what was expected of them, as positions on a strip."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fusion.schema import SignalEvidence
from fusion.wording import fixed

MAX_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Gauge:
    """One signal beside its band, as positions in per cent of a strip."""

    signal: SignalEvidence
    band_from: float
    band_width: float
    expected_at: float
    actual_at: float
    is_outside: bool
    actual: str
    expected: str
    band: tuple[str, str]
    """In words with the same decimals, enough of them that no two look alike that are not."""


def gauge_of(signal: SignalEvidence) -> Gauge:
    """Return where band, expected and actual value lie on the strip of ``signal``.

    Example:
        >>> seen = SignalEvidence(
        ...     tag="p", unit="bar", stream="s", actual=3.0, expected=1.0, band=(0.0, 2.0),
        ...     deviation=4.0,
        ... )
        >>> gauge = gauge_of(seen)
        >>> gauge.is_outside, gauge.band_from < gauge.expected_at < gauge.actual_at
        (True, True)
        >>> gauge.actual, gauge.band
        ('3.0', ('0.0', '2.0'))
    """
    low, high = sorted(signal.band)
    points = (low, high, signal.actual, signal.expected)
    span = max(max(points) - min(points), 1e-12)
    begin, width = min(points) - 0.08 * span, 1.16 * span

    def at(value: float) -> float:
        return round(100 * (value - begin) / width, 2)

    step = high - low if high > low else span
    decimals = min(MAX_DECIMALS, max(0, 1 - math.floor(math.log10(step))))
    return Gauge(
        signal=signal,
        band_from=at(low),
        band_width=round(max(1.5, at(high) - at(low)), 2),
        expected_at=at(signal.expected),
        actual_at=at(signal.actual),
        is_outside=not low <= signal.actual <= high,
        actual=fixed(signal.actual, decimals),
        expected=fixed(signal.expected, decimals),
        band=(fixed(low, decimals), fixed(high, decimals)),
    )
