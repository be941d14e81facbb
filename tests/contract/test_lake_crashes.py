"""Every record once, though writers and compactions are killed at random moments, many at once."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from connectors.delta_lake import DeltaLake, DeltaUpkeep
from tests.contract.lake_append_process import NUM_PARTITIONS, TOPICS

REPOSITORY = Path(__file__).parents[2]
NUM_OFFSETS = 500
NUM_KILLS = 16


def _command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name(name)), *map(str, arguments)]


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _kill_somewhere(process: subprocess.Popen[bytes], folder: Path, chance: random.Random) -> bool:
    """SIGKILL after a random number of its steps and a random while; return if it ran until then.

    The while is measured in looks at the disk, so that the kill meets every moment of a step.
    """
    assert process.stdout is not None
    for _ in range(chance.randint(1, 5)):
        process.stdout.readline()
    for _ in range(chance.randint(0, 40)):
        list(folder.rglob("*"))
    was_running = process.poll() is None
    process.kill()
    return was_running


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_writers_and_compactions_leave_each_record_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    append = _command("lake_append_process.py", tmp_path, NUM_OFFSETS)
    compact = _command("lake_compact_process.py", tmp_path)
    num_killed = 0
    for _ in range(NUM_KILLS // 4):
        with ExitStack() as running:
            processes = [
                running.enter_context(_running(*command))
                for command in (append, append, compact, compact)
            ]
            for process in chance.sample(processes, len(processes)):
                num_killed += _kill_somewhere(process, tmp_path, chance)
    assert num_killed >= NUM_KILLS // 2
    with _running(*append) as first, _running(*append) as second, _running(*compact):
        assert first.communicate() is not None
        assert second.communicate() is not None
        assert (first.returncode, second.returncode) == (0, 0)

    for topic in DeltaUpkeep(tmp_path).topics():
        DeltaUpkeep(tmp_path).compact(topic, target_bytes=30_000)
    read = [record.value.decode() for record in DeltaLake(tmp_path).read(sorted(TOPICS))]
    assert read == [
        f"{topic}/{partition}/{offset}"
        for topic in sorted(TOPICS)
        for partition in range(NUM_PARTITIONS)
        for offset in range(NUM_OFFSETS)
    ]
    made = {
        each.what for topic in TOPICS for each in DeltaUpkeep(tmp_path).versions(topic, last=9999)
    }
    assert any("joined" in what for what in made)
