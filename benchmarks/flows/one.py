"""One flow, measured: what it takes of time and memory on a plant of so many minutes."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.loop.plant import Hour, payloads, write_plant
from flows import wiring
from flows.backfill import Wanted, backfill
from flows.backfill_shard import ShardDone, ShardJob, compute_shard
from flows.drift import check_drift
from flows.housekeeping import tidy
from flows.ingest import ingest_once
from flows.plant_files import load_plant
from flows.replay import replay
from flows.retraining import STEPS, asked_for, perform_step
from flows.retraining_data import champion_of
from flows.retraining_results import Retraining
from flows.retraining_run import Policy, begin, one_at_a_time
from flows.settings import Settings
from fusion.plant import Plant
from fusion.retraining.gate import GateRecipe
from fusion.retraining.incidents import PeriodRecipe
from fusion.retraining.quality import QualityRecipe

RECIPE, SEED = "quick", 1
LATER_SHARE = 0.5
"""What comes after the model was made, for the flows that look at news: of what there was."""
KIB = 1024.0
STREAMS: Mapping[str, tuple[str, ...]] = {
    "pump": ("process",),
    "rig": ("process", "microphone", "camera"),
}
"""What each simulated plant has."""
POLICY = Policy(
    periods=PeriodRecipe(test_share=0.2, margin_s=5),
    quality=QualityRecipe(min_train_s=200),
    # Models are measured here, and not judged: what comes behind the gate needs one.
    gate=GateRecipe(floors=(), first_floors=()),
)


@dataclass(frozen=True)
class Bench:
    """A plant of so many minutes in a folder, and every flow that can be measured on it."""

    name: str
    folder: Path
    minutes: float

    @property
    def settings(self) -> Settings:
        """Where its broker, lake and models are."""
        return Settings(data_dir=self.folder / "data", mlflow_uri="none")

    @property
    def plant_file(self) -> Path:
        """The plant file, written when it is first asked for."""
        path = self.folder / f"{self.name}.yaml"
        return path if path.exists() else write_plant(self.folder, self.name, STREAMS[self.name])

    @property
    def plant(self) -> Plant:
        """What the plant file describes."""
        return load_plant(self.plant_file)

    @property
    def hour(self) -> Hour:
        """What the model is made of."""
        return Hour(0, self.minutes * 60, seed=SEED)

    @property
    def later(self) -> Hour:
        """What comes after it."""
        return Hour(self.hour.end_s, self.hour.duration_s * LATER_SHARE, seed=SEED + 1)

    def flow(self, name: str) -> Callable[[], str]:
        """Return what does the flow ``name``, and says what it did."""
        if name in STEPS:
            return lambda: self.step(name)
        return {
            "simulate": lambda: self.send(self.hour),
            "send-more": lambda: self.send(self.later),
            "ingest-all": self.ingest,
            "watch-drift": self.watch_drift,
            "backfill": self.backfill,
            "housekeeping": self.housekeep,
        }[name]

    def send(self, part: Hour) -> str:
        """Let the plant say what it says in ``part``."""
        wiring.prepare_topics(self.settings, self.plant)
        with contextlib.closing(wiring.open_publisher(self.settings)) as publisher:
            said = payloads(part, self.plant)
            sent = replay(said, publisher, self.plant, speed=None, clock=wiring.open_clock())
        return f"{sum(sent.num_messages.values())} records"

    def ingest(self) -> str:
        """Copy into the lake what is not in it."""
        lake, num_stored, is_complete = wiring.open_lake(self.settings), 0, False
        source = wiring.open_source(self.settings, self.plant.sense_topics, "ingest")
        with contextlib.closing(source):
            while not is_complete:
                report = ingest_once(source, lake, clock=wiring.open_clock())
                num_stored, is_complete = num_stored + report.num_stored, report.is_complete
        return f"{num_stored} records"

    def step(self, name: str) -> str:
        """Do one step of a retraining; those before it are done."""
        asked = asked_for(
            self.plant_file,
            reason="a measurement",
            recipe=RECIPE,
            seed=SEED,
            policy=POLICY,
        )
        with one_at_a_time(self.settings, self.plant):
            run = begin(self.settings, asked)
            perform_step(Retraining(run, run.asked(), self.plant, self.settings), name)
        return ""

    def watch_drift(self) -> str:
        """Look for drift in what came later."""
        record = check_drift(self.plant, self.settings, period_s=self.later.duration_s)
        return f"{record.num_ticks} recent ticks"

    def backfill(self) -> str:
        """Score everything."""
        champion = champion_of(self.settings, self.plant)
        assert champion is not None, "a retraining comes before"
        wanted = Wanted(self.settings.models_dir / self.plant.prefix / champion)
        report = backfill(wanted, self.plant, self.settings, submit=_worked_on)
        return f"{report.num_windows} windows in {report.num_shards} shards"

    def housekeep(self) -> str:
        """Join the lake's small files."""
        return f"{tidy(self.settings, self.plant).num_lake_files} files joined"


@dataclass(frozen=True)
class _Done:
    """A shard that was worked on here, at once."""

    done: ShardDone

    def result(self) -> ShardDone:
        return self.done


def _worked_on(job: ShardJob) -> _Done:
    return _Done(compute_shard(job))


@dataclass(frozen=True, slots=True)
class Took:
    """What one flow took at one scale."""

    plant: str
    scale: int
    flow: str
    seconds: float
    peak_mib: float
    """The most that the process held."""
    before_mib: float
    """What it held when everything was imported."""
    about: str

    @property
    def grown_mib(self) -> float:
        """The peak above what the imports hold."""
        return self.peak_mib - self.before_mib


def measure(plant: str, flow: str, folder: Path, minutes: float, scale: int) -> Took:
    """Run a flow in this process, and return what it took with ``scale`` times ``minutes``.

    Memory is the process's peak, so that no second flow can be measured in it.
    """
    torch.set_num_threads(2)
    work, before_mib = Bench(plant, folder, minutes * scale).flow(flow), _peak_mib()
    began_s = time.perf_counter()
    about = work()
    seconds = time.perf_counter() - began_s
    return Took(plant, scale, flow, round(seconds, 3), _peak_mib(), before_mib, about)


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB, 1)
