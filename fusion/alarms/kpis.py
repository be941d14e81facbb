"""How well the alarm system serves its operators: the figures of ISA-18.2-2016, clause 16.

Only what was announced counts: alarms, not advisories, and none that was hidden when it was raised.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fusion.plant import NANOSECONDS
from fusion.schema import AlarmEvent, AlarmState, Priority, ShownState

PERIOD_NS = 600 * NANOSECONDS
FLOOD_ABOVE = 10
STALE_NS = 24 * 3600 * NANOSECONDS
MAX_APART_NS = 60 * NANOSECONDS
"""No two clocks of a plant lie farther apart."""
CHATTER_COUNT, CHATTER_NS = 3, 60 * NANOSECONDS
"""So many activations of one alarm within a minute."""
_WAITING = {ShownState.UNACKNOWLEDGED, ShownState.RETURNED_UNACKNOWLEDGED}
TARGETS = {
    "alarms per operator hour": "about 6, at most 12",
    "time in flood": "below 1 %",
    "most alarms in 10 minutes": "at most 10",
    "stale": "fewer than 5 on any day",
    "chattering": "none",
    "ten most frequent": "below 1 to 5 % of all",
    "priorities low / medium / high": "about 80 / 15 / 5 %",
}
"""What ISA-18.2-2016, table 7, asks for."""


@dataclass(frozen=True, slots=True)
class Kpis:
    """The figures of one period; shares are parts of 1, times in seconds."""

    hours: float
    num_alarms: int
    per_operator_hour: float
    flood_share: float
    """Share of the 10-minute periods with more than 10 alarms."""
    most_in_ten_minutes: int
    standing: tuple[str, ...]
    """On at the end."""
    stale: tuple[str, ...]
    """On for more than 24 hours at the end."""
    chattering: Mapping[str, int]
    """How often each was raised, of those that came three times within a minute."""
    priority_shares: Mapping[Priority, float]
    most_frequent: Mapping[str, int]
    top_ten_share: float
    median_ack_s: float | None
    p95_ack_s: float | None
    num_unacknowledged: int
    """Shown as unacknowledged at the end, also those that have cleared."""
    num_shelved: int
    num_refused: int


def kpis_of(
    events: Iterable[AlarmEvent], *, start_ns: int, end_ns: int, num_operators: int = 1
) -> Kpis:
    """Return the figures of the time from ``start_ns`` up to, not including, ``end_ns``.

    ``events`` may begin before: what was raised then and stands still counts as standing.

    Raises:
        ValueError: The time is empty, or nobody watches.
    """
    if start_ns >= end_ns or num_operators < 1:
        raise ValueError(
            f"figures need some time and an operator, got {start_ns} to {end_ns} ns and "
            f"{num_operators} operators"
        )
    told = sorted({e.id: e for e in events if e.t_ns < end_ns}.values(), key=lambda e: e.t_ns)
    raised = [e for e in told if _is_announced(e) and e.t_ns >= start_ns]
    hours = (end_ns - start_ns) / (3600 * NANOSECONDS)
    in_period = Counter((e.t_ns - start_ns) // PERIOD_NS for e in raised)
    num_periods = -(-(end_ns - start_ns) // PERIOD_NS)
    names = Counter(_name(e) for e in raised)
    waits_s = _answer_times(told, start_ns)
    standing = _standing(told)
    return Kpis(
        hours=hours,
        num_alarms=len(raised),
        per_operator_hour=len(raised) / hours / num_operators,
        flood_share=sum(n > FLOOD_ABOVE for n in in_period.values()) / num_periods,
        most_in_ten_minutes=max(in_period.values(), default=0),
        standing=tuple(standing),
        stale=tuple(name for name, t_ns in standing.items() if end_ns - t_ns > STALE_NS),
        chattering={name: names[name] for name in _chattering(raised)},
        priority_shares=_priority_shares(raised),
        most_frequent=dict(names.most_common(10)),
        top_ten_share=sum(n for _, n in names.most_common(10)) / len(raised) if raised else 0.0,
        median_ack_s=statistics.median(waits_s) if waits_s else None,
        p95_ack_s=_p95(waits_s),
        num_unacknowledged=_num_waiting(told),
        num_shelved=sum(e.transition == "shelved" and e.t_ns >= start_ns for e in told),
        num_refused=sum(e.transition == "refused" and e.t_ns >= start_ns for e in told),
    )


def _name(event: AlarmEvent) -> str:
    return f"{event.state.plant}/{event.state.name}"


def _is_announced(event: AlarmEvent) -> bool:
    is_alarm = event.transition == "raised" and event.state.kind == "alarm"
    return is_alarm and not event.state.is_hidden


def _standing(told: Sequence[AlarmEvent]) -> dict[str, int]:
    """Return what is on at the end, and since when; hidden ones are dealt with."""
    return {
        name: state.raised_ns if state.raised_ns is not None else state.since_ns
        for name, state in _newest(told).items()
        if state.condition.is_standing and not state.is_hidden
    }


def _chattering(raised: Sequence[AlarmEvent]) -> list[str]:
    times: dict[str, list[int]] = {}
    for event in raised:
        times.setdefault(_name(event), []).append(event.t_ns)
    return [
        name
        for name, at in times.items()
        if any(
            last - first <= CHATTER_NS
            for first, last in zip(at, at[CHATTER_COUNT - 1 :], strict=False)
        )
    ]


def _priority_shares(raised: Sequence[AlarmEvent]) -> dict[Priority, float]:
    counts = Counter(e.state.priority for e in raised)
    priorities: tuple[Priority, ...] = ("low", "medium", "high")
    return {p: counts[p] / len(raised) if raised else 0.0 for p in priorities}


def _num_waiting(told: Sequence[AlarmEvent]) -> int:
    """Return how many ask for an acknowledgement at the end: what the list of alarms counts."""
    return sum(state.shown in _WAITING for state in _newest(told).values())


def _newest(told: Sequence[AlarmEvent]) -> dict[str, AlarmState]:
    """Return every alarm as it is at the end: between events of about one time, by its revision.

    There times do not tell: a person's is the clock's, which is a little ahead of the plant's. And
    revisions begin anew where the alarms' topic was made anew.
    """
    newest: dict[str, AlarmEvent] = {}
    for event in told:
        before = newest.get(_name(event))
        if (
            before is None
            or event.state.revision >= before.state.revision
            or event.t_ns - before.t_ns > MAX_APART_NS
        ):
            newest[_name(event)] = event
    return {name: each.state for name, each in newest.items() if each.state.kind == "alarm"}


def _answer_times(told: Sequence[AlarmEvent], start_ns: int) -> list[float]:
    """Return how long each answered alarm waited, in seconds."""
    waits: dict[str, int] = {}
    waits_s: list[float] = []
    for event in told:
        if _is_announced(event):
            waits.setdefault(_name(event), event.t_ns)
        elif event.transition == "acknowledged" and _name(event) in waits:
            since_ns = waits.pop(_name(event))
            if event.t_ns >= start_ns:
                waits_s.append(max(0.0, (event.t_ns - since_ns) / NANOSECONDS))
        elif event.transition == "retired":
            waits.pop(_name(event), None)  # (Nobody can answer it any more.)
    return waits_s


def _p95(waits_s: Sequence[float]) -> float | None:
    if not waits_s:
        return None
    return sorted(waits_s)[min(len(waits_s) - 1, int(0.95 * len(waits_s)))]
