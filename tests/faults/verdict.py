"""What a run left on the broker, held against what an unharmed run leaves."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from flows import wiring
from flows.live import read_checkpoints
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.plant import Plant
from fusion.schema import AlarmEvent, Record, Score
from fusion.stream.checkpoint import ShardCheckpoint, checkpoint_of
from fusion.stream.reading import read_to_end


@dataclass
class Left:
    """Everything that the live processes of one run have said, and their accounts."""

    scores: dict[str, list[Score]] = field(default_factory=dict[str, list[Score]])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])
    dead_letters: Counter[tuple[str, str, str]] = field(
        default_factory=Counter[tuple[str, str, str]]
    )
    """How often each position was dead-lettered: topic kind, partition, offset."""
    reasons: Counter[str] = field(default_factory=Counter[str])
    outcomes: dict[str, Counts] = field(default_factory=dict[str, Counts])
    """By topic kind."""
    num_on_broker: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def total(self) -> Counts:
        """What became of every record."""
        return sum(self.outcomes.values(), Counts())


def what_is_left(plants: Sequence[Plant], settings: Settings) -> Left:
    """Read everything that a finished run has published."""
    first, left = plants[0], Left()
    for value in _records(first, settings, "scores"):
        score = Score.model_validate_json(value.value)
        left.scores.setdefault(score.plant, []).append(score)
    left.events = sorted(
        (
            AlarmEvent.model_validate_json(r.value)
            for r in _records(first, settings, "alarm-events")
        ),
        key=lambda event: (event.state.plant, event.t_ns, event.id),
    )
    for letter in _records(first, settings, "dead-letters"):
        said = letter.headers
        kind = said["original-topic"].removeprefix(first.prefix)
        left.dead_letters[kind, said["original-partition"], said["original-offset"]] += 1
        left.reasons[said["reason"]] += 1
    for topic in first.sense_topics:
        kind = topic.removeprefix(first.prefix)
        left.num_on_broker[kind] = sum(1 for _ in _records(first, settings, kind.lstrip(".")))
    newest = read_checkpoints(first, settings)
    for plant in plants:
        checkpoint = checkpoint_of(plant, newest)
        if checkpoint is not None:
            for key, counts in checkpoint.accounts.items():
                _add(left, key, first, Counts(**counts))
    for key, value in newest.items():
        if key.startswith("partition:"):
            for part, counts in ShardCheckpoint.model_validate_json(value).strangers().items():
                _add(left, f"{part.topic}:{part.partition}", first, counts)
    return left


@dataclass
class Verdict:
    """What is wrong with a run: in numbers, and in words."""

    num_lost: int = 0
    num_doubled: int = 0
    wrong: list[str] = field(default_factory=list[str])


def judge(left: Left, expected: Left) -> Verdict:
    """Return everything that a run lost, doubled or said differently."""
    verdict = Verdict()
    for address, wanted in expected.scores.items():
        _judge_scores(address, left.scores.get(address, []), wanted, verdict)
    _judge_ids("alarm event", [e.id for e in left.events], [e.id for e in expected.events], verdict)
    if not verdict.wrong and left.events != expected.events:
        verdict.wrong.append("alarm events say something else")
    twice = {where: count - 1 for where, count in left.dead_letters.items() if count > 1}
    if twice:
        verdict.num_doubled += sum(twice.values())
        verdict.wrong.append(f"dead-lettered more than once: {list(twice)[:5]}")
    if left.reasons != expected.reasons:
        verdict.wrong.append(f"dead letters differ: {left.reasons} for {expected.reasons}")
    if left.total != expected.total:
        verdict.wrong.append(f"outcomes differ: {left.total} for {expected.total}")
    for kind, count in left.num_on_broker.items():
        counts = left.outcomes.get(kind, Counts())
        if counts.read != count or counts.pending:
            verdict.num_lost += abs(count - counts.read + counts.pending)
            verdict.wrong.append(f"{kind}: {count} records on the broker, but {counts}")
    return verdict


def _judge_scores(
    address: str, got: Sequence[Score], wanted: Sequence[Score], verdict: Verdict
) -> None:
    num_wrong = len(verdict.wrong)
    ticks = [f"tick {score.tick}" for score in got]
    _judge_ids(f"{address}: score", ticks, [f"tick {score.tick}" for score in wanted], verdict)
    if len(verdict.wrong) == num_wrong and got != wanted:
        differing = [a.tick for a, b in zip(got, wanted, strict=True) if a != b]
        verdict.wrong.append(f"{address}: other or differently ordered scores: {differing[:5]}")


def _judge_ids(what: str, got: Sequence[str], wanted: Sequence[str], verdict: Verdict) -> None:
    missing, extra = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    verdict.num_lost += missing.total()
    verdict.num_doubled += extra.total()
    if missing:
        verdict.wrong.append(f"{what} lost: {list(missing)[:5]}")
    if extra:
        verdict.wrong.append(f"{what} too many: {list(extra)[:5]}")


def _records(plant: Plant, settings: Settings, kind: str) -> list[Record]:
    source = wiring.open_source(settings, (plant.topic(kind),), f"verdict-{plant.prefix}")
    with contextlib.closing(source):
        return list(read_to_end(source))


def _add(left: Left, key: str, plant: Plant, counts: Counts) -> None:
    kind = key.rpartition(":")[0].removeprefix(plant.prefix)
    left.outcomes[kind] = left.outcomes.get(kind, Counts()) + counts
