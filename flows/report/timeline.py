"""The run on one axis: truth, alarms, combined surprise, and each stream's part of it.

Shapes: N scores, P points after thinning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flows.report.drawing import (
    ABNORMAL,
    FILL,
    INK,
    LINE,
    MUTED,
    PALE,
    WARNING,
    Picture,
    bare,
    is_narrow,
    picture,
    stacked_rows,
)
from flows.report.inputs import ReportInputs
from flows.report.time_axis import TimeAxis, peaks, stride_for
from flows.report.verdicts import Verdicts
from fusion.wording import figure, plural

_LANE_PX = 19
_SURPRISE_PX = 150
_STREAM_PX = 52
_GAP_PX = 30
_DRAWN_UP_TO = 4.0


@dataclass(frozen=True, slots=True)
class _Surprise:
    """What is drawn of the scores. ``x_P`` in minutes; NaN where the line is interrupted."""

    x_P: NDArray[np.float64]
    whole_P: NDArray[np.float64]
    part_by_stream: dict[str, NDArray[np.float64]]
    absent_by_stream: dict[str, NDArray[np.bool_]]
    top: float
    peak: float


def timeline(inputs: ReportInputs, verdicts: Verdicts, axis: TimeAxis) -> Picture | None:
    """Return the timeline; None when nothing was scored."""
    if not inputs.scores:
        return None
    peak = max(score.surprise for score in inputs.scores)

    def paint(width_px: int) -> Figure:
        surprise = _surprise(inputs, axis, most_points=round(1.2 * width_px))
        return _paint(width_px, verdicts, axis, surprise)

    alt = (
        f"Timeline of {figure(axis.end_min)} minutes. {plural(len(verdicts.faults), 'fault')}, "
        f"{plural(len(verdicts.spans), 'alarm')} raised, of which "
        f"{len(verdicts.false_alarms)} false. The highest surprise is {figure(peak)} times "
        "the alarm threshold. The tables below hold the same in numbers."
    )
    return picture(paint, alt=alt)


def _surprise(inputs: ReportInputs, axis: TimeAxis, *, most_points: int) -> _Surprise:
    scores = inputs.scores
    t_N_ns = np.array([score.t_end_ns for score in scores], dtype=np.int64)
    whole_N = np.array([score.surprise for score in scores])
    names = [stream.name for stream in inputs.plant.streams]
    part_NM = np.array([[s.shares.get(name, 0.0) for name in names] for s in scores])
    part_NM = part_NM * whole_N[:, None]
    absent_NM = np.array([[not s.present.get(name, True) for name in names] for s in scores])
    stride = stride_for(len(scores), most_points)
    columns = [whole_N, *part_NM.T, *absent_NM.T.astype(np.float64)]
    x_P, *thin = axis.line(t_N_ns[::stride], *(peaks(column, stride) for column in columns))
    whole_P, parts, absents = thin[0], thin[1 : len(names) + 1], thin[len(names) + 1 :]
    peak = float(np.nanmax(whole_N))
    return _Surprise(
        x_P=x_P,
        whole_P=whole_P,
        part_by_stream=dict(zip(names, parts, strict=True)),
        absent_by_stream={n: a > 0.5 for n, a in zip(names, absents, strict=True)},
        top=float(np.clip(1.1 * peak, 1.6, _DRAWN_UP_TO)),
        peak=peak,
    )


def _paint(width_px: int, verdicts: Verdicts, axis: TimeAxis, surprise: _Surprise) -> Figure:
    alarm_names = list(dict.fromkeys(span.raised.state.name for span in verdicts.spans))
    rows_px = [
        _LANE_PX * 2 if verdicts.faults else _LANE_PX,
        _LANE_PX * max(1, len(alarm_names)),
        _SURPRISE_PX,
        *([_STREAM_PX] * len(surprise.part_by_stream)),
    ]
    narrow = is_narrow(width_px)
    left_px, gap_px = (14, _GAP_PX) if narrow else (150, 12)
    fig, axes = stacked_rows(width_px, rows_px, left_px=left_px, gap_px=gap_px)
    _truth(axes[0], verdicts, axis, width_px)
    _alarms(axes[1], verdicts, axis, alarm_names, width_px)
    _whole(axes[2], surprise, width_px)
    for ax, name in zip(axes[3:], surprise.part_by_stream, strict=True):
        _part(ax, name, surprise, width_px)
    for ax in axes:
        _behind(ax, verdicts, axis)
    axes[0].set_xlim(0, axis.end_min)
    axes[-1].tick_params(axis="x", bottom=True, labelbottom=True)
    axes[-1].locator_params(axis="x", nbins=6 if narrow else 14)
    axes[-1].set_xlabel(
        "minutes watched" + (", silences folded (dotted)" if axis.folds_min else "")
    )
    return fig


def _label(ax: Axes, text: str, note: str, width_px: int) -> None:
    """Name a row: above it on a phone, left of it on a desk."""
    if is_narrow(width_px):
        ax.set_title(text + (f"  ({note.replace(chr(10), ' ')})" if note else ""), pad=3)
        return
    both = {"transform": ax.transAxes, "ha": "right"}
    if not note:
        ax.text(-0.022, 0.5, text, va="center", **both)
        return
    ax.annotate(text, (-0.03, 0.5), (0, 2), "axes fraction", "offset points", ha="right")
    ax.annotate(
        note, (-0.03, 0.5), (0, -2), "axes fraction", "offset points",
        ha="right", va="top", color=MUTED, fontsize=10,
    )  # fmt: skip


def _behind(ax: Axes, verdicts: Verdicts, axis: TimeAxis) -> None:
    """Shade the faults and mark the folds, behind everything else."""
    for verdict in verdicts.faults:
        begin, end = axis.place(verdict.fault.onset_ns), axis.place(verdict.fault.end_ns)
        ax.axvspan(begin, end, color=PALE, lw=0, zorder=-2)
        ax.axvline(begin, color=LINE, lw=0.7, ls=(0, (3, 2)), zorder=-1)
    for begin, end in axis.folds_min:
        ax.axvline((begin + end) / 2, color=LINE, lw=0.8, ls=":", zorder=-1)


def _truth(ax: Axes, verdicts: Verdicts, axis: TimeAxis, width_px: int) -> None:
    bare(ax)
    ax.set_ylim(0, 2)
    _label(ax, "Truth", "", width_px)
    if not verdicts.faults:
        ax.text(0.01, 0.5, "no fault known", transform=ax.transAxes, va="center", color=MUTED)
        return
    begins = [axis.place(verdict.fault.onset_ns) for verdict in verdicts.faults]
    room = [after - begin for begin, after in zip(begins, [*begins[1:], axis.end_min], strict=True)]
    px_per_min = width_px * (0.86 if width_px > 600 else 0.93) / max(axis.end_min, 1e-9)
    for verdict, begin, space in zip(verdicts.faults, begins, room, strict=True):
        end = axis.place(verdict.fault.end_ns)
        is_missed = verdict.alarm is None
        ax.barh(
            0.5, max(end - begin, 2 / px_per_min), left=begin, height=0.7,
            facecolor="white" if is_missed else MUTED, edgecolor=MUTED,
            hatch="////" if is_missed else None, lw=0.8,
        )  # fmt: skip
        name = _name_that_fits(verdict.number, verdict.fault.title, space * px_per_min)
        ax.text(begin, 1.45, name, va="center", color=INK, fontsize=11)


def _name_that_fits(number: int, title: str, room_px: float) -> str:
    full = f"{number} {title}"
    if len(full) * 6 < room_px:
        return full
    return str(number) if len(str(number)) * 6 < room_px else ""


def _alarms(ax: Axes, verdicts: Verdicts, axis: TimeAxis, names: list[str], width_px: int) -> None:
    bare(ax)
    ax.set_ylim(max(1, len(names)), 0)
    if not names:
        _label(ax, "Alarms", "", width_px)
        ax.text(0.01, 0.5, "none raised", transform=ax.transAxes, va="center", color=MUTED)
        return
    if is_narrow(width_px):
        _label(ax, "Alarms: " + ", ".join(names) if len(names) < 3 else "Alarms", "", width_px)
    false_ids = {event.id for event in verdicts.false_alarms}
    settling_ids = {event.id for event in verdicts.settling}
    for span in verdicts.spans:
        lane = names.index(span.raised.state.name) + 0.5
        begin = axis.place(span.raised.t_ns)
        end = axis.end_min if span.cleared_ns is None else axis.place(span.cleared_ns)
        is_forecast = span.raised.state.finding == "forecast"
        color = WARNING if is_forecast else ABNORMAL
        face = "white" if span.raised.id in false_ids else color
        if span.raised.id in settling_ids:
            color, face = LINE, FILL
        ax.barh(lane, end - begin, left=begin, height=0.3, color=color, alpha=0.55, lw=0)
        ax.plot(begin, lane, "D" if is_forecast else "^", ms=7 if is_forecast else 8.5,
                mfc=face, mec=color, mew=1.4, clip_on=False)  # fmt: skip
    if not is_narrow(width_px):
        for lane, name in enumerate(names):
            ax.annotate(_short(name), (-0.022, lane + 0.5), xycoords=("axes fraction", "data"),
                        ha="right", va="center", fontsize=11)  # fmt: skip


def _short(name: str) -> str:
    name = name.removeprefix("forecast-")
    return name if len(name) <= 21 else name[:20] + "…"


def _whole(ax: Axes, surprise: _Surprise, width_px: int) -> None:
    top = surprise.top
    note = "1 = alarm threshold"
    if surprise.peak > top:
        note += f"\ncut at {top:g}, peak {figure(surprise.peak)}"
    _label(ax, "Surprise", note, width_px)
    drawn_P = np.minimum(surprise.whole_P, top)
    ax.fill_between(surprise.x_P, 0, np.minimum(drawn_P, 1), color=FILL, lw=0)
    ax.fill_between(
        surprise.x_P, 1, np.maximum(drawn_P, 1), where=drawn_P > 1, color=ABNORMAL, alpha=0.35, lw=0
    )
    ax.plot(surprise.x_P, drawn_P, color=INK, lw=0.9)
    ax.axhline(1, color=ABNORMAL, lw=1)
    ax.set_ylim(0, top)
    ax.set_yticks([0, 1, *range(2, int(top) + 1)])
    ax.tick_params(axis="x", labelbottom=False, bottom=False)


def _part(ax: Axes, name: str, surprise: _Surprise, width_px: int) -> None:
    part_P = np.minimum(surprise.part_by_stream[name], surprise.top)
    absent_P = surprise.absent_by_stream[name]
    _label(ax, _short(name), "absent: hatched" if absent_P.any() else "", width_px)
    ax.fill_between(surprise.x_P, 0, np.nan_to_num(part_P), color=FILL, lw=0)
    ax.fill_between(
        surprise.x_P,
        0,
        np.nan_to_num(part_P),
        where=surprise.whole_P > 1,
        color=ABNORMAL,
        alpha=0.55,
        lw=0,
    )
    ax.plot(surprise.x_P, part_P, color=MUTED, lw=0.7)
    if absent_P.any():
        ax.fill_between(
            surprise.x_P,
            0,
            surprise.top,
            where=absent_P,
            facecolor="none",
            hatch="\\\\\\\\",
            edgecolor=LINE,
            lw=0,
        )
    ax.set_ylim(0, surprise.top)
    ax.set_yticks([0, int(surprise.top)])
    ax.tick_params(axis="x", labelbottom=False, bottom=False)
