"""Dead letters read, judged anew, and published again where they came from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from flows import wiring
from flows.gates import open_stored_gate
from flows.settings import Settings
from fusion.alignment import refused_record
from fusion.errors import DeadLetterReason, InputError, RecordError
from fusion.plant import Plant
from fusion.ports import Publisher
from fusion.schema import AlarmCommand, Message, Record
from fusion.stream.intake import Gate
from fusion.stream.reading import read_to_end

REPLAYED_FROM = "replayed-from"
"""Header of a record that was replayed: the position of its dead letter."""
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_BATCH_LETTERS = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, with the record that it keeps where it says so properly."""

    letter: Record
    refused: Record | None
    replayed_ns: int | None
    """When it was replayed; None when it was not."""

    @property
    def offset(self) -> int:
        """Its position on the topic ``dead-letters``, which has one partition."""
        return self.letter.offset

    @property
    def reason(self) -> str:
        """Why the record was refused."""
        return self.letter.headers.get("reason", "unknown")

    @property
    def stream(self) -> str:
        """The stream that the record said it is of."""
        return self.letter.headers.get("original-ce_subject", "").rpartition("/")[2] or "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay would do with one dead letter."""

    offset: int
    obstacle: str | None
    """Why it would be refused again; None when it would be used."""
    is_replayed: bool
    is_replayable: bool
    """Whether the letter says where the record lay, on a topic that takes records of this plant."""


def read_dead_letters(plant: Plant, settings: Settings) -> Iterator[DeadLetter]:
    """Yield the dead letters of ``plant`` in the order in which they were written.

    Raises:
        BrokerUnavailableError: The broker is away.
    """
    replayed = _replayed(plant, settings)
    for letter in _records(plant, settings, "dead-letters"):
        try:
            refused = refused_record(letter)
        except RecordError:
            refused = None
        yield DeadLetter(letter, refused, replayed.get(letter.offset))


def read_dead_letter(plant: Plant, settings: Settings, offset: int) -> DeadLetter:
    """Return the dead letter at ``offset``.

    Raises:
        InputError: There is none.
    """
    for found in read_dead_letters(plant, settings):
        if found.offset == offset:
            return found
    raise _no_such(plant, [offset])


def obstacle(found: DeadLetter, plant: Plant, gate: Gate, *, now_ns: int) -> RecordError | None:
    """Return why the record would be refused if it were published now; None if it would not.

    Raises:
        ObjectStoreUnavailableError: Its value cannot be fetched now.
    """
    try:
        record = refused_record(found.letter)
        if record.topic == plant.topic("alarm-commands"):
            _require_command(record)
        else:
            _require_key(record, plant)
            # Event time is judged against the time at which the broker gets the record again.
            again = Record(
                record.topic,
                record.partition,
                record.offset,
                record.key,
                record.value,
                record.headers,
                t_broker_ns=now_ns,
            )
            gate.of(plant).admit(again)
    except RecordError as refused:
        return refused
    return None


def judge(
    plant: Plant,
    settings: Settings,
    *,
    is_wanted: Callable[[DeadLetter], bool],
    offsets: Collection[int] = (),
) -> list[Verdict]:
    """Return what a replay would do with each wanted dead letter, and with those at ``offsets``.

    Raises:
        InputError: There is no dead letter at one of ``offsets``.
        BrokerUnavailableError, ObjectStoreUnavailableError: Call again.
    """
    now_ns = wiring.open_clock().now_ns()
    verdicts: list[Verdict] = []
    with open_stored_gate(plant, settings) as gate:
        for found in read_dead_letters(plant, settings):
            if found.offset in offsets or is_wanted(found):
                why = obstacle(found, plant, gate, now_ns=now_ns)
                verdicts.append(
                    Verdict(
                        found.offset,
                        None if why is None else f"{why.reason}: {why}",
                        is_replayed=found.replayed_ns is not None,
                        is_replayable=_is_replayable(found, plant),
                    )
                )
    absent = sorted(set(offsets) - {verdict.offset for verdict in verdicts})
    if absent:
        raise _no_such(plant, absent)
    return verdicts


