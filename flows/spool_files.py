"""Where each sender's spool lies, and that only one process has it open."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from flows.settings import Settings
from fusion.errors import InputError, SettingsError

_SUFFIX = ".sqlite"


def spool_file(settings: Settings, name: str) -> Path:
    """Return the file of the spool ``name``; its folder is there.

    Raises:
        SettingsError: The folder cannot be made, for example on a full disk.
    """
    try:
        settings.spool_folder.mkdir(parents=True, exist_ok=True)
    except OSError as failed:
        raise SettingsError(
            f"what waits for the broker must have a folder, but {settings.spool_folder}: {failed}; "
            "make room or give the right to write there, or point FUSION_SPOOL_DIR elsewhere"
        ) from failed
    return settings.spool_folder / f"{name}{_SUFFIX}"


def spool_names(settings: Settings) -> list[str]:
    """Return the senders that have ever had something to spool."""
    return sorted(path.stem for path in settings.spool_folder.glob(f"*{_SUFFIX}"))


def lock_spool(settings: Settings, name: str) -> IO[str]:
    """Return the lock of the spool ``name``; closing it, or the end of the process, frees it.

    Raises:
        InputError: Another process has it.
    """
    lock = spool_file(settings, name).with_suffix(".lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as taken:
        lock.close()
        raise InputError(
            f"one process at a time must send as {name!r}, but another one does now; wait until it "
            "has ended, or give this one a FUSION_SPOOL_DIR of its own"
        ) from taken
    return lock
