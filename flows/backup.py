"""A copy of what the data folder keeps, which can be trusted, and the way back.

A backup is there when its manifest is, which is written last and names every file with its SHA-256.
What is copied while the product runs fits together by the order of copying: what names something
comes before what it names, and a reader's progress before what it reads.

    journals of roles and of drift, models, examinations, retrainings > lake and findings, each
    table at one version > large records > embedded broker > alarm history and notices > the
    console's people, training runs
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from flows import wiring
from flows.drift_journal import JOURNAL_FILE as DRIFT_FILE
from flows.lake import examined_versions
from flows.rollout_journal import JOURNAL_FILE
from flows.settings import Settings
from fusion.errors import InputError, LakeUnavailableError
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.ports import Archive
from fusion.upkeep import parse_lake_version

MANIFESTS, FILES = "manifests", "files"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
END_FILE = "end.json"
TABLE_FOLDERS = ("lake", "findings")
DATABASES = ("broker.sqlite", "alarms.sqlite", "console.sqlite", "mlflow.sqlite")
Advance = Callable[[str, int], None]
"""Is told of every file that was copied, and its size in bytes."""


def _plain(path: str) -> str:
    """Return ``path``; a manifest is read from a place that others may write to."""
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or {".", ".."} & set(parts) or "\\" in path:
        raise ValueError(f"a path must stay below the data folder, got {path!r}")
    return path


class CopiedFile(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, AfterValidator(_plain)]
    sha256: str
    num_bytes: int


class BackupManifest(BaseModel):
    """What a backup is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    name: str
    t_ns: int
    tables: dict[str, int]
    """The version of every Delta table, such as ``lake/rig.audio``."""
    files: tuple[CopiedFile, ...]
    left_out: tuple[str, ...]
    """What is not in it, and how to keep that."""

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.num_bytes for file in self.files)

    @property
    def parts(self) -> list[str]:
        """What lies directly in the data folder."""
        return sorted({PurePosixPath(file.path).parts[0] for file in self.files})


def create_backup(
    settings: Settings, where: str, *, name: str, t_ns: int, advance: Advance
) -> BackupManifest:
    """Copy the data folder to ``where`` as the backup ``name``, and return what was copied.

    Raises:
        InputError: There is nothing to copy, or a backup of that name.
        LakeUnavailableError: Files were removed while they were copied; call again.
        ObjectStoreUnavailableError: The store did not take it; what is there of it is no backup.
    """
    archive = wiring.open_archive(settings, where)
    if not settings.data_dir.is_dir():
        raise InputError(f"FUSION_DATA_DIR must be there to be copied, {settings.data_dir} is not")
    if archive.get(_manifest_key(name), max_bytes=MAX_MANIFEST_BYTES) is not None:
        raise InputError(f"a backup must get a new name, {where} has {name!r} already")
    with tempfile.TemporaryDirectory(prefix="fusion-backup-") as folder:
        copying = _Copying(settings, archive, name, Path(folder), advance)
        copying.models()
        copying.retrainings()
        copying.tables()
        copying.objects()
        copying.databases()
    manifest = BackupManifest(
        name=name,
        t_ns=t_ns,
        tables=copying.versions,
        files=tuple(copying.files),
        left_out=_left_out(settings),
    )
    if not manifest.files:
        raise InputError(
            f"{settings.data_dir} holds nothing that a backup keeps; set FUSION_DATA_DIR"
        )
    archive.put(_manifest_key(name), manifest.model_dump_json(indent=1).encode())
    return manifest


def backups_at(settings: Settings, where: str) -> list[BackupManifest]:
    """Return the backups at ``where``, oldest first."""
    archive = wiring.open_archive(settings, where)
    keys = [stored.key for stored in archive.list(MANIFESTS)]
    names = [PurePosixPath(key).stem for key in keys if key.endswith(".json")]
    return sorted((read_manifest(archive, name) for name in names), key=lambda each: each.t_ns)


def read_manifest(archive: Archive, name: str) -> BackupManifest:
    """Return the manifest of the backup ``name``.

    Raises:
        InputError: There is no such backup, or it is damaged.
    """
    content = archive.get(_manifest_key(name), max_bytes=MAX_MANIFEST_BYTES)
    if content is None:
        raise InputError(f"there must be a backup {name!r}; `fusion backup list` shows those there")
    try:
        manifest = BackupManifest.model_validate_json(content)
    except ValidationError as invalid:
        raise InputError(f"the manifest of backup {name!r} must be whole, but: {invalid}") from None
    if manifest.name != name or manifest.format != 1:
        raise InputError(
            f"the manifest of {name!r} must be of that backup and of format 1, got "
            f"{manifest.name!r} of format {manifest.format}; restore it with a newer release"
        )
    return manifest


def delete_backup(settings: Settings, where: str, manifest: BackupManifest) -> None:
    """Remove a backup; once this has begun it is none any more."""
    archive = wiring.open_archive(settings, where)
    archive.delete(_manifest_key(manifest.name))
    for file in manifest.files:
        archive.delete(file_key(manifest.name, file.path))


