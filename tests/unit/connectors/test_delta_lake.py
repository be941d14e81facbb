"""What the Delta tables look like to those who query them without this product."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from connectors.delta_lake import DeltaLake
from fusion.schema import Envelope, Record

SOUND = Record(
    "rig.audio",
    3,
    0,
    "a/b/c/d/e/f",
    b"\x00\x01",
    Envelope(
        id="1",
        source="edge",
        type="fusion.audio",
        subject="a/b/c/d/e/f/sound",
        time="2026-01-01T00:00:00.123456789Z",
        seq=41,
        epoch="boot-1",
    ).to_headers(),
    t_broker_ns=1_767_225_601_000_000_000,
)
POISON = Record("rig.audio", 3, 1, "", b"", {"seq": "x", "ce_time": "9" * 99}, t_broker_ns=0)


def test_headers_are_columns_too(tmp_path: Path) -> None:
    DeltaLake(tmp_path).append([SOUND, POISON])
    table = pl.scan_delta(str(tmp_path / "rig.audio")).sort("offset").collect()
    said = table.select("partition", "stream", "seq", "epoch", "t_event_ns", "value").rows()
    assert said == [
        (3, "sound", 41, "boot-1", 1_767_225_600_123_456_789, b"\x00\x01"),
        (3, None, None, None, None, b""),
    ]


def test_progress_survives_checkpoints_of_the_log(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    lake.append([SOUND])
    first = lake.version(["rig.audio"])
    lake.append([POISON])
    table = DeltaTable(str(tmp_path / "rig.audio"))
    table.create_checkpoint()
    table.cleanup_metadata()
    assert list(lake.next_offsets().values()) == [2]
    assert lake.append([SOUND, POISON]) == 0
    assert lake.read(["rig.audio"], version=first) == [SOUND]


def test_a_folder_that_is_no_table_is_not_a_topic(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert DeltaLake(tmp_path).next_offsets() == {}
