"""Engineers take versions further and back, each step once, with their name and a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from console.picture import PlantPicture
from console.ports import Step
from console.rights import Role
from flows.rollout_journal import journal_of
from fusion.rollout.states import Action
from tests.console_app import PLANT, SLUG, Served, served

PATH = f"/models/{SLUG}/step"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture
def console(running: Served) -> Served:
    running.pass_s(3_600)
    for name, role in (("ada", Role.ADMIN), ("erik", Role.ENGINEER), ("olga", Role.OPERATOR)):
        running.person(name, role)
    journal = journal_of(running.settings, PLANT)
    if not journal.entries():
        state = journal.state()
        for action, version in (
            (Action.LOADED, "v1"),
            (Action.PROBED, "v1"),
            (Action.CHAMPION, "v1"),
            (Action.LOADED, "v2"),
            (Action.PROBED, "v2"),
            (Action.SHADOW, "v2"),
        ):
            state = journal.append(state, action, version, who="x", why="first", t_ns=1)
    running.log_in("erik")
    running.read_all()
    return running


def post(console: Served, **form: str) -> tuple[int, str]:
    answer = console.client.post(PATH, data=form, headers=console.own_headers())
    return answer.status_code, answer.text


def test_a_rollback_says_who_and_why_and_comes_once(console: Served) -> None:
    journal = journal_of(console.settings, PLANT)
    seen = str(journal.state().revision)
    assert "Take v2 back" in console.client.get("/models").text
    status, text = post(console, revision=seen, why="it alarms at every start")
    assert (status, "the champion is v1" in text) == (200, True)
    step = journal.entries()[-1]
    told = (step.action, step.version, step.who, step.why)
    assert told == (Action.ROLLED_BACK, "v2", "erik", "it alarms at every start")
    line = console.accounts.journal(most=1)[0]
    assert (line.who, line.what, line.outcome) == ("erik", f"roll back ({PLANT.prefix})", "done")
    again = post(console, revision=seen, why="it alarms at every start")[1]
    assert "another one was faster" in again
    assert console.accounts.journal(most=1)[0].outcome == "refused"
    assert journal.entries()[-1] == step


def test_an_unknown_version_is_refused_in_words(console: Served) -> None:
    revision = str(journal_of(console.settings, PLANT).state().revision)
    said = post(console, revision=revision, why="because", version="../../etc")[1]
    assert "a version must be one of" in said


@pytest.mark.parametrize("name", ["olga", "near"])
def test_only_engineers_of_all_plants_that_share_the_versions(
    console: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    console.person("near", Role.ENGINEER, str(PLANT.address))
    twin = PLANT.model_copy(
        update={"address": PLANT.address.model_copy(update={"asset": "twin-rig"})}
    )
    taken: list[Step] = []
    ports = replace(console.app.state.ports, take_step=lambda step: taken.append(step) or "done")
    monkeypatch.setitem(console.app.state._state, "ports", ports)
    picture = console.app.state.reader.picture
    monkeypatch.setitem(picture.plants, str(twin.address), PlantPicture(twin))
    monkeypatch.setitem(picture._counted, str(twin.address), Counter())
    console.log_in(name)
    assert post(console, revision="1", why="because", version="v2")[0] in {403, 404}
    assert taken == []
    console.log_in("erik")
    assert post(console, revision="1", why="because", version="v2")[0] == 200
    assert [(s.who, s.version, len(s.plants)) for s in taken] == [("erik", "v2", 2)]
