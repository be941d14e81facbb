"""The figures as one picture: time and memory by the amount of data, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.flows.one import Took
from benchmarks.flows.page import FLOWS, PLANTS

LEAST_S = 1.0
"""Flows that never take so long are in the table alone."""
LEAST_MIB = 1.0
"""Less is drawn as this: pages of memory are not counted more finely."""
STYLES = ("-", "--", ":")


def draw(rows: Sequence[Took], path: Path) -> None:
    """Write the picture to ``path``: a row for each plant."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "flows"
    shown = [f for f in FLOWS if max(r.seconds for r in rows if r.flow == f) >= LEAST_S]
    plants = [plant for plant in PLANTS if any(row.plant == plant for row in rows)]
    scales = sorted({row.scale for row in rows})
    figure = Figure(figsize=(10, 3.6 * len(plants)), dpi=90, layout="constrained")
    grid = figure.subplots(len(plants), 2, sharex=True, sharey="col", squeeze=False)
    for (time, memory), plant in zip(grid, plants, strict=True):
        mine = [row for row in rows if row.plant == plant]
        _curves(time, mine, shown, lambda row: row.seconds)
        _curves(memory, mine, shown, lambda row: max(LEAST_MIB, row.grown_mib))
        time.set_title(f"{plant}: wall time, s", fontsize=10, loc="left")
        memory.set_title(f"{plant}: memory above the imports, MiB", fontsize=10, loc="left")
        for axes in (time, memory):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(scales, [f"{scale}x" for scale in scales])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    handles = grid[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center", fontsize=9)
    figure.savefig(path, metadata={"Date": None})


def _curves(
    axes: Axes, rows: Sequence[Took], shown: Sequence[str], figure_of: Callable[[Took], float]
) -> None:
    for number, flow in enumerate(shown):
        mine = sorted((row for row in rows if row.flow == flow), key=lambda row: row.scale)
        style, scales = STYLES[number % len(STYLES)], [row.scale for row in mine]
        axes.plot(scales, [figure_of(row) for row in mine], style, marker="o", ms=3, label=flow)
    scales = sorted({row.scale for row in rows})
    lowest = min(figure_of(row) for row in rows if row.flow in shown)
    straight = [lowest * scale / scales[0] for scale in scales]
    axes.plot(scales, straight, color="0.8", lw=4, zorder=0, label="as the data")
