"""The alarms of a live process over real brokers: on a topic, answered, journalled, resumed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import wiring
from flows.cli import app
from flows.cli.plant import load_plant
from flows.live import Watched, open_live, run_live
from flows.operate import alarm_events, alarm_states, ask, command, journal, kept_alarms
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.errors import BrokerUnavailableError
from fusion.plant import Plant
from fusion.schema import AlarmEvent, AlarmState, Record, ShownState, Verdict
from fusion.simulation import FaultInterval
from fusion.stream.reading import read_to_end
from fusion.stream.shard import Shard, Step
from tests.e2e.conftest import FAULTS, make_plant, publish

WORN = replace(FAULTS, duration_s=100, faults=(FaultInterval("bearing_wear", 40, 80),))


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "embedded":
        return Settings(data_dir=tmp_path)
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    return Settings(broker="kafka", kafka_bootstrap=bootstrap, data_dir=tmp_path)


def watch(plant: Plant, model_dir: Path, settings: Settings) -> list[AlarmState]:
    """Let a live process read all there is, and return the states in its memory."""
    with open_live([Watched(plant, model_dir)], settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        return live.alarm_states()


def records(plant: Plant, settings: Settings, kind: str) -> list[Record]:
    source = wiring.open_source(settings, (plant.topic(kind),), "looks")
    with contextlib.closing(source):
        return list(read_to_end(source))


def answer_to(events: list[AlarmEvent], command_id: str) -> AlarmEvent:
    (answer,) = [event for event in events if event.command == command_id]
    return answer


def test_states_lie_on_the_topic_and_people_are_answered_across_restarts(
    settings: Settings, model_dir: Path, unique: str, tmp_path: Path
) -> None:
    plant = load_plant(make_plant(tmp_path, unique))
    publish(WORN, plant, settings)
    memory = {state.name: state for state in watch(plant, model_dir, settings)}
    assert alarm_states(plant, settings) == memory, "those at rest too"
    assert set(kept_alarms(plant, settings).configs) == set(memory)
    assert all(record.value for record in records(plant, settings, "alarms"))
    raised = [e for e in alarm_events(plant, settings) if e.transition == "raised"]
    episodes = [e.id for e in raised if e.state.name == "rig-abnormal"]
    assert episodes, "the bearing wears out"

    def send(action: str, name: str = "rig-abnormal", **told: object) -> str:
        asked = command(plant, settings, name=name, action=action, who="ann", **told)  # type: ignore[arg-type]
        assert ask(plant, settings, asked, patience_s=0.01) is None, "nobody is there to answer"
        return asked.id

    acknowledged = send("acknowledge")
    late = send("shelve", duration_s=600, note="being mended")  # (it did not see the answer)
    judged = send("judge", episode=episodes[0], judgement="nuisance", note="someone leaned on it")
    watch(plant, model_dir, settings)
    events = alarm_events(plant, settings)
    assert answer_to(events, acknowledged).transition == "acknowledged"
    assert "look again" in answer_to(events, late).note
    assert answer_to(events, judged).transition == "judged"
    kept = {r.key: r.value for r in records(plant, settings, "feedback")}
    said = Verdict.model_validate_json(kept[f"verdict:{plant.address}:{episodes[0]}"])
    assert (said.judgement, said.who) == ("nuisance", "ann")

    shelved = send("shelve", duration_s=600, note="being mended")
    again = send("judge", episode=episodes[0], judgement=None)  # known from the topic alone
    memory = {state.name: state for state in watch(plant, model_dir, settings)}
    events, broken = journal(plant, settings)
    assert answer_to(events, shelved).state.shown is ShownState.SHELVED
    assert answer_to(events, again).transition == "judged"
    assert broken == []
    assert memory["rig-abnormal"].shown is ShownState.SHELVED
    assert alarm_states(plant, settings) == memory


def test_after_an_outage_everything_is_said_once_in_the_same_chain(
    model_dir: Path, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals: list[list[tuple[bytes, str]]] = []
    states: list[dict[str, AlarmState]] = []
    say = Shard.say
    monkeypatch.setattr("fusion.stream.live.SAY_EVERY_S", 0)  # many small transactions
    for is_cut in (False, True):
        settings = Settings(data_dir=tmp_path / str(is_cut))
        plant = load_plant(make_plant(tmp_path, unique))
        publish(WORN, plant, settings)
        num_said = 0

        def say_or_fail(shard: Shard) -> Step:
            nonlocal num_said
            num_said += 1
            if is_cut and num_said in {1, 4, 9}:  # noqa: B023 it is called in this round only
                raise BrokerUnavailableError("the broker must answer, and does not; try again")
            return say(shard)

        monkeypatch.setattr(Shard, "say", say_or_fail)
        num_outages = 0
        while True:
            try:
                memory = watch(plant, model_dir, settings)
                break
            except BrokerUnavailableError:
                num_outages += 1
        assert (num_outages > 0) is is_cut
        lines = records(plant, settings, "alarm-events")
        journals.append([(line.value, line.headers["journal-hash"]) for line in lines])
        states.append({state.name: state for state in memory})
        assert alarm_states(plant, settings) == states[-1]
    assert journals[0] == journals[1]
    assert states[0] == states[1]


def test_the_command_line_asks_and_tells(
    model_dir: Path, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("flows.operate.PATIENCE_S", 0.01)
    settings, plant_file = Settings(data_dir=tmp_path), make_plant(tmp_path, unique)
    monkeypatch.setattr(CONSOLE, "width", 200)
    plant, run = load_plant(plant_file), CliRunner()
    publish(WORN, plant, settings)
    watch(plant, model_dir, settings)

    def say(*words: str, status: int = 0) -> str:
        result = run.invoke(app, ["alarms", words[0], str(plant_file), *words[1:]])
        assert result.exit_code == status, result.output
        return " ".join(result.output.split())

    assert "rig-abnormal" in say("list", "--all")
    assert "the chain is whole" in say("journal", "--last", "5")
    assert "alarms per operator hour" in say("kpis")
    asked = ("rig-abnormal", "--who", "ann", "--reason", "works", "--minutes", "5")
    assert "waits on the broker" in say("shelve", *asked, status=75)
    watch(plant, model_dir, settings)
    assert "shelved rig-abnormal: ann: works" in say("journal")
    assert "shelved" in say("list")

    lines = alarm_events(plant, settings)
    assert f"kept {len(lines)} new lines" in say("record")
    assert "kept 0 new lines" in say("record")
    with contextlib.closing(wiring.open_alarm_log(settings)) as log:
        kept = log.read(plant=str(plant.address), start_ns=0, end_ns=2**62)
    assert {entry.id for entry in kept} == {event.id for event in lines}
    chain = sorted(kept, key=lambda entry: entry.number)
    assert all(one.hash == two.previous for one, two in pairwise(chain)), "it can be verified there"
