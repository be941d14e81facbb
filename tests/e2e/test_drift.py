"""Drift on the simulated rig: found, kept, told as an event, and answered by one retraining."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.events import Event
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import Event as ServerEvent
from prefect.testing.utilities import prefect_test_harness

from flows import drift, wiring
from flows.cli.plant import load_plant
from flows.drift_journal import drift_history
from flows.feedback import refit_event_head
from flows.ingest import ingest_once
from flows.prefect_drift import (
    EVENT,
    PrefectRetrainer,
    drift_trigger,
    reconcile,
    resource_of,
    watch_drift,
)
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import NANOSECONDS
from fusion.retraining.labels import LabelledEpisode
from fusion.retraining.records import DriftRecord
from fusion.schema import Judgement
from fusion.simulation import FaultInterval, Scenario
from fusion.simulation.scenario import EPOCH_NS, Physics
from tests.e2e.conftest import Rig, publish

LASTS_S = 240.0
KNOCKED = (FaultInterval("camera_moved", 0, LASTS_S),)
WORN = (FaultInterval("bearing_wear", 0, LASTS_S, 0.4),)
PRODUCT = replace(Physics(), inflow_temperature_c=12.0, valve_coefficient=2.7e-4)
"""What is pumped comes colder, and flows more easily."""
HOURS = {
    "as ever": {},
    "camera knocked": {"faults": KNOCKED},
    "another bearing": {"faults": WORN},
    "another product": {"physics": PRODUCT},
    "camera still knocked": {"faults": KNOCKED},
}
"""An hour after the other the rig runs for four minutes, each time like this."""


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


def until_ns(hour: str) -> int:
    number = list(HOURS).index(hour) + 1
    return EPOCH_NS + round((number * 3600 + LASTS_S) * NANOSECONDS)


@pytest.fixture(scope="module")
def rig(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The plant that the model was made of, which has gone on since then."""
    trained_in = model_dir.parents[2]
    folder = tmp_path_factory.mktemp("drifting")
    shutil.copytree(trained_in, folder, dirs_exist_ok=True)
    settings = Settings(data_dir=folder)
    plant_file = folder / f"{model_dir.parent.name}.yaml"
    plant = load_plant(plant_file)
    for number, (hour, changes) in enumerate(HOURS.items(), start=1):
        start_ns = until_ns(hour) - round(LASTS_S * NANOSECONDS)
        publish(Scenario(LASTS_S, 20 + number, start_ns, **changes), plant, settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        assert ingest_once(
            source, wiring.open_lake(settings), clock=wiring.open_clock()
        ).is_complete
    copied = settings.models_dir / plant.prefix / model_dir.name
    return Rig(plant, plant_file, copied, settings)


@pytest.fixture
def told() -> Iterator[Callable[[], list[Event]]]:
    """The events of drift that Prefect's own worker took and gave to its client."""
    AssertingEventsClient.reset()
    EventsWorker.set_client_override(AssertingEventsClient)

    def drained() -> list[Event]:
        EventsWorker.instance().drain()
        sent = [e for client in AssertingEventsClient.all for e in client.events]
        return [event for event in sent if event.event == EVENT]

    yield drained
    EventsWorker.set_client_override(None)
    AssertingEventsClient.reset()


def check(rig: Rig, hour: str) -> DriftRecord:
    return watch_drift(str(rig.plant_file), LASTS_S, until_ns=until_ns(hour), settings=rig.settings)


def test_drift_is_found_kept_and_told_and_a_plant_as_ever_is_not(
    rig: Rig, told: Callable[[], list[Event]]
) -> None:
    records = {hour: check(rig, hour) for hour in HOURS}
    said = {hour: [each.sentence for each in record.findings] for hour, record in records.items()}
    assert [hour for hour, r in records.items() if r.is_drift] == list(HOURS)[1:], said
    assert {f.about for f in records["camera knocked"].drifts} >= {"camera"}, said
    assert "microphone" not in {f.about for f in records["camera knocked"].drifts}
    # (Another test of this plant may have checked some of its hours before.)
    kept = sorted(drift_history(rig.settings, rig.plant).records, key=lambda each: each.until_ns)
    assert kept == list(records.values())
    events = told()
    assert [event.payload["record"] for event in events] == [
        record.id for record in records.values() if record.is_drift
    ]
    assert {event.resource.id for event in events} == {resource_of(rig.plant)}
    trigger = EventTrigger.model_validate(
        drift_trigger(rig.plant, str(rig.plant_file)).model_dump(
            include={"expect", "match", "posture", "threshold", "within"}
        )
    )
    received = [ServerEvent.model_validate(event.model_dump()).receive() for event in events]
    assert all(trigger.covers(event) for event in received)

    again = check(rig, "camera knocked")
    assert again.id == records["camera knocked"].id
    assert len(drift_history(rig.settings, rig.plant).records) == len(HOURS), "kept once"


def test_a_judged_fault_that_began_long_before_and_stands_is_no_drift(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = "another bearing"
    ends_ns = until_ns(hour)
    began_ns = ends_ns - round(5 * LASTS_S * NANOSECONDS)
    half_ns = ends_ns - round(LASTS_S / 2 * NANOSECONDS)

    def checked(judgement: Judgement | None, cleared_ns: int | None) -> DriftRecord:
        stands = LabelledEpisode("a", "worn", began_ns, cleared_ns, judgement)
        monkeypatch.setattr(drift, "told_episodes", lambda *_, **__: [stands])
        return drift.check_drift(rig.plant, rig.settings, period_s=LASTS_S, until_ns=ends_ns)

    unjudged = checked(None, None)
    assert (unjudged.is_drift, unjudged.num_left_out) == (True, 0)
    stands = checked("useful", None)
    assert (stands.is_drift, stands.num_left_out) == (False, stands.num_ticks)
    cleared = checked("useful", half_ns)
    assert 0 < cleared.num_left_out < cleared.num_ticks


def test_the_reconciler_starts_one_run_of_the_deployment(rig: Rig, unique: str) -> None:
    """Needs no event: what was kept is enough."""
    for hour in ("another product", "camera still knocked"):
        check(rig, hour)

    @flow(name=f"retrain-{unique}")
    def retrain(plant_file: str, reason: str) -> str:
        return f"{plant_file} {reason}"

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(retrain)
        client.create_deployment(flow_id=flow_id, name="retrain")
    deployment = f"retrain-{unique}/retrain"
    soon = {"min_new_data_s": 60.0}
    for _ in range(3):
        reconcile(str(rig.plant_file), soon, deployment=deployment, settings=rig.settings)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[f"retrain-{unique}"]))
        )
    (run,) = runs
    assert run.parameters["plant_file"] == str(rig.plant_file)
    assert "drifts: " in run.parameters["reason"]
    (retraining,) = drift_history(rig.settings, rig.plant).retrainings
    assert retraining.run == str(run.id)
    retrainer = PrefectRetrainer(deployment)
    assert retrainer.state(str(run.id)) == "running"
    retrainer.give_up(str(run.id), "its machine lost its power")
    assert retrainer.state(str(run.id)) == "failed"


def test_too_few_labels_are_said_and_fit_nothing(rig: Rig) -> None:
    report = refit_event_head(rig.plant, rig.settings, rig.model_dir)
    assert report.head is None
    assert "5 alarms must be judged useful" in report.sentence


def test_without_news_it_says_what_to_do(model_dir: Path) -> None:
    folder = model_dir.parents[2]
    with pytest.raises(InputError, match="newer than what the model was made of"):
        watch_drift(
            str(folder / f"{model_dir.parent.name}.yaml"), settings=Settings(data_dir=folder)
        )
