"""People log in through an identity provider, a real one; what is no proof is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from console.rights import Grant, Role
from flows.settings import Settings
from tests.conftest import free_port
from tests.console_app import Served, served

pytestmark = pytest.mark.xdist_group("console-sign-on")
PATH = "/login/oidc"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    base = f"http://localhost:{free_port()}"
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", base.rpartition(":")[2]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            _until_it_answers(base)
            for sub, claims in {
                "1": {"preferred_username": "otto", "roles": ["shift-a", "canteen"]},
                "2": {"preferred_username": "gast", "roles": ["canteen"]},
                "3": {"preferred_username": "olga", "roles": ["shift-a"]},
                "4": {"preferred_username": "chef", "roles": "it"},
            }.items():
                put = httpx.put(f"{base}/users/{sub}", json=claims, trust_env=False)
                assert put.is_success, put.text
            yield base
        finally:
            running.terminate()


def _until_it_answers(base: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"{base}/.well-known/openid-configuration", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the identity provider did not start"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def running(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("console"),
        console_oidc_issuer=provider,
        console_oidc_client_secret=SecretStr("any will do there"),
        console_oidc_grants={"shift-a": "operator@demo/lab", "it": "admin"},
    )
    with served(settings.data_dir, settings=settings) as running:
        yield running


@pytest.fixture
def console(running: Served) -> Served:
    running.pass_s(3_600)
    running.client.cookies.clear()
    for name, role in (("ada", Role.ADMIN), ("olga", Role.OPERATOR)):
        running.person(name, role)
    return running


def depart(console: Served) -> str:
    answer = console.client.get(PATH)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def consent(url: str, sub: str) -> dict[str, str]:
    """Return what the provider sends back with a person who says yes."""
    answer = httpx.post(url, data={"sub": sub}, trust_env=False)
    assert answer.status_code == 302, answer.text
    return {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def log_in(console: Served, sub: str) -> httpx.Response:
    return console.client.get(f"{PATH}/back", params=consent(depart(console), sub))


def refusal(console: Served) -> str:
    line = console.accounts.journal(most=1)[0]
    assert (line.what, line.outcome) == (f"log in through {PATH}", "refused")
    return line.why


def test_a_person_of_the_provider_gets_the_role_that_the_claim_gives(console: Served) -> None:
    assert log_in(console, "1").status_code == 200
    assert console.client.get("/alarms").status_code == 200
    session = console.accounts.session(console.client.cookies["fusion_session"])
    assert session is not None
    assert session.person.name == "otto"
    assert session.person.grants == (Grant(Role.OPERATOR, "demo/lab"),)
    assert console.client.get("/access").status_code == 403
    assert console.log_in("otto", "") in {401, 422}, "there is no password of theirs"


def test_a_claim_of_one_word_makes_an_administrator(console: Served) -> None:
    assert log_in(console, "4").status_code == 200
    assert console.client.get("/access").status_code == 200


@pytest.mark.parametrize(("sub", "why"), [("2", "none of the roles"), ("3", "another person's")])
def test_who_has_no_role_or_anothers_name_is_refused(console: Served, sub: str, why: str) -> None:
    assert log_in(console, sub).status_code == 401
    assert why in refusal(console)
    assert console.client.get("/alarms").status_code == 303


def test_who_is_shut_out_here_stays_out(console: Served) -> None:
    log_in(console, "1")
    console.accounts.set_disabled("otto", is_disabled=True)
    assert console.client.get("/alarms").status_code == 303
    assert log_in(console, "1").status_code == 401
    assert "disabled" in refusal(console)
    console.accounts.set_disabled("otto", is_disabled=False)


def test_an_answer_counts_once_and_in_the_browser_that_asked(console: Served) -> None:
    answer = consent(depart(console), "1")
    console.client.cookies.clear()
    assert console.client.get(f"{PATH}/back", params=answer).status_code == 401
    assert "must begin here" in refusal(console)
    forged = consent(depart(console), "1") | {"state": "guessed"}
    assert console.client.get(f"{PATH}/back", params=forged).status_code == 401
    assert "belong to this log-in" in refusal(console)
    used = consent(depart(console), "1")
    assert console.client.get(f"{PATH}/back", params=used).status_code == 200
    assert console.client.get(f"{PATH}/back", params=used).status_code == 401


def test_a_code_of_another_log_in_is_no_proof(console: Served) -> None:
    """Its ID token has another nonce: what was stolen elsewhere is of no use here."""
    stolen = consent(depart(console), "4")["code"]
    console.client.cookies.clear()
    own = consent(depart(console), "1") | {"code": stolen}
    assert console.client.get(f"{PATH}/back", params=own).status_code == 401
    assert "no proof" in refusal(console)


def test_guessing_codes_soon_takes_minutes(console: Served) -> None:
    for _ in range(20):
        assert console.client.get(f"{PATH}/back", params={"code": "x"}).status_code == 401
    assert "must begin here" in refusal(console)
    console.client.get(f"{PATH}/back", params={"code": "x"})
    assert "too many failures" in refusal(console)


def test_a_provider_that_is_away_is_said(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        console_oidc_issuer=f"http://127.0.0.1:{free_port()}",
        console_oidc_grants={"it": "admin"},
    )
    with served(tmp_path, settings=settings) as console:
        answer = console.client.get(PATH)
        assert (answer.status_code, "must answer" in answer.text) == (503, True)
        assert "must answer" in refusal(console)
