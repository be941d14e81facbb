"""The run as one picture: lag, delay, latency, memory; lines where something was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw(said: dict[str, Any], path: Path) -> None:
    """Write the picture of a run to ``path``."""
    mpl.use("Agg")
    samples = said["samples"]
    figure = Figure(figsize=(10, 8.6), dpi=90, layout="constrained")
    lag, delay, latency, memory = figure.subplots(4, 1, sharex=True)
    for topic, series in samples["lag"].items():
        lag.plot(*zip(*series, strict=True), label=topic)
    for series in samples["ingest_lag"].values():
        lag.plot(*zip(*series, strict=True), label="lake", color="tab:gray", linestyle=":")
    _dress(lag, "records that are not read yet, by topic; dotted: not in the lake yet", "records")
    for series in samples["delay"].values():
        delay.plot(*zip(*series, strict=True), color="tab:purple")
    _dress(delay, "slowest plant: newest closed tick behind the clock", "s")
    for name, label in (("p50_s", "median"), ("p95_s", "95 %")):
        for series in samples[name].values():
            latency.plot(*zip(*series, strict=True), label=label)
    _dress(latency, "from a tick's end to its published score, over the last minute", "s")
    names = [name for name in samples["memory"][0] if name != "t_s"]
    for name in names:
        t_s = [each["t_s"] for each in samples["memory"]]
        memory.plot(t_s, [each[name] for each in samples["memory"]], label=name)
    _dress(memory, "resident memory", "MB")
    memory.set_xlabel("s since the first record")
    _mark([lag, delay, latency, memory], said["kills"])
    figure.savefig(path, metadata={"Software": None})


def _mark(drawn: Sequence[Axes], kills: Sequence[Mapping[str, Any]]) -> None:
    """Show where something was away, and what it was."""
    for axes in drawn:
        if axes.get_legend_handles_labels()[0]:
            # (Above what is drawn; the names of what was killed stand left of it.)
            axes.set_ylim(top=1.4 * axes.get_ylim()[1])
            axes.legend(fontsize=7, loc="upper right", ncols=5)
        for kill in kills:
            axes.axvspan(kill["at_s"], kill["back_s"], color="tab:red", alpha=0.15, linewidth=0)
    top = drawn[1].get_ylim()[1]
    for kill in kills:
        named = {"rotation": 90, "fontsize": 8, "color": "tab:red", "va": "top", "ha": "right"}
        drawn[1].text(kill["at_s"], top, f"{kill['part']} ", **named)


def _dress(axes: Axes, title: str, unit: str) -> None:
    axes.set_ylabel(unit)
    axes.set_title(title, fontsize=9, loc="right")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
