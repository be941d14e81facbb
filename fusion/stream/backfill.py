"""Stored records to the scores and alarm events that the live process would have published.

Three steps: :func:`fusion.stream.shard_planner.plan_shards` reads everything once and cuts it;
:func:`evidence_of` works on one shard, which may happen anywhere and in any order; :class:`Bench`
judges the evidence of all shards in tick order. Every step is made of the live chain's own parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fusion.alarms import AlarmEngine
from fusion.alarms.readings import tag_values
from fusion.alignment import Observation
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.ports import Finding
from fusion.schema import Record, StreamHealth
from fusion.scoring import Evidence, Scorer
from fusion.stream.intake import RELEASED, Gate, Intake, Taken
from fusion.stream.outbox import Outbox
from fusion.stream.recall import Recall
from fusion.stream.shard_plan import ShardPlan
from fusion.stream.shard_planner import BrokerClock
from fusion.stream.verdict import Verdict, judge
from fusion.stream.windows import WindowEncoder


def evidence_of(
    shard: ShardPlan,
    records: Iterable[Record],
    plant: Plant,
    *,
    windows: WindowEncoder,
    scorer: Scorer,
    window_ticks: int,
    gate: Gate = RELEASED,
) -> Iterator[Evidence]:
    """Yield the evidence of every tick of ``shard`` that has a window.

    ``records`` are those of its offsets; ``windows`` is new. Ticks are encoded one at a time, as
    live: an encoder may round otherwise when it sees more of them at once.

    Raises:
        InputError: A record that could be read when the shards were planned cannot be read now.
    """
    for observation in observations_of(shard, records, plant, window_ticks, gate):
        if observation.tick >= shard.end_tick:
            return
        window = windows.push(observation)
        if window is not None and window.tick >= shard.first_tick:
            yield scorer.observe(window, tag_values(observation, plant))


def observations_of(
    shard: ShardPlan,
    records: Iterable[Record],
    plant: Plant,
    window_ticks: int,
    gate: Gate = RELEASED,
) -> Iterator[Observation]:
    """Yield the ticks of the shard, and those before them that its first window needs."""
    intake = Intake(
        plant,
        BrokerClock(0),
        context_ticks=window_ticks,
        # Which streams were let go is in the plan: its marks close ticks, its floors make late.
        has_unread=lambda _topic: True,
        gate=gate,
    )
    intake.restore(shard.restart)
    address, marks = str(plant.address), deque(shard.marks)
    read, stop = shard.start(), shard.stop()
    passed = {f"{part.topic}:{part.partition}": offset for part, offset in read.items()}
    for record in records:
        assert record.offset < stop[record.topic_partition], "the plan says what to read"
        passed[f"{record.topic}:{record.partition}"] = record.offset + 1
        if record.key == address:
            yield from _all_read(intake.take([record]))
        while marks and all(passed[part] >= at for part, at in marks[0].offsets.items()):
            yield from intake.close_before(marks.popleft().closed_before).observations
    yield from intake.close_before(shard.end_tick).observations


def _all_read(taken: Taken) -> list[Observation]:
    if taken.dead_letters:
        headers = taken.dead_letters[0].headers
        raise InputError(
            "a record that was read when the shards were planned must be readable again, but "
            f"{headers['original-topic']}/{headers['original-partition']} offset "
            f"{headers['original-offset']}: {headers['message']}; plan again with --afresh"
        )
    return taken.observations


@dataclass(slots=True)
class Bench:
    """Where evidence is judged, tick after tick, from a fresh start."""

    plant: Plant
    scorer: Scorer
    alarms: AlarmEngine
    recall: Recall | None = None
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.plant)

    def findings(
        self, evidence: Iterable[Evidence], health: Mapping[int, list[StreamHealth]]
    ) -> Iterator[Finding]:
        """Yield what the live process would have said of ``evidence``, in its order."""
        for each in evidence:
            tick = each.tick
            verdict = judge(
                each,
                scorer=self.scorer,
                alarms=self.alarms,
                plant=self.plant,
                read_health=lambda tick=tick: health[tick],
                recall=self.recall,
            )
            yield from self._said(verdict)

    def _said(self, verdict: Verdict) -> Iterator[Finding]:
        kinds = {self.plant.topic("scores"): "score", self.plant.topic("alarm-events"): "event"}
        self.outbox.verdict(verdict)
        score = verdict.score
        for message in self.outbox.take():
            identity = message.headers["ce_id"]
            if kinds.get(message.topic) == "score":
                t_ns, surprise = score.t_end_ns, score.surprise
                yield Finding("score", identity, score.tick, t_ns, surprise, message.value)
            elif kinds.get(message.topic) == "event":
                t_ns = score.t_end_ns
                yield Finding("alarm-event", identity, score.tick, t_ns, None, message.value)
