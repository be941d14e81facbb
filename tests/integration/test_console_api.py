"""The API keeps to its own description, whatever is sent (schemathesis)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings

from console.rights import Grant, Role
from tests.console_app import PLANT, SLUG, Served, alarm_state, served, state_message

pytestmark = pytest.mark.xdist_group("console-api")


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("console")) as running:
        running.person("ada", Role.ADMIN)
        running.publish(state_message(PLANT, alarm_state()))
        running.log_in("ada")
        running.until("/alarms", "rig-abnormal")
        yield running


@pytest.fixture(scope="module")
def machine(console: Served) -> dict[str, str]:
    token = console.accounts.tokens.add("robot", [Grant(Role.ENGINEER, "demo/lab")])
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def api(console: Served) -> Any:
    described = schemathesis.openapi.from_url(f"{console.base}/api/v1/openapi.json")
    described.config.update(base_url=console.base)
    return described


def for_each_operation(api: Any, check: Callable[[schemathesis.Case], None], most: int) -> None:
    """Try ``check`` on made-up requests; the lazy plugin of schemathesis breaks with pytest 9."""
    for found in api.get_all_operations():
        tried = given(case=found.ok().as_strategy())(check)
        settings(max_examples=most, deadline=None, database=None)(tried)()


def test_answers_are_as_described(api: Any, machine: dict[str, str]) -> None:
    def check(case: schemathesis.Case) -> None:
        response = case.call(headers=machine)
        case.validate_response(response)
        assert response.status_code < 500

    for_each_operation(api, check, 15)


def test_without_a_token_everything_is_refused(api: Any) -> None:
    def check(case: schemathesis.Case) -> None:
        assert case.call().status_code in {401, 405, 422}

    for_each_operation(api, check, 5)


def test_the_description_names_every_operation(api: Any) -> None:
    paths = {(op.ok().method.upper(), op.ok().path) for op in api.get_all_operations()}
    assert ("POST", "/api/v1/alarms/{alarm}/commands") in paths
    assert all(path.startswith("/api/v1/") for _, path in paths)


def test_an_alarm_that_exists_is_answered(console: Served, machine: dict[str, str]) -> None:
    found = console.client.get(f"/api/v1/alarms/{SLUG}:rig-abnormal", headers=machine)
    assert found.json()["shown"] == "unacknowledged"
