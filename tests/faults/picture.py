"""The picture of docs/reliability.md: how soon after each harm the next transaction came."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

BLUE, DARK, GREY = "#2f6f9f", "#1b3a4b", "#6b7280"
ROW_INCH = 0.34
SHORTEST_S = 0.1


def draw_recoveries(recoveries_s: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw one dot for each harm and a bar at the median, one row for each kind, as SVG.

    Equal numbers give an equal file.
    """
    rows = {name: values for name, values in recoveries_s.items() if values}
    rng = random.Random(0)
    with mpl.rc_context({"svg.hashsalt": "reliability", "font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 1.0 + ROW_INCH * max(1, len(rows))), layout="constrained")
        axes = figure.subplots()
        for row, values in enumerate(rows.values()):
            shown = [max(SHORTEST_S, value) for value in values]
            spread = [row + rng.uniform(-0.22, 0.22) for _ in shown]
            axes.scatter(shown, spread, s=14, color=BLUE, alpha=0.55, linewidths=0)
            middle = sorted(shown)[len(shown) // 2]
            axes.plot([middle, middle], [row - 0.32, row + 0.32], color=DARK, linewidth=2)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.set_xlim(left=SHORTEST_S * 0.9)
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
        axes.set_xlabel("seconds from the harm to the next committed transaction (bar: median)")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", which="both", color=GREY, alpha=0.2, linewidth=0.6)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})
