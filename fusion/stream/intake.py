"""The mouth of the chain: records of one poll become aligned ticks, dead letters and commands.

Training uses :func:`align_recorded`, the same gate and the same aligner over stored records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from fusion.alignment import Aligner, Counts, Observation, Outcome, admit, dead_letter
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import Plant
from fusion.ports import Clock, Source
from fusion.schema import AlarmCommand, Message, Record, TopicPartition
from fusion.stream.idleness import IdleWatch


@dataclass(slots=True)
class Taken:
    """What one poll brought."""

    num_records: int = 0
    observations: list[Observation] = field(default_factory=list[Observation])
    dead_letters: list[Message] = field(default_factory=list[Message])
    commands: list[AlarmCommand] = field(default_factory=list[AlarmCommand])


class Intake:
    """Decodes, aligns and accounts for what a source gives."""

    def __init__(self, plant: Plant, source: Source, clock: Clock, *, context_ticks: int) -> None:
        self._plant = plant
        self._source = source
        self._clock = clock
        self._aligner = Aligner(plant, context_ticks=context_ticks)
        self._idle_watch = IdleWatch(plant, now_ns=clock.now_ns())
        self._command_positions: dict[TopicPartition, int] = {}

    def take(self, records: list[Record]) -> Taken:
        """Return the ticks that closed, the refused records and the commands among ``records``."""
        taken = Taken(len(records))
        heard: set[str] = set()
        for record in records:
            if record.topic == self._plant.topic("alarm-commands"):
                self._take_command(record, taken)
                continue
            try:
                envelope, payload = admit(record, self._plant)
            except RecordError as error:
                if not self._aligner.was_answered(record):
                    taken.dead_letters.append(dead_letter(record, error, self._plant))
                self._aligner.refuse(record)
                continue
            if self._aligner.take(record, envelope, payload) is not Outcome.DUPLICATE:
                heard.add(payload.stream)
        self._watch_silence(heard, is_quiet=not records)
        taken.observations = self._aligner.closed()
        return taken

    def flush(self) -> Taken:
        """Return the ticks that are still open: the end of a bounded run."""
        return Taken(observations=self._aligner.flush())

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offsets to commit: the oldest record that an open window needs."""
        return self._aligner.positions() | self._command_positions

    def counts(self) -> dict[TopicPartition, Counts]:
        """Return what became of every record, per partition."""
        return self._aligner.counts()

    def total(self) -> Counts:
        """Return what became of every record."""
        return self._aligner.total()

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart at :meth:`positions` needs, for JSON."""
        return self._aligner.snapshot()

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``. Call before the first record."""
        self._aligner.restore(snapshot)

    def _take_command(self, record: Record, taken: Taken) -> None:
        self._command_positions[record.topic_partition] = record.offset + 1
        try:
            taken.commands.append(AlarmCommand.model_validate_json(record.value))
        except ValidationError as invalid:
            error = RecordError(
                DeadLetterReason.WRONG_SCHEMA,
                f"an alarm command must be the JSON of fusion.schema.AlarmCommand, got: {invalid}",
            )
            taken.dead_letters.append(dead_letter(record, error, self._plant))

    def _watch_silence(self, heard: set[str], *, is_quiet: bool) -> None:
        now_ns = self._clock.now_ns()
        self._idle_watch.heard(heard, now_ns=now_ns)
        newest_ns = self._aligner.newest_ns()
        # Asking the broker for its ends costs a round trip: only when somebody may be idle.
        if not is_quiet and not self._idle_watch.idle(newest_ns, now_ns=now_ns, is_caught_up=True):
            return
        self._aligner.tell_idle(
            self._idle_watch.idle(newest_ns, now_ns=now_ns, is_caught_up=is_caught_up(self._source))
        )


def is_caught_up(source: Source) -> bool:
    """Whether every record that the broker holds has been read."""
    positions = source.positions()
    return all(positions.get(part, 0) >= end for part, end in source.end_offsets().items())


def align_recorded(records: Iterable[Record], plant: Plant) -> Iterator[Observation]:
    """Yield the ticks of stored records as the live chain would have seen them.

    ``records`` come in the order in which the broker got them; refused ones are left out here, the
    live chain has dead-lettered them.
    """
    aligner = Aligner(plant, context_ticks=MAX_GAP_TICKS)
    for record in records:
        try:
            envelope, payload = admit(record, plant)
        except RecordError:
            aligner.refuse(record)
            continue
        aligner.take(record, envelope, payload)
        yield from aligner.closed()
    yield from aligner.flush()


MAX_GAP_TICKS = 24
"""Silence of the whole plant that is still shown as empty ticks when records are read back."""
