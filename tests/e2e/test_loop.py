"""The whole loop on real services: the plant moves, its model follows; and lies do not get through.

Apache Kafka, Prefect's server with a worker, MLflow and ``fusion live`` are processes of their own.
Nothing is told to pass: the gate's rules are the product's, and so are those of a rollout.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.loop import story
from benchmarks.loop.plant import Hour, send, write_plant
from benchmarks.loop.services import Place, make_place, prefect_server, process
from flows.drift_journal import drift_history
from flows.models import models_of
from flows.operate import scores
from flows.plant_files import load_plant
from flows.retraining_run import Outcome
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.retraining.gate import Decision
from fusion.rollout.states import Action

pytestmark = [pytest.mark.xdist_group("retraining"), pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module")
def place(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A Prefect server of its own with the product's deployments, and a worker that runs them."""
    folder = tmp_path_factory.mktemp("loop")
    settings = Settings(broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=folder / "data")
    made = make_place(folder, settings, write_plant(folder, "looped"))
    with prefect_server(made):
        story.describe(made)
        said = made.fusion("flows", "deploy", "--file", str(made.deployments))
        assert "deployed: ingest, retrain, advance-rollout" in said
        with process(made, "worker", "prefect", "worker", "start", "--pool", "fusion"):
            yield made


def test_the_whole_loop(place: Place) -> None:
    plant = load_plant(place.plant_file)

    # A first model. Two people ask at once: the second one's run is cancelled (CANCEL_NEW).
    send(place.plant_file, place.settings, story.AS_EVER)
    begun = [place.start("retrain", reason=reason) for reason in ("the first", "at once")]
    first_run, second_run = (place.ended(each) for each in begun)
    assert (first_run.state_name, second_run.state_name) == ("Completed", "Cancelled")
    first = story.state(place).champion
    assert first is not None, story.told(place)

    with story.watched_live(place):
        # Another product is pumped. Drift is noticed, kept, told; nobody asks for what follows.
        story.speak(place, story.OTHER_PRODUCT)
        story.judge_alarms(place, "nuisance")
        answered = story.drift_is_answered(place)
        for each in (answered.watched, answered.reconciled, answered.retrained):
            assert each.state_name == "Completed", (each.name, each.state)
        history = drift_history(place.settings, plant)
        (record,) = history.records
        assert record.is_drift
        assert record.model_version == first
        (retraining,) = history.retrainings
        assert retraining.answers == (record.id,)
        assert retraining.run == str(answered.retrained.id)
        end = answered.run.end()
        assert end is not None
        assert end.outcome is Outcome.IN_SERVICE, end
        decision = answered.run.kept("gate", Decision)
        assert decision is not None
        assert decision.is_passed
        second = answered.run.asked().version
        begun_as = story.state(place)
        assert (begun_as.champion, begun_as.challenger) == (first, second)
        assert begun_as.stage is Action.SHADOW

        # It proves itself beside the champion, then serves.
        now_s = story.take_on(place, second, story.OTHER_PRODUCT.end_s)
        actions = [
            each.action
            for each in journal_of(place.settings, plant).entries()
            if each.version == second
        ]
        assert actions == [
            Action.LOADED, Action.PROBED, Action.SHADOW, Action.CANARY, Action.CHAMPION,
        ]  # fmt: skip

        # The same again with instruments that lie: the model made of it does not pass.
        lies = Hour(now_s, 1_000, seed=3, physics=story.PRODUCT, is_poisoned=True)
        story.speak(place, lies)
        story.judge_alarms(place, "nuisance")
        poisoned = story.drift_is_answered(place)
        assert poisoned.retrained.state_name == "Completed"
        end = poisoned.run.end()
        assert end is not None
        assert (end.outcome, end.step) == (Outcome.REFUSED, "gate"), end
        assert end.why.startswith("refused: ")
        assert story.state(place).champion == second
        story.speak(place, Hour(lies.end_s, story.PIECE_S, seed=4, physics=story.PRODUCT))
    assert scores(plant, place.settings)[-1].model_version == second
    assert {each.name for each in models_of(place.settings, plant)} == {first, second}
