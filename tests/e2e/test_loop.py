"""The whole loop on real services: the plant moves, its model follows; and lies do not get through.

Apache Kafka, Prefect's server with a worker, MLflow and ``fusion live`` are processes of their own.
Nothing is told to pass: the gate's rules are the product's, and so are those of a rollout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts
from prefect.client.schemas.objects import FlowRun

from benchmarks.loop import story
from benchmarks.loop.plant import DRIFTS, Hour, send, write_plant
from benchmarks.loop.services import Place, make_place, prefect_server, process
from flows import wiring
from flows.drift_journal import drift_history
from flows.models import models_of
from flows.operate import alarm_events, scores
from flows.plant_files import load_plant
from flows.registry import where_from
from flows.retraining_run import Outcome, RunFolder, runs_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.manifest import load_manifest
from fusion.plant import parse_plant
from fusion.retraining.gate import Decision
from fusion.rollout.states import Action, Rollout

pytestmark = [pytest.mark.xdist_group("retraining"), pytest.mark.timeout(2_400)]
PRODUCT = DRIFTS["product"].change


@dataclass(frozen=True)
class Loop:
    """Everything that happened, in its order."""

    place: Place
    asked_twice: tuple[FlowRun, FlowRun]
    answered: story.Answered
    proving: Rollout
    """When the retraining that drift asked for had ended."""
    poisoned: story.Answered

    @property
    def runs(self) -> list[RunFolder]:
        """The retrainings: the first model, the other product, the lies."""
        return runs_of(self.place.settings, load_plant(self.place.plant_file))

    @property
    def first(self) -> str:
        return self.runs[0].asked().version

    @property
    def second(self) -> str:
        return self.answered.run.asked().version


@pytest.fixture(scope="module")
def place(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A Prefect server of its own with the product's deployments, and a worker that runs them."""
    folder = tmp_path_factory.mktemp("loop")
    settings = Settings(broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=folder / "data")
    made = make_place(folder, settings, write_plant(folder, "looped"))
    with prefect_server(made):
        story.describe(made)
        made.fusion("flows", "deploy", "--file", str(made.deployments))
        with process(made, "worker", "prefect", "worker", "start", "--pool", "fusion"):
            yield made


@pytest.fixture(scope="module")
def loop(place: Place) -> Loop:
    """The story, told once; the tests look at what is left of it."""
    send(place.plant_file, place.settings, story.AS_EVER)
    begun = [place.start("retrain", reason=reason) for reason in ("the first", "at once")]
    first, second = (place.ended(each) for each in begun)
    assert story.state(place).champion, story.told(place)
    with story.watched_live(place):
        hour = story.changed(PRODUCT)
        story.speak(place, hour)
        story.judge_alarms(place, "nuisance", PRODUCT.told)
        answered = story.drift_is_answered(place)
        proving = story.state(place)
        assert proving.challenger, story.told(place)
        now_s = story.take_on(place, proving.challenger, hour.end_s, PRODUCT)
        lies = Hour(now_s, story.LIES_S, seed=3, change=PRODUCT, is_poisoned=True)
        story.speak(place, lies)
        poisoned = story.drift_is_answered(place)
        story.speak(place, Hour(lies.end_s, story.PIECE_S, seed=4, change=PRODUCT))
    return Loop(place, (first, second), answered, proving, poisoned)


def test_of_two_retrainings_at_once_the_second_is_cancelled(loop: Loop) -> None:
    assert [run.state_name for run in loop.asked_twice] == ["Completed", "Cancelled"]
    assert loop.runs[0].asked().reason == "the first"


def test_drift_is_noticed_kept_told_and_answered_by_nobody_s_hand(loop: Loop) -> None:
    plant = load_plant(loop.place.plant_file)
    history = drift_history(loop.place.settings, plant)
    record, retraining = history.records[0], history.retrainings[0]
    assert record.is_drift
    assert record.model_version == loop.first
    assert retraining.answers == (record.id,)
    assert retraining.run == str(loop.answered.retrained.id)
    for each in (loop.answered.watched, loop.answered.reconciled, loop.answered.retrained):
        assert each.state_name == "Completed"
    # The reconciler is on no schedule here: the event of drift alone has started it.
    assert loop.answered.reconciled.created_by is not None
    assert loop.answered.reconciled.created_by.type == "AUTOMATION"
    assert loop.answered.run.asked().reason.startswith(f"{loop.first} drifts: ")


