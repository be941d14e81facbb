"""DataValues of OPC UA to readings: value, quality, and all three times."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from asyncua import ua

from fusion.plant.devices import NodeSource
from fusion.ports import Reading
from fusion.schema import Quality

BAD_TYPE_MISMATCH = 0x80740000
MAX_AHEAD_NS = 86_400 * 10**9
_FIRST_YEAR, _LAST_YEAR = 1601, 9999
"""The smallest and the largest time of the protocol stand for none (Part 6, 5.2.2.5)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_QUALITIES = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)
"""By the two highest bits of a status code: its severity (Part 4, 7.39)."""


def reading_of(source: NodeSource, data: ua.DataValue, *, t_receive_ns: int) -> Reading:
    """Return what ``data`` says of ``source``; what is no number is BAD."""
    status = 0 if data.StatusCode is None else int(data.StatusCode.value) & 0xFFFFFFFF
    quality = _QUALITIES[status >> 30]
    value = number_of(None if data.Value is None else data.Value.Value)
    if math.isnan(value) and quality is not Quality.BAD:
        quality, status = Quality.BAD, BAD_TYPE_MISMATCH
    t_server_ns = time_ns(data.ServerTimestamp)
    t_source_ns = time_ns(data.SourceTimestamp) or t_server_ns or t_receive_ns
    return Reading(
        source.stream,
        source.tag,
        value,
        quality,
        t_source_ns,
        t_server_ns or t_source_ns,
        t_receive_ns,
        status,
    )


def come_to_ns(before_ns: int, reading: Reading) -> int:
    """Return the newest source time of a stream, with one more reading.

    One that is further ahead of its receipt than any clock that is kept is wrong, and no position
    to go on from: all that is said until then would count as said before.

    Example:
        >>> wrong = Reading("s", "t", 1.0, Quality.GOOD, 10**18, 10**18, 5)
        >>> come_to_ns(3, wrong), come_to_ns(3, wrong._replace(t_source_ns=4))
        (3, 4)
    """
    is_credible = reading.t_source_ns <= reading.t_receive_ns + MAX_AHEAD_NS
    return max(before_ns, reading.t_source_ns) if is_credible else before_ns


def number_of(value: object) -> float:
    """Return ``value`` as a number; NaN where it is none (a text, an array, nothing).

    Example:
        >>> number_of(True), number_of(3), number_of("3")
        (1.0, 3.0, nan)
    """
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return math.nan
    return math.nan


def time_ns(stamp: datetime | None) -> int:
    """Return ``stamp`` in nanoseconds UTC, 0 where there is none.

    The protocol counts 100 ns; asyncua keeps microseconds.
    """
    if stamp is None or stamp.year in {_FIRST_YEAR, _LAST_YEAR}:
        return 0
    aware = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND * 1_000


def datetime_of(t_ns: int) -> datetime:
    """Return a time for a request."""
    return _EPOCH + timedelta(microseconds=t_ns // 1_000)
