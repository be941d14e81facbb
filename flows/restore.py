"""The way back from a backup: everything is fetched and verified first, then moved into place.

It lies in ``.restore`` until then. Killed while it fetches, the data folder is as empty as before;
killed while it moves, the next call with the same name goes on.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from flows import wiring
from flows.backup import (
    DATABASES,
    Advance,
    BackupManifest,
    CopiedFile,
    digest,
    file_key,
    read_manifest,
)
from flows.settings import Settings
from fusion.errors import InputError
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.ports import Archive

STAGING, READY = ".restore", "VERIFIED"


def restore_backup(
    settings: Settings, where: str, name: str, *, advance: Advance
) -> BackupManifest:
    """Make the data folder what it was at the backup ``name``, and return what that is.

    No process may use the folder meanwhile.

    Raises:
        InputError: Something is there already, or the backup is damaged; nothing was changed.
        ObjectStoreUnavailableError: The store is away; nothing was changed.
    """
    archive = wiring.open_archive(settings, where)
    manifest = read_manifest(archive, name)
    staging = settings.data_dir / STAGING
    if not _is_verified(staging, name):
        _require_room(settings.data_dir, manifest)
        shutil.rmtree(staging, ignore_errors=True)
        for file in manifest.files:
            _fetch(archive, name, file, staging)
            advance(file.path, file.num_bytes)
        _verify(staging, manifest)
        (staging / READY).write_text(name, encoding="utf-8")
    for part in manifest.parts:
        if (staging / part).exists():  # else it was moved before a kill
            _require_free(settings.data_dir / part)
            (staging / part).rename(settings.data_dir / part)
    shutil.rmtree(staging)
    return manifest


def _is_verified(staging: Path, name: str) -> bool:
    ready = staging / READY
    return ready.is_file() and ready.read_text(encoding="utf-8") == name


def _require_room(data_dir: Path, manifest: BackupManifest) -> None:
    for part in manifest.parts:
        _require_free(data_dir / part)
    data_dir.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(data_dir).free) < manifest.num_bytes:
        raise InputError(
            f"{data_dir} must have room for {manifest.num_bytes / 1e6:.0f} MB, it has "
            f"{free / 1e6:.0f} MB; make room, or set FUSION_DATA_DIR"
        )


def _require_free(path: Path) -> None:
    if path.exists():
        raise InputError(
            f"a restore must not overwrite anything, and {path} is there; move it away, or set "
            "FUSION_DATA_DIR to an empty folder"
        )


def _fetch(archive: Archive, name: str, wanted: CopiedFile, staging: Path) -> None:
    path, target = wanted.path, staging / wanted.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if not archive.fetch_file(file_key(name, path), target):
        raise InputError(f"backup {name!r} must hold {path}, and does not; take another")
    found = digest(target)
    if found != (wanted.sha256, wanted.num_bytes):
        raise InputError(
            f"{path} of backup {name!r} must be what was copied (SHA-256 "
            f"{wanted.sha256[:12]}, {wanted.num_bytes} bytes), got {found[0][:12]}, {found[1]} "
            "bytes; take another backup"
        )


def _verify(staging: Path, manifest: BackupManifest) -> None:
    """Open everything as its users will."""
    for found in sorted(staging.glob(f"models/*/*/{MANIFEST_FILE}")):
        load_manifest(found.parent)
    for table, version in manifest.tables.items():
        folder, _, name = table.partition("/")
        opened, paths = wiring.table_files(staging / folder, name)
        absent = [path for path in paths if not (staging / table / path).is_file()]
        if opened != version or absent:
            raise InputError(
                f"table {table} must be whole at version {version}, got {opened} without "
                f"{absent[:3] or 'nothing'}; take another backup"
            )
    for name in DATABASES:
        if (staging / name).is_file():
            _require_sound(staging / name)


def _require_sound(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        said = [row[0] for row in database.execute("PRAGMA integrity_check")]
    if said != ["ok"]:
        raise InputError(
            f"{path.name} must be sound, but SQLite says {said[:3]}; take another backup"
        )