@dataclass
class _Copying:
    """One backup in the making."""

    settings: Settings
    archive: Archive
    name: str
    scratch: Path
    advance: Advance
    files: list[CopiedFile] = field(default_factory=list[CopiedFile])
    versions: dict[str, int] = field(default_factory=dict[str, int])
    also: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    """Versions of the lake that models name, per topic."""

    def models(self) -> None:
        """Copy the journals, then every complete version: no journal names one that is not here."""
        root = self.settings.models_dir
        for journal in sorted([*root.glob(f"*/{JOURNAL_FILE}"), *root.glob(f"*/{DRIFT_FILE}")]):
            content = journal.read_bytes()
            # A line without its end was never a step.
            self._snapshot(journal, content[: content.rfind(b"\n") + 1])
        for found in sorted(root.glob(f"*/*/{MANIFEST_FILE}")):
            self._note_data(load_manifest(found.parent).data_version)
            inside = sorted(path for path in found.parent.rglob("*") if path.is_file())
            for path in [*(each for each in inside if each != found), found]:
                self._copy(path)

    def retrainings(self) -> None:
        """Copy what later ones are held to: examinations, and what those that ended came to.

        One that is under way is begun anew after a restore; its checkpoint is not kept.
        """
        root = self.settings.retraining_dir
        for data_version in examined_versions(self.settings).values():
            self._note_data(data_version)
        ended = sorted(path.parent for path in root.glob(f"*/runs/*/{END_FILE}"))
        results = [path for folder in ended for path in sorted(folder.glob("*.json"))]
        for path in [*sorted(root.glob("*/examinations/*.json")), *results]:
            self._copy(path)

    def _note_data(self, data_version: str) -> None:
        # (A model may come from elsewhere, and name data that was never here.)
        with contextlib.suppress(InputError):
            for topic, version in parse_lake_version(data_version).items():
                if version is not None:
                    self.also.setdefault(topic, set()).add(version)

    def tables(self) -> None:
        """Copy every Delta table, each as it is at one version."""
        for folder in TABLE_FOLDERS:
            root = self.settings.data_dir / folder
            for log in sorted(root.glob("*/_delta_log")):
                table = log.parent.name
                also = self.also.get(table, ()) if folder == "lake" else ()
                version, paths = wiring.table_files(root, table, also=also)
                self.versions[f"{folder}/{table}"] = version
                for path in paths:
                    self._copy(root / table / path)

    def objects(self) -> None:
        """Copy the large records that the lake refers to, where they lie in the data folder."""
        root = self.settings.data_dir / "objects"
        if self.settings.objects_uri == str(root):
            for path in sorted(path for path in root.rglob("*") if path.is_file()):
                with contextlib.suppress(LakeUnavailableError):  # swept: nothing refers to it
                    self._copy(path)

    def databases(self) -> None:
        """Copy SQLite's files as of one moment each, and what tells how far notices are."""
        for name in DATABASES:
            path = self.settings.data_dir / name
            if path.is_file():
                copy = self.scratch / name
                _copy_database(path, copy)
                self._store(copy, name)
                copy.unlink()
        for path in sorted(self.settings.data_dir.glob("notify-*.json")):
            self._snapshot(path, path.read_bytes())

    def _snapshot(self, path: Path, content: bytes) -> None:
        copy = self.scratch / "snapshot"
        copy.write_bytes(content)
        self._store(copy, self._relative(path))

    def _copy(self, path: Path) -> None:
        self._store(path, self._relative(path))

    def _store(self, path: Path, relative: str) -> None:
        try:
            sha256, num_bytes = digest(path)
        except FileNotFoundError as gone:
            raise LakeUnavailableError(
                f"{relative} must stay while it is copied, but it was removed; call again, and not "
                "while `fusion lake vacuum` or `fusion objects sweep` runs"
            ) from gone
        self.archive.put_file(file_key(self.name, relative), path)
        self.files.append(CopiedFile(path=relative, sha256=sha256, num_bytes=num_bytes))
        self.advance(relative, num_bytes)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.settings.data_dir).as_posix()


def digest(path: Path) -> tuple[str, int]:
    """Return SHA-256 and size in bytes of a file."""
    hashed, num_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            hashed.update(piece)
            num_bytes += len(piece)
    return hashed.hexdigest(), num_bytes


def file_key(name: str, path: str) -> str:
    """Return where a file of a backup lies."""
    return f"{FILES}/{name}/{path}"


def _manifest_key(name: str) -> str:
    return f"{MANIFESTS}/{name}.json"


def _copy_database(path: Path, copy: Path) -> None:
    """Copy a database through SQLite's backup API: as of one moment, also while it is written."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _left_out(settings: Settings) -> tuple[str, ...]:
    said: list[str] = []
    if settings.broker == "kafka":
        said.append("what Kafka holds: replicate its topics; the lake has what the senses said")
    if settings.alarm_history_url is not None:
        said.append("the alarm history in PostgreSQL: pg_dump")
    if settings.console_database is not None:
        said.append("the console's people in their own database: its own backup")
    if settings.objects_uri != str(settings.data_dir / "objects"):
        said.append(f"large records at {settings.objects_uri}: its own versions or replication")
    if settings.tracking_uri is None or "mlflow.sqlite" not in settings.tracking_uri:
        said.append("training runs on a server: its own backup")
    return tuple(said)
