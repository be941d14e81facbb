"""What a device says, held against the plant file: units, scaling, range, deadband.

Shapes: R rows, C tags of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fusion.errors import InputError
from fusion.plant import NANOSECONDS, TelemetryStream
from fusion.plant.devices import TagSource
from fusion.schema import Quality, TelemetryBatch

UNCERTAIN_ENGINEERING_UNITS_EXCEEDED = 0x40940000
"""OPC UA Part 8, 6.2: the value lies outside the range that is defined for it."""
BAD_NO_DATA = 0x809B0000
"""OPC UA Part 4, 7.39: GOOD was said of what is no number."""

_SAME_UNITS = (
    {"°c", "degc", "celsius", "deg c", "cel"},
    {"°f", "degf", "fahrenheit"},
    {"%", "percent", "pct"},
    {"1", "", "none", "-"},
    {"1/min", "rpm", "r/min", "min-1"},
    {"l/min", "lpm", "l/minute"},
    {"m3/h", "m³/h"},
    {"m/s2", "m/s²", "m/s^2"},
)
_CANONICAL = {name: min(names) for names in _SAME_UNITS for name in names}


def require_units(
    stated: Mapping[str, str], sources: Sequence[TagSource], units: Mapping[str, str]
) -> None:
    """Check the units that a device states against the mapping's, else the tag's own (``units``).

    Raises:
        InputError: One differs; its values would be believed in the wrong unit.

    Example:
        >>> require_units({"t": "°C"}, [TagSource(stream="s", tag="t")], {"t": "degC"})
    """
    wrong: list[str] = []
    for source in sources:
        came = stated.get(source.tag)
        wanted = source.unit or units[source.tag]
        if came is not None and canonical_unit(came) != canonical_unit(wanted):
            wrong.append(f"{source.tag} must be in {wanted!r}, the device states {came!r}")
    if wrong:
        raise InputError(
            "; ".join(wrong[:5])
            + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            + "; correct the unit of the tag, or give unit (as the device states it), scale and "
            "offset in the device's mapping"
        )


def canonical_unit(unit: str) -> str:
    """Return one spelling of all that mean the same.

    Example:
        >>> canonical_unit("degC") == canonical_unit("°C"), canonical_unit("bar")
        (True, 'bar')
    """
    return _CANONICAL.get(unit.strip().lower(), unit.strip())


class TagRules:
    """Scales, checks and thins the batches of one stream; counts what it did."""

    def __init__(self, stream: TelemetryStream, sources: Sequence[TagSource]) -> None:
        by_tag = {source.tag: source for source in sources if source.stream == stream.name}
        chosen = [by_tag.get(tag.name) for tag in stream.tags]
        self._scale_C = np.array([1.0 if s is None else s.scale for s in chosen])
        self._offset_C = np.array([0.0 if s is None else s.offset for s in chosen])
        self._deadband_C = np.array([0.0 if s is None else s.deadband for s in chosen])
        self._low_C = np.array([tag.range[0] for tag in stream.tags])
        self._high_C = np.array([tag.range[1] for tag in stream.tags])
        self._hold_ns = round(stream.max_age_s / 2 * NANOSECONDS)
        self._sent_C = np.full(len(chosen), np.nan)
        self._sent_quality_C = np.full(len(chosen), Quality.NOT_REPORTED, np.uint8)
        self._t_sent_C_ns = np.full(len(chosen), -(2**62), np.int64)
        self.num_out_of_range = 0
        self.num_held_back = 0
        self.num_bad = 0

    def apply(self, batch: TelemetryBatch) -> TelemetryBatch | None:
        """Return ``batch`` in the plant's units, judged, without what need not be sent.

        None when nothing is left of it.
        """
        values_RC = batch.values_RC * self._scale_C + self._offset_C
        quality_RC, status_RC = batch.quality_RC.copy(), batch.status_RC.copy()
        is_usable_RC = quality_RC <= Quality.UNCERTAIN
        is_nothing_RC = is_usable_RC & ~np.isfinite(values_RC)
        is_usable_RC &= ~is_nothing_RC
        quality_RC[is_nothing_RC] = Quality.BAD
        status_RC[is_nothing_RC & (status_RC == 0)] = BAD_NO_DATA
        is_out_RC = is_usable_RC & ((values_RC < self._low_C) | (values_RC > self._high_C))
        status_RC[is_out_RC & (quality_RC == Quality.GOOD)] = UNCERTAIN_ENGINEERING_UNITS_EXCEEDED
        quality_RC[is_out_RC] = Quality.UNCERTAIN
        self.num_out_of_range += int(is_out_RC.sum())
        self.num_bad += int(((quality_RC == Quality.BAD) | (quality_RC == Quality.STALE)).sum())
        values_RC[~is_usable_RC] = np.nan
        judged = replace(batch, values_RC=values_RC, quality_RC=quality_RC, status_RC=status_RC)
        return self._without_repeats(judged) if self._deadband_C.any() else judged

    def _without_repeats(self, batch: TelemetryBatch) -> TelemetryBatch | None:
        quality_RC = batch.quality_RC.copy()
        for row, t_ns in enumerate(batch.t_source_R_ns):
            value_C, quality_C = batch.values_RC[row], batch.quality_RC[row]
            is_said_C = quality_C != Quality.NOT_REPORTED
            is_near_C = np.abs(value_C - self._sent_C) <= self._deadband_C
            is_near_C &= quality_C == self._sent_quality_C
            is_near_C &= (self._deadband_C > 0) & (t_ns - self._t_sent_C_ns < self._hold_ns)
            quality_RC[row, is_said_C & is_near_C] = Quality.NOT_REPORTED
            self.num_held_back += int((is_said_C & is_near_C).sum())
            goes_C = is_said_C & ~is_near_C
            self._sent_C[goes_C] = value_C[goes_C]
            self._sent_quality_C[goes_C] = quality_C[goes_C]
            self._t_sent_C_ns[goes_C] = t_ns
        stays_R = (quality_RC != Quality.NOT_REPORTED).any(axis=1)
        if not stays_R.any():
            return None
        values_RC = np.where(quality_RC == Quality.NOT_REPORTED, np.nan, batch.values_RC)
        return TelemetryBatch(
            batch.stream,
            batch.tags,
            batch.t_source_R_ns[stays_R],
            batch.t_server_R_ns[stays_R],
            batch.t_receive_R_ns[stays_R],
            values_RC[stays_R],
            quality_RC[stays_R],
            batch.status_RC[stays_R],
        )
