"""Who may do what: forged sessions, other sites, higher roles, guesses; refusals are written."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from console.accounts import IDLE_S, SESSION_S
from console.app import ROUTES
from console.guard import COOKIE, MAX_BODY_BYTES
from console.picture import Picture
from console.rights import Grant, Role
from console.routes import lookup
from flows import wiring
from flows.rollout_journal import JOURNAL_FILE, journal_of
from fusion.errors import InputError
from fusion.rollout.states import Action
from fusion.schema import AlarmCommand, AlarmEvent
from fusion.stream.reading import read_to_end
from tests.console_app import (
    PASSWORD,
    PLANT,
    SLUG,
    Served,
    alarm_state,
    event_message,
    served,
    state_message,
)

ALARM = f"{SLUG}:rig-abnormal"
ASK = f"/alarms/{ALARM}/ask"
ACKNOWLEDGE = {"action": "acknowledge", "revision": "1"}


@pytest.fixture
def console(running: Served) -> Served:
    """The console with its people as they were, and somebody who is logged in: ada."""
    running.pass_s(3_600)  # no limit of the test before holds
    running.person("ada", Role.ADMIN)
    running.person("olga", Role.OPERATOR)
    running.person("vera", Role.VIEWER)
    running.person("far", Role.ENGINEER, "demo/elsewhere")
    running.publish(state_message(PLANT, alarm_state()))
    running.log_in("ada")
    running.until("/alarms", "rig-abnormal")
    running.accounts.note("test", "begins", "done")
    return running


def commands(console: Served) -> list[AlarmCommand]:
    """Return what was sent in this test."""
    source = wiring.open_source(console.settings, [PLANT.topic("alarm-commands")], "test")
    with contextlib.closing(source):
        sent = [AlarmCommand.model_validate_json(r.value) for r in read_to_end(source)]
    begun_ns = next(line.t_ns for line in console.accounts.journal() if line.what == "begins")
    return [command for command in sent if command.t_ns >= begun_ns]


def refusals(console: Served) -> list[str]:
    """Return why something was refused in this test."""
    lines = itertools.takewhile(lambda line: line.what != "begins", console.accounts.journal())
    return [line.why for line in lines if line.outcome == "refused"]


def acknowledge(console: Served, **headers: str) -> int:
    return console.client.post(
        ASK, data=ACKNOWLEDGE, headers=console.own_headers() | headers
    ).status_code


PAGES = [
    "/",
    "/kpi",
    "/alarms",
    f"/alarms/{ALARM}",
    "/journal",
    "/streams",
    "/models",
    f"/plants/{SLUG}",
]


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_shown_to_those_who_are_logged_in_only(console: Served, path: str) -> None:
    assert console.client.get(path).status_code == 200
    console.client.cookies.clear()
    answer = console.client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("path", ["/api/v1/alarms", "/stream", f"/alarms/{ALARM}/ask"])
def test_without_a_session_nothing_is_said(console: Served, path: str) -> None:
    console.client.cookies.clear()
    method = "POST" if path.endswith("ask") else "GET"
    assert console.client.request(method, path, headers={"HX-Request": "true"}).status_code == 401


def test_a_forged_session_is_refused_and_written_down(console: Served) -> None:
    console.client.cookies.clear()
    console.client.cookies.set(COOKIE, "a" * 43)
    assert console.client.get("/alarms").status_code == 303
    assert "the session is forged, ended or expired" in refusals(console)


def test_the_database_does_not_hold_what_logs_in(console: Served) -> None:
    secret = console.client.cookies[COOKIE]
    token = console.accounts.tokens.add("robot", [Grant(Role.VIEWER)])
    stored = b"".join(p.read_bytes() for p in console.settings.data_dir.glob("people.sqlite*"))
    for known in (secret, token, PASSWORD):
        assert known.encode() not in stored


def test_sessions_end_after_a_shift_and_when_nobody_is_there(console: Served) -> None:
    secret = console.accounts.open_session("vera")
    for _ in range(SESSION_S // 1_800 - 1):
        console.clock.pass_s(1_800)
        assert console.accounts.session(secret) is not None
    console.clock.pass_s(1_800)
    assert console.accounts.session(secret) is None
    idle = console.accounts.open_session("vera")
    console.clock.pass_s(IDLE_S)
    assert console.accounts.session(idle) is None


def test_a_new_password_ends_what_was_open(console: Served) -> None:
    secret = console.accounts.open_session("vera")
    console.person("vera", Role.VIEWER)
    assert console.accounts.session(secret) is None


def test_logging_out_ends_the_session_at_the_server(console: Served) -> None:
    secret = console.client.cookies[COOKIE]
    assert console.client.post("/logout", headers=console.own_headers()).status_code == 204
    assert console.accounts.session(secret) is None


def test_an_operator_acknowledges_and_the_command_says_who(console: Served) -> None:
    console.log_in("olga")
    assert acknowledge(console) == 200
    (sent,) = commands(console)
    assert (sent.action, sent.who, sent.name, sent.expected_revision) == (
        "acknowledge",
        "olga",
        "rig-abnormal",
        1,
    )


def test_another_sites_page_changes_nothing(console: Served) -> None:
    console.log_in("olga")
    assert acknowledge(console, Origin="http://evil.example") == 403
    assert acknowledge(console, **{"X-CSRF-Token": "guessed"}) == 403
    bare = console.client.post(ASK, data=ACKNOWLEDGE)
    assert bare.status_code == 403
    assert commands(console) == []
    assert len(refusals(console)) == 3


def test_another_site_cannot_log_somebody_in(console: Served) -> None:
    form = {"name": "vera", "password": PASSWORD}
    evil = console.client.post("/login", data=form, headers={"Origin": "http://evil.example"})
    assert evil.status_code == 403


def test_a_viewer_acknowledges_nothing(console: Served) -> None:
    console.log_in("vera")
    assert "Acknowledge</button>" not in console.client.get("/alarms").text
    assert acknowledge(console) == 403
    assert commands(console) == []
    assert any("operator" in why for why in refusals(console))


@pytest.mark.parametrize(
    "path", [f"/alarms/{ALARM}", f"/plants/{SLUG}", f"/api/v1/alarms/{ALARM}", "/plants/no.such"]
)
def test_of_another_area_nothing_can_be_told_apart_from_nothing(console: Served, path: str) -> None:
    console.log_in("far")
    assert console.client.get(path).status_code == 404
    assert "rig-abnormal" not in console.client.get("/alarms").text
    assert console.client.get("/api/v1/alarms").json() == []


@pytest.mark.parametrize("name", ["olga", "vera", "far"])
def test_nobody_makes_themselves_an_administrator(console: Served, name: str) -> None:
    console.log_in(name)
    form = {"name": name, "password": PASSWORD, "role": "admin"}
    assert console.client.get("/access").status_code == 403
    for path in ("/access/people", "/access/tokens"):
        assert (
            console.client.post(path, data=form, headers=console.own_headers()).status_code == 403
        )
    checked = console.accounts.check_password(name, PASSWORD)
    assert checked is not None
    assert not checked.is_admin


def test_an_administrator_adds_people_and_tokens(console: Served) -> None:
    form = {"name": "new", "password": PASSWORD, "role": "operator", "area": "/demo/lab/"}
    page = console.client.post("/access/people", data=form, headers=console.own_headers())
    assert page.status_code == 200
    person = console.accounts.check_password("new", PASSWORD)
    assert person is not None
    assert person.grants == (Grant(Role.OPERATOR, "demo/lab"),)
    short = form | {"password": "short"}
    assert (
        console.client.post("/access/people", data=short, headers=console.own_headers()).status_code
        == 422
    )


def test_guessing_a_password_soon_takes_minutes(console: Served) -> None:
    assert [console.log_in("olga", "wrong password") for _ in range(5)] == [401] * 5
    assert console.log_in("olga") == 429
    assert console.log_in("vera") == 303, "others are not locked out by it"
    console.clock.pass_s(300)
    assert console.log_in("olga") == 303


def test_trying_many_names_soon_takes_minutes_too(console: Served) -> None:
    statuses = [console.log_in(f"name{n}", "wrong password") for n in range(21)]
    assert statuses == [401] * 20 + [429]


def test_who_knows_one_password_does_not_guess_others_for_longer(console: Served) -> None:
    """A success in between takes nothing away from the failures of an address."""
    statuses = list[int]()
    for n in range(30):
        statuses.append(console.log_in(f"name{n}", "wrong password"))
        if n == 9:
            assert console.log_in("vera") == 303
    assert statuses == [401] * 20 + [429] * 10


def test_a_stranger_and_a_wrong_password_get_the_same_answer(console: Served) -> None:
    texts = []
    for name in ("olga", "nobody"):
        form = {"name": name, "password": "wrong password"}
        texts.append(
            console.client.post("/login", data=form, headers={"Origin": console.base}).text
        )
    assert texts[0] == texts[1]


def test_a_token_opens_the_api_with_its_role_and_no_more(console: Served) -> None:
    console.client.cookies.clear()
    token = console.accounts.tokens.add("robot", [Grant(Role.OPERATOR, "demo/lab")])
    machine = {"Authorization": f"Bearer {token}"}
    alarm = console.client.get(f"/api/v1/alarms/{ALARM}", headers=machine).json()
    assert alarm["id"] in [
        a["id"] for a in console.client.get("/api/v1/alarms", headers=machine).json()
    ]
    sent = console.client.post(
        f"/api/v1/alarms/{alarm['id']}/commands",
        json={"action": "acknowledge", "revision": alarm["state"]["revision"]},
        headers=machine,
    )
    assert sent.status_code == 202
    assert [c.who for c in commands(console)] == ["robot"]
    assert console.client.get("/access", headers=machine).status_code == 403
    wrong = {"Authorization": "Bearer guessed"}
    assert console.client.get("/api/v1/alarms", headers=wrong).status_code == 401


def test_a_large_request_is_not_read(console: Served) -> None:
    answer = console.client.post("/login", content=b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/static/../accounts.py",
        "/static/%2e%2e/accounts.py",
        "/static/..%2f..%2fpyproject.toml",
        "/static/vendor/%2e%2e/%2e%2e/accounts.py",
        "/static//etc/passwd",
        f"/plants/{SLUG}/frame/..%2f..%2fetc%2fpasswd",
        "/alarms/..%2f..%2fetc:passwd",
    ],
)
def test_no_path_leads_out(console: Served, path: str) -> None:
    answer = console.client.get(path)
    assert answer.status_code == 404
    assert "sqlalchemy" not in answer.text


def test_scripts_in_what_others_wrote_are_text(console: Served) -> None:
    script = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    console.publish(state_message(PLANT, alarm_state("bad", sentence=script)))
    for path in ("/alarms", f"/alarms/{SLUG}:bad", f"/plants/{SLUG}"):
        page = console.until(path, "&lt;script&gt;alert(1)")
        assert "<script>alert" not in page
        assert "<img src=x" not in page


def test_what_an_operator_commented_is_text_wherever_it_is_shown(console: Served) -> None:
    script = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    state = alarm_state()
    event = AlarmEvent(
        id="commented-1",
        transition="commented",
        t_ns=console.clock.now_ns(),
        state=state,
        who=script,
        command="c1",
        note=script,
    )
    console.publish(event_message(PLANT, event))
    for path in ("/journal", f"/alarms/{ALARM}", f"/alarms/{ALARM}/history"):
        page = console.until(path, "&lt;script&gt;alert(1)")
        assert "<script>alert" not in page
        assert "<img src=x" not in page


def test_every_answer_is_hardened(console: Served) -> None:
    for path in ("/", "/login", "/static/console.css", "/no-such-page", "/api/v1/alarms"):
        headers = console.client.get(path).headers
        assert "'unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    login = console.client.post(
        "/login",
        data={"name": "ada", "password": PASSWORD},
        headers={"Origin": console.base},
    )
    assert "httponly" in login.headers["set-cookie"].lower()
    assert "samesite=strict" in login.headers["set-cookie"].lower()


def test_the_first_start_makes_one_administrator(console: Served, tmp_path: Path) -> None:
    assert console.accounts.first_admin() is None, "there are people already"
    (tmp_path / "fresh").mkdir()
    with served(tmp_path / "fresh") as fresh:
        password = fresh.accounts.first_admin()
        assert password is not None
        assert fresh.log_in("admin", password) == 303
        assert fresh.accounts.first_admin() is None


@pytest.mark.parametrize("password", ["short", "x" * 257])
def test_a_password_of_no_use_is_refused(console: Served, password: str) -> None:
    with pytest.raises(InputError, match="12 to 256"):
        console.accounts.add_person("new", password, [])


ACTIONS = {
    "acknowledge": {},
    "reset": {},
    "shelve": {"duration_s": "3600", "note": "being mended", "is_one_shot": "true"},
    "unshelve": {},
    "comment": {"note": "<b>seen</b>"},
    "judge": {"episode": "e1", "judgement": "nuisance", "note": "a delivery van"},
    "remove-from-service": {"duration_s": "86400", "note": "sensor is away"},
    "return-to-service": {},
}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_asked_arrives_as_it_was_asked(console: Served, action: str) -> None:
    form = ACKNOWLEDGE | {"action": action} | ACTIONS[action]
    answer = console.client.post(ASK, data=form, headers=console.own_headers())
    assert answer.status_code == 200
    (sent,) = commands(console)
    told = sent.model_dump(mode="json")
    for name, value in ACTIONS[action].items():
        assert str(told[name]).lower().removesuffix(".0") == value.lower()
    assert (sent.action, sent.who, sent.expected_revision) == (action, "ada", 1)


@pytest.mark.parametrize("action", ["remove-from-service", "return-to-service"])
def test_an_operator_takes_nothing_out_of_service(console: Served, action: str) -> None:
    console.log_in("olga")
    form = ACKNOWLEDGE | {"action": action} | ACTIONS[action]
    assert console.client.post(ASK, data=form, headers=console.own_headers()).status_code == 403
    assert commands(console) == []


@pytest.mark.parametrize(
    "wrong", [{"action": "explode"}, {"revision": "-1"}, {"who": "ada"}, {"note": "x" * 501}]
)
def test_what_cannot_be_asked_is_refused(console: Served, wrong: dict[str, str]) -> None:
    form = ACKNOWLEDGE | wrong
    assert console.client.post(ASK, data=form, headers=console.own_headers()).status_code == 422
    assert commands(console) == []


WHAT_IF = f"/plants/{SLUG}/what-if"


def test_only_engineers_ask_what_if(console: Served) -> None:
    console.log_in("olga")
    form = {"level_setpoint": "0.6"}
    assert console.client.post(WHAT_IF, data=form, headers=console.own_headers()).status_code == 403


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "every field is empty"),
        ({"level_setpoint": "9"}, "0.5 to 0.75 m"),
        ({"level_setpoint": "nan"}, "0.5 to 0.75 m"),
        ({"tank_level": "0.6"}, "every field is empty"),
        ({"level_setpoint": "0.6"}, "a model of"),
    ],
)
def test_a_what_if_that_cannot_be_answered_says_why(
    console: Served, form: dict[str, str], said: str
) -> None:
    page = console.client.post(WHAT_IF, data=form, headers=console.own_headers())
    assert page.status_code == 200
    assert said in page.text


def test_what_reads_the_picture_runs_in_the_event_loop(console: Served) -> None:
    """The reader changes the picture there: a page made in a thread would see it half changed."""
    in_threads = {"ask", "log_out", "show_login", "account"}
    in_threads |= {"access", "add_person", "change_person", "add_token", "revoke_token"}
    routes = [
        route.endpoint
        for module in ROUTES
        for route in module.router.routes
        if isinstance(route, APIRoute)
    ]
    assert len(routes) > 20
    assert {r.__name__ for r in routes if not inspect.iscoroutinefunction(r)} <= in_threads


def test_machines_are_told_nothing_before_everything_is_read(
    console: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = console.accounts.tokens.add("early", [Grant(Role.VIEWER)])
    monkeypatch.setattr(lookup, "picture_of", lambda _: Picture([PLANT]))
    headers = {"Authorization": f"Bearer {token}"}
    answer = console.client.get("/api/v1/alarms", headers=headers)
    assert (answer.status_code, "still reads" in answer.text) == (503, True)


def test_the_models_page_says_what_each_version_does_and_who_decided(console: Served) -> None:
    journal = journal_of(console.settings, PLANT)
    state = journal.state()
    for action in (Action.LOADED, Action.PROBED, Action.CHAMPION):
        state = journal.append(
            state, action, "v1", who="olga", why="<b>first</b>", t_ns=console.clock.now_ns()
        )
    told = console.client.get("/models").text
    for words in ("the champion is v1", "olga", "&lt;b&gt;first", "probed"):
        assert words in told
    path = console.settings.models_dir / PLANT.prefix / JOURNAL_FILE
    path.write_text("no journal\n", encoding="utf-8")
    answer = console.client.get("/models")
    path.unlink()
    assert (answer.status_code, "cannot be read" in answer.text) == (200, True)
