"""Builds the live process of some plants and puts each back where it stopped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass

import torch

from flows import wiring
from flows.in_service import InService, Model
from flows.rollout_watch import RolloutWatch, Watched
from flows.schemas import open_schemas
from flows.serving import plants_together
from flows.settings import Settings
from fusion.alarms import AlarmEngine
from fusion.errors import BrokerUnavailableError, InferenceUnavailableError, InputError
from fusion.plant import Plant
from fusion.ports import Source
from fusion.schema import Lost, Record, TopicPartition
from fusion.stream.alarm_topics import kept_of
from fusion.stream.chain import Chain
from fusion.stream.checkpoint import (
    Checkpoint,
    ShardCheckpoint,
    alarms_of,
    checkpoint_of,
    newest_by_key,
    scorer_of,
    shard_checkpoint_of,
)
from fusion.stream.figures import LiveFigures
from fusion.stream.intake import Gate, Intake
from fusion.stream.live import Live
from fusion.stream.placement import Homes, require_same_topics
from fusion.stream.progress import ProgressWatch
from fusion.stream.reading import read_to_end
from fusion.stream.recall import Recall
from fusion.stream.shard import Shard, Step

FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
JOIN_PATIENCE_S = 30.0


def log_lost(lost: Lost) -> None:
    """Say in the log what the broker had deleted before it was read."""
    logging.getLogger(__name__).warning("%s", lost)


def log_paused(why: InferenceUnavailableError) -> None:
    """Say in the log why scoring waits."""
    logging.getLogger(__name__).warning("%s", why)


@contextlib.contextmanager
def open_live(
    watched: Sequence[Watched],
    settings: Settings,
    *,
    skip_backlog: bool = False,
    on_beat: Callable[[ProgressWatch], None] = lambda _: None,
    on_lost: Callable[[Lost], None] = log_lost,
    on_paused: Callable[[InferenceUnavailableError], None] = log_paused,
    on_figures: Callable[[LiveFigures], None] | None = None,
    on_taken: Callable[[Sequence[Record]], None] | None = None,
    rollout: RolloutWatch | None = None,
) -> Iterator[Live]:
    """Yield the live process of plants that share a prefix, each resumed from its checkpoint.

    With ``skip_backlog`` the very first start begins at the broker's newest record; every later
    one goes on where the last one stopped, so that nothing in between is left out. With ``rollout``
    other versions come into service as its journal says, without a record lost or said twice.

    Raises:
        ManifestMismatchError: A model was trained for another plant; names what differs.
        InputError: The plants have different prefixes, or the same address twice.
        BrokerUnavailableError: The broker is away.
    """
    # One tick at a time is too little work for two threads: they would only wait for one another.
    torch.set_num_threads(1)
    first = _require_together(watched)
    group = f"live-{first.prefix}"
    for each in watched:
        wiring.prepare_topics(settings, each.plant)
    topics = tuple(dict.fromkeys(topic for each in watched for topic in each.plant.sense_topics))
    with contextlib.ExitStack() as stack:
        clock = wiring.open_clock()
        service = stack.enter_context(closing(InService(settings, clock, rollout)))
        service.bring(watched)
        source = wiring.open_member(settings, (*topics, first.topic("alarm-commands")), group)
        stack.callback(source.close)

        def wait(duration_s: float) -> None:
            source.keep_alive()
            clock.sleep(duration_s)

        # One of each for all plants: a store that is away is waited for once.
        resolver = wiring.open_resolver(settings, first, wait=wait)
        gate = Gate(resolver.resolve, stack.enter_context(open_schemas(first, settings)))
        homes = Homes(
            lambda: read_checkpoints(first, settings), clock, wiring.key_partitions(settings, first)
        )
        together = stack.enter_context(plants_together(settings))
        opener = _Opener(
            first, group, settings, service, gate, source, homes, skip_backlog, together
        )
        live = Live(
            source,
            clock,
            lambda number: opener.open_shard(number, live),
            on_beat,
            on_lost,
            on_paused,
            should_reopen=lambda: service.has_changed(live),
            on_figures=on_figures,
            on_taken=on_taken,
        )
        stack.callback(live.close)
        if skip_backlog:
            live.join(patience_s=JOIN_PATIENCE_S)
        yield live


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens the shard of a partition number where its last owner stopped."""

    plant: Plant
    group: str
    settings: Settings
    service: InService
    gate: Gate
    source: Source
    homes: Homes
    skip_backlog: bool
    together: Executor | None = None

    def open_shard(self, number: int, live: Live) -> Shard:
        """Return the shard, with the source at the oldest record that it needs.

        Raises:
            TopicMismatchError: The checkpoints tell of other topics than those that exist.
        """
        # First of all: from here on a former owner can say nothing more, and what it has said and
        # committed stands still.
        publisher = wiring.open_publisher(self.settings, group=self.group, writer=f"live-{number}")
        try:
            newest = read_checkpoints(self.plant, self.settings)
            alarms = read_alarm_topics(self.plant, self.settings)
            checkpoint = shard_checkpoint_of(number, newest)
            starts = self._starts(number, checkpoint or ShardCheckpoint())
            topic_ids = wiring.topic_ids(self.settings, {part.topic for part in starts})
            require_same_topics(self.plant, number, newest, topic_ids)
            self.homes.learn(newest)
            self.source.seek(starts)
            if self.skip_backlog:
                # Else a restart before the first word would skip what came in between, too.
                publisher.publish([], commit=starts)
            shard = Shard(
                number,
                self.plant,
                publisher,
                open_chain=lambda address: self._chain(address, number, newest | alarms, live),
                checkpoint=checkpoint,
                starts=starts,
                topic_ids=topic_ids,
                together=self.together,
            )
            return self._resumed(shard, newest | alarms, live)
        except BaseException:
            publisher.close()
            raise

    def _starts(self, number: int, saved: ShardCheckpoint) -> dict[TopicPartition, int]:
        parts = [part for part in self.source.assigned() if part.partition == number]
        # Not of the other numbers: a process that was killed in a transaction of one of them would
        # hold up this one, until the broker gives that transaction up.
        committed = self.source.committed(parts)
        # (Kafka forgets what a group committed when nobody comes for a week.)
        read_up_to = saved.read_up_to()
        if self.skip_backlog and not any(part in committed or part in read_up_to for part in parts):
            ends = self.source.end_offsets()
            return {part: ends[part] for part in parts}
        if all(part in committed for part in parts):
            return {part: committed[part] for part in parts}
        # What was deleted before anybody watched is nobody's loss.
        oldest = self.source.start_offsets()
        return {
            part: committed.get(part, min(oldest[part], read_up_to.get(part, oldest[part])))
            for part in parts
        }

    def _resumed(self, shard: Shard, newest: Mapping[str, bytes], live: Live) -> Shard:
        """Return ``shard`` with the plants that were in it before."""
        for address, model in self.service.models.items():
            before = checkpoint_of(model.plant, newest)
            if before is not None and before.partition == shard.number:
                chain = self._open(model, live, shard.number, newest)
                shard.add(address, chain)
        return shard

    def _chain(
        self, address: str, number: int, newest: Mapping[str, bytes], live: Live
    ) -> Chain | None:
        model = self.service.models.get(address)
        if model is None:
            return None
        self.homes.require(address, number)
        return self._open(model, live, number, newest)

    def _open(self, model: Model, live: Live, number: int, newest: Mapping[str, bytes]) -> Chain:
        """Return the chain of a plant, resumed from its checkpoint."""
        plant = model.plant
        chain = Chain(
            plant=plant,
            model_version=model.served.version,
            intake=Intake(
                plant,
                live.clock,
                context_ticks=model.context_ticks,
                has_unread=lambda topic: live.has_unread(TopicPartition(topic, number)),
                gate=self.gate,
            ),
            windows=model.served.windows(plant),
            scorer=model.served.scorer(plant),
            alarms=AlarmEngine(plant),
            partition=number,
            meter=model.served.meter,
            shadow=model.shadow(),
            recall=Recall(plant, model.served.calibration, model.served.version),
            monotonic_ns=live.clock.monotonic_ns,
        )
        checkpoint = checkpoint_of(plant, newest)
        if checkpoint is not None:
            chain.resume(checkpoint, scorer_of(plant, checkpoint, newest))
            chain.take_over(self.service.averages.get(str(plant.address), {}))
        chain.resume_alarms(alarms_of(plant, newest), kept_of(str(plant.address), newest))
        return chain


