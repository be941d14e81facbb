"""A timeline as a picture: what the plant said above, what was done about it below.

The two halves have clocks of their own: the plant's, by which data are, and the machine's, by which
flows run. Where a plant is simulated faster than real time they differ.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from pathlib import Path

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
    bare,
    new_figure,
    save_picture,
)
from flows.timeline import RunTold, Timeline
from fusion.plant import NANOSECONDS
from fusion.retraining.records import DriftRecord
from fusion.rollout.states import Action

WIDTH_PX, LEFT_PX, RIGHT_PX = 1_080, 150, 16
SURPRISE_PX, ROW_PX, GAP_PX = 150, 24, 58
SHOWN_MOST = 4.0
"""Surprise above this is drawn at this height: what alarms, alarms."""
COLOURS = ("#20262b", "#2f6f9f", "#8a6d1d", "#6a4c93", "#3f7f5f")
STAGES = {Action.SHADOW: 0.35, Action.CANARY: 0.6, Action.CHAMPION: 1.0}
"""How strongly a version is drawn in each stage."""
STEP_SHADES = (FILL, LINE)
MIN_LABEL_SHARE = 0.055
"""Of the width: what is shorter has no room for its name."""


def draw_timeline(told: Timeline, path: Path) -> None:
    """Write the picture to ``path``; its suffix says in which format (SVG, PNG)."""
    save_picture(lambda: _painted(told), path)


def _painted(told: Timeline) -> Figure:
    rows_above = 1 + len(told.runs)
    rows_below = 1 + len(told.runs) + len(told.versions)
    above_px, below_px = ROW_PX * rows_above, ROW_PX * rows_below
    height_px = SURPRISE_PX + above_px + below_px + 3 * GAP_PX + 26
    fig = new_figure(WIDTH_PX, height_px)
    tops = np.cumsum([34, SURPRISE_PX + 22, above_px + GAP_PX + 18])
    surprise = _axes(fig, tops[0], SURPRISE_PX, height_px)
    data = _axes(fig, tops[1], above_px, height_px)
    flows = _axes(fig, tops[2], below_px, height_px)
    data.sharex(surprise)
    colour = {each: COLOURS[i % len(COLOURS)] for i, each in enumerate(told.versions)}
    _paint_surprise(surprise, told, colour)
    _paint_data(data, told, colour)
    _paint_flows(flows, told, colour)
    return fig


def _axes(fig: Figure, top_px: float, px: float, height_px: float) -> Axes:
    across = (LEFT_PX / WIDTH_PX, 1 - (LEFT_PX + RIGHT_PX) / WIDTH_PX)
    return fig.add_axes((across[0], 1 - (top_px + px) / height_px, across[1], px / height_px))


def _paint_surprise(ax: Axes, told: Timeline, colour: dict[str, str]) -> None:
    said = sorted(told.scores, key=lambda score: score.tick)
    minutes = _minutes(np.array([each.tick for each in said]), told)
    values = np.minimum([each.surprise for each in said], SHOWN_MOST)
    versions = np.array([each.model_version for each in said])
    is_next_N = np.diff([each.tick for each in said], prepend=-math.inf) > 1
    for version in dict.fromkeys(versions.tolist()):
        shown = np.where((versions == version) & ~is_next_N, values, np.nan)
        ax.plot(minutes, shown, color=colour.get(version, MUTED), lw=0.9)
        spoken = minutes[versions == version]
        ax.text(
            float(spoken.mean()), SHOWN_MOST * 1.02, f"{version} speaks",
            color=colour.get(version, MUTED), ha="center", va="bottom", fontsize=10,
        )  # fmt: skip
    ax.axhline(1, color=ABNORMAL, lw=1, ls=(0, (7, 3)))
    ax.set_ylim(0, SHOWN_MOST)
    ax.set_yticks([0, 1, 2, 3, 4])
    ax.set_ylabel("surprise (1 alarms)")
    ax.tick_params(axis="x", labelbottom=False)
    simulated = " (simulated)" if told.plant.is_simulated else ""
    ax.set_title(f"{told.plant.address}{simulated}: what operators see", pad=18)


def _paint_data(ax: Axes, told: Timeline, colour: dict[str, str]) -> None:
    labels = ["checked for drift"]
    for record in told.drift.records:
        begin, end = (_minute_of(ns, told) for ns in (record.from_ns, record.until_ns))
        face = ABNORMAL if record.is_drift else PALE
        ax.barh(0, end - begin, left=begin, height=0.6, color=face, ec=MUTED, lw=0.6)
        word = "drift" if record.is_drift else "none"
        ax.text(
            (begin + end) / 2, 0, word, ha="center", va="center", fontsize=10,
            color="white" if record.is_drift else INK,
        )  # fmt: skip
    for row, run in enumerate(told.runs, start=1):
        labels.append(_short(run.version))
        for ticks in run.learned:
            begin, end = _minutes(np.array([ticks.start, ticks.stop]), told)
            ax.barh(row, end - begin, left=begin, height=0.6, color=colour[run.version], alpha=0.45)
        begin, end = _minutes(np.array([run.examined.start, run.examined.stop]), told)
        ax.barh(row, end - begin, left=begin, height=0.6, fc="white", ec=INK, hatch="////", lw=0.8)
    _rows(ax, labels)
    ax.set_xlabel("minutes of the plant; filled: learned from, hatched: examined on")


def _paint_flows(ax: Axes, told: Timeline, colour: dict[str, str]) -> None:
    origin_s, end_s = _machine_span(told)
    labels = ["drift"]
    for record in told.drift.records:
        at = record.t_ns / NANOSECONDS - origin_s
        ax.plot(at, 0, marker="o", ms=7, color=ABNORMAL if record.is_drift else MUTED)
        ax.text(at + (end_s - origin_s) / 90, 0, _kinds(record), va="center", fontsize=10)
    for row, run in enumerate(told.runs, start=1):
        labels.append(f"retrain {_short(run.version)}")
        _paint_run(ax, row, run, origin_s, end_s - origin_s)
    for row, version in enumerate(told.versions, start=1 + len(told.runs)):
        labels.append(_short(version))
        for action, begin, end in _stages(told, version, end_s):
            if action in STAGES:
                ax.barh(
                    row, end - begin, left=begin - origin_s, height=0.6,
                    color=colour[version], alpha=STAGES[action],
                )  # fmt: skip
                at, length = begin - origin_s, end - begin
                _name(ax, str(action), row=row, begin=at, length=length, span=end_s - origin_s)
            else:
                ax.text(begin - origin_s, row, str(action), va="center", fontsize=10)
    _rows(ax, labels)
    ax.set_xlim(0, (end_s - origin_s) * 1.01)
    begun = datetime.datetime.fromtimestamp(origin_s, datetime.UTC)
    ax.set_xlabel(f"seconds of the machine since {begun:%Y-%m-%d %H:%M:%S} UTC")
    ax.set_title("what was done about it")


def _paint_run(ax: Axes, row: int, run: RunTold, origin_s: float, span_s: float) -> None:
    for number, step in enumerate(run.steps):
        begin, length = step.begin_s - origin_s, step.end_s - step.begin_s
        ax.barh(row, length, left=begin, height=0.6, color=STEP_SHADES[number % 2])
        _name(ax, step.name, row=row, begin=begin, length=length, span=span_s, colour=INK)
    if run.end is None:
        return
    at = run.end.t_ns / NANOSECONDS - origin_s
    is_refused = run.end.outcome != "in service"
    words = f"{run.end.outcome} by {run.end.step}" if is_refused else "passed"
    is_late = at > span_s * 0.75
    ax.text(
        (run.begin_s - origin_s if is_late else at) + span_s / 150 * (-1 if is_late else 1),
        row, words, va="center", ha="right" if is_late else "left", fontsize=10,
        color=ABNORMAL if is_refused else INK,
    )  # fmt: skip


def _stages(told: Timeline, version: str, end_s: float) -> Iterator[tuple[Action, float, float]]:
    """Yield every stage of a version that lasts, and what ended it, with begin and end."""
    own = [e for e in told.rollout if e.version == version and e.action is not Action.LOADED]
    own = [each for each in own if each.action is not Action.PROBED]
    promoted = [e for e in told.rollout if e.action is Action.CHAMPION and e.version != version]
    for number, entry in enumerate(own):
        begin = entry.t_ns / NANOSECONDS
        later = [each.t_ns for each in own[number + 1 :]]
        if entry.action is Action.CHAMPION:
            later += [each.t_ns for each in promoted if each.t_ns > entry.t_ns]
        yield entry.action, begin, min(later) / NANOSECONDS if later else end_s


def _machine_span(told: Timeline) -> tuple[float, float]:
    times = [each.begin_s for each in told.runs]
    times += [step.end_s for run in told.runs for step in run.steps]
    times += [each.t_ns / NANOSECONDS for each in (*told.rollout, *told.drift.records)]
    times += [each.end.t_ns / NANOSECONDS for each in told.runs if each.end is not None]
    return min(times), max(times) + 0.04 * (max(times) - min(times))


def _minutes(ticks_N: np.ndarray, told: Timeline) -> np.ndarray:
    """Return minutes since the first tick that anything is known of."""
    known = [ticks.start for run in told.runs for ticks in run.learned]
    origin = min([*known, *(score.tick for score in told.scores[:1])])
    return (ticks_N - origin) * told.plant.tick_s / 60


def _minute_of(t_ns: int, told: Timeline) -> float:
    return float(_minutes(np.array([t_ns / told.plant.tick_ns]), told)[0])


def _kinds(record: DriftRecord) -> str:
    if not record.is_drift:
        return "none found"
    return ", ".join(f"{found.kind} of {found.about}" for found in record.drifts)


def _short(version: str) -> str:
    """Return a version without its date.

    Example:
        >>> _short("20261126T173026-quick")
        '173026-quick'
    """
    return version.partition("T")[2] or version


def _name(
    ax: Axes,
    words: str,
    *,
    row: int,
    begin: float,
    length: float,
    span: float,
    colour: str = "white",
) -> None:
    """Write ``words`` into a bar, where there is room."""
    if length >= MIN_LABEL_SHARE * span:
        ax.text(begin + length / 2, row, words, ha="center", va="center", fontsize=10, color=colour)


def _rows(ax: Axes, labels: list[str]) -> None:
    bare(ax)
    ax.xaxis.set_visible(True)
    ax.spines["bottom"].set_visible(True)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
