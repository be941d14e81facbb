"""Who comes and who goes: people shut out, tokens that end, passwords, the last administrator."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import sqlalchemy as sql
from argon2 import PasswordHasher

from console.accounts import Accounts
from console.database import META
from console.rights import Grant, Role
from console.tokens import DAY_S
from fusion.errors import InputError
from tests.clocks import HandClock
from tests.console_app import PASSWORD, Served

NEW = "a quite new password"


@pytest.fixture
def console(running: Served) -> Served:
    running.pass_s(3_600)
    for name, role in (("ada", Role.ADMIN), ("olga", Role.OPERATOR), ("vera", Role.VIEWER)):
        running.person(name, role)
    running.log_in("ada")
    return running


def post(console: Served, path: str, **form: str) -> tuple[int, str]:
    answer = console.client.post(path, data=form, headers=console.own_headers())
    return answer.status_code, answer.text


def newest(console: Served) -> tuple[str, str, str]:
    line = console.accounts.journal(most=1)[0]
    return line.who, line.what, line.outcome


@pytest.mark.parametrize("action", ["disable", "remove"])
def test_who_is_shut_out_is_out_at_once(console: Served, action: str) -> None:
    open_already = console.accounts.open_session("olga")
    assert post(console, f"/access/people/{action}", name="olga")[0] == 200
    assert newest(console) == ("ada", f"{action} person olga", "done")
    assert console.accounts.session(open_already) is None
    assert console.log_in("olga") == 401
    console.log_in("ada")
    if action == "disable":
        assert post(console, "/access/people/enable", name="olga")[0] == 200
        assert console.accounts.session(open_already) is None, "the old session stays ended"
        assert console.log_in("olga") == 303


def test_one_administrator_with_a_password_always_stays(console: Served) -> None:
    for change in (
        lambda: console.accounts.remove("ada"),
        lambda: console.accounts.set_disabled("ada", is_disabled=True),
        lambda: console.accounts.add_person("ada", PASSWORD, [Grant(Role.VIEWER)]),
        lambda: console.accounts.add_person("ada", PASSWORD, [Grant(Role.ADMIN, "demo/lab")]),
    ):
        with pytest.raises(InputError, match="must stay"):
            change()
    assert console.log_in("ada") == 303, "nothing of it was done"
    console.accounts.let_in("boss", "https://idp 1", [Grant(Role.ADMIN)])
    with pytest.raises(InputError, match="must stay"):
        console.accounts.remove("ada")
    console.accounts.remove("boss")
    console.person("eve", Role.ADMIN)
    console.accounts.remove("ada")
    console.person("ada", Role.ADMIN)
    console.accounts.remove("eve")


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_nobody_removes_themselves_or_nobody(console: Served, name: str) -> None:
    assert post(console, "/access/people/remove", name=name)[0] == 422
    assert newest(console) == ("ada", f"remove person {name}", "refused")


@pytest.mark.parametrize(
    "path", ["/access/people/disable", "/access/people/remove", "/access/tokens/revoke"]
)
def test_only_administrators_shut_out(console: Served, path: str) -> None:
    console.log_in("olga")
    assert post(console, path, name="vera")[0] == 403
    assert newest(console) == ("olga", f"POST {path}", "refused")


def test_a_token_ends_by_itself_or_when_it_is_revoked(console: Served) -> None:
    status, page = post(console, "/access/tokens", name="robot", role="viewer", days="30")
    assert status == 200
    token = page.partition('<code class="token">')[2].partition("<")[0]
    machine = console.accounts.tokens.machine
    assert machine(token) is not None
    console.clock.pass_s(30 * DAY_S - 1)
    assert machine(token) is not None
    console.clock.pass_s(1)
    assert machine(token) is None
    console.log_in("ada")
    assert "has ended" in console.client.get("/access").text
    other = console.accounts.tokens.add("other", [Grant(Role.VIEWER)])
    assert post(console, "/access/tokens/revoke", name="other")[0] == 200
    refused = console.client.get("/api/v1/plants", headers={"Authorization": f"Bearer {other}"})
    assert refused.status_code == 401
    assert post(console, "/access/tokens/revoke", name="other")[0] == 422
    assert newest(console) == ("ada", "revoke token other", "refused")


@pytest.mark.parametrize("days", ["0", "367", "-1"])
def test_no_token_is_for_ever(console: Served, days: str) -> None:
    assert post(console, "/access/tokens", name="robot", role="viewer", days=days)[0] == 422


def test_a_machine_cannot_take_a_persons_name_nor_a_person_a_machines(console: Served) -> None:
    with pytest.raises(InputError, match="as a person is"):
        console.accounts.tokens.add("olga", [])
    console.accounts.tokens.add("robot", [])
    with pytest.raises(InputError, match="as a token is"):
        console.accounts.add_person("robot", PASSWORD, [])


def test_everybody_changes_their_own_password(console: Served) -> None:
    elsewhere = console.accounts.open_session("vera")
    console.log_in("vera")
    assert "Change your password" in console.client.get("/account").text
    status, said = post(console, "/account/password", password="wrong", new_password=NEW)
    assert (status, "not your password" in said) == (200, True)
    assert newest(console) == ("vera", "change the own password", "refused")
    short = post(console, "/account/password", password=PASSWORD, new_password="short")
    assert "12 to 256" in short[1]
    assert console.accounts.session(elsewhere) is not None
    assert post(console, "/account/password", password=PASSWORD, new_password=NEW)[0] == 204
    assert console.accounts.session(elsewhere) is None
    assert console.client.get("/account").status_code == 200, "this browser stays logged in"
    assert console.log_in("vera") == 401
    assert console.log_in("vera", NEW) == 303


def test_an_open_session_does_not_help_to_guess_the_password(console: Served) -> None:
    console.log_in("vera")
    for _ in range(5):
        post(console, "/account/password", password="wrong", new_password=NEW)
    said = post(console, "/account/password", password=PASSWORD, new_password=NEW)[1]
    assert "Too many" in said
    assert console.accounts.check_password("vera", PASSWORD) is not None


def test_a_database_of_an_earlier_release_is_taken_over(tmp_path: Path) -> None:
    url, added = f"sqlite:///{tmp_path / 'old.sqlite'}", {"is_disabled", "subject", "until_s"}
    engine = sql.create_engine(url)
    old = sql.MetaData()
    for table in META.sorted_tables:
        columns = [
            sql.Column(c.name, c.type, primary_key=c.primary_key)
            for c in table.columns
            if table.name == "sessions" or c.name not in added | {"made_by"}
        ]
        sql.Table(table.name, old, *columns)
    old.create_all(engine)
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with engine.begin() as db:
        person = {"name": "ada", "password": cheap.hash(PASSWORD), "grants": '[["admin", ""]]'}
        db.execute(old.tables["people"].insert().values(**person))
        token = {"secret": "s", "name": "robot", "grants": "[]"}
        db.execute(old.tables["tokens"].insert().values(**token))
    engine.dispose()
    for _ in range(2):
        with contextlib.closing(Accounts(url, HandClock(), hasher=cheap)) as accounts:
            assert accounts.check_password("ada", PASSWORD) is not None
            assert [t.has_ended for t in accounts.tokens.all()] == [True]
