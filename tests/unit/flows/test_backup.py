"""A backup is what was there at one moment, or it is refused; a restore is all or nothing."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.accounts import Accounts
from flows import wiring
from flows.backup import BackupManifest, backups_at, create_backup, delete_backup
from flows.cli import app
from flows.console import open_accounts
from flows.lake import examined_versions
from flows.restore import READY, STAGING, restore_backup
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.alarms.journal import HASH, NUMBER, PREVIOUS, Journal, broken_links
from fusion.errors import InputError
from fusion.manifest import load_manifest
from fusion.ports import JournalEntry
from fusion.rollout.states import Action
from fusion.schema import Message, Record, TopicPartition
from tests.models import PLANT, manifest_of, untrained

TOPICS = ("duo.audio", "duo.telemetry")
NUM_LINES = 40


def record(topic: str, offset: int) -> Record:
    return Record(
        topic, offset % 2, offset, "k", bytes([offset % 251]) * 50, {}, t_broker_ns=offset
    )


def settings_at(folder: Path) -> Settings:
    return Settings(data_dir=folder, mlflow_uri="none")


def append(settings: Settings, start: int, stop: int) -> None:
    for topic in TOPICS:
        wiring.open_lake(settings).append([record(topic, n) for n in range(start, stop)])


def journal_entries() -> list[JournalEntry]:
    journal, entries = Journal(), []
    for number in range(1, NUM_LINES + 1):
        line = f"line {number}".encode()
        said = journal.enter(line)
        entries.append(
            JournalEntry(
                str(number), str(PLANT.address), "leak", "raised", number,
                int(said[NUMBER]), said[PREVIOUS], said[HASH], line,
            )
        )  # fmt: skip
    return entries


def read_journal(settings: Settings) -> list[JournalEntry]:
    with closing(wiring.open_alarm_log(settings)) as log:
        return log.read(plant=str(PLANT.address), start_ns=0, end_ns=2**62)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A data folder with all that a backup keeps, in use."""
    settings = settings_at(tmp_path / "data")
    (tmp_path / "kept").mkdir()
    folder = settings.models_dir / "duo" / "1"
    folder.mkdir(parents=True)
    manifest_of(untrained(), folder)
    (folder / "encoder.onnx").write_bytes(b"a network")
    (settings.models_dir / "duo" / "2").mkdir()
    (settings.models_dir / "duo" / "2" / "encoder.onnx").write_bytes(b"still being written")
    journal = journal_of(settings, PLANT)
    journal.append(journal.state(), Action.LOADED, "1", who="ann", why="first", t_ns=1)
    append(settings, 0, 50)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["data_version"] = wiring.open_lake(settings).version(TOPICS)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    append(settings, 50, 100)
    examined = {"data_version": wiring.open_lake(settings).version(TOPICS)}
    append(settings, 100, 110)
    for path, said in {
        "examinations/e-1.json": examined, "runs/1/asked.json": {}, "runs/1/end.json": {},
        "runs/2/asked.json": {}, "runs/1/checkpoint/step.json": {},
    }.items():  # fmt: skip
        file = settings.retraining_dir / "duo" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(said))
    (settings.models_dir / "duo" / "drift.jsonl").write_text("a check\nhalf a li")
    upkeep = wiring.open_lake_upkeep(settings)
    for topic in TOPICS:
        upkeep.compact(topic, target_bytes=32_000_000)
    wiring.open_objects(settings).put("duo/2026-11-26/abc", b"a large record")
    with closing(wiring.open_alarm_log(settings)) as log:
        log.append(journal_entries())
    wiring.prepare_topics(settings, PLANT)
    with closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish([Message("duo.telemetry", "k", b"kept")] * 3)
    with open_accounts(settings) as accounts:
        assert isinstance(accounts, Accounts)
        accounts.first_admin()
    # Somebody holds a database open, with what it has written still in the log beside it.
    with closing(sqlite3.connect(settings.data_dir / "console.sqlite")) as held:
        held.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield settings


def backup(settings: Settings, where: Path, name: str = "one") -> BackupManifest:
    return create_backup(settings, str(where), name=name, t_ns=1, advance=lambda *_: None)


def restore(folder: Path, where: Path, name: str = "one") -> Settings:
    restored = settings_at(folder)
    restore_backup(restored, str(where), name, advance=lambda *_: None)
    return restored


def test_a_restored_folder_is_what_it_was(settings: Settings, tmp_path: Path) -> None:
    manifest = backup(settings, tmp_path / "kept")
    again = restore(tmp_path / "again", tmp_path / "kept")
    before, after = wiring.open_lake(settings), wiring.open_lake(again)
    assert after.read(TOPICS) == before.read(TOPICS)
    assert after.version(TOPICS) == before.version(TOPICS)
    assert after.next_offsets() == before.next_offsets()
    trained = load_manifest(again.models_dir / "duo" / "1")
    trained.require_fits(PLANT)
    # What the model was trained on can still be read, though it was compacted since.
    assert len(after.read(TOPICS, version=trained.data_version)) == 100
    assert journal_of(again, PLANT).state() == journal_of(settings, PLANT).state()
    assert not (again.models_dir / "duo" / "2").exists(), "an incomplete version is none"
    (examined,) = examined_versions(again).values()
    assert len(after.read(TOPICS, version=examined)) == 200
    kept = {
        p.relative_to(again.retraining_dir).as_posix() for p in again.retraining_dir.rglob("*.json")
    }
    assert kept == {"duo/examinations/e-1.json", "duo/runs/1/asked.json", "duo/runs/1/end.json"}
    assert (again.models_dir / "duo" / "drift.jsonl").read_text() == "a check\n"
    lines = [
        ({NUMBER: str(e.number), PREVIOUS: e.previous, HASH: e.hash}, e.line)
        for e in read_journal(again)
    ]
    assert len(lines) == NUM_LINES
    assert broken_links(lines) == []
    with closing(wiring.open_source(again, ["duo.telemetry"], "g")) as source:
        assert source.end_offsets() == {TopicPartition("duo.telemetry", 0): 3}
    with open_accounts(again) as accounts:
        assert accounts.first_admin() is None, "the people are there"
    assert wiring.open_objects(again).get("duo/2026-11-26/abc", max_bytes=99) == b"a large record"
    assert {f"lake/{topic}" for topic in TOPICS} == set(manifest.tables)


