"""Which alarm detected which fault: the one place from which every figure of the page comes.

An alarm is credited to the fault during which it was raised (the youngest, where faults overlap),
else to the fault that ended less than ``tolerance_s`` before. One that was raised while the plant
settles, less than ``grace_s`` after a fault, counts neither way. Every other one is a false alarm.
The false-alarm rate counts only healthy time: scored ticks outside every fault and its grace.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.report.inputs import Detection, FaultTruth, ReportInputs
from fusion.plant import NANOSECONDS
from fusion.schema import AlarmEvent


@dataclass(frozen=True, slots=True)
class AlarmSpan:
    """One activation of one alarm; ``cleared_ns`` is None while it still stands."""

    raised: AlarmEvent
    cleared_ns: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one fault. ``number`` counts from 1 by onset."""

    number: int
    fault: FaultTruth
    alarms: tuple[AlarmEvent, ...]
    standing: AlarmEvent | None
    """An alarm that was already on at the onset: it hides the fault but has not detected it."""
    peak_surprise: float | None
    """The highest surprise during the fault; None when nothing was scored then."""

    @property
    def alarm(self) -> AlarmEvent | None:
        """The first alarm credited to the fault; None when it was missed."""
        return self.alarms[0] if self.alarms else None

    @property
    def delay_s(self) -> float | None:
        """Seconds from the onset to the first alarm; None when it was missed."""
        return None if self.alarm is None else (self.alarm.t_ns - self.fault.onset_ns) / NANOSECONDS


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The outcome of one run."""

    faults: tuple[Verdict, ...]
    spans: tuple[AlarmSpan, ...]
    settling: tuple[AlarmEvent, ...]
    """Alarms raised in the grace after a fault: neither a detection nor false."""
    false_alarms: tuple[AlarmEvent, ...]
    healthy_h: float
    watched_h: float

    @property
    def num_detected(self) -> int:
        """How many faults were detected."""
        return sum(verdict.alarm is not None for verdict in self.faults)

    @property
    def median_delay_s(self) -> float | None:
        """The median delay of the detected faults in seconds; None when none was detected."""
        return median_delay_s([verdict.delay_s for verdict in self.faults])

    @property
    def false_alarms_per_hour(self) -> float | None:
        """False alarms per hour of healthy time; None when no healthy time was watched."""
        return len(self.false_alarms) / self.healthy_h if self.healthy_h > 0 else None

    def as_detection(self) -> Detection:
        """Return the product's own row of the comparison."""
        return Detection(
            method="This product, alarms as delivered",
            detected={verdict.fault.name: verdict.delay_s for verdict in self.faults},
            false_alarms_per_hour=self.false_alarms_per_hour,
            note="all senses, all members, with on-delay",
        )


def judge(inputs: ReportInputs) -> Verdicts:
    """Return what became of every fault and of every alarm."""
    faults = sorted(inputs.faults, key=lambda fault: fault.onset_ns)
    grace_ns = round(inputs.grace_s * NANOSECONDS)
    spans = alarm_spans(inputs.events)
    credited: dict[int, list[AlarmEvent]] = {number: [] for number in range(len(faults))}
    settling: list[AlarmEvent] = []
    false_alarms: list[AlarmEvent] = []
    for span in spans:
        index = _fault_at(span.raised.t_ns, faults, round(inputs.tolerance_s * NANOSECONDS))
        at_ns = np.array([span.raised.t_ns], dtype=np.int64)
        if index is not None:
            credited[index].append(span.raised)
        elif in_any_fault(at_ns, faults, grace_ns).any():
            settling.append(span.raised)
        else:
            false_alarms.append(span.raised)
    is_healthy_N = ~in_any_fault(_score_times(inputs), faults, grace_ns)
    return Verdicts(
        faults=tuple(
            Verdict(
                number=index + 1,
                fault=fault,
                alarms=tuple(credited[index]),
                standing=_standing_at(fault.onset_ns, spans),
                peak_surprise=_peak_surprise(fault, inputs),
            )
            for index, fault in enumerate(faults)
        ),
        spans=spans,
        settling=tuple(settling),
        false_alarms=tuple(false_alarms),
        healthy_h=float(is_healthy_N.sum()) * inputs.plant.tick_s / 3600,
        watched_h=len(inputs.scores) * inputs.plant.tick_s / 3600,
    )


def alarm_spans(events: Sequence[AlarmEvent]) -> tuple[AlarmSpan, ...]:
    """Return every activation, by the time it was raised. Repeated events count once."""
    unique = {event.id: event for event in events}
    raised: list[AlarmEvent] = []
    cleared: dict[str, int] = {}
    open_by_name: dict[str, AlarmEvent] = {}
    for event in sorted(unique.values(), key=lambda event: event.t_ns):
        if event.transition == "raised":
            open_by_name[event.state.name] = event
            raised.append(event)
        elif event.transition == "cleared" and event.state.name in open_by_name:
            cleared[open_by_name.pop(event.state.name).id] = event.t_ns
    return tuple(AlarmSpan(event, cleared.get(event.id)) for event in raised)


def in_any_fault(
    t_N_ns: NDArray[np.int64], faults: Sequence[FaultTruth], grace_ns: int
) -> NDArray[np.bool_]:
    """Return for each time whether it lies in a fault or in the grace after one."""
    inside_N = np.zeros(t_N_ns.shape, dtype=np.bool_)
    for fault in faults:
        inside_N |= (t_N_ns >= fault.onset_ns) & (t_N_ns <= fault.end_ns + grace_ns)
    return inside_N


def median_delay_s(delays_s: Sequence[float | None]) -> float | None:
    """Return the median of the delays that are known, in seconds; None when there is none.

    Example:
        >>> median_delay_s([3.0, None, 5.0])
        4.0
    """
    known = [delay_s for delay_s in delays_s if delay_s is not None]
    return statistics.median(known) if known else None


def _score_times(inputs: ReportInputs) -> NDArray[np.int64]:
    return np.array([score.t_end_ns for score in inputs.scores], dtype=np.int64)


def _fault_at(t_ns: int, faults: Sequence[FaultTruth], tolerance_ns: int) -> int | None:
    during = [i for i, fault in enumerate(faults) if fault.onset_ns <= t_ns <= fault.end_ns]
    after = [i for i, f in enumerate(faults) if f.end_ns < t_ns <= f.end_ns + tolerance_ns]
    return max(during or after, default=None)


def _peak_surprise(fault: FaultTruth, inputs: ReportInputs) -> float | None:
    during = (s.surprise for s in inputs.scores if fault.onset_ns < s.t_end_ns <= fault.end_ns)
    return max(during, default=None)


def _standing_at(t_ns: int, spans: Sequence[AlarmSpan]) -> AlarmEvent | None:
    for span in spans:
        is_still_on = span.cleared_ns is None or span.cleared_ns > t_ns
        if span.raised.t_ns < t_ns and is_still_on:
            return span.raised
    return None
