"""A sender whose disk has no room from the first moment on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from flows import wiring
from flows.settings import Settings
from fusion.errors import BrokerUnavailableError, SettingsError


def fill(folder: Path) -> Path:
    """Leave no byte free, and return what takes the room."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


def test_a_disk_without_room_is_said_when_the_spool_is_opened(small_disk: Path) -> None:
    where = Settings(
        broker="kafka", kafka_bootstrap="127.0.0.1:9", data_dir=small_disk, spool_dir=small_disk
    )
    ballast = fill(small_disk)
    with pytest.raises(BrokerUnavailableError, match=r"(?s)sender\.sqlite.*full"):
        wiring.open_spool(where, "sender")
    ballast.unlink()
    wiring.open_spool(where, "sender").close()


def test_a_folder_that_cannot_be_made_is_said_with_what_to_change(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    where = Settings(
        broker="kafka", kafka_bootstrap="127.0.0.1:9", spool_dir=tmp_path / "taken" / "spool"
    )
    with pytest.raises(SettingsError, match="point FUSION_SPOOL_DIR elsewhere"):
        wiring.open_spool(where, "sender")
