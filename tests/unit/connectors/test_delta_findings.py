"""The table of findings: a replacement takes the place of its ticks, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.delta_findings import DeltaFindings
from fusion.errors import LakeUnavailableError
from fusion.ports import Finding

PLANT, MODEL = "e/s/a/it's", "v'1"


def scores(ticks: range, run: int = 0) -> list[Finding]:
    return [
        Finding("score", f"{run}:{tick}", tick, tick * 10, run / 8, b'{"what": "\xc3\xbc"}')
        for tick in ticks
    ]


def put(
    table: DeltaFindings, findings: Sequence[Finding], ticks: range, plant: str = PLANT
) -> None:
    table.replace(findings, plant=plant, model_version=MODEL, data_version="d@1", ticks=ticks)


def kept(table: DeltaFindings, plant: str = PLANT, model: str = MODEL) -> list[Finding]:
    return list(table.read(plant=plant, model_version=model))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=5))
def test_the_newest_run_counts_tick_by_tick(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]]
) -> None:
    table = DeltaFindings(tmp_path_factory.mktemp("findings") / "rig")
    put(table, scores(range(3), 99), range(3), plant="another")
    expected: dict[int, Finding] = {}
    for run, (first, length) in enumerate(runs):
        ticks = range(first, first + length)
        found = [each for each in scores(ticks, run) if each.tick % 5]  # (some ticks have none)
        put(table, found, ticks)
        expected = {t: f for t, f in expected.items() if t not in ticks}
        expected |= {each.tick: each for each in found}
    assert kept(table) == [expected[tick] for tick in sorted(expected)]
    assert kept(table, "another") == scores(range(3), 99)
    assert kept(table, model="v2") == []


def test_what_was_said_of_one_tick_keeps_its_order(tmp_path: Path) -> None:
    table = DeltaFindings(tmp_path / "rig")
    event = Finding("alarm-event", "raised", 7, 70, None, b"{}")
    said = [*scores(range(7, 8)), event, Finding("alarm-event", "another", 7, 70, None, b"{}")]
    put(table, said, range(7, 8))
    assert kept(table) == said


def test_of_two_writers_one_gives_way_or_both_succeed(tmp_path: Path) -> None:
    table = DeltaFindings(tmp_path / "rig")
    put(table, [], range(1))

    def write(run: int) -> None:
        for _ in range(10):
            try:
                put(table, scores(range(20), run), range(20))
            except LakeUnavailableError:  # the other one was faster
                continue

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (1, 2)))
    put(table, scores(range(20), 3), range(20))
    assert kept(table) == scores(range(20), 3)


def test_a_table_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "rig").write_text("a file, no folder")
    with pytest.raises(LakeUnavailableError, match="run the backfill again"):
        put(DeltaFindings(tmp_path / "rig"), scores(range(1)), range(1))
