"""From an operator's verdict to a chance on the scores: judged, fitted, found by the live process.

The rig's bearing wears again and again, and alarms within seconds: nothing foretells it. What is
asked here is that chances come to be and where they are said, not that they are good: a head that
knows no more than the base rate is not kept, and is let pass here (``test_head_worth.py`` has the
rule).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness
from typer.testing import CliRunner

from flows import wiring
from flows.cli import app
from flows.cli.plant import load_plant
from flows.event_heads import head_folders, newest_head
from flows.feedback import HeadReport
from flows.ingest import ingest_once
from flows.live import open_live, run_live
from flows.operate import alarm_events, scores
from flows.prefect_drift import refit_events
from flows.rollout_watch import RolloutWatch
from flows.settings import Settings
from fusion.plant import NANOSECONDS
from fusion.schema import Score
from fusion.scoring.head_worth import HeadWorth
from fusion.simulation import FaultInterval, Scenario
from fusion.simulation.scenario import EPOCH_NS
from tests.e2e.conftest import Rig, make_plant, publish
from tests.e2e.versions import add_version

pytestmark = pytest.mark.timeout(900)
HOUR_NS = 3600 * NANOSECONDS
NUM_FAULTS, CALM_S, FAULT_S = 6, 80.0, 10.0
ALARM = "rig-abnormal"
PATIENCE_S = 300.0


def worn(num_faults: int, seed: int, hour: int) -> Scenario:
    """Return a run in which the bearing wears ``num_faults`` times, and is replaced each time."""
    cycle_s = CALM_S + FAULT_S
    faults = [
        FaultInterval("bearing_wear", at * cycle_s + CALM_S, (at + 1) * cycle_s)
        for at in range(num_faults)
    ]
    return Scenario(
        num_faults * cycle_s + CALM_S, seed, EPOCH_NS + hour * HOUR_NS, faults=tuple(faults)
    )


@dataclass
class Story:
    """What was learned, and what a live process said before and after."""

    rig: Rig
    too_few: HeadReport
    first: HeadReport
    again: HeadReport
    before: list[Score]
    after: list[Score]


@contextlib.contextmanager
def live(rig: Rig) -> Iterator[None]:
    """Watch the rig in a thread, as `fusion live` does in a process."""
    stop, watch = threading.Event(), RolloutWatch([rig.plant], rig.settings)

    def run() -> None:
        with open_live(watch.watched(), rig.settings, rollout=watch) as opened:
            for _ in run_live(opened, should_stop=stop.is_set):
                pass

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.5)


def said(rig: Rig, hour: int) -> list[Score]:
    """Return what was said of one hour."""
    begin_ns = EPOCH_NS + hour * HOUR_NS
    return [
        s for s in scores(rig.plant, rig.settings) if begin_ns < s.t_end_ns <= begin_ns + HOUR_NS
    ]


def speak(rig: Rig, scenario: Scenario, hour: int) -> list[Score]:
    """Let the rig speak, and return what the live process says of all but the last seconds."""
    publish(scenario, rig.plant, rig.settings)
    begin_ns = EPOCH_NS + hour * HOUR_NS
    until_ns = begin_ns + round((scenario.duration_s - 5) * NANOSECONDS)

    def is_scored() -> bool:
        found = said(rig, hour)
        return bool(found) and found[-1].t_end_ns >= until_ns

    until(is_scored, f"the scores of hour {hour}")
    return said(rig, hour)


def judge_useful(rig: Rig, episode: str) -> None:
    """Say it as an operator does."""
    told = ["alarms", "verdict", str(rig.plant_file), ALARM, "useful", "--who", "olga"]
    done = CliRunner().invoke(
        app, [*told, "--episode", episode], env={"FUSION_DATA_DIR": str(rig.settings.data_dir)}
    )
    assert done.exit_code == 0, done.output


def refit(rig: Rig) -> HeadReport:
    return refit_events(str(rig.plant_file), settings=rig.settings)


@pytest.fixture(scope="module")
def story(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("foreseeing")
    settings = Settings(data_dir=folder)
    plant_file = make_plant(folder, "foreseen")
    plant = load_plant(plant_file)
    rig = Rig(plant, plant_file, add_version(settings, plant, "v1", model_dir), settings)
    with (
        prefect_test_harness(server_startup_timeout=120),
        pytest.MonkeyPatch.context() as patched,
        live(rig),
    ):
        patched.setattr(HeadWorth, "refusal", lambda _: None)
        before = speak(rig, worn(NUM_FAULTS, seed=41, hour=1), hour=1)
        raised = [
            each.id
            for each in alarm_events(plant, settings)
            if each.transition == "raised" and each.state.name == ALARM
        ]
        judge_useful(rig, raised[0])
        too_few = refit(rig)
        for episode in raised[1:]:
            judge_useful(rig, episode)
        with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
            assert ingest_once(
                source, wiring.open_lake(settings), clock=wiring.open_clock()
            ).is_complete
        first = refit(rig)
        assert first.head is not None, first.sentence
        again = refit(rig)
        for hour in range(2, 40):  # (the live process looks for a head every ten seconds)
            if speak(rig, Scenario(20, hour, EPOCH_NS + hour * HOUR_NS), hour)[-1].event_chances:
                break
            time.sleep(1)
        after = speak(rig, worn(1, seed=42, hour=50), hour=50)
        yield Story(rig, too_few, first, again, before, after)


def test_too_few_verdicts_are_said_and_so_is_that_nothing_is_new(story: Story) -> None:
    assert story.too_few.head is None
    assert "5 alarms must be judged useful" in story.too_few.sentence
    assert story.again.head is None
    assert story.again.sentence == "nothing was judged since head 1 was fitted"
    assert len(head_folders(story.rig.model_dir, story.rig.plant)) == 1


def test_the_running_process_finds_the_head_and_says_what_it_rests_on(story: Story) -> None:
    assert not any(score.event_chances for score in story.before)
    known = newest_head(story.rig.model_dir, story.rig.plant, story.rig.settings)
    assert known is not None
    assert known.basis.num_useful >= 5
    for score in story.after:
        told = score.event_chances
        assert (told is None) == (score.surprise >= 1)
        if told is None:
            continue
        assert (told.head, told.num_useful) == (1, known.basis.num_useful)
        assert [each.within_s for each in told.within] == [
            ticks * story.rig.plant.tick_s for ticks in known.head.grid_K
        ]
        chances = [each.chance for each in told.within]
        assert chances == sorted(chances), "within more time it is never less likely"
    assert any(score.event_chances for score in story.after)
