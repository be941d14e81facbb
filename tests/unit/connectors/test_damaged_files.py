"""Files that somebody damaged: told or read as they are, and the next one is read all the same."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.ports import Reading, Unusable
from fusion.schema import AudioChunk, TelemetryBatch
from tests.peers.folders import FolderPeer

MAX_SAID = 1_000
"""No file of these tests has more than some thousand bytes: nothing may make many of it."""


@pytest.mark.parametrize("kind", ["csv", "parquet", "wav", "flac"])
@settings(deadline=None, max_examples=25)
@given(
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20
    ),
    part=st.floats(0, 1),
)
def test_a_damaged_file_costs_nothing_but_itself(
    kind: str, changes: list[tuple[float, int]], part: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        peer = FolderPeer(Path(folder), kind)
        peer.start()
        peer.say(20.0)
        (file,) = (Path(folder) / "shared").iterdir()
        damaged = bytearray(file.read_bytes())
        for at, byte in changes:
            damaged[int(at * len(damaged))] = byte
        file.write_bytes(damaged[: round(part * len(damaged))])
        peer.say(60.0)
        newest = max((Path(folder) / "shared").iterdir()).name
        found: list[object] = []
        with closing(peer.open()) as session:
            for _ in range(MAX_SAID):
                more = session.read(timeout_s=0.0)
                found += more
                if not more and newest in session.position():
                    break
    assert newest in session.position()
    assert len(found) <= MAX_SAID
    usable = (Reading, TelemetryBatch, AudioChunk, Unusable)
    assert all(isinstance(each, usable) for each in found)
    assert not isinstance(found[-1], Unusable), "the last file is whole"
