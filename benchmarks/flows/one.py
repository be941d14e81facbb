"""One flow, measured in its own process: ``python -m benchmarks.flows.one NAME FOLDER MINUTES``.

Prints one line of JSON. A process apart, since what Python once held it does not give back.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.loop.plant import Hour, batches, write_plant
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
from flows.retraining_run import Policy, begin, one_at_a_time, runs_of
from flows.settings import Settings
from fusion.plant import Plant
from fusion.retraining.incidents import PeriodRecipe
from fusion.retraining.quality import QualityRecipe

RECIPE, SEED, STEPS_TRAINED = "quick", 1, 30
LATER_SHARE, LATER_LEAST_S = 0.2, 600.0
"""What comes after the model was made, for the flows that look at news: of what there was."""
KIB = 1024.0
POLICY = Policy(
    periods=PeriodRecipe(test_share=0.2, margin_s=5), quality=QualityRecipe(min_train_s=600)
)


@dataclass(frozen=True)
class Bench:
    """A plant of so many minutes in a folder, and every flow that can be measured on it."""

    folder: Path
    minutes: float

    @property
    def settings(self) -> Settings:
        """Where its broker, lake and models are."""
        return Settings(data_dir=self.folder / "data", mlflow_uri="none")

    @property
    def plant_file(self) -> Path:
        """The plant file, written when it is first asked for."""
        path = self.folder / "pump.yaml"
        return path if path.exists() else write_plant(self.folder, "pump")

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
        duration_s = max(LATER_LEAST_S, self.hour.duration_s * LATER_SHARE)
        return Hour(self.hour.end_s, duration_s, seed=SEED + 1)

    def flow(self, name: str) -> Callable[[], str]:
        """Return what does the flow ``name``, and says what it did."""
        if name in STEPS:
            return lambda: self.step(name)
        return {
            "simulate": lambda: self.send(self.hour),
            "send-more": lambda: self.send(self.later),
            "ingest-all": self.ingest,
            "serve-anyway": self.serve_anyway,
            "watch-drift": self.watch_drift,
            "backfill": self.backfill,
            "housekeeping": self.housekeep,
        }[name]

    def send(self, part: Hour) -> str:
        """Let the plant say what it says in ``part``."""
        wiring.prepare_topics(self.settings, self.plant)
        with contextlib.closing(wiring.open_publisher(self.settings)) as publisher:
            payloads = batches(part, self.plant)
            sent = replay(payloads, publisher, self.plant, speed=None, clock=wiring.open_clock())
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
            steps=STEPS_TRAINED,
            policy=POLICY,
        )
        with one_at_a_time(self.settings, self.plant):
            run = begin(self.settings, asked)
            perform_step(Retraining(run, run.asked(), self.plant, self.settings), name)
        return ""

    def serve_anyway(self) -> str:
        """Let the gate's refusal, if it was one, not end the measurement: later flows need a model.

        It is measured here, and not judged.
        """
        run = runs_of(self.settings, self.plant)[-1]
        target = self.settings.models_dir / self.plant.prefix / run.asked().version
        shutil.copytree(run.path / "candidate" / target.name, target)
        return target.name

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


def main() -> None:
    """Run what is asked for, and say what it took."""
    name, folder, minutes = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(2)
    flow = Bench(folder, minutes).flow(name)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.perf_counter()
    about = flow()
    took = {
        "flow": name,
        "seconds": round(time.perf_counter() - began_s, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB, 1),
        "before_mib": round(before_kib / KIB, 1),
        "about": about,
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main()
