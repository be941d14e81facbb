"""What operators said of alarms, as labels: how precise each definition is, which episodes count.

The journal says when an alarm was raised and cleared; a verdict says by the id of the raising what
it was worth. The newest verdict of an episode counts, and one that was taken back is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fusion.schema import AlarmEvent, Judgement, Verdict
from fusion.scoring.events import Labelled


@dataclass(frozen=True, slots=True)
class LabelledEpisode:
    """One alarm from its beginning to its end, and what it was worth."""

    id: str
    name: str
    """Of the alarm's definition."""
    onset_ns: int
    cleared_ns: int | None
    """None: it still stood at the end of the journal."""
    judgement: Judgement | None


@dataclass(frozen=True, slots=True)
class Precision:
    """How many of a definition's alarms were useful."""

    name: str
    num_useful: int
    num_nuisance: int
    num_unjudged: int

    @property
    def share(self) -> float | None:
        """Useful among judged; None where none was judged."""
        judged = self.num_useful + self.num_nuisance
        return self.num_useful / judged if judged else None

    @property
    def between(self) -> tuple[float, float]:
        """Where the share lies with 95 % confidence (Wilson 1927)."""
        judged = self.num_useful + self.num_nuisance
        if not judged:
            return 0.0, 1.0
        interval = stats.binomtest(self.num_useful, judged).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)


def episodes_of(
    events: Iterable[AlarmEvent], verdicts: Mapping[str, Verdict]
) -> list[LabelledEpisode]:
    """Return the alarms of one plant, oldest first; ``verdicts`` by the id of the raising."""
    found: list[LabelledEpisode] = []
    standing: dict[str, AlarmEvent] = {}

    def end(name: str, cleared_ns: int | None) -> None:
        raised = standing.pop(name, None)
        if raised is not None:
            onset_ns = raised.state.onset_ns or raised.t_ns
            verdict = verdicts.get(raised.id)
            judgement = None if verdict is None else verdict.judgement
            found.append(LabelledEpisode(raised.id, name, onset_ns, cleared_ns, judgement))

    for event in sorted({each.id: each for each in events}.values(), key=lambda each: each.t_ns):
        if event.transition == "raised":
            end(event.state.name, event.t_ns)
            standing[event.state.name] = event
        elif event.transition in {"cleared", "retired"}:
            end(event.state.name, event.t_ns)
    for name in list(standing):
        end(name, None)
    return sorted(found, key=lambda each: each.onset_ns)


def precision_of(episodes: Sequence[LabelledEpisode]) -> list[Precision]:
    """Return the precision of each definition that raised something, by name."""
    return [
        Precision(
            name,
            num_useful=judgements.count("useful"),
            num_nuisance=judgements.count("nuisance"),
            num_unjudged=judgements.count(None),
        )
        for name in sorted({each.name for each in episodes})
        for judgements in [[each.judgement for each in episodes if each.name == name]]
    ]


def labels_of(
    features_NF: NDArray[np.floating],
    ticks_N: NDArray[np.int64],
    episodes: Sequence[LabelledEpisode],
    *,
    tick_ns: int,
) -> Labelled:
    """Return each tick with how long it is to the next useful alarm, or to where the ticks end.

    Ticks inside of any alarm but a nuisance are left out: what is going on need not be foreseen,
    and what nobody judged is no normal running. A jump of ticks ends a recording. Windows between
    two events are one group.
    """
    real = [each for each in episodes if each.judgement != "nuisance"]
    is_free_N = np.ones(len(ticks_N), bool)
    for each in real:
        last = ticks_N[-1] + 1 if each.cleared_ns is None else -(-each.cleared_ns // tick_ns)
        is_free_N &= (ticks_N < onset_tick(each, tick_ns)) | (ticks_N >= last)
    onsets = np.array([onset_tick(e, tick_ns) for e in real if e.judgement == "useful"], np.int64)
    unknown = np.array([onset_tick(e, tick_ns) for e in real if e.judgement is None], np.int64)
    jump_N = np.flatnonzero(np.diff(ticks_N) != 1)
    ends = ticks_N[np.append(jump_N, len(ticks_N) - 1)] + 1
    end_N = ends[np.searchsorted(ends, ticks_N, side="right")]
    # What nobody judged ends the watching: it may have been the event.
    end_N = np.minimum(end_N, _next_after(unknown, ticks_N))
    next_N = _next_after(np.sort(onsets), ticks_N)
    has_event_N = next_N <= end_N
    to_end_N = np.where(has_event_N, next_N, end_N) - ticks_N
    group_N = np.searchsorted(np.sort(np.concatenate([onsets, ends])), ticks_N, side="right")
    labelled = Labelled(features_NF, to_end_N.astype(float), has_event_N, group_N)
    return labelled.part(is_free_N)


def onset_tick(episode: LabelledEpisode, tick_ns: int) -> int:
    """Return the first tick that is part of the episode.

    A score's time is the end of its tick: an episode that begins with it begins in that tick.

    Example:
        >>> onset_tick(LabelledEpisode("hot:1:raised", "hot", 2_000, None, None), tick_ns=500)
        3
    """
    return -(-episode.onset_ns // tick_ns) - 1


def _next_after(moments_M: NDArray[np.int64], ticks_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first of the ascending moments at or after each tick; the largest number, none."""
    never = np.append(np.sort(moments_M), np.iinfo(np.int64).max)
    return never[np.searchsorted(never, ticks_N, side="left")]
