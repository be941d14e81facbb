"""Versions in service: a good one comes in without a window lost, a bad one goes back by itself."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli.plant import load_plant
from flows.live import open_live, run_live
from flows.operate import scores
from flows.rollout import promote, rollback
from flows.rollout_journal import journal_of
from flows.rollout_watch import RolloutWatch, Watched
from flows.settings import Settings
from fusion.errors import InputError, ManifestMismatchError
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.plant import AlarmDefinition, Plant
from fusion.rollout.judging import Limits
from fusion.rollout.states import Action
from fusion.schema import Score
from fusion.simulation import normal_scenario
from tests.e2e.conftest import make_plant, publish
from tests.e2e.versions import add_version, once_each

pytestmark = pytest.mark.xdist_group("triton")
LIMITS = Limits(min_calls=10, min_ticks=20, min_watched_s=0)
SCENARIO = normal_scenario(duration_s=90, seed=11)


@dataclass
class Story:
    """A plant with recorded normal running, versions in its models' folder, and a live process."""

    plant: Plant
    settings: Settings
    watch: RolloutWatch | None = None
    """Of the newest run."""

    def add(self, name: str, made_of: Path, *, threshold: float = 1.0) -> Path:
        """Put a version there: ``made_of`` with its alarm thresholds multiplied."""
        return add_version(self.settings, self.plant, name, made_of, threshold=threshold)

    def promote(self, version: str, *, to_champion: bool = False) -> None:
        promote(
            self.settings,
            [self.plant],
            version,
            who="anna",
            why="it is time",
            share=1.0,
            to_champion=to_champion,
        )

    def steps(self) -> list[tuple[str, Action]]:
        entries = journal_of(self.settings, self.plant).entries()
        return [(entry.version, entry.action) for entry in entries]

    def run_alone(self) -> list[Score]:
        """Return what v1 alone says, on a broker of its own."""
        alone = self.settings.model_copy(update={"data_dir": self.settings.data_dir / "alone"})
        publish(SCENARIO, self.plant, alone)
        model_dir = self.settings.models_dir / self.plant.prefix / "v1"
        with open_live([Watched(self.plant, model_dir)], alone) as live:
            for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
                pass
        return scores(self.plant, alone)

    def run(self, *acts: str) -> list[Score]:
        """Watch to the end; after each step that scored, promote a version (empty: roll back)."""
        left = list(acts)
        watch = RolloutWatch([self.plant], self.settings, limits=LIMITS, look_every_s=0.0)
        self.watch = watch
        with open_live(watch.watched(), self.settings, rollout=watch) as live:
            for step in run_live(live, should_stop=lambda: False, may_end=lambda: True):
                if not step.scores or not left:
                    continue
                if version := left.pop(0):
                    self.promote(version)
                else:
                    rollback(self.settings, self.plant, who="anna", why="a feeling")
        assert not left, "every act came to its turn"
        return scores(self.plant, self.settings)


