"""What every history of alarms must do, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.alarm_history import SqlAlarmLog, postgresql_url, sqlite_url
from fusion.errors import AlarmLogUnavailableError, SettingsError
from fusion.ports import AlarmLog, JournalEntry
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("pg"))])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlarmLog]:
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "alarms.sqlite")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = postgresql_url(server.new_database())
    log = SqlAlarmLog(url)
    yield log
    log.close()


def entry(number: int, *, plant: str = "a/b", name: str = "leak") -> JournalEntry:
    line = f'{{"n": {number}, "word": "Öl \\u0000"}}'.encode()
    return JournalEntry(
        id=f"{plant}:{name}:{number}:raised",
        plant=plant,
        name=name,
        transition="raised",
        t_ns=1_800_000_000_000_000_000 + number,
        number=number,
        previous="",
        hash=hashlib.sha256(line).hexdigest(),
        line=line,
    )


def everything(log: AlarmLog, **which: object) -> list[JournalEntry]:
    asked = {"plant": "a/b", "start_ns": 0, "end_ns": 2**62} | which
    return log.read(**asked)  # type: ignore[arg-type]


def test_what_was_appended_comes_back_byte_for_byte_in_order(log: AlarmLog) -> None:
    entries = [entry(number) for number in range(1, 1_203)]
    assert log.append(entries[::-1]) == 1_202
    assert everything(log, limit=5_000) == entries
    assert everything(log, limit=3) == entries[-3:]
    assert log.head("a/b") == entries[-1]


def test_what_is_appended_again_is_kept_once_as_it_first_was(log: AlarmLog) -> None:
    assert log.append([entry(1), entry(2)]) == 2
    altered = replace(entry(2), line=b"never")
    assert log.append([altered, entry(3), entry(3)]) == 1
    assert everything(log) == [entry(1), entry(2), entry(3)]


def test_it_is_asked_by_plant_alarm_and_time(log: AlarmLog) -> None:
    one, other, third = entry(1), entry(2, name="heat"), entry(3, plant="c/d")
    log.append([one, other, third])
    assert everything(log, name="heat") == [other]
    assert everything(log, plant="c/d") == [third]
    assert everything(log, start_ns=one.t_ns, end_ns=other.t_ns) == [one]
    assert log.head("c/d") == third
    assert log.head("nobody") is None
    assert everything(log, plant="nobody") == []


def test_nothing_to_append_is_nothing(log: AlarmLog) -> None:
    assert log.append([]) == 0


def test_words_are_never_commands(log: AlarmLog) -> None:
    evil = replace(entry(1), name="'; DROP TABLE alarm_journal; --")
    log.append([evil])
    assert everything(log, name=evil.name) == [evil]


def test_it_outlives_its_process(tmp_path: Path) -> None:
    for number in (1, 2):
        log = SqlAlarmLog(sqlite_url(tmp_path / "alarms.sqlite"))
        log.append([entry(number)])
        told = everything(log)
        log.close()
    assert told == [entry(1), entry(2)]


@pytest.mark.xdist_group("pg")
def test_a_server_that_is_away_is_told_and_tried_again(postgres: PostgresServer) -> None:
    log = SqlAlarmLog(postgresql_url(postgres.new_database()))
    log.append([entry(1)])
    postgres.stop()
    try:
        with pytest.raises(AlarmLogUnavailableError, match="must answer") as told:
            log.append([entry(2)])
        assert postgres.password not in str(told.value)
    finally:
        postgres.start()
    assert log.append([entry(1), entry(2)]) == 1
    assert everything(log) == [entry(1), entry(2)]
    log.close()


def test_an_address_that_is_none_is_refused_and_never_shown() -> None:
    for text in ("mysql://u:secret@h/d", "postgresql://u:secret@h", "secret"):
        with pytest.raises(SettingsError, match="must be like postgresql") as told:
            postgresql_url(text)
        assert "secret" not in str(told.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    log = SqlAlarmLog(sqlite_url(tmp_path / "nowhere" / "alarms.sqlite"))
    with pytest.raises(AlarmLogUnavailableError, match="must answer"):
        log.append([entry(1)])
    log.close()
