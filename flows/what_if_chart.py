"""Draws what plans lead to: the fan of "no change" in grey, the other plans as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flows.report.drawing import ABNORMAL, FILL, INK, LINE, MUTED, save_picture, stacked_rows
from flows.what_if import WhatIf
from fusion.errors import InputError
from fusion.planning import Candidate
from fusion.planning.what_if import tag_scale
from fusion.plant import Tag
from fusion.wording import unit

ADVICE = "#1f5f8b"
"""The best plan; every other one is grey with a dash of its own."""
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MAX_LINES = 4
_WIDTH_PX, _ROW_PX, _GAP_PX = 900, 150, 36


def write_fan_chart(
    path: Path, asked: WhatIf, candidates: Sequence[Candidate], tags: Sequence[tuple[int, Tag]]
) -> None:
    """Write one row for each tag and each set-point that a plan moves, as ``.png`` or ``.svg``.

    Raises:
        InputError: The file's name ends otherwise.
    """
    if path.suffix not in {".png", ".svg"}:
        raise InputError(f"a picture's name must end in .png or .svg, got {path.name!r}; change it")
    stays = next(each for each in candidates if each.kind == "no change")
    others = [each for each in candidates if each is not stays][:MAX_LINES]
    space = asked.reader.space
    moved = [
        column
        for column in range(len(space.names))
        if any((each.targets_KU[:, column] != space.now_U[column]).any() for each in others)
    ]

    def paint() -> Figure:
        rows = len(tags) + len(moved)
        fig, axes = stacked_rows(_WIDTH_PX, [_ROW_PX] * rows, left_px=52, gap_px=_GAP_PX)
        for ax, (index, tag) in zip(axes, tags, strict=False):
            _tag_row(ax, asked, [stays, *others], index, tag)
        for ax, column in zip(axes[len(tags) :], moved, strict=True):
            _setpoint_row(ax, asked, [stays, *others], column)
        for ax in axes:
            ax.axvline(0, color=LINE, lw=0.8)
            ax.grid(axis="y", color=LINE, alpha=0.25, lw=0.6)
            ax.locator_params(axis="y", nbins=5)
            ax.tick_params(axis="x", labelbottom=ax is axes[-1])
        axes[0].legend(loc="upper left", ncols=3, frameon=False, fontsize=10)
        axes[0].margins(y=0.3)
        simulated = " (simulated plant)" if asked.reader.plant.is_simulated else ""
        axes[-1].set_xlabel(f"seconds from now{simulated}")
        return fig

    save_picture(paint, path)


def _tag_row(
    ax: Axes,
    asked: WhatIf,
    candidates: Sequence[Candidate],
    index: int,
    tag: Tag,
) -> None:
    """Draw the readings of the window, the fan of the first plan and the lines of the others."""
    stays, *others = candidates
    past_T = _past(asked, index)
    tick_s = asked.reader.calibration.tick_s
    ax.plot((np.arange(len(past_T)) - len(past_T) + 1) * tick_s, past_T, color=INK, lw=1.6)
    times_s = [0.0, *asked.horizons_s]

    def path(values_HG: np.ndarray) -> np.ndarray:
        return np.concatenate([past_T[-1:], values_HG[:, index]])

    ax.fill_between(times_s, path(stays.low_HG), path(stays.high_HG), color=FILL, lw=0, alpha=0.8)
    ax.plot(times_s, path(stays.median_HG), color=MUTED, lw=1.4, label="no change")
    for number, each in enumerate(others):
        color, dash = (ADVICE, "-") if number == 0 else (MUTED, DASHES[number - 1])
        if number == 0:
            band = path(each.low_HG), path(each.high_HG)
            ax.fill_between(times_s, *band, color=color, lw=0, alpha=0.18)
        ax.plot(times_s, path(each.median_HG), color=color, ls=dash, lw=1.8, label=each.name)
    for limit in () if tag.limits is None else (tag.limits.low, tag.limits.high):
        low, high = ax.get_ylim()
        if limit is not None and low - (high - low) / 2 < limit < high + (high - low) / 2:
            ax.axhline(limit, color=ABNORMAL, lw=1, ls=(0, (7, 3)))
    ax.set_title(f"{tag.name} in {unit(tag.unit)}: expected, and the 90 % band", pad=6)


def _setpoint_row(ax: Axes, asked: WhatIf, candidates: Sequence[Candidate], column: int) -> None:
    reader = asked.reader
    times_s = np.arange(0.0, asked.horizons_s[-1] + reader.calibration.tick_s / 2, 0.5)
    for number, each in enumerate(candidates):
        path_LU = reader.space.paths(each.targets_KU[None], times_s)[0]
        color = ADVICE if number == 1 else MUTED
        dash = "-" if number < 2 else DASHES[number - 2]
        ax.plot(times_s, path_LU[:, column], color=color, ls=dash, lw=1.6)
    tag = reader.plant.setpoints[column]
    ax.margins(y=0.15)
    ax.set_title(f"{tag.name} in {unit(tag.unit)}: the plans", pad=6)


def _past(asked: WhatIf, index: int) -> np.ndarray:
    """Return the tag's readings in the window, in its unit, [T]."""
    reader = asked.reader
    names = [name for stream in reader.calibration.layout.streams for name in stream.readings]
    mean, std = tag_scale(reader, index)
    column = names.index(reader.plant.measured[index].name)
    return reader.window.readings_TR[:, column].astype(np.float64) * std + mean
