"""The console on PostgreSQL: people of many consoles, an outage, and pages of years of alarms."""

from __future__ import annotations

import contextlib
import html
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr

from console.accounts import Accounts
from console.rights import Grant, Role
from flows import wiring
from flows.settings import Settings
from fusion.errors import InputError, PeopleUnavailableError, SettingsError
from fusion.plant import NANOSECONDS
from fusion.ports import JournalEntry
from fusion.schema import AlarmEvent
from tests.clocks import HandClock
from tests.console_app import (
    ADDRESS,
    PASSWORD,
    PLANT,
    SLUG,
    alarm_state,
    event_message,
    served,
    state_message,
)
from tests.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("pg")
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def test_consoles_that_start_together_share_one_set_of_people(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with ThreadPoolExecutor(4) as together:
        consoles = list(together.map(lambda _: Accounts(url, HandClock(), hasher=CHEAP), range(4)))
    first, second, *_ = consoles
    first.add_person("ada", PASSWORD, [Grant(Role.ADMIN)])
    secret = second.open_session("ada")
    for each in consoles:
        session = each.session(secret)
        assert session is not None
        assert session.person.name == "ada"
    token = first.tokens.add("robot", [Grant(Role.VIEWER)])
    assert second.tokens.machine(token) is not None
    for each in consoles:
        each.close()


def test_two_administrators_who_remove_one_another_leave_one(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with contextlib.closing(Accounts(url, HandClock(), hasher=CHEAP)) as people:
        for _ in range(10):
            for name in ("ada", "bob"):
                people.add_person(name, PASSWORD, [Grant(Role.ADMIN)])

            def remove(name: str) -> bool:
                try:
                    people.remove(name)
                except InputError:
                    return False
                return True

            with ThreadPoolExecutor(2) as together:
                assert sorted(together.map(remove, ("ada", "bob"))) == [False, True]
            assert len(people.people()) == 1


def test_an_outage_is_said_and_over_when_it_is(postgres: PostgresServer, tmp_path: Path) -> None:
    with served(tmp_path, people=postgres.new_database()) as console:
        console.person("ada", Role.ADMIN)
        assert console.log_in("ada") == 303
        postgres.stop()
        try:
            answer = console.client.get("/alarms")
            assert answer.status_code == 503
            assert "the console&#39;s people" in answer.text
            assert postgres.password not in answer.text
            with pytest.raises(PeopleUnavailableError, match="must answer"):
                console.accounts.people()
        finally:
            postgres.start()
        assert console.client.get("/alarms").status_code == 200, "the same session"


def test_pages_reach_into_years_of_alarms_on_postgresql(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """The broker has the last alarm only; a year before lies in the history."""
    settings = Settings(data_dir=tmp_path, alarm_history_url=SecretStr(postgres.new_database()))
    state, hour_ns = alarm_state(), 3_600 * NANOSECONDS
    events = [
        AlarmEvent(
            id=f"e{hour}",
            transition="raised",
            t_ns=state.since_ns - hour * hour_ns,
            state=state.model_copy(update={"sentence": f"Number {hour} of the year."}),
            score=None,
        )
        for hour in range(0, 365 * 24, 12)
    ]
    with contextlib.closing(wiring.open_alarm_log(settings)) as log:
        entries = [
            JournalEntry(
                e.id,
                ADDRESS,
                e.state.name,
                e.transition,
                e.t_ns,
                n,
                "",
                "",
                e.model_dump_json().encode(),
            )
            for n, e in enumerate(reversed(events))
        ]
        assert log.append(entries) == 730
    with served(tmp_path, settings=settings, people=postgres.new_database()) as console:
        console.person("ada", Role.ADMIN)
        console.log_in("ada")
        console.publish(event_message(PLANT, events[0]), state_message(PLANT, state))
        found, path = list[str](), "/journal"
        console.until(path, "Number 0 of")
        while path:
            page = html.unescape(console.client.get(path).text)
            found += re.findall(r"Number (\d+) of the year", page)
            older = re.search(r'href="(/journal\?[^"]+)">Older', page)
            path = older.group(1) if older else ""
        assert [int(number) for number in found] == list(range(0, 365 * 24, 12)), "each line once"
        old = events[-1]
        page = console.client.get(f"/alarms/{SLUG}:rig-abnormal?event={old.id}&at={old.t_ns}").text
        assert old.state.sentence in page
        month = console.client.get("/kpi?hours=720").text
        assert re.search(r"Alarms</th><td[^>]*>60<", month), "two a day for 30 days"


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "secret", "sqlite3://secret"])
def test_another_database_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="must be like postgresql") as told:
        Accounts(url, HandClock())
    assert "secret" not in str(told.value)
