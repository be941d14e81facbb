"""One partition number: the plants whose records lie in it, published in one transaction.

A shard belongs to one process at a time. Its publisher is opened before anything is read, which
shuts out a former owner; from then on committed offsets and checkpoints stand still, and the shard
goes on exactly where the former owner had said its last whole transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field

from pydantic import ValidationError

from fusion.alignment import Counts, Outcome, dead_letter
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import Plant
from fusion.ports import Publisher
from fusion.schema import (
    UNREAD_HEADER,
    AlarmCommand,
    AlarmEvent,
    Lost,
    Message,
    Record,
    Score,
    TopicPartition,
)
from fusion.stream.chain import Chain
from fusion.stream.checkpoint import ShardCheckpoint
from fusion.stream.intake import Pace
from fusion.stream.placement import require_onward


@dataclass(slots=True)
class Step:
    """What one transaction said; shown to whoever watches."""

    num_records: int
    scores: list[Score] = field(default_factory=list[Score])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])
    work_s: float = 0.0
    """How long it took to score and judge the ticks of ``scores``."""
    partition: int = 0
    refused: list[Message] = field(default_factory=list[Message])
    """Dead letters."""


class Shard:
    """Everything of one partition number.

    ``open_chain`` returns the chain of a plant by its address, None for an address that nobody
    knows, or raises ``RecordError`` when the plant's records must come in another partition.
    ``plant`` is any plant of the prefix: it names the topics. ``starts`` is where the source reads
    on; ``topic_ids`` are the broker's own names of the topics, kept in the checkpoint.
    With ``together`` the plants are scored at once, for a server that batches what comes together.
    """

    def __init__(
        self,
        number: int,
        plant: Plant,
        publisher: Publisher,
        *,
        open_chain: Callable[[str], Chain | None],
        checkpoint: ShardCheckpoint | None = None,
        starts: Mapping[TopicPartition, int] | None = None,
        topic_ids: Mapping[str, str] | None = None,
        together: Executor | None = None,
    ) -> None:
        self.number = number
        self.chains: dict[str, Chain] = {}
        self.plant = plant
        self._publisher = publisher
        self._open_chain = open_chain
        checkpoint = checkpoint or ShardCheckpoint()
        self._read_up_to = checkpoint.read_up_to()
        self._strangers = checkpoint.strangers()
        self._next_offsets = dict(starts or {})
        self._topic_ids = checkpoint.topic_ids | dict(topic_ids or {})
        self._lost = checkpoint.lost_offsets()
        self._together = together
        self._is_changed = False
        self._own_messages: list[Message] = []
        self._num_records = 0
        self._new_positions: dict[TopicPartition, int] = {}

    @property
    def has_something_to_say(self) -> bool:
        """Whether records were taken or lost, or ticks scored, that are not published yet."""
        is_changed = self._is_changed or any(chain.is_changed for chain in self.chains.values())
        return self._num_records > 0 or is_changed

    @property
    def is_urgent(self) -> bool:
        """Whether an alarm has moved, and nobody knows yet."""
        return any(chain.events for chain in self.chains.values())

    def add(self, address: str, chain: Chain) -> None:
        """Let ``chain`` go on in this shard: it has been here before."""
        self.chains[address] = chain

    def take(self, records: Sequence[Record]) -> None:
        """Give every record to the plant that its key names.

        Raises:
            TopicMismatchError: A topic was made anew while it was read. Nothing is published.
        """
        of_plant: dict[str, list[Record]] = {address: [] for address in self.chains}
        for record in records:
            self._move_on(record)
            if (why := _unread(record)) is not None:
                self._refuse_stranger(record, why)
            elif record.topic == self.plant.topic("alarm-commands"):
                self._command(record)
            elif self._chain_for(record, record.key) is not None:
                of_plant.setdefault(record.key, []).append(record)
        for address, own in of_plant.items():
            self.chains[address].take(own)
        for record in records:
            part = record.topic_partition
            self._read_up_to[part] = max(self._read_up_to.get(part, 0), record.offset + 1)
            self._new_positions[part] = record.offset + 1
        for chain in self.chains.values():
            chain.intake.skip_to(self._new_positions)
        self._num_records += len(records)

    def lose(self, lost: Lost) -> None:
        """Account for records that nobody will read, and go on behind them.

        A restart that has to go back further meets the same hole again: it is counted once.
        """
        part = lost.partition
        num_lost, start, stop = self._lost.get(part, (0, lost.start, lost.start))
        num_known = max(0, min(stop, lost.stop) - max(start, lost.start))
        self._lost[part] = (num_lost + lost.num_offsets - num_known, lost.start, lost.stop)
        self._read_up_to[part] = max(self._read_up_to.get(part, 0), lost.stop)
        self._next_offsets.setdefault(part, lost.stop)
        for chain in self.chains.values():
            chain.intake.skip_to({part: lost.stop})
        self._is_changed = True

    def flush(self) -> None:
        """Close the ticks that are still open: the end of a bounded run."""
        for chain in self.chains.values():
            chain.flush()

    def work(self) -> None:
        """Score what is aligned.

        Raises:
            InferenceUnavailableError: Nothing is lost; call it again.
        """
        if self._together is None or len(self.chains) < 2:
            for chain in self.chains.values():
                chain.work()
            return
        # Chains share nothing. All of them end before one that failed is heard.
        working = [self._together.submit(chain.work) for chain in self.chains.values()]
        wait(working)
        for each in working:
            each.result()

    def say(self) -> Step:
        """Publish everything since the last call, with the offsets below what is still needed.

        Raises:
            BrokerUnavailableError: Open a new shard; it goes on from the last whole transaction.
            FencedError: Another process owns this partition now.
        """
        step = Step(self._num_records, partition=self.number)
        messages = self._own_messages
        for chain in self.chains.values():
            if not chain.is_changed:
                continue
            messages += chain.take_messages()
            step.scores += chain.scores
            step.events += chain.events
            chain.scores, chain.events, chain.is_changed = [], [], False
        letters = self.plant.topic("dead-letters")
        step.refused = [message for message in messages if message.topic == letters]
        saved = ShardCheckpoint.of(
            self._read_up_to,
            self._strangers,
            self._lost,
            num_partitions=self.plant.topics.partitions,
            topic_ids=self._topic_ids,
        )
        messages.append(saved.message(self.plant, self.number))
        self._publisher.publish(messages, commit=self.positions())
        self._own_messages, self._num_records, self._new_positions = [], 0, {}
        self._is_changed = False
        return step

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offsets to commit: per partition the oldest record that any plant needs."""
        positions = dict(self._read_up_to)
        for chain in self.chains.values():
            for part, offset in chain.intake.positions().items():
                positions[part] = min(positions.get(part, offset), offset)
        # Of a topic that the plant files no longer name the checkpoint keeps what was read; it may
        # be gone, and the broker would refuse the whole transaction.
        return {part: at for part, at in positions.items() if part in self._next_offsets}

    def topics_ahead(self) -> set[str]:
        """Return the topics that should wait until slower ones have caught up."""
        return Pace.to_hold(chain.intake.pace() for chain in self.chains.values())

    def counts(self) -> dict[TopicPartition, Counts]:
        """Return what became of every record, per partition."""
        total = dict(self._strangers)
        for part, (num_lost, *_) in self._lost.items():
            total[part] = total.get(part, Counts()) + Counts(lost=num_lost)
        for chain in self.chains.values():
            for part, counts in chain.intake.counts().items():
                total[part] = total.get(part, Counts()) + counts
        return total

    def close(self) -> None:
        """Free the publisher. What was not said is said again by the next owner."""
        self._publisher.close()

    def _move_on(self, record: Record) -> None:
        part = record.topic_partition
        expected_offset = self._next_offsets.get(part, 0)
        require_onward(self.plant, part, record.offset, expected_offset=expected_offset)
        self._next_offsets[part] = record.offset + 1

    def _chain_for(self, record: Record, address: str) -> Chain | None:
        """Return the chain of the plant that ``record`` is for; None when it was refused."""
        try:
            chain = self.chains.get(address) or self._open_chain(address)
        except RecordError as misplaced:
            self._refuse_stranger(record, misplaced)
            return None
        if chain is None:
            self._refuse_stranger(record, _unknown(address))
            return None
        self.chains[address] = chain
        return chain

    def _command(self, record: Record) -> None:
        if record.offset < self._read_up_to.get(record.topic_partition, 0):
            return  # (answered before a restart)
        try:
            command = AlarmCommand.model_validate_json(record.value)
        except ValidationError as invalid:
            self._refuse(
                record,
                RecordError(
                    DeadLetterReason.WRONG_SCHEMA,
                    "an alarm command must be the JSON of fusion.schema.AlarmCommand, "
                    f"got: {invalid}",
                ),
            )
            return
        chain = self._chain_for(record, command.plant)
        if chain is None:
            return
        if not chain.alarms.has(command.name):
            self._refuse(record, _no_alarm(command))
            return
        chain.command(command)

    def _refuse_stranger(self, record: Record, why: RecordError) -> None:
        part = record.topic_partition
        if record.offset < self._read_up_to.get(part, 0):
            return  # (refused before a restart)
        self._strangers[part] = self._strangers.get(part, Counts()).plus(Outcome.DEAD_LETTERED)
        self._refuse(record, why)

    def _refuse(self, record: Record, error: RecordError) -> None:
        self._own_messages.append(dead_letter(record, error, self.plant))


def _unread(record: Record) -> RecordError | None:
    """Return why the connector could not read the record, None when it could."""
    if record.key or record.value or [*record.headers] != [UNREAD_HEADER]:
        return None
    reason, _, why = record.headers[UNREAD_HEADER].partition(": ")
    known = {each.value: each for each in DeadLetterReason}
    return RecordError(known[reason], why) if reason in known else None


def _unknown(address: str) -> RecordError:
    return RecordError(
        DeadLetterReason.UNKNOWN_STREAM,
        f"the key must be the address of a plant that is watched here, got {address!r}; "
        "mend the sender, or start `fusion live` with that plant's file too",
    )


def _no_alarm(command: AlarmCommand) -> RecordError:
    return RecordError(
        DeadLetterReason.UNKNOWN_ALARM,
        f"a command must name an alarm of {command.plant}, got {command.name!r}; "
        "`fusion alarms list` shows them",
    )


def by_number(records: Sequence[Record]) -> Mapping[int, list[Record]]:
    """Return ``records`` by partition number, each in the order in which they came."""
    numbers: dict[int, list[Record]] = {}
    for record in records:
        numbers.setdefault(record.partition, []).append(record)
    return numbers
