"""Names of shared memory that have an owner, so that what a killed process leaves is found.

An owner is a locked file beside its regions. Only a lock tells whether a process lives: process
numbers come round again, and say nothing about another container. The kernel frees it with the
process, however that ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import uuid
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 where the kernel keeps it
_OWNER = re.compile(r"fusion-([0-9a-f]{12})\.owner")
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Owner:
    """Gives names to the regions of one client, and holds on to them until it is closed."""

    def __init__(self, folder: Path = SHARED_MEMORY) -> None:
        self._num_names = 0
        while True:
            self._id = uuid.uuid4().hex[:12]
            self._file = folder / f"fusion-{self._id}.owner"
            handle = os.open(self._file, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            if _has_locked(handle):
                break
            os.close(
                handle
            )  # Who clears up has come between, and takes the new file for a left one.
        self._handle = handle

    def new_name(self) -> str:
        """Return a name that no region has had."""
        self._num_names += 1
        return f"fusion-{self._id}-{self._num_names}"

    def close(self) -> None:
        """Let go of the names; their regions are freed before."""
        self._file.unlink(missing_ok=True)
        os.close(self._handle)


def remove_leftovers(folder: Path = SHARED_MEMORY) -> list[str]:
    """Return the names of regions whose owner is no more; their files are removed."""
    removed: list[str] = []
    for file in sorted(folder.glob("fusion-*.owner")):
        owner = _OWNER.fullmatch(file.name)
        if owner is None:
            continue
        try:
            handle = os.open(file, _FLAGS)
        except OSError:
            continue  # (another user's, or somebody else has just removed it)
        try:
            # Root may open another user's file, which is nobody's but that user's to remove.
            if os.fstat(handle).st_uid == os.geteuid() and _has_locked(handle):
                removed += _remove_regions(folder, owner[1])
                _has_removed(file)
        finally:
            os.close(handle)
    return removed


def _remove_regions(folder: Path, owner: str) -> list[str]:
    found = sorted(folder.glob(f"fusion-{owner}-*"))
    return [region.name for region in found if _has_removed(region)]


def _has_removed(file: Path) -> bool:
    """Whether ``file`` is no more; what cannot be removed is somebody else's."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _has_locked(handle: int) -> bool:
    """Whether the file is ours alone now, and still has its name."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(handle).st_nlink > 0
    return False
