"""``make bench-rollback``: how long a version that misbehaves stays in service, in real time.

One rig sends in real time; one version after another is let into shadow on a real Triton, and then
misbehaves. All limits are the product's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from benchmarks.broker import ROOT
from benchmarks.latency.__main__ import serve_triton, train
from benchmarks.machine import as_markdown, describe
from benchmarks.rollback.faulty import Fault, faulty_code, set_fault
from connectors.triton_io import Batching
from flows import wiring
from flows.cli.plant import load_plant
from flows.export import export_to_triton, triton_names
from flows.live import open_live, run_live
from flows.replay import replay
from flows.rollout import promote
from flows.rollout_journal import journal_of
from flows.rollout_watch import RolloutWatch
from flows.settings import Settings
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.plant import NANOSECONDS, Plant
from fusion.rollout.states import Action
from fusion.scoring.calibration import SCALARS_FILE
from fusion.simulation import normal_scenario, simulate

GOOD, ALARMING = "good", "alarming"
STORIES = (*get_args(Fault), ALARMING)
SETTLE_S = 5.0
"""In shadow before it misbehaves."""
MAX_S = 90.0
"""For one version: whoever is still there then has not been noticed."""


@dataclass
class Measurement:
    """The run so far: whose turn it is, since when it misbehaves, what became of the others."""

    plant: Plant
    settings: Settings
    left: list[str] = field(default_factory=lambda: list(STORIES))
    entered_s: float | None = None
    began_ns: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def act(self) -> None:
        """Do what is next; called again and again while the stream goes on."""
        version, now_s = self.left[0], time.monotonic()
        if self.entered_s is None:
            self.entered_s = now_s
            self.began_ns = time.time_ns() if version == ALARMING else None
            _promote(self, version)
        elif self.began_ns is None:
            if now_s - self.entered_s > SETTLE_S:
                self.began_ns = time.time_ns()
                set_fault(*_networks(self, version), cast("Fault", version))
        else:
            self._look(version)

    def _look(self, version: str) -> None:
        last = journal_of(self.settings, self.plant).entries()[-1]
        passed_s = (time.time_ns() - (self.began_ns or 0)) / NANOSECONDS
        if last.action is Action.ROLLED_BACK and last.version == version:
            passed_s = (last.t_ns - (self.began_ns or 0)) / NANOSECONDS
        elif passed_s < MAX_S:
            return
        self.rows.append({"version": version, "seconds": passed_s, "why": last.why})
        print(f"{version}: {last.action} after {passed_s:.1f} s: {last.why}", flush=True)
        self.left.pop(0)
        self.entered_s = self.began_ns = None


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a version of the rig; default: one is trained")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "rollback.md")
    asked = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="fusion-bench-") as folder:
        place = Path(folder)
        model_dir = asked.model or train(place / "trained")
        with serve_triton(place) as server:
            settings = Settings(
                data_dir=place / "data",
                inference="triton",
                triton_address=server.access.address,
                triton_repository=server.repository,
            )
            found = Measurement(load_plant(ROOT / "plants" / "rig.yaml"), settings)
            for version in (GOOD, *STORIES):
                _add(found, version, model_dir)
            _promote(found, GOOD)
            _run(found)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(as_page(machine, found.rows), encoding="utf-8")


def as_page(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the page in Markdown."""
    lines = "\n".join(f"| {row['version']} | {row['seconds']:.1f} | {row['why']} |" for row in rows)
    return f"""# How long a version that misbehaves stays

Written by `make bench-rollback`. {as_markdown(machine)}

The simulated rig sends in real time to one live process (embedded broker, networks on a real
Triton). Each version answers its golden windows, is let into shadow, and then misbehaves: its
answers drift by .005, its calls fail, take .4 s longer, or give NaN; *alarming* has a twentieth of
the alarm threshold, from the first tick on. Seconds from then to the line in the journal; limits
and intervals are the product's own.

| version | s | the journal says |
|---|---|---|
{lines}
"""


def _run(found: Measurement) -> None:
    """Watch the plant in real time until every version had its turn."""
    is_over = threading.Event()
    sender = threading.Thread(target=_send, args=(found.plant, found.settings, is_over))
    wiring.prepare_topics(found.settings, found.plant)
    sender.start()
    try:
        watch = RolloutWatch([found.plant], found.settings)
        with open_live(watch.watched(), found.settings, rollout=watch) as live:
            for step in run_live(live, should_stop=lambda: not found.left):
                if step.scores or found.began_ns is not None:
                    found.act()
    finally:
        is_over.set()
        sender.join()


def _send(plant: Plant, settings: Settings, is_over: threading.Event) -> None:
    payloads = simulate(normal_scenario(duration_s=1_200, seed=11), plant)

    def until_over() -> Iterator[Any]:
        for payload in payloads:
            if is_over.is_set():
                return
            yield payload

    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        replay(until_over(), publisher, plant, speed=1.0, clock=wiring.open_clock())


def _promote(found: Measurement, version: str) -> None:
    promote(found.settings, [found.plant], version, who="bench", why="its turn")


def _networks(found: Measurement, version: str) -> tuple[Path, list[str]]:
    path = found.settings.models_dir / found.plant.prefix / version
    return found.settings.triton_repository_dir, [*triton_names(load_manifest(path)).values()]


def _add(found: Measurement, version: str, made_of: Path) -> None:
    target = found.settings.models_dir / found.plant.prefix / version
    shutil.copytree(made_of, target)
    changes = {"version": version, "name": found.plant.prefix}
    manifest = load_manifest(target).model_copy(update=changes)
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(), encoding="utf-8")
    if version == ALARMING:
        scalars = json.loads((target / SCALARS_FILE).read_text(encoding="utf-8"))
        for panel in scalars["panels"].values():
            panel["threshold"] *= 0.05
        (target / SCALARS_FILE).write_text(json.dumps(scalars), encoding="utf-8")
    repository = found.settings.triton_repository_dir
    wiring.PYTHON_MODEL = faulty_code(found.settings.data_dir)
    export_to_triton(target, repository, backend="python", batching=Batching())


if __name__ == "__main__":
    main()