def test_writers_that_go_on_do_not_spoil_it(settings: Settings, tmp_path: Path) -> None:
    is_done = threading.Event()

    def write() -> None:
        start = 100
        while not is_done.is_set():
            append(settings, start, start + 10)
            wiring.open_lake_upkeep(settings).compact(TOPICS[0], target_bytes=32_000_000)
            start += 10

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifest = backup(settings, tmp_path / "kept")
    finally:
        is_done.set()
        writer.join()
    append(settings, 10_000, 10_010)
    again = restore(tmp_path / "again", tmp_path / "kept")
    for topic in TOPICS:
        version = f"{topic}@{manifest.tables[f'lake/{topic}']}"
        told = wiring.open_lake(again).read([topic])
        assert told == wiring.open_lake(settings).read([topic], version=version)
        assert len(told) >= 100
    # It goes on from there.
    append(again, 10_000, 10_010)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("harm", ["altered", "cut", "removed", "manifest"])
def test_what_is_not_what_was_copied_is_refused_and_nothing_is_changed(
    settings: Settings, tmp_path: Path, harm: str
) -> None:
    backup(settings, tmp_path / "kept")
    victim = next((tmp_path / "kept" / "files").rglob("*.parquet"))
    content = victim.read_bytes()
    if harm == "manifest":
        path = tmp_path / "kept" / "manifests" / "one.json"
        path.write_text(path.read_text().replace('"path": "lake/', '"path": "../lake/', 1))
    elif harm == "removed":
        victim.unlink()
    else:
        victim.write_bytes(content[:-1] + (b"" if harm == "cut" else bytes([content[-1] ^ 1])))
    with pytest.raises(InputError):
        restore(tmp_path / "again", tmp_path / "kept")
    again = tmp_path / "again"
    assert not again.exists() or {path.name for path in again.iterdir()} <= {STAGING}
    assert not (tmp_path / "lake").exists()


def test_a_restore_overwrites_nothing(settings: Settings, tmp_path: Path) -> None:
    backup(settings, tmp_path / "kept")
    before = [(path, path.stat().st_mtime_ns) for path in files_of(settings.data_dir)]
    with pytest.raises(InputError, match="must not overwrite"):
        restore(settings.data_dir, tmp_path / "kept")
    assert [(path, path.stat().st_mtime_ns) for path in files_of(settings.data_dir)] == before


@pytest.mark.parametrize("num_moves", [0, 1, 3])
def test_killed_while_it_moves_it_goes_on(
    settings: Settings, tmp_path: Path, num_moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = backup(settings, tmp_path / "kept")
    moves: list[Path] = []
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if len(moves) == num_moves:
            raise KeyboardInterrupt
        moves.append(path)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "again", tmp_path / "kept")
    assert (tmp_path / "again" / STAGING / READY).is_file()
    again = restore(tmp_path / "again", tmp_path / "kept")
    told = [path.relative_to(again.data_dir).as_posix() for path in files_of(again.data_dir)]
    assert told == sorted(file.path for file in manifest.files)


def test_one_that_was_cut_off_is_no_backup(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.backup._copy_database", cut_off)
    with pytest.raises(KeyboardInterrupt):
        backup(settings, tmp_path / "kept")
    assert backups_at(settings, str(tmp_path / "kept")) == []
    with pytest.raises(InputError, match="there must be a backup 'one'"):
        restore(tmp_path / "again", tmp_path / "kept")


def test_old_ones_are_removed_whole(settings: Settings, tmp_path: Path) -> None:
    where = tmp_path / "kept"
    first = backup(settings, where, "one")
    second = create_backup(settings, str(where), name="two", t_ns=2, advance=lambda *_: None)
    assert backups_at(settings, str(where)) == [first, second]
    delete_backup(settings, str(where), first)
    assert backups_at(settings, str(where)) == [second]
    assert not files_of(where / "files" / "one")
    with pytest.raises(InputError, match="has 'two' already"):
        backup(settings, where, "two")


def test_the_commands(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, again = str(tmp_path / "kept"), tmp_path / "again"
    monkeypatch.setenv("FUSION_DATA_DIR", str(settings.data_dir))
    for _ in range(2):
        made = CliRunner().invoke(app, ["backup", "create", kept, "--keep", "1"])
        assert made.exit_code == 0 or "has" in str(made.exception), made.output
    assert len(backups_at(settings, kept)) == 1
    assert CliRunner().invoke(app, ["backup", "list", kept]).exit_code == 0
    monkeypatch.setenv("FUSION_DATA_DIR", str(again))
    told = CliRunner().invoke(app, ["backup", "restore", kept])
    assert told.exit_code == 0, told.output
    assert read_journal(settings_at(again)) == journal_entries()
