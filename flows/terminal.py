"""What people see in the terminal: progress of long work, and the live table of alarms."""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fusion.alignment import Counts
from fusion.schema import AlarmEvent, AlarmState, Condition, ShownState, TopicPartition

if TYPE_CHECKING:
    from fusion.stream.live import Live
    from fusion.stream.shard import Step

CONSOLE = Console(stderr=True)

_SHOWN = {
    ShownState.UNACKNOWLEDGED: ("▲ unacknowledged", "bold red"),
    ShownState.ACKNOWLEDGED: ("△ acknowledged", "red"),
    ShownState.RETURNED_UNACKNOWLEDGED: ("▽ returned, unacknowledged", "yellow"),
    ShownState.LATCHED: ("▭ latched", "yellow"),
    ShownState.SHELVED: ("◇ shelved", "dim"),
    ShownState.MASKED: ("◇ masked", "dim"),
    ShownState.SUPPRESSED: ("◇ suppressed by design", "dim"),
    ShownState.OUT_OF_SERVICE: ("◇ out of service", "dim"),
    ShownState.NORMAL: ("· normal", "dim"),
}
_BARS = "▁▂▃▄▅▆▇█"
_KEY_GAUGES = {
    "sigreg": "sigreg",
    "rankme": "rankme",
    "std_mean": "std",
    "skill": "skill",
    "probe_r2": "probe R²",
    "shuffled_setpoints": "set-points",
}
_ESCAPES = {chr(0xDC00 + byte): f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
"""Python's own stand-ins for bytes that were no UTF-8."""


def progress_bar(*, is_shown: bool = True) -> Progress:
    """Return a progress display with the elapsed and the remaining time."""
    console = CONSOLE if is_shown else Console(stderr=True, quiet=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class LiveTable:
    """The alarms of one plant and the state of its stream, drawn anew after every step.

    On a terminal it is one picture that changes; elsewhere (a log file) one line per transition.
    """

    def __init__(self, plant: str) -> None:
        self._plant = plant
        self._screen = RichLive(console=CONSOLE, auto_refresh=False)
        self._surprises: deque[float] = deque(maxlen=60)
        self._t_end_ns: int | None = None
        self._num_scores = 0
        self._log: deque[Text] = deque(maxlen=8)

    def __enter__(self) -> Self:
        if CONSOLE.is_terminal:
            self._screen.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if CONSOLE.is_terminal:
            self._screen.stop()

    def show(self, step: Step, live: Live) -> None:
        """Draw what ``step`` changed."""
        lines = [event_line(event) for event in step.events]
        self._log.extend(lines)
        self._see(step)
        if CONSOLE.is_terminal:
            self._screen.update(self._draw(live.alarm_states(), live.total()), refresh=True)
        else:
            for line in lines:
                CONSOLE.print(line)

    def _see(self, step: Step) -> None:
        for score in step.scores:
            self._surprises.append(score.surprise)
            self._t_end_ns = score.t_end_ns
        self._num_scores += len(step.scores)

    def _draw(self, states: Iterable[AlarmState], counts: Counts) -> RenderableType:
        told = [s for s in states if s.kind == "alarm" or s.shown is not ShownState.NORMAL]
        return Group(self._status(counts), alarm_table(told), *self._log)

    def _status(self, counts: Counts) -> Text:
        at = (
            "no tick scored yet"
            if self._t_end_ns is None
            else f"plant time {_clock(self._t_end_ns)}"
        )
        return Text.assemble(
            (self._plant, "bold"),
            f"  {at}  ticks {self._num_scores}  surprise ",
            (sparkline(self._surprises), "cyan"),
            f"  records: scored {counts.scored}, late {counts.late}, duplicate {counts.duplicate}, "
            f"dead-lettered {counts.dead_lettered}, pending {counts.pending}",
            (f", lost {counts.lost}" if counts.lost else "", "bold red"),
        )


def sparkline(surprises: Iterable[float]) -> str:
    """Return the last surprises as bars; a full bar is twice the alarm threshold.

    Example:
        >>> sparkline([0.0, 1.0, 2.0])
        '▁▅█'
    """
    top = len(_BARS) - 1
    return "".join(_BARS[min(top, max(0, round(value / 2 * top)))] for value in surprises)


def alarm_table(states: Iterable[AlarmState]) -> Table:
    """Return every alarm with its state; shape and word beside colour, worst first."""
    table = Table(title=None, expand=False)
    for heading in ("state", "alarm", "kind", "priority", "since", "rev", "why"):
        table.add_column(heading, overflow="fold")
    order = list(_SHOWN)
    for state in sorted(states, key=lambda s: (order.index(s.shown), s.name)):
        word, style = _SHOWN[state.shown]
        if state.condition is Condition.PENDING_ON:
            word, style = "· pending", "dim"
        table.add_row(
            Text(word, style),
            state.name,
            state.kind,
            state.priority,
            _clock(state.since_ns) if state.since_ns else "",
            str(state.revision),
            state.sentence if state.shown is not ShownState.NORMAL else "",
        )
    return table


def gauge_line(gauges: Mapping[str, float]) -> str:
    """Return the gauges that tell at a glance whether an embedding is alive.

    Example:
        >>> gauge_line({"rankme": 12.34, "probe_r2": 0.5})
        'rankme 12.3, probe_r2 0.5'
    """
    skills = [name for name in gauges if name.startswith("skill.")]
    names = ["rankme", "sigreg", "probe_r2", *skills[-1:]]
    return ", ".join(f"{name} {gauges[name]:.3g}" for name in names if name in gauges)


def gauge_row(step: int, gauges: Mapping[str, float]) -> Text:
    """Return the key gauges of one measurement in a line; what is not healthy is red, with a !.

    Example:
        >>> gauge_row(50, {"sigreg": 1.1, "rankme": 2.5, "skill.h1": 0.2, "skill.h4": -0.1}).plain
        'step    50  sigreg 1.1   rankme 2.5!  skill h1 0.2   h4 -0.1!'
    """
    from fusion.model.gauges import is_healthy  # noqa: PLC0415 PyTorch, only where one trains

    row = Text.assemble((f"step {step:>5}", "bold"))
    said: set[str] = set()
    for name, value in gauges.items():
        family, _, part = name.partition(".")
        if family not in _KEY_GAUGES or (part and family != "skill"):
            continue
        label = " ".join(([] if family in said else [_KEY_GAUGES[family]]) + [part] * bool(part))
        said.add(family)
        if is_healthy(name, value):
            row.append(f"  {label} {value:.3g} ")
        else:
            row.append(f"  {label} {value:.3g}!", "bold red")
    return row


def shown(text: str) -> str:
    r"""Return ``text`` from outside fit for a terminal: what is not printable becomes an escape.

    Bytes that were no UTF-8 (lone surrogates) cannot be printed, and control characters could
    make a terminal show anything.

    Example:
        >>> print(shown("pump Ü" + chr(0xDCFF) + chr(27) + "[2J"))
        pump Ü\xff\x1b[2J
    """
    return "".join(
        each if each.isprintable() else _ESCAPES.get(each, repr(each)[1:-1]) for each in text
    )


def counts_table(by_partition: Mapping[TopicPartition, Counts]) -> Table:
    """Return what became of every record, per partition."""
    table = Table(title="What became of every record")
    table.add_column("partition")
    for heading in ("read", "scored", "late", "duplicate", "dead-lettered", "pending", "lost"):
        table.add_column(heading, justify="right")
    for part, counts in by_partition.items():
        table.add_row(
            f"{part.topic}/{part.partition}",
            str(counts.read),
            str(counts.scored),
            str(counts.late),
            str(counts.duplicate),
            str(counts.dead_lettered),
            str(counts.pending),
            str(counts.lost),
        )
    return table


def event_line(event: AlarmEvent) -> Text:
    """Return one line of the journal: when, what, of which alarm, by whom and why."""
    style = {"raised": "bold red", "cleared": "green", "refused": "yellow"}.get(
        event.transition, "cyan"
    )
    line = Text(f"{_clock(event.t_ns)}  {event.transition:<12} {event.state.name}: ", style)
    who = f"{event.who}: " if event.who else ""
    judged = f"{event.judgement or 'taken back'} " if event.transition == "judged" else ""
    why = event.state.sentence if event.transition in {"raised", "cleared"} else event.note
    return line.append(shown(f"{who}{judged}{why}"), "default")


def _clock(t_ns: int) -> str:
    return datetime.datetime.fromtimestamp(t_ns / 1e9, datetime.UTC).strftime("%H:%M:%S")
