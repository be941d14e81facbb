"""The product's way from the broker to closed ticks: the one place that names its functions.

It does what ``fusion/stream/live.py`` and ``shard.py`` do with each poll, without model, publisher
and group. When these change, this file changes, and no other measurement does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flows import wiring
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.plant import Plant
from fusion.ports import Source
from fusion.schema import Record, TopicPartition
from fusion.stream.intake import Intake, Pace

POLL_TIMEOUT_S, SAY_EVERY_S, LOOK_EVERY_S = 0.1, 0.1, 1.0
"""Those of ``fusion/stream/live.py`` (a test compares them), which would bring torch along."""
CONTEXT_TICKS = 16
"""As long as the window of the rig's recipe: what a restart would read again."""
NUMBER = 0
"""The topics have one partition each."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one poll brought: its records, and the ticks that it closed by asset and number."""

    records: list[Record]
    closed: list[tuple[str, int]]


class Chain:
    """Poll, decode, align and account, as the live process does it before the model."""

    def __init__(self, source: Source, plants: Sequence[Plant]) -> None:
        self.source = source
        self._plants = plants
        self._intakes: dict[str, Intake] = {}
        self._read_up_to: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._held: frozenset[TopicPartition] = frozenset()
        self._said_s = self._looked_s = time.monotonic()
        self.restart()

    def restart(self) -> None:
        """Forget everything that was read, and read from the beginning."""
        self.source.seek(dict.fromkeys(self.source.positions(), 0))
        self.source.hold(())
        self._read_up_to, self._held = {}, frozenset()
        self._ends = self.source.end_offsets()
        clock = wiring.open_clock()
        self._intakes = {
            str(plant.address): Intake(
                plant, clock, context_ticks=CONTEXT_TICKS, has_unread=self._has_unread
            )
            for plant in self._plants
        }

    def step(self) -> Step:
        """Take one poll through decoding and alignment.

        The live process looks around when it has answered a poll, and so before the next one.
        """
        self._look_around()
        self._balance()
        records = self.source.poll(timeout_s=POLL_TIMEOUT_S)
        of_asset: dict[str, list[Record]] = {asset: [] for asset in self._intakes}
        for record in records:
            of_asset[record.key].append(record)
            self._read_up_to[record.topic_partition] = record.offset + 1
        closed: list[tuple[str, int]] = []
        for asset, own in of_asset.items():
            closed += [(asset, each.tick) for each in self._intakes[asset].take(own).observations]
        for intake in self._intakes.values():
            intake.skip_to(self._read_up_to)
        self._settle()
        return Step(records, closed)

    def total(self) -> Counts:
        """Return what became of the records of all plants."""
        return sum((intake.total() for intake in self._intakes.values()), Counts())

    def _settle(self) -> None:
        """Ask for the positions as often as they would be committed: it frees settled records."""
        if time.monotonic() - self._said_s >= SAY_EVERY_S:
            self._said_s = time.monotonic()
            for intake in self._intakes.values():
                intake.positions()
            self._read_up_to = {}

    def _look_around(self) -> None:
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            self._ends = self.source.end_offsets()

    def _balance(self) -> None:
        paces = [intake.pace() for intake in self._intakes.values()]
        held = frozenset(TopicPartition(topic, NUMBER) for topic in Pace.to_hold(paces))
        if held != self._held:
            self.source.hold(held)
            self._held = held

    def _has_unread(self, topic: str) -> bool:
        part = TopicPartition(topic, NUMBER)
        return self._ends.get(part, 0) > self.source.positions().get(part, 0)


@contextlib.contextmanager
def open_chain(settings: Settings, plants: Sequence[Plant], *, group: str) -> Iterator[Chain]:
    """Yield the chain of ``plants``, which may share topics."""
    topics = tuple(dict.fromkeys(topic for plant in plants for topic in plant.sense_topics))
    source = wiring.open_source(settings, topics, group)
    with contextlib.closing(source):
        yield Chain(source, plants)
