"""Draws forecasts at the longest horizon, each at the time it spoke about, with what came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flows.report.drawing import (
    ABNORMAL,
    FILL,
    INK,
    LINE,
    MUTED,
    PALE,
    WARNING,
    Picture,
    is_narrow,
    picture,
    stacked_rows,
)
from flows.report.foresight import Foresight
from flows.report.time_axis import TimeAxis, stride_for
from flows.report.verdicts import Verdicts
from fusion.wording import duration, percent, unit

_ROW_PX = 178
_GAP_PX = 36


def forecast_chart(
    foresights: Sequence[Foresight], verdicts: Verdicts, axis: TimeAxis
) -> Picture | None:
    """Return one row per tag; None when no tag was forecast."""
    if not foresights:
        return None

    def paint(width_px: int) -> Figure:
        fig, axes = stacked_rows(width_px, [_ROW_PX] * len(foresights), left_px=44, gap_px=_GAP_PX)
        for ax, foresight in zip(axes, foresights, strict=True):
            _row(ax, foresight, verdicts, axis, width_px)
            ax.tick_params(axis="x", labelbottom=ax is axes[-1])
        axes[0].set_xlim(0, axis.end_min)
        axes[-1].set_xlabel("minutes watched")
        return fig

    said = "; ".join(
        f"{f.tag.name}: the 90 % band {duration(f.horizons_s[-1])} ahead held "
        f"{percent(f.held[-1].inside_healthy) if f.held else 'unknown'} of healthy values"
        for f in foresights
    )
    return picture(paint, alt=f"Forecasts with their bands against what came. {said}.")


def _row(ax: Axes, foresight: Foresight, verdicts: Verdicts, axis: TimeAxis, width_px: int) -> None:
    tag = foresight.tag
    for verdict in verdicts.faults:
        begin, end = axis.place(verdict.fault.onset_ns), axis.place(verdict.fault.end_ns)
        ax.axvspan(begin, end, color=PALE, lw=0, zorder=-2)
    thin = slice(None, None, stride_for(foresight.t_origin_N_ns.size, width_px))
    t_ns = foresight.target_times_ns()[thin]
    is_on_page = t_ns <= foresight.t_origin_N_ns[-1]
    columns = [
        q[thin, -1][is_on_page] for q in (foresight.low_NH, foresight.median_NH, foresight.high_NH)
    ]
    x, low, median, high = axis.line(t_ns[is_on_page], *columns)
    ax.fill_between(x, low, high, color=FILL, lw=0, label="90 % band")
    ax.plot(x, median, color=MUTED, lw=1.1, ls=(0, (4, 1.5)), label="median")
    if foresight.actual is not None and foresight.actual[0].size:
        t_K_ns, values_K = foresight.actual
        step = slice(None, None, stride_for(t_K_ns.size, round(1.5 * width_px)))
        x, came = axis.line(t_K_ns[step], values_K[step])
        ax.plot(x, came, color=INK, lw=1.2, label="what came")
        _beyond(ax, x, came, foresight)
    for limit in _limits(foresight):
        ax.axhline(limit, color=ABNORMAL, lw=1, ls=(0, (7, 3)))
    for crossing in foresight.crossings:
        if crossing.warned_s is not None:
            at = axis.place(crossing.t_ns - round(crossing.warned_s * 1e9))
            ax.plot(at, 0.05, "D", transform=ax.get_xaxis_transform(), ms=7, color=WARNING)
    ax.margins(y=0.12)
    ax.locator_params(axis="y", nbins=5)
    ax.locator_params(axis="x", nbins=6 if is_narrow(width_px) else 14)
    ax.set_title(
        f"{tag.name} in {unit(tag.unit)}, forecast {duration(foresight.horizons_s[-1])} ahead",
        pad=6,
    )
    ax.grid(axis="y", color=LINE, alpha=0.25, lw=0.6)


def _beyond(ax: Axes, x: np.ndarray, came: np.ndarray, foresight: Foresight) -> None:
    """Draw again, in colour and thicker, where the tag was beyond its limit."""
    limits = foresight.tag.limits
    if limits is None:
        return
    high = np.inf if limits.high is None else limits.high
    low = -np.inf if limits.low is None else limits.low
    beyond = np.where((came > high) | (came < low), came, np.nan)
    ax.plot(x, beyond, color=ABNORMAL, lw=2.4)


def _limits(foresight: Foresight) -> list[float]:
    """Return the limits near enough to be on the chart without pressing the tag flat."""
    limits = foresight.tag.limits
    if limits is None:
        return []
    values = [foresight.low_NH[:, -1], foresight.high_NH[:, -1]]
    if foresight.actual is not None:
        values.append(foresight.actual[1].astype(np.float64))
    seen = np.concatenate(values)
    seen = seen[np.isfinite(seen)]
    if seen.size == 0:
        return []
    low, high = np.percentile(seen, [0.5, 99.5])
    margin = max(high - low, 1e-9)
    near = (limits.low, limits.high)
    return [x for x in near if x is not None and low - margin <= x <= high + margin]
