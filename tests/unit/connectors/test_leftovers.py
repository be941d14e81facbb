"""What a process that is no more has left is removed; what another one needs is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.triton_io.leftovers import Owner, remove_leftovers

KILLED = """
import os, signal, sys
from pathlib import Path
from connectors.triton_io.leftovers import Owner
folder = Path(sys.argv[1])
owner = Owner(folder)
for _ in range(2):
    (folder / owner.new_name()).write_bytes(b"left")
os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def leave(folder: Path) -> set[str]:
    """Let a process be killed, and return what it has left."""
    before = names(folder)
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=60)
    return names(folder) - before


def test_what_a_killed_process_left_is_removed_and_told(tmp_path: Path) -> None:
    left = leave(tmp_path)
    assert len(left) == 3
    removed = remove_leftovers(tmp_path)
    assert {*removed} == {name for name in left if not name.endswith(".owner")}
    assert names(tmp_path) == set()
    assert remove_leftovers(tmp_path) == []


def test_what_has_an_owner_stays_until_that_lets_go(tmp_path: Path) -> None:
    owner, other = Owner(tmp_path), Owner(tmp_path)
    mine, others = owner.new_name(), other.new_name()
    assert mine != owner.new_name()
    for name in (mine, others):
        (tmp_path / name).touch()
    before = names(tmp_path)
    assert remove_leftovers(tmp_path) == []
    assert names(tmp_path) == before
    owner.close()
    assert remove_leftovers(tmp_path) == [], "who closes has freed the regions before"
    other.close()


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for name in ("fusion-0123456789ab-1", "fusion-x.owner", "fusion-x-1", "psm_1", "other.owner"):
        (tmp_path / name).touch()
    (tmp_path / "fusion-0123456789aa.owner").symlink_to(tmp_path / "other.owner")
    os.mkfifo(tmp_path / "fusion-0123456789ac.pipe")
    before = names(tmp_path)
    assert remove_leftovers(tmp_path) == []
    assert names(tmp_path) == before


def test_what_another_user_left_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(tmp_path)
    us = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: us + 1)
    assert remove_leftovers(tmp_path) == []
    assert names(tmp_path) == left


def test_what_cannot_be_removed_is_passed_over(tmp_path: Path) -> None:
    left = leave(tmp_path)
    first = min(name for name in left if not name.endswith(".owner"))
    (tmp_path / first).unlink()
    (tmp_path / first).mkdir()  # (unlink refuses it, as it does what is another user's)
    assert remove_leftovers(tmp_path) == [f"{first.removesuffix('-1')}-2"]
    assert names(tmp_path) == {first}
