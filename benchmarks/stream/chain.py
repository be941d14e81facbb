"""The product's way from the broker to closed ticks: the one place that names its functions.

When the product's loop changes, this file changes, and no other measurement does.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flows import wiring
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.plant import Plant
from fusion.ports import Source
from fusion.schema import Record
from fusion.stream.intake import Intake

POLL_TIMEOUT_S = 0.25
CONTEXT_TICKS = 16
"""As long as the window of the rig's recipe: what a restart would read again."""


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
        self.restart()

    def restart(self) -> None:
        """Forget everything that was read, and read from the beginning."""
        self.source.seek(dict.fromkeys(self.source.positions(), 0))
        clock = wiring.open_clock()
        self._intakes = {
            str(plant.address): Intake(plant, self.source, clock, context_ticks=CONTEXT_TICKS)
            for plant in self._plants
        }

    def step(self) -> Step:
        """Take one poll through decoding and alignment."""
        records = self.source.poll(timeout_s=POLL_TIMEOUT_S)
        closed: list[tuple[str, int]] = []
        for asset, part in self._by_asset(records).items():
            intake = self._intakes[asset]
            closed += [(asset, each.tick) for each in intake.take(part).observations]
            # The live loop asks for them with every step; it is also what frees settled records.
            intake.positions()
        return Step(records, closed)

    def total(self) -> Counts:
        """Return what became of the records of all plants."""
        return sum((intake.total() for intake in self._intakes.values()), Counts())

    def _by_asset(self, records: list[Record]) -> dict[str, list[Record]]:
        if len(self._intakes) == 1 or not records:
            return dict.fromkeys(self._intakes, records)
        parts: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            parts[record.key].append(record)
        return parts


@contextlib.contextmanager
def open_chain(settings: Settings, plants: Sequence[Plant], *, group: str) -> Iterator[Chain]:
    """Yield the chain of ``plants``, which may share topics."""
    topics = tuple(dict.fromkeys(topic for plant in plants for topic in plant.sense_topics))
    source = wiring.open_source(settings, topics, group)
    with contextlib.closing(source):
        yield Chain(source, plants)
