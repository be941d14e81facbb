"""Carries the alarms' journal from the broker, which lets it go, to where it is kept for years."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from flows import wiring
from flows.settings import Settings
from fusion.alarms.journal import HASH, NUMBER, PREVIOUS
from fusion.plant import Plant
from fusion.ports import JournalEntry
from fusion.schema import AlarmEvent, Record

POLL_TIMEOUT_S = 0.5


def record_journal(
    plant: Plant,
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    follow: bool,
) -> Iterator[int]:
    """Yield how many new lines each step has kept, of every plant of the prefix.

    A line is kept before its offset is committed: killed in between, it is read again, and known.
    Without ``follow`` it ends with the last line that the broker has.

    Raises:
        BrokerUnavailableError: The broker is away; run it again.
        AlarmLogUnavailableError: The database is; nothing was committed, run it again.
    """
    topic = plant.topic("alarm-events")
    if not wiring.topics_there(settings, [topic]):
        return
    group = f"alarm-history-{plant.prefix}"
    with contextlib.ExitStack() as stack:
        source = wiring.open_source(settings, [topic], group)
        stack.callback(source.close)
        publisher = wiring.open_publisher(settings, group=group, writer="alarm-history")
        stack.callback(publisher.close)
        log = wiring.open_alarm_log(settings)
        stack.callback(log.close)
        while not should_stop():
            records = source.poll(timeout_s=POLL_TIMEOUT_S)
            if records:
                num_new = log.append([entry_of(record) for record in records])
                publisher.publish([], commit=source.positions())
                yield num_new
            elif not follow:
                ends = source.end_offsets()
                if all(source.positions().get(part, 0) >= end for part, end in ends.items()):
                    return


def entry_of(record: Record) -> JournalEntry:
    """Return the entry that ``record``, a line of ``alarm-events``, is."""
    event = AlarmEvent.model_validate_json(record.value)
    return JournalEntry(
        id=event.id,
        plant=event.state.plant,
        name=event.state.name,
        transition=event.transition,
        t_ns=event.t_ns,
        number=int(record.headers.get(NUMBER, "0")),
        previous=record.headers.get(PREVIOUS, ""),
        hash=record.headers.get(HASH, ""),
        line=record.value,
    )