def _require_together(watched: Sequence[Watched]) -> Plant:
    prefixes = sorted({each.plant.prefix for each in watched})
    if len(prefixes) != 1:
        raise InputError(
            f"plants that one process watches must share a prefix, got {prefixes}; "
            "start one process for each prefix"
        )
    addresses = [str(each.plant.address) for each in watched]
    if len(set(addresses)) < len(addresses):
        raise InputError(
            f"plants must have different addresses, got {sorted(addresses)}; give each file once"
        )
    return watched[0].plant


def read_checkpoints(plant: Plant, settings: Settings) -> dict[str, bytes]:
    """Return the newest checkpoint of every plant and partition number of ``plant``'s prefix."""
    source = wiring.open_source(settings, (plant.topic("checkpoints"),), f"reads-{plant.prefix}")
    with contextlib.closing(source):
        return newest_by_key(read_to_end(source))


def read_alarm_topics(plant: Plant, settings: Settings) -> dict[str, bytes]:
    """Return the newest value of every key of ``alarms`` and ``feedback`` of the prefix."""
    topics = (plant.topic("alarms"), plant.topic("feedback"))
    source = wiring.open_source(settings, topics, f"reads-{plant.prefix}")
    with contextlib.closing(source):
        return newest_by_key(read_to_end(source))


