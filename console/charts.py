"""Small charts as coordinates for SVG: attributes only, since pages allow no inline style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusion.schema import TagForecast

WIDTH, HEIGHT = 240, 48
FAN_WIDTH, FAN_HEIGHT = 420, 150
_MARGIN = 6
_ROOM = 0.14
"""Of the range, above and below: enough for the name of a limit that lies at its end."""
_TICK_WIDTH = 70
_TEXT_ABOVE, _TEXT_BELOW = -5, 15


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A line of surprise; ``threshold_y`` is where 1 lies, above which is abnormal."""

    points: str
    threshold_y: float
    is_beyond: bool
    """Whether any of it lies at or above the threshold."""


def sparkline(values: Sequence[float], *, top: float = 2.0) -> Sparkline:
    """Return the line of ``values`` on a fixed scale from 0 to ``top``, cut off there.

    A scale that followed the values would make every quiet plant look busy.

    Example:
        >>> sparkline([0.0, 2.0]).points
        '0.0,48.0 240.0,0.0'
    """
    step = WIDTH / max(1, len(values) - 1)
    points = " ".join(
        f"{i * step:.1f},{HEIGHT * (1 - min(max(v, 0.0), top) / top):.1f}"
        for i, v in enumerate(values)
    )
    return Sparkline(points, HEIGHT * (1 - 1 / top), any(v >= 1 for v in values))


@dataclass(frozen=True, slots=True)
class Fan:
    """A forecast of one tag: its median with the 90 % band, and its limit."""

    forecast: TagForecast
    band: str
    median: str
    limit_y: float | None
    limit_text_y: float | None
    """Where the limit's name stands: on the side where the forecast does not begin."""
    ticks: tuple[tuple[float, str], ...]
    """Place and name of the horizons whose names have room beside each other."""
    top: float
    bottom: float


def fan_of(forecast: TagForecast) -> Fan:
    """Return ``forecast`` as coordinates; the first point is what is measured now."""
    now = forecast.now
    times = (0.0, *forecast.horizons_s) if now is not None else forecast.horizons_s
    start = () if now is None else (now,)
    low, mid, high = ((*start, *each) for each in (forecast.low, forecast.median, forecast.high))
    values = [*low, *high, *(() if forecast.limit is None else (forecast.limit,))]
    bottom, top = min(values), max(values)
    room = max(top - bottom, 1e-9) * _ROOM
    bottom, top = bottom - room, top + room

    def x(t_s: float) -> float:
        return _MARGIN + (FAN_WIDTH - 2 * _MARGIN) * t_s / max(times[-1], 1e-9)

    def y(value: float) -> float:
        return FAN_HEIGHT * (top - value) / (top - bottom)

    def path(of: Sequence[float]) -> list[str]:
        return [f"{x(t):.1f},{y(v):.1f}" for t, v in zip(times, of, strict=True)]

    limit_y = None if forecast.limit is None else round(y(forecast.limit), 1)
    beside = _TEXT_ABOVE if limit_y is not None and limit_y <= y(mid[0]) else _TEXT_BELOW
    return Fan(
        forecast=forecast,
        band=" ".join([*path(low), *reversed(path(high))]),
        median=" ".join(path(mid)),
        limit_y=limit_y,
        limit_text_y=None if limit_y is None else limit_y + beside,
        ticks=_with_room([(round(x(t), 1), "now" if t == 0 else f"{t:g} s") for t in times]),
        top=top,
        bottom=bottom,
    )


def _with_room(ticks: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """Return the first and the last of ``ticks``, and of the others those that overlap nobody."""
    *others, last = ticks
    kept = others[:1]
    for each in others[1:]:
        if each[0] - kept[-1][0] >= _TICK_WIDTH and last[0] - each[0] >= _TICK_WIDTH:
            kept.append(each)
    return (*kept, last)