def test_the_new_model_proves_itself_stage_by_stage_and_serves(loop: Loop) -> None:
    decision = loop.answered.run.kept("gate", Decision)
    assert decision is not None
    assert decision.is_passed
    assert (loop.proving.champion, loop.proving.challenger) == (loop.first, loop.second)
    assert loop.proving.stage is Action.SHADOW
    plant = load_plant(loop.place.plant_file)
    entries = journal_of(loop.place.settings, plant).entries()
    assert [each.action for each in entries if each.version == loop.second] == [
        Action.LOADED,
        Action.PROBED,
        Action.SHADOW,
        Action.CANARY,
        Action.CHAMPION,
    ]
    said = scores(plant, loop.place.settings)
    assert list(dict.fromkeys(each.model_version for each in said)) == [loop.first, loop.second]
    ticks = [each.tick for each in said]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks))), "none lost, none scored twice"


def test_what_learned_from_lies_is_refused_and_the_champion_serves_on(loop: Loop) -> None:
    assert loop.poisoned.retrained.state_name == "Completed"
    end = loop.poisoned.run.end()
    assert end is not None
    assert (end.outcome, end.step) == (Outcome.REFUSED, "gate"), end
    assert end.why.startswith("refused: ")
    plant = load_plant(loop.place.plant_file)
    assert story.state(loop.place).champion == loop.second
    assert scores(plant, loop.place.settings)[-1].model_version == loop.second
    known = {each.name for each in models_of(loop.place.settings, plant)}
    assert known == {loop.first, loop.second}


def test_from_an_alarm_one_comes_to_model_run_data_and_plant_file(loop: Loop) -> None:
    place, plant = loop.place, load_plant(loop.place.plant_file)
    raised = [e for e in alarm_events(plant, place.settings) if e.transition == "raised"]
    alarm = next(each for each in raised if each.score is not None)
    assert alarm.score is not None
    version = alarm.score.model_version
    made = where_from(place.settings, plant, version)
    assert made is not None
    manifest = load_manifest(place.settings.models_dir / plant.prefix / version)
    assert made.params["data_version"] == manifest.data_version
    lake = wiring.open_lake(place.settings)
    stored = lake.read_in_arrival_order(plant.sense_topics, version=manifest.data_version)
    assert next(iter(stored)).topic in plant.sense_topics, "that version can still be read"
    asked = download_artifacts(
        run_id=made.run_id,
        artifact_path="asked/plant.yaml",
        tracking_uri=place.settings.tracking_uri,
    )
    then = parse_plant(Path(asked).read_text(encoding="utf-8"), origin="plant.yaml")
    assert then.fingerprint() == plant.fingerprint()
    # A person walks the same way with one command.
    shown = place.fusion("models", "show", str(place.plant_file), version)
    assert made.run_id in shown
    assert manifest.data_version in shown
    assert made.tags["gate"].split(":")[0] in shown


def test_prefect_shows_table_picture_decision_and_link(loop: Loop) -> None:
    with loop.place.client() as client:
        found = client.read_artifacts()
    of_run = {a.key: a for a in found if a.flow_run_id == loop.answered.retrained.id}
    kinds = {key: each.type for key, each in of_run.items()}
    assert kinds == {
        "looped-quality": "table",
        "looped-evaluation": "table",
        "looped-plot": "image",
        "looped-page": "markdown",
        "looped-gate": "markdown",
    }
    assert str(of_run["looped-plot"].data).startswith("data:image/png;base64,")
    decision = loop.answered.run.kept("gate", Decision)
    assert decision is not None
    assert decision.why in str(of_run["looped-gate"].data)


def test_people_see_what_runs_when_and_what_came_of_it(loop: Loop) -> None:
    shown = loop.place.fusion("flows", "status", str(loop.place.plant_file))
    for each in ("retrain", "watch-drift", "advance-rollout", "housekeeping"):
        assert each in shown
    assert "Completed" in shown
    assert "refused after gate" in shown.replace("\n", " ")
    with loop.place.client() as client:
        (known,) = [each for each in client.read_deployments() if each.name == "retrain"]
        assert [each.schedule.model_dump()["cron"] for each in known.schedules] == ["0 2 * * 0"]
        planned = [
            run.expected_start_time
            for run in client.read_flow_runs()
            if run.deployment_id == known.id and run.auto_scheduled and run.expected_start_time
        ]
        assert planned, "the server plans what stands in a schedule by itself"
        assert all((at.weekday(), at.hour, at.minute) == (6, 2, 0) for at in planned)
        assert known.work_pool_name == "fusion"
        assert set(known.tags) == {"fusion", "rig"}


def test_the_loop_can_be_drawn_from_what_was_written_down(loop: Loop) -> None:
    picture = loop.place.folder / "loop.svg"
    loop.place.fusion("flows", "timeline", str(loop.place.plant_file), "--out", str(picture))
    drawn = picture.read_text(encoding="utf-8")
    for words in ("passed", "refused by gate", "shadow", "champion", "drift"):
        assert words in drawn