def replay_dead_letters(plant: Plant, settings: Settings, offsets: Collection[int]) -> int:
    """Publish the records at ``offsets`` where they came from, and return how many were new.

    Bytes, key and headers are those that were refused, with ``replayed-from`` beside them. The note
    that a letter is replayed goes into the same transaction, so none is replayed twice, however
    often this is called and wherever it dies.

    Raises:
        BrokerUnavailableError: What was published stays; call again for the rest.
    """
    wiring.prepare_topics(settings, plant)
    group = f"dead-letters-{plant.prefix}"
    # Opened before the notes are read: on Kafka it shuts out another replay of the same plant.
    publisher = wiring.open_publisher(settings, group=group, writer="replays")
    with contextlib.closing(publisher):
        return _replay(plant, settings, publisher, set(offsets))


def _replay(
    plant: Plant, settings: Settings, publisher: Publisher, offsets: Collection[int]
) -> int:
    now_ns = wiring.open_clock().now_ns()
    num_replayed, batch = 0, list[Message]()
    for found in read_dead_letters(plant, settings):
        if found.offset not in offsets or found.replayed_ns is not None:
            continue
        if found.refused is None or not _is_replayable(found, plant):
            continue
        batch += _messages(found, found.refused, plant, now_ns=now_ns)
        num_replayed += 1
        num_bytes = sum(len(message.value) for message in batch)
        if num_bytes >= MAX_BATCH_BYTES or len(batch) >= 2 * MAX_BATCH_LETTERS:
            publisher.publish(batch)
            batch = []
    if batch:
        publisher.publish(batch)
    return num_replayed


def _messages(
    found: DeadLetter, refused: Record, plant: Plant, *, now_ns: int
) -> tuple[Message, Message]:
    letter = found.letter
    origin = f"{letter.topic}/{letter.partition}/{letter.offset}"
    headers: Mapping[str, str] = {**refused.headers, REPLAYED_FROM: origin}
    note = Message(
        plant.topic("dead-letter-replays"),
        str(letter.offset),
        str(now_ns).encode(),
        {"content-type": "text/plain", REPLAYED_FROM: origin},
    )
    return Message(refused.topic, refused.key, refused.value, headers), note


def _replayed(plant: Plant, settings: Settings) -> dict[int, int]:
    """Return when each replayed dead letter was, by its offset."""
    notes = _records(plant, settings, "dead-letter-replays")
    return {int(n.key): int(n.value) for n in notes if n.key.isdecimal() and n.value.isdigit()}


def _records(plant: Plant, settings: Settings, kind: str) -> Iterator[Record]:
    wiring.prepare_topics(settings, plant)
    source = wiring.open_source(settings, (plant.topic(kind),), f"reads-{plant.prefix}")
    with contextlib.closing(source):
        yield from read_to_end(source)


def _is_replayable(found: DeadLetter, plant: Plant) -> bool:
    """Whether the record lay on a topic of senders: a letter cannot make us write elsewhere."""
    topics = (*plant.sense_topics, plant.topic("alarm-commands"))
    return found.refused is not None and found.refused.topic in topics


def _require_key(record: Record, plant: Plant) -> None:
    if record.key != str(plant.address):
        raise RecordError(
            DeadLetterReason.UNKNOWN_STREAM,
            f"the key must be the plant's address {plant.address}, got {record.key!r}; judge it "
            "with that plant's file, or mend the sender",
        )


def _require_command(record: Record) -> None:
    try:
        AlarmCommand.model_validate_json(record.value)
    except ValidationError as invalid:
        raise RecordError(
            DeadLetterReason.WRONG_SCHEMA,
            f"an alarm command must be the JSON of fusion.schema.AlarmCommand, got: {invalid}",
        ) from invalid


def _no_such(plant: Plant, offsets: Sequence[int]) -> InputError:
    return InputError(
        f"a dead letter must be on {plant.topic('dead-letters')} at {list(offsets)}, and none is "
        "there; `fusion dead-letters list` shows their positions"
    )
