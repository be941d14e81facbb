"""The fault campaign: many runs, each harmed in its own way, each held against an unharmed one.

    python -m tests.faults.campaign --runs 200 --page docs/reliability.md

Every run publishes the same kind of workload (ordinary, late, repeated and poisoned records of
several plants) to a real Apache Kafka, lets the product's own live process watch it, does it harm,
lets it recover and finish, and compares everything that it left on the broker.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

from flows import wiring
from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import Message
from tests.faults import page
from tests.faults.cluster import Broker, Cluster
from tests.faults.member import AWAY, DONE, FENCED, PLACES, Orders, run
from tests.faults.model import quick_model
from tests.faults.verdict import Left, judge, what_is_left
from tests.faults.workload import messages_of

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
ASSETS = ("pump-a", "pump-b", "pump-c")
NUM_PARTITIONS = 3
NUM_WORKLOADS = 4
MEMBER_TIMEOUT_S = 240.0
SIGKILL_STATUS = -9

CONTEXT = multiprocessing.get_context("forkserver")


@dataclass
class Run:
    """One run of the campaign, and what came of it."""

    kind: str
    seed: int
    note: str = ""
    num_starts: int = 0
    num_kills: int = 0
    duration_s: float = 0.0
    num_records: int = 0
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    num_lost: int = 0
    num_doubled: int = 0
    faults: list[str] = field(default_factory=list[str])


@dataclass
class Place:
    """Where a run happens."""

    settings: Settings
    model_dir: Path
    folder: Path
    workloads: dict[int, list[Message]]
    expected: dict[int, Left]
    broker: Broker | None = None


def plant_files(folder: Path, prefix: str) -> list[Path]:
    """Write the plant files of a run: equal rigs beside one another, sharing topics."""
    files: list[Path] = []
    for asset in ASSETS:
        content = yaml.safe_load(RIG.read_text(encoding="utf-8"))
        content["prefix"] = prefix
        content["address"]["asset"] = asset
        content["topics"] = {"partitions": NUM_PARTITIONS}
        path = folder / f"{prefix}-{asset}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        files.append(path)
    return files


def workload(seed: int, plants: Sequence[Plant]) -> list[Message]:
    """Return what all plants send, mixed as it would come in."""
    rng = random.Random(seed)
    queues = [messages_of(plant, seed * 10 + number) for number, plant in enumerate(plants)]
    mixed: list[Message] = []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        mixed.append(queue.pop(0))
    return mixed


def publish(messages: Sequence[Message], plants: Sequence[Plant], settings: Settings) -> None:
    """Send ``messages``, made for other topics, to the topics of these plants."""
    for plant in plants:
        wiring.prepare_topics(settings, plant)
    prefix = plants[0].prefix
    publisher = wiring.open_publisher(settings)
    try:
        publisher.publish(
            [
                Message(f"{prefix}.{m.topic.partition('.')[2]}", m.key, m.value, m.headers)
                for m in messages
            ]
        )
    finally:
        publisher.close()


def start(orders: Orders) -> BaseProcess:
    """Start a member of the group as a process of its own."""
    process = CONTEXT.Process(target=run, args=(orders,))
    process.start()
    return process


def finish(process: BaseProcess, run_: Run, *, timeout_s: float = MEMBER_TIMEOUT_S) -> int:
    """Wait for a member, and return its exit status."""
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        run_.faults.append(f"a member did not end within {timeout_s:.0f} s")
        return SIGKILL_STATUS
    return process.exitcode


class Harm:
    """What is done to a run. Each kind is a method; all end with everything read."""

    def __init__(self, place: Place, run_: Run, files: Sequence[Path], rng: random.Random) -> None:
        self.place, self.run, self.rng = place, run_, rng
        self.orders: dict[str, Any] = {
            "settings": place.settings,
            "plant_files": list(files),
            "model_dir": place.model_dir,
            "log": place.folder / f"{run_.kind}-{run_.seed}.log",
        }

    def none(self) -> None:
        """Nothing: the unharmed run."""
        self._to_the_end()

    def kill_at(self, place: str) -> None:
        """SIGKILL at a certain place, up to three times, at a random call of it."""
        for _ in range(self.rng.randint(1, 3)):
            at_call = self.rng.randint(1, 8)
            process = self._start(kill_after=place, kill_at_call=at_call)
            self.run.note += f"{place}#{at_call} "
            if finish(process, self.run) == SIGKILL_STATUS:
                self.run.num_kills += 1
        self._to_the_end()

    def kill_at_any_time(self) -> None:
        """SIGKILL from outside, at a random moment."""
        for _ in range(self.rng.randint(1, 3)):
            process = self._start()
            process.join(self.rng.uniform(0.5, 6.0))
            if process.exitcode is None:
                process.kill()
                self.run.num_kills += 1
            process.join()
        self._to_the_end()

    def rebalance_storm(self) -> None:
        """Members come and go, some by their own will, some killed, some under their old name."""
        until_s = time.monotonic() + self.rng.uniform(8, 16)
        members: dict[str, BaseProcess] = {}
        while time.monotonic() < until_s:
            name = self.rng.choice(["one", "two", "three", ""])
            present = members.get(name)
            if present is None or present.exitcode is not None:
                settings = self.place.settings.model_copy(update={"replica": name})
                leave_after_s = self.rng.choice([None, self.rng.uniform(1, 6)])
                members[name] = self._start(settings=settings, leave_after_s=leave_after_s)
            elif self.rng.random() < 0.5:
                present.kill()
                self.run.num_kills += 1
            time.sleep(self.rng.uniform(0.2, 1.5))
        for process in members.values():
            process.kill()
            process.join()
        # Names that never come back keep their partitions until their session has ended.
        self._to_the_end(replica="one")

    def broker_killed(self) -> None:
        """SIGKILL of the broker in the middle, and its restart a little later."""
        broker = self.place.broker
        assert broker is not None
        process = self._start(is_patient=True)
        process.join(self.rng.uniform(1.0, 5.0))
        broker.kill()
        self.run.num_kills += 1
        time.sleep(self.rng.uniform(0.2, 3.0))
        broker.start()
        if finish(process, self.run) != DONE:
            self._to_the_end()

    def _start(self, **changes: Any) -> BaseProcess:
        self.run.num_starts += 1
        return start(Orders(**(self.orders | changes)))

    def _to_the_end(self, *, replica: str | None = None) -> None:
        settings = self.place.settings
        if replica is not None:
            settings = settings.model_copy(update={"replica": replica})
        for _ in range(5):
            status = finish(self._start(settings=settings, is_patient=True), self.run)
            if status == DONE:
                return
            if status not in {AWAY, FENCED}:
                self.run.faults.append(f"a member ended with status {status}")
                return
        self.run.faults.append("no member came to the end in five starts")


def one_run(place: Place, kind: str, seed: int, harm: Callable[[Harm], None]) -> Run:
    """Do one run and judge it."""
    began_s = time.monotonic()
    rng = random.Random(f"{kind}-{seed}")
    run_ = Run(kind, seed)
    files = plant_files(place.folder, f"f{seed}-{kind.replace(' ', '-')}")
    plants = [load_plant(path) for path in files]
    which = seed % NUM_WORKLOADS
    publish(place.workloads[which], plants, place.settings)
    harm(Harm(place, run_, files, rng))
    left = what_is_left(plants, place.settings)
    run_.num_records = sum(left.num_on_broker.values())
    total = left.total
    run_.outcomes = {name: getattr(total, name) for name in total.__dataclass_fields__}
    run_.reasons = dict(left.reasons)
    verdict = judge(left, place.expected.setdefault(which, left))
    run_.num_lost, run_.num_doubled = verdict.num_lost, verdict.num_doubled
    run_.faults += verdict.wrong
    run_.duration_s = time.monotonic() - began_s
    return run_


def kinds_of_process_faults() -> dict[str, Callable[[Harm], None]]:
    """Return every way in which a live process is harmed while the broker is well."""
    kinds: dict[str, Callable[[Harm], None]] = {
        f"killed after {place}" if place != "commit" else "killed before commit": (
            lambda harm, place=place: harm.kill_at(place)
        )
        for place in PLACES
    }
    kinds["killed at any time"] = Harm.kill_at_any_time
    kinds["rebalance storm"] = Harm.rebalance_storm
    return kinds


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; exit status 1 when anything was lost or doubled."""
    options = _options(arguments)
    CONTEXT.set_forkserver_preload(["tests.faults.member"])
    runs: list[Run] = []
    began_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusion-faults-")))
        single = stack.enter_context(Broker(folder / "kafka"))
        place = _place(folder, single.bootstrap, quick_model(folder))
        place.broker = single

        def do(kind: str, seed: int, harm: Callable[[Harm], None], where: Place) -> None:
            done = one_run(where, kind, seed, harm)
            runs.append(done)
            sys.stdout.write(f"{page.line(done, len(runs))}\n")
            sys.stdout.flush()
            if done.faults:
                shutil.copy(where.folder / f"{kind}-{seed}.log", options.logs)

        options.logs.mkdir(parents=True, exist_ok=True)
        for number in range(NUM_WORKLOADS):
            do("unharmed", number, Harm.none, place)
        kinds = kinds_of_process_faults()
        for number in range(options.runs):
            kind = list(kinds)[number % len(kinds)]
            do(kind, 100 + number, kinds[kind], place)
        for number in range(options.broker_runs):
            do("broker killed", 1000 + number, Harm.broker_killed, place)
        if options.cluster_runs:
            cluster = stack.enter_context(Cluster(folder / "cluster"))
            wide = _place(folder, cluster.bootstrap, place.model_dir)
            wide.workloads, wide.expected, wide.broker = place.workloads, place.expected, cluster
            for number in range(options.cluster_runs):
                do("one of three brokers down", 2000 + number, Harm.broker_killed, wide)
    wrong = [done for done in runs if done.faults]
    if options.page is not None:
        page.write(runs, options.page, duration_s=time.monotonic() - began_s)
    if options.json is not None:
        options.json.write_text(json.dumps([vars(done) for done in runs], indent=1))
    sys.stdout.write(f"{len(runs)} runs, {len(wrong)} with faults\n")
    return 1 if wrong else 0


def _place(folder: Path, bootstrap: str, model_dir: Path) -> Place:
    settings = Settings(
        broker="kafka",
        kafka_bootstrap=bootstrap,
        data_dir=folder,
        session_timeout_s=6,
    )
    plants = [load_plant(path) for path in plant_files(folder, "made")]
    workloads = {number: workload(number, plants) for number in range(NUM_WORKLOADS)}
    return Place(settings, model_dir, folder, workloads, {})


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=160, help="runs with harmed processes")
    parser.add_argument("--broker-runs", type=int, default=20, help="runs with the broker killed")
    parser.add_argument("--cluster-runs", type=int, default=20, help="runs on three brokers")
    parser.add_argument("--page", type=Path, help="write the report here")
    parser.add_argument("--json", type=Path, help="write every run here")
    parser.add_argument("--logs", type=Path, default=Path("out/faults"), help="logs of bad runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