@pytest.fixture
def story(unique: str, tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    # Small polls, so that a short recording has many steps in which something can happen.
    monkeypatch.setattr("connectors.embedded_broker.source.MAX_POLL_RECORDS", 60)
    plant = load_plant(make_plant(tmp_path, unique))
    made = Story(plant, Settings(data_dir=tmp_path / "data"))
    publish(SCENARIO, plant, made.settings)
    made.add("v1", model_dir)
    made.promote("v1")
    return made


def test_a_good_version_becomes_champion_and_can_be_rolled_back(
    story: Story, model_dir: Path
) -> None:
    alone = story.run_alone()
    story.add("v2", model_dir)
    found = story.run("v2", "v2", "v2", "")
    once_each([score.tick for score in found])
    versions = [score.model_version for score in found]
    assert {"v1", "v2"} == set(versions)
    assert versions[-1] == "v1", "the former champion serves again"
    # In whatever role it was meanwhile, v1 says what it says alone, running averages included.
    known = {score.tick: score.surprise for score in alone}
    assert sorted(known) == [score.tick for score in found]
    own = [score for score in found if score.model_version == "v1"]
    assert [score.surprise for score in own] == [known[score.tick] for score in own]
    assert [action for _, action in story.steps()[3:]] == [
        Action.LOADED,
        Action.PROBED,
        Action.SHADOW,
        Action.CANARY,
        Action.CHAMPION,
        Action.ROLLED_BACK,
    ]


def test_a_version_that_stands_by_may_be_gone(story: Story, model_dir: Path) -> None:
    folder = story.settings.models_dir / story.plant.prefix
    story.add("v2", model_dir)
    for _ in range(3):
        story.promote("v2")
    shutil.rmtree(folder / "v1")
    found = story.run()
    once_each([score.tick for score in found])
    assert {score.model_version for score in found} == {"v2"}
    last = journal_of(story.settings, story.plant).entries()[-1]
    assert (last.version, last.action) == ("v1", Action.RETIRED)
    assert "v1" in last.why


def test_a_version_that_alarms_all_the_time_goes_back_by_itself_and_nobody_hears_it(
    story: Story, model_dir: Path
) -> None:
    story.add("v2", model_dir, threshold=0.05)
    found = story.run("v2")
    once_each([score.tick for score in found])
    assert {score.model_version for score in found} == {"v1"}
    last = journal_of(story.settings, story.plant).entries()[-1]
    assert (last.version, last.action) == ("v2", Action.ROLLED_BACK)
    assert last.who.startswith("fusion live")
    assert last.why.startswith("alarm rate: it was above its alarm threshold in")
    assert last.evidence["num_alarm_ticks"] >= 20


def test_a_bad_version_that_was_made_champion_goes_back_too(story: Story, model_dir: Path) -> None:
    story.add("v2", model_dir, threshold=0.05)
    promote(story.settings, [story.plant], "v2", who="anna", why="hurry")
    story.promote("v2", to_champion=True)
    found = story.run()
    once_each([score.tick for score in found])
    assert (found[0].model_version, found[-1].model_version) == ("v2", "v1")
    assert story.steps()[-1] == ("v2", Action.ROLLED_BACK)


def test_what_does_not_fit_the_plant_is_refused_by_name(story: Story, model_dir: Path) -> None:
    changed = story.add("v2", model_dir)
    manifest = load_manifest(changed)
    stream = manifest.streams[0].model_copy(update={"rate_hz": 77.0})
    other = manifest.model_copy(update={"streams": (stream, *manifest.streams[1:])})
    (changed / MANIFEST_FILE).write_text(other.model_dump_json())
    with pytest.raises(ManifestMismatchError, match=f"rate_hz of stream {stream.name!r} differs"):
        story.promote("v2")
    last = journal_of(story.settings, story.plant).entries()[-1]
    assert (last.action, last.version) == (Action.REFUSED, "v2")
    assert "rate_hz" in last.why


def test_a_truncated_network_is_refused(story: Story, model_dir: Path) -> None:
    path = story.add("v2", model_dir) / "encoder.onnx"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="ONNX Runtime can load"):
        story.promote("v2")
    assert story.steps()[-1] == ("v2", Action.REFUSED)


def test_what_stands_already_is_news_to_neither_version(story: Story, model_dir: Path) -> None:
    """Or each alarm that stands when a challenger comes would count as one that it alone raised."""
    stands = [
        AlarmDefinition(
            name=f"valve-open-{at}", finding="limit", tag="valve_position", side="high", on_at=at,
            off_at=at - 1, on_delay_s=0, off_delay_s=2, priority="low", cause="it is open",
            consequence="something flows", action="nothing", time_to_respond_s=600,
        )
        for at in (1, 2, 3, 4)
    ]  # fmt: skip
    story.plant = story.plant.model_copy(update={"alarms": (*story.plant.alarms, *stands)})
    story.add("v2", model_dir)
    found = story.run("v2")
    once_each([score.tick for score in found])
    assert story.steps()[-1] == ("v2", Action.SHADOW), "it is the same, and nothing is said of it"
    assert story.watch is not None
    spoke, listened = (story.watch.meter(version).seen() for version in ("v1", "v2"))
    assert spoke.num_ticks == listened.num_ticks > LIMITS.min_ticks
    assert spoke.num_alarms == listened.num_alarms


def test_a_canary_that_cannot_be_opened_any_more_goes_back(story: Story, model_dir: Path) -> None:
    folder = story.add("v2", model_dir)
    for _ in range(2):
        story.promote("v2")
    shutil.rmtree(folder)
    found = story.run()
    once_each([score.tick for score in found])
    assert {score.model_version for score in found} == {"v1"}
    assert story.steps()[-1] == ("v2", Action.ROLLED_BACK)


def test_a_challenger_that_waits_does_not_keep_a_bad_champion(
    story: Story, model_dir: Path
) -> None:
    story.add("v2", model_dir, threshold=0.05)
    story.promote("v2")
    story.promote("v2", to_champion=True)
    journal = journal_of(story.settings, story.plant)
    journal.append(
        journal.state(), Action.LOADED, "v3", who="anna", why="for later", t_ns=time.time_ns()
    )
    found = story.run()
    assert (found[0].model_version, found[-1].model_version) == ("v2", "v1")
    assert story.steps()[-1] == ("v2", Action.ROLLED_BACK)
    assert journal.state().challenger == "v3", "it waits on"
