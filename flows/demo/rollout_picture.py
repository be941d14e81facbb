"""The timeline of a rollout: what each version's role was, what operators saw, who would alarm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROLE_COLOURS = {
    "champion": "#2a9d4b",
    "canary": "#e9a23b",
    "shadow": "#b5bfcc",
    "stands by": "#cfe8d5",
}
OTHER_COLOUR = "#e4e4e4"
"""Of what passes at once: loaded, probed."""
BACK_COLOUR = "#c0392b"


@dataclass(frozen=True, slots=True)
class Sample:
    """One tick: its published score, and per version the share of ticks in alarm so far."""

    tick: int
    surprise: float
    version: str
    alarm_shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Change:
    """From a tick on: the role of every version that has one, and which ones were taken back."""

    tick: int
    roles: Mapping[str, str]
    taken_back: tuple[str, ...] = ()


def draw_timeline(
    samples: Sequence[Sample],
    changes: Sequence[Change],
    *,
    versions: Sequence[str],
    tick_s: float,
    path: Path,
) -> None:
    """Write the picture (SVG) to ``path``; the first of ``versions`` is the lowest lane."""
    mpl.use("Agg")
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    lanes, surprise, shares = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": (1.1, 1.6, 1.6)}
    )
    colours = {name: f"C{i}" for i, name in enumerate(versions)}
    end_s = samples[-1].tick * tick_s if samples else 0.0
    _draw_lanes(lanes, changes, versions, tick_s=tick_s, end_s=end_s)
    samples = [*_with_gaps(samples)]
    t_s = [each.tick * tick_s for each in samples]
    for name in dict.fromkeys(each.version for each in samples):
        said = [each.surprise if each.version == name else float("nan") for each in samples]
        surprise.plot(t_s, said, color=colours.get(name, "C9"), label=name)
    surprise.axhline(1, color="tab:red", linestyle="--", linewidth=1)
    surprise.set_ylabel("surprise (1 = alarm)")
    _title(surprise, "what operators see, by the version that speaks")
    for name in versions:
        share = [100 * each.alarm_shares.get(name, float("nan")) for each in samples]
        shares.plot(t_s, share, color=colours[name], label=name)
    shares.set_ylabel("% of ticks in alarm")
    shares.set_ylim(-5, 105)
    shares.set_xlabel("s of plant time")
    _title(shares, "what each version would have said, since the last change of roles")
    for axes in (surprise, shares):
        axes.grid(alpha=0.3)
        for change in changes:
            axes.axvline(change.tick * tick_s, color="black", linewidth=0.7, alpha=0.6)
        # Beside the plot: inside it would lie on the curves.
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    mpl.rcParams["svg.hashsalt"] = "timeline"
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_lanes(
    axes: Axes,
    changes: Sequence[Change],
    versions: Sequence[str],
    *,
    tick_s: float,
    end_s: float,
) -> None:
    """Draw a lane per version, with a bar for each role that it had."""
    for lane, name in enumerate(versions):
        for role, begin_s, width_s in _roles_in_time(changes, name, tick_s=tick_s, end_s=end_s):
            axes.barh(
                lane, width_s, left=begin_s, color=ROLE_COLOURS.get(role, OTHER_COLOUR), height=0.7
            )
            if width_s > 0.08 * end_s:
                axes.text(begin_s + width_s / 2, lane, role, fontsize=8, ha="center", va="center")
        for change in changes:
            if name in change.taken_back:
                _draw_return(axes, change.tick * tick_s, lane)
    axes.set_yticks(range(len(versions)), versions, fontsize=8)
    axes.set_ylim(-0.6, len(versions) - 0.4)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    _title(axes, "the role of each version")


def _roles_in_time(
    changes: Sequence[Change], version: str, *, tick_s: float, end_s: float
) -> Iterator[tuple[str, float, float]]:
    """Yield each role that ``version`` had, when it began and how long it lasted, s."""
    begins = [(each.roles.get(version, ""), each.tick * tick_s) for each in changes]
    own = [each for before, each in pairwise([("", 0.0), *begins]) if each[0] != before[0]]
    for (role, begin_s), (_, until_s) in pairwise([*own, ("", end_s)]):
        if role:
            yield role, begin_s, until_s - begin_s


def _draw_return(axes: Axes, t_s: float, lane: int) -> None:
    axes.plot([t_s], [lane], "x", color=BACK_COLOUR, markersize=8, markeredgewidth=2)
    axes.annotate(
        "goes back by itself",
        (t_s, lane),
        (8, 0),
        textcoords="offset points",
        fontsize=8,
        color=BACK_COLOUR,
        va="center",
    )


def _title(axes: Axes, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=10)


def _with_gaps(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Yield ``samples``, with nothing in it where ticks are missing: no line goes across."""
    before: Sample | None = None
    for each in samples:
        if before is not None and each.tick > before.tick + 1:
            yield Sample(before.tick + 1, float("nan"), before.version, {})
        yield each
        before = each
