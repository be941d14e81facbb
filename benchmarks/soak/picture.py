"""Memory and lag over time, as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.soak.page import memory_line, steady


def draw(said: dict[str, Any], path: Path) -> None:
    """Write the picture of a run to ``path``."""
    mpl.use("Agg")
    samples = said["samples"]
    t_s = [sample["t_s"] for sample in samples]
    figure = Figure(figsize=(9, 6.4), dpi=90, layout="constrained")
    memory, lag, behind = figure.subplots(3, 1, sharex=True)
    memory.plot(t_s, [sample["rss_mb"] for sample in samples], color="tab:blue")
    line = memory_line(said)
    ends_s = [steady(said)[0]["t_s"], steady(said)[-1]["t_s"]]
    memory.plot(ends_s, [line.at(end_s) for end_s in ends_s], color="tab:red", linestyle="--")
    memory.set_ylabel("resident MB")
    memory.set_title(
        f"memory of the live process; dashed: slope after warm-up, {line.mb_per_hour:+.1f} MB an "
        "hour of plant time",
        fontsize=9,
        loc="left",
    )
    for topic in samples[0]["lag"]:
        lag.plot(t_s, [sample["lag"][topic] for sample in samples], label=topic)
    lag.set_ylabel("records")
    lag.set_title("end offset less committed offset", fontsize=9, loc="left")
    lag.legend(fontsize=8, loc="upper right")
    behind.plot(
        t_s,
        [float("nan") if s["behind_s"] is None else s["behind_s"] for s in samples],
        color="tab:green",
    )
    behind.set_ylabel("s of plant time")
    behind.set_xlabel("s of wall time")
    behind.set_title("newest record sent less newest tick scored", fontsize=9, loc="left")
    for axes in (memory, lag, behind):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Software": None})
