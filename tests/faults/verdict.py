"""What a run left on the broker, held against what was sent and what an unharmed run leaves."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from flows import wiring
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.errors import DeadLetterReason
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import CLAIM_HEADER, UNREAD_HEADER, AlarmEvent, Record, Score
from fusion.stream.checkpoint import ShardCheckpoint, checkpoint_of, newest_by_key
from fusion.stream.reading import read_to_end
from tests.faults.poisons import AS_PUBLISHED, EVERY_RECORD, POISON_HEADER, reason_of

COMMAND_TOPIC = "alarm-commands"


class Position(NamedTuple):
    """Where a record lies: kind of topic, partition, offset."""

    kind: str
    partition: int
    offset: int


@dataclass
class Left:
    """Everything that the live processes of one run have said, and their accounts."""

    scores: dict[str, list[Score]] = field(default_factory=dict[str, list[Score]])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])
    dead_letters: dict[Position, list[str]] = field(default_factory=dict[Position, list[str]])
    """The reasons that each position was dead-lettered for: one, when all is well."""
    outcomes: dict[str, Counts] = field(default_factory=dict[str, Counts])
    """By kind of topic."""
    num_on_broker: dict[str, int] = field(default_factory=dict[str, int])
    poisons: dict[Position, str] = field(default_factory=dict[Position, str])
    claims: dict[Position, tuple[str, int]] = field(default_factory=dict[Position, tuple[str, int]])
    """The plant of each record whose value lies in the store, and its time, in ns."""
    committed: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """Where the next process would go on, by kind of topic and partition."""

    @property
    def total(self) -> Counts:
        """What became of every record; commands are no records of a plant."""
        of_records = (o for kind, o in self.outcomes.items() if kind != COMMAND_TOPIC)
        return sum(of_records, Counts())

    @property
    def reasons(self) -> Counter[str]:
        """How often records were dead-lettered for each reason."""
        return Counter(reason for reasons in self.dead_letters.values() for reason in reasons)


def what_is_left(plants: Sequence[Plant], settings: Settings) -> Left:
    """Read everything that a finished run has published, and what it was sent."""
    first, left = plants[0], Left()
    sent_kinds = [*(topic.partition(".")[2] for topic in first.sense_topics), COMMAND_TOPIC]
    said_kinds = ["scores", "alarm-events", "dead-letters", "checkpoints"]
    left.committed = _committed(first, settings, sent_kinds)
    found = _records(first, settings, [*sent_kinds, *said_kinds])
    for kind in sent_kinds:
        left.num_on_broker[kind] = len(found[kind])
        for record in found[kind]:
            position = Position(kind, record.partition, record.offset)
            if POISON_HEADER in record.headers:
                left.poisons[position] = record.headers[POISON_HEADER]
            elif UNREAD_HEADER in record.headers:
                # (nobody has unfolded the header that names the poison)
                (left.poisons[position],) = AS_PUBLISHED
            elif CLAIM_HEADER in record.headers:
                t_ns = np.datetime64(record.headers["ce_time"].removesuffix("Z"), "ns")
                left.claims[position] = (record.key, int(t_ns.astype(np.int64)))
    for value in found["scores"]:
        score = Score.model_validate_json(value.value)
        left.scores.setdefault(score.plant, []).append(score)
    left.events = sorted(
        (AlarmEvent.model_validate_json(record.value) for record in found["alarm-events"]),
        key=lambda event: (event.state.plant, event.t_ns, event.id),
    )
    for letter in found["dead-letters"]:
        said = letter.headers
        position = Position(
            said["original-topic"].partition(".")[2],
            int(said["original-partition"]),
            int(said["original-offset"]),
        )
        left.dead_letters.setdefault(position, []).append(said["reason"])
    _account(plants, newest_by_key(found["checkpoints"]), left)
    return left


@dataclass
class Verdict:
    """What is wrong with a run: in numbers, and in words."""

    num_lost: int = 0
    num_doubled: int = 0
    wrong: list[str] = field(default_factory=list[str])


def judge(
    left: Left, expected: Left, *, may_miss_claims: bool = False, tick_ns: int = NANOSECONDS // 2
) -> Verdict:
    """Return everything that a run lost, doubled or said differently from the unharmed run.

    With ``may_miss_claims`` large records may have been refused because their store was away; then
    every record must still be accounted for, and every tick scored once, with what there was.
    """
    verdict = Verdict()
    _judge_accounts(left, verdict)
    _judge_progress(left, verdict)
    _judge_dead_letters(left, verdict, may_miss_claims=may_miss_claims)
    for address in sorted({*expected.scores, *left.scores}):
        wanted, got = expected.scores.get(address, []), left.scores.get(address, [])
        if may_miss_claims and wanted:
            # Of a stream whose records were all refused, a frame of long ago may be the first that
            # is heard: it is not late then, and has ticks of its own.
            got = [score for score in got if score.tick >= wanted[0].tick]
            # And a tick may have had nothing but what was refused: no score is made of that.
            scored = {score.tick for score in got}
            touched = _refused_ticks(left, address, tick_ns=tick_ns)
            wanted = [each for each in wanted if each.tick in scored or each.tick not in touched]
        ticks = [f"tick {score.tick}" for score in got]
        num_wrong = len(verdict.wrong)
        _judge_ids(f"{address}: score", ticks, [f"tick {score.tick}" for score in wanted], verdict)
        if len(verdict.wrong) == num_wrong and got != wanted and not may_miss_claims:
            differing = [a.tick for a, b in zip(got, wanted, strict=True) if a != b]
            verdict.wrong.append(f"{address}: other or differently ordered scores: {differing[:5]}")
    if may_miss_claims:
        ids = Counter(event.id for event in left.events)
        _judge_ids("alarm event", list(ids.elements()), list(ids), verdict)
        return verdict
    _judge_ids("alarm event", [e.id for e in left.events], [e.id for e in expected.events], verdict)
    if not verdict.wrong and left.events != expected.events:
        verdict.wrong.append("alarm events say something else")
    if left.dead_letters != expected.dead_letters:
        verdict.wrong.append(f"dead letters differ: {left.reasons} for {expected.reasons}")
    if left.outcomes != expected.outcomes:
        verdict.wrong.append(f"outcomes differ: {left.total} for {expected.total}")
    return verdict


def _judge_accounts(left: Left, verdict: Verdict) -> None:
    """The sum of the outcomes is what lies on the broker, topic by topic."""
    for kind, count in left.num_on_broker.items():
        if kind == COMMAND_TOPIC:
            continue  # (judged by their dead letters)
        counts = left.outcomes.get(kind, Counts())
        if counts.read != count or counts.pending:
            verdict.num_lost += abs(count - counts.read) + counts.pending
            verdict.wrong.append(f"{kind}: {count} records on the broker, but {counts}")


def _refused_ticks(left: Left, address: str, *, tick_ns: int) -> set[int]:
    """Return the ticks of a plant in which a large record lies that was refused.

    A record tells of its own time and, of sound, of up to a tick beyond.
    """
    refused = [
        t_ns // tick_ns
        for position, (plant, t_ns) in left.claims.items()
        if plant == address
        and DeadLetterReason.CLAIM_UNAVAILABLE in left.dead_letters.get(position, [])
    ]
    return {*refused, *(tick + 1 for tick in refused)}


def _judge_progress(left: Left, verdict: Verdict) -> None:
    """Records of a plant of which nothing can be used are left behind like any others."""
    newest: dict[tuple[str, int], int] = {}
    for position, poison in left.poisons.items():
        if poison == EVERY_RECORD:
            part = (position.kind, position.partition)
            newest[part] = max(newest.get(part, 0), position.offset)
    for part, offset in newest.items():
        if left.committed.get(part, 0) <= offset:
            verdict.wrong.append(
                f"{part}: committed is {left.committed.get(part)}, behind the refused {offset}"
            )


def _judge_dead_letters(left: Left, verdict: Verdict, *, may_miss_claims: bool) -> None:
    """Every poisoned record has its one dead letter with the right reason, and no other has."""
    for position, reasons in left.dead_letters.items():
        if len(reasons) > 1:
            verdict.num_doubled += len(reasons) - 1
            verdict.wrong.append(f"dead-lettered more than once: {position} {reasons}")
        poison = left.poisons.get(position)
        is_excused = may_miss_claims and (position in left.claims or poison is not None)
        if is_excused and reasons[0] == DeadLetterReason.CLAIM_UNAVAILABLE:
            continue
        if poison is None:
            verdict.wrong.append(f"dead-lettered without being poison: {position} {reasons}")
        elif (wanted := reason_of(poison)) is not None and reasons[0] != wanted:
            verdict.wrong.append(f"{poison!r} must be {wanted}, was {reasons[0]}")
    for position, poison in left.poisons.items():
        if reason_of(poison) is not None and position not in left.dead_letters:
            verdict.num_lost += 1
            verdict.wrong.append(f"{poison!r} has no dead letter: {position}")


def _judge_ids(what: str, got: Sequence[str], wanted: Sequence[str], verdict: Verdict) -> None:
    missing, extra = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    verdict.num_lost += missing.total()
    verdict.num_doubled += extra.total()
    if missing:
        verdict.wrong.append(f"{what} lost: {list(missing)[:5]}")
    if extra:
        verdict.wrong.append(f"{what} too many: {list(extra)[:5]}")


def _account(plants: Sequence[Plant], newest: dict[str, bytes], left: Left) -> None:
    """Sum up what the checkpoints say of every record."""

    def add(topic: str, counts: Counts) -> None:
        kind = topic.partition(".")[2]
        left.outcomes[kind] = left.outcomes.get(kind, Counts()) + counts

    for plant in plants:
        checkpoint = checkpoint_of(plant, newest)
        if checkpoint is not None:
            for key, counts in checkpoint.accounts.items():
                add(key.rpartition(":")[0], Counts(**counts))
    for key, value in newest.items():
        if key.startswith("partition:"):
            for part, counts in ShardCheckpoint.model_validate_json(value).strangers().items():
                add(part.topic, counts)


def _committed(
    plant: Plant, settings: Settings, kinds: Sequence[str]
) -> dict[tuple[str, int], int]:
    topics = tuple(plant.topic(kind) for kind in kinds)
    with contextlib.closing(wiring.open_source(settings, topics, f"live-{plant.prefix}")) as source:
        return {
            (part.topic.partition(".")[2], part.partition): offset
            for part, offset in source.committed().items()
        }


def _records(plant: Plant, settings: Settings, kinds: Sequence[str]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {kind: [] for kind in kinds}
    topics = tuple(plant.topic(kind) for kind in kinds)
    source = wiring.open_source(settings, topics, f"verdict-{plant.prefix}")
    with contextlib.closing(source):
        for record in read_to_end(source):
            found[record.topic.partition(".")[2]].append(record)
    return found
