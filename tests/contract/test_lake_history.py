"""Upkeep against an oracle that remembers what every version held."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.delta_lake import DeltaLake, DeltaUpkeep
from fusion.schema import Record
from tests.contract.lake_past import (
    TOPIC,
    age,
    checkpoint,
    newest_version,
    read_version,
    records_of,
)

STEPS = ["append", "append", "compact", "expire", "age", "checkpoint", "vacuum"]


class Remembered:
    """A lake, beside what each of its versions held and until which hour it was the newest."""

    def __init__(self, folder: Path, named_every: int) -> None:
        self.folder = folder
        self.lake, self.upkeep = DeltaLake(folder), DeltaUpkeep(folder)
        self.named_every = named_every
        self.num_appended = 0
        self.now_h = 0
        self.window_begin_h = -1
        self.held: list[list[Record]] = [[]]
        self.ended_h: list[int] = []
        self.append(3)

    @property
    def named(self) -> list[int]:
        return [version for version in range(len(self.held)) if version % self.named_every == 0]

    @property
    def kept(self) -> list[int]:
        young = [v for v, end_h in enumerate(self.ended_h) if end_h > self.window_begin_h]
        return sorted({*self.named, *young, len(self.held) - 1})

    def append(self, amount: int) -> None:
        part = records_of(self.num_appended, self.num_appended + amount)
        assert self.lake.append(part) == amount
        self.num_appended += amount
        self.remember([*self.held[-1], *part])

    def compact(self, amount: int) -> None:
        self.upkeep.compact(TOPIC, target_bytes=amount * 500)
        self.remember(self.held[-1])

    def expire(self, amount: int) -> None:
        before_ns = self.num_appended - amount
        self.upkeep.expire(TOPIC, before_ns=before_ns)
        self.remember([record for record in self.held[-1] if record.t_broker_ns >= before_ns])

    def age(self, amount: int) -> None:
        age(self.folder / TOPIC, hours=amount * 24)
        self.now_h += amount * 24

    def checkpoint(self, _amount: int) -> None:
        checkpoint(self.folder / TOPIC)

    def vacuum(self, amount: int) -> None:
        self.window_begin_h = max(self.window_begin_h, self.now_h - amount * 24)
        self.upkeep.vacuum(TOPIC, keep_hours=amount * 24, named=self.named)
        self.remember(self.held[-1])

    def remember(self, records: list[Record]) -> None:
        """Only the last of several new versions holds something new."""
        num_new = newest_version(self.folder) - len(self.held) + 1
        before = self.held[-1]
        self.held += [before] * (num_new - 1) + [records] * (num_new > 0)
        self.ended_h += [self.now_h] * num_new


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 40)), min_size=8, max_size=30),
    named_every=st.integers(2, 7),
)
def test_kept_versions_read_the_same_whatever_upkeep_does(
    steps: list[tuple[str, int]], named_every: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = Remembered(tmp_path_factory.mktemp("lake"), named_every)
    for step, amount in steps:
        getattr(made, step)(amount)
    for version in made.kept:
        assert read_version(made.folder, version) == made.held[version]
    assert read_version(made.folder) == made.held[-1]
    assert made.lake.append(records_of(0, made.num_appended)) == 0