def read_checkpoint(plant: Plant, settings: Settings) -> Checkpoint | None:
    """Return the last checkpoint of ``plant``; None before its first."""
    return checkpoint_of(plant, read_checkpoints(plant, settings))


def run_live(
    live: Live, *, should_stop: Callable[[], bool], may_end: Callable[[], bool] | None = None
) -> Iterator[Step]:
    """Yield the steps of ``live``, for ever or, with ``may_end``, until every record is read.

    A bounded run ends when ``may_end`` says that no more will come and nothing is left to read; the
    ticks that are still open are scored then.
    """
    is_read_out = False

    def is_done() -> bool:
        nonlocal is_read_out
        if may_end is not None and may_end():
            is_read_out = live.is_caught_up()
        return should_stop() or is_read_out

    yield from live.steps(should_stop=is_done)
    if is_read_out:
        yield from live.finish(should_stop=should_stop)


def watch(
    watched: Sequence[Watched],
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    skip_backlog: bool = False,
    on_beat: Callable[[ProgressWatch], None] = lambda _: None,
    on_away: Callable[[BrokerUnavailableError, float], None] = lambda _error, _pause_s: None,
    on_lost: Callable[[Lost], None] = log_lost,
    on_paused: Callable[[InferenceUnavailableError], None] = log_paused,
    on_figures: Callable[[LiveFigures], None] | None = None,
    on_taken: Callable[[Sequence[Record]], None] | None = None,
    rollout: RolloutWatch | None = None,
) -> Iterator[tuple[Live, Step]]:
    """Yield every step for ever, also across times when the broker is away.

    ``on_away`` hears what failed and in how many seconds it is tried again. A process that was
    away for long goes on where it stopped.
    """
    clock = wiring.open_clock()
    pause_s = FIRST_PAUSE_S
    while not should_stop():
        try:
            with open_live(
                watched if rollout is None else rollout.watched(),
                settings,
                skip_backlog=skip_backlog,
                on_beat=on_beat,
                on_lost=on_lost,
                on_paused=on_paused,
                on_figures=on_figures,
                on_taken=on_taken,
                rollout=rollout,
            ) as live:
                for step in run_live(live, should_stop=should_stop):
                    pause_s = FIRST_PAUSE_S
                    yield live, step
        except BrokerUnavailableError as away:
            on_away(away, pause_s)
            waited_s = 0.0
            while waited_s < pause_s and not should_stop():
                clock.sleep(min(0.2, pause_s - waited_s))
                waited_s += 0.2
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
