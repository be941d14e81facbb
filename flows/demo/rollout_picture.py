"""The timeline of a rollout: surprise, who speaks, who would have alarmed, every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Sample:
    """One tick: its published score, and per version the share of ticks in alarm so far."""

    tick: int
    surprise: float
    version: str
    alarm_shares: Mapping[str, float]


def draw_timeline(
    samples: Sequence[Sample], steps: Sequence[tuple[int, str]], *, tick_s: float, path: Path
) -> None:
    """Write the picture (SVG) to ``path``."""
    mpl.use("Agg")
    figure = Figure(figsize=(9, 6), layout="constrained")
    surprise, shares = figure.subplots(2, 1, sharex=True)
    versions = list(dict.fromkeys(name for each in samples for name in each.alarm_shares))
    colours = {name: f"C{i}" for i, name in enumerate(versions)}
    samples = [*_with_gaps(samples)]
    t_s = [each.tick * tick_s for each in samples]
    for name in dict.fromkeys(each.version for each in samples):
        said = [each.surprise if each.version == name else float("nan") for each in samples]
        surprise.plot(t_s, said, color=colours.get(name, "C9"), label=name)
    surprise.axhline(1, color="tab:red", linestyle="--", linewidth=1)
    surprise.set_ylabel("surprise (1 = alarm)")
    surprise.set_title("what operators see, by the version that speaks", loc="left", fontsize=10)
    for name in versions:
        share = [100 * each.alarm_shares.get(name, float("nan")) for each in samples]
        shares.plot(t_s, share, color=colours[name], label=name)
    shares.set_ylabel("% of ticks in alarm")
    shares.set_ylim(-5, 105)
    shares.set_xlabel("s of plant time")
    shares.set_title(
        "what each version would have said, since the last change of roles", loc="left", fontsize=10
    )
    for axes in (surprise, shares):
        axes.legend(fontsize=8, loc="upper right")
        axes.grid(alpha=0.3)
        _mark(axes, steps, tick_s, has_words=axes is shares)
    mpl.rcParams["svg.hashsalt"] = "timeline"
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _with_gaps(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Yield ``samples``, with nothing in it where ticks are missing: no line goes across."""
    before: Sample | None = None
    for each in samples:
        if before is not None and each.tick > before.tick + 1:
            yield Sample(before.tick + 1, float("nan"), before.version, {})
        yield each
        before = each


def _mark(axes: Axes, steps: Sequence[tuple[int, str]], tick_s: float, *, has_words: bool) -> None:
    for number, (tick, words) in enumerate(steps):
        axes.axvline(tick * tick_s, color="black", linewidth=1)
        if has_words:
            y = (75, 28)[number % 2]  # (neighbours may be near)
            axes.text(tick * tick_s, y, words, rotation=90, fontsize=8, ha="right", va="center")
