"""Numbers in words, the same way everywhere on the page."""

from __future__ import annotations

import datetime
import math
import re

from fusion.plant import NANOSECONDS

MISSING = "\N{EN DASH}"


def duration(seconds: float | None) -> str:
    """Return a duration to about three digits.

    Example:
        >>> [duration(s) for s in (0.25, 3.5, 72, 5400)]
        ['0.2 s', '3.5 s', '1 min 12 s', '1 h 30 min']
    """
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole // 60, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number to ``digits`` significant digits, without exponent where it can be read.

    Example:
        >>> [figure(x) for x in (0.04167, 12.3456, 0.0)]
        ['0.0417', '12.3', '0']
    """
    if value is None or math.isnan(value):
        return MISSING
    if abs(value) >= 1000:
        return count(round(value))
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")


def fixed(value: float, decimals: int) -> str:
    """Return a number with so many decimals, to stand beside others of the same kind.

    Example:
        >>> fixed(-12345.678, 1)
        '−12 345.7'
    """
    grouped = f"{value:,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return grouped.replace("-", "\N{MINUS SIGN}")


def count(value: int) -> str:
    """Return a whole number with thin spaces between the thousands."""
    grouped = f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return grouped.replace("-", "\N{MINUS SIGN}")


def percent(part: float | None) -> str:
    """Return a part of 1 as per cent.

    Example:
        >>> percent(0.875)
        '88 %'
    """
    if part is None or math.isnan(part):
        return MISSING
    return f"{100 * part:.0f} %"


def chance(part: float) -> str:
    """Return a chance as per cent; what is nearly certain is not said to be.

    Example:
        >>> [chance(part) for part in (0.0004, 0.125, 0.999)]
        ['below 1 %', '12 %', 'over 99 %']
    """
    if part < 0.01:
        return "below 1 %"
    return "over 99 %" if part > 0.99 else percent(part)


def unit(symbol: str) -> str:
    """Return a unit as it is printed.

    Example:
        >>> unit("degC"), unit("bar"), unit("1")
        ('°C', 'bar', '')
    """
    return {"degC": "°C", "1": ""}.get(symbol, symbol)


def clock(t_ns: int, *, has_date: bool = False) -> str:
    """Return the time of day in UTC, with the date where a run lasts for days.

    Example:
        >>> clock(1_767_225_600_500_000_000)
        '00:00:00'
    """
    return _utc(t_ns).strftime("%Y-%m-%d %H:%M:%S" if has_date else "%H:%M:%S")


def date_and_clock(t_ns: int) -> str:
    """Return date and time of day in UTC, to the second."""
    return _utc(t_ns).strftime("%Y-%m-%d %H:%M:%S UTC")


def plural(number: int, singular: str, many: str | None = None) -> str:
    """Return the count with its noun.

    Example:
        >>> plural(1, "fault"), plural(0, "fault"), plural(2, "activity", "activities")
        ('1 fault', '0 faults', '2 activities')
    """
    return f"{count(number)} {singular if number == 1 else many or singular + 's'}"


def _utc(t_ns: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(t_ns / NANOSECONDS, datetime.UTC)


def without_password(uri: str) -> str:
    """Return ``uri`` as it may be shown: without the user's name and password.

    Example:
        >>> without_password("postgresql://eva:secret@db.example:5432/runs")
        'postgresql://db.example:5432/runs'
    """
    return re.sub(r"//[^/?#]*@", "//", uri)
