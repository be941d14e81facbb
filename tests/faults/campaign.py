"""The fault campaign: many runs, each harmed in its own way, each held against an unharmed one.

    make faults            (python -m tests.faults --page docs/reliability.md)

Every run publishes the same kind of workload (ordinary, late, repeated and poisoned records of
several plants) to a real Apache Kafka, lets the product's own live process watch it, does it harm,
lets it recover and finish, and judges everything that it left on the broker.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.schema import Message
from tests.conftest import S3Server
from tests.faults import page
from tests.faults.brokers import Broker, Cluster, FullDiskBroker
from tests.faults.harms import KINDS, UNHARMED, Kind
from tests.faults.model import quick_model
from tests.faults.run import CONTEXT, Members, Place, Report, Run, StoppedError, poison_table
from tests.faults.verdict import COMMAND_TOPIC, Left, judge, what_is_left
from tests.faults.workload import addressed, make_workload, plant_files, publish, without_poison

NUM_POISONED = 4
NUM_WORKLOADS = NUM_POISONED + 1
"""The last one has no poison: what a sender lets through to the broker."""
SESSION_TIMEOUT_S = 6
"""The shortest that Kafka allows by default: how long a dead member keeps its partitions."""
BROKERS: dict[str, Callable[[Path], Broker]] = {
    "shared": Broker,
    "fragile": Broker,
    "small disk": FullDiskBroker,
    "cluster": Cluster,
}


@dataclass(frozen=True)
class Job:
    """One run that is to be done."""

    kind: Kind
    seed: int

    @property
    def workload(self) -> int:
        """The number of what is sent in it."""
        if self.kind is UNHARMED:
            return self.seed
        return NUM_POISONED if self.kind.sends_itself else self.seed % NUM_POISONED

    @property
    def wants(self) -> frozenset[str]:
        """What no other run may use meanwhile."""
        wanted = {self.kind.ground, self.kind.store or "folder"}
        return frozenset(wanted - {"shared", "folder"})


class Campaign:
    """All services of a campaign, started when first needed, and its runs."""

    def __init__(self, folder: Path, model_dir: Path, stack: ExitStack) -> None:
        self._folder, self._model_dir, self._stack = folder, model_dir, stack
        self._lock = threading.Lock()
        self._services: dict[str, Broker | S3Server] = {}
        self._busy: set[str] = set()
        self._expected: dict[int, Left] = {}
        self.members = Members()
        plants = [load_plant(path) for path in plant_files(folder, "made")]
        self._workloads: dict[int, list[Message]] = {
            number: make_workload(number, plants) for number in range(NUM_POISONED)
        }
        self._workloads[NUM_POISONED] = without_poison(make_workload(NUM_POISONED, plants))

    def do(self, job: Job) -> Report:
        """Do one run and judge it."""
        began_s = time.monotonic()
        report, kind = Report(job.kind.name, job.seed), job.kind
        try:
            place = self._place(job)
            files = plant_files(place.folder, f"f{job.seed}")
            plants = [load_plant(path) for path in files]
            which = job.workload
            messages = addressed(
                self._workloads[which], plants, place.settings, claims=kind.store is not None
            )
            if not kind.sends_itself:
                publish(messages, plants, place.settings)
            run = Run(place, report, files, self.members, plants=plants, messages=messages)
            kind.harm(run)
            report.recoveries_s = run.recoveries_s()
            left = what_is_left(plants, place.settings)
            if kind is UNHARMED:
                self._expected[which] = left
            _judge(left, self._expected[which], report, kind)
            if report.faults:
                report.notes.append(run.log.read_text(encoding="utf-8")[-2000:])
        except StoppedError:
            raise
        except Exception as failed:  # noqa: BLE001 one run must not end the campaign; it counts
            report.faults.append(f"{type(failed).__name__}: {failed}"[:500])
        report.duration_s = time.monotonic() - began_s
        return report

    @contextmanager
    def claimed(self, jobs: list[Job]) -> Iterator[Job | None]:
        """Yield the next of ``jobs`` whose services nobody else uses; None when none is left."""
        job = None
        while jobs:
            with self._lock:
                job = next((job for job in jobs if not job.wants & self._busy), None)
                if job is not None:
                    jobs.remove(job)
                    self._busy |= job.wants
                    break
            time.sleep(0.1)
        try:
            yield job
        finally:
            with self._lock:
                self._busy -= frozenset() if job is None else job.wants

    def _place(self, job: Job) -> Place:
        kind = job.kind
        with self._lock:
            broker = self._services.get(kind.ground)
            if broker is None:
                data = self._folder / kind.ground.replace(" ", "-")
                broker = self._stack.enter_context(BROKERS[kind.ground](data))
                self._services[kind.ground] = broker
            server = self._services.get("s3")
            if kind.store == "s3" and server is None:
                server = S3Server(self._folder / "s3")
                server.start()
                self._stack.callback(server.stop)
                self._services["s3"] = server
        assert isinstance(broker, Broker)
        where: dict[str, object] = {}
        if kind.store == "s3":
            assert isinstance(server, S3Server)
            where = {
                "objects": f"s3://{server.bucket}/campaign",
                "objects_endpoint": server.endpoint,
                "objects_access_key": server.access_key,
                "objects_secret_key": server.secret_key,
            }
        elif kind.store == "folder":
            where = {"objects": str(self._folder / f"objects-{job.seed}")}
        settings = Settings(
            broker="kafka",
            kafka_bootstrap=broker.bootstrap,
            data_dir=self._folder,
            session_timeout_s=SESSION_TIMEOUT_S,
            **where,  # pyright: ignore[reportArgumentType] built above
        )
        store = server if isinstance(server, S3Server) and kind.store == "s3" else None
        return Place(settings, self._model_dir, self._folder, broker, store)


def _judge(left: Left, expected: Left, report: Report, kind: Kind) -> None:
    report.num_commands = left.num_on_broker[COMMAND_TOPIC]
    report.num_records = sum(left.num_on_broker.values()) - report.num_commands
    total = left.total
    report.outcomes = {name: getattr(total, name) for name in total.__dataclass_fields__}
    report.reasons = dict(left.reasons)
    refused = [poison for where, poison in left.poisons.items() if where in left.dead_letters]
    report.poisons = poison_table(Counter(left.poisons.values()), Counter(refused))
    verdict = judge(left, expected, may_miss_claims=kind.may_miss_claims)
    report.num_lost += verdict.num_lost
    report.num_doubled += verdict.num_doubled
    report.faults += verdict.wrong


def plan(kinds: Iterable[Kind], scale: float) -> list[Job]:
    """Return all runs, of each kind ``scale`` times as many as a full campaign has, at least 1.

    Kinds alternate, so that a campaign that is cut short has seen all of them.
    """
    jobs: list[tuple[float, Job]] = []
    for number, kind in enumerate(kinds):
        count = max(1, round(kind.num_runs * scale))
        jobs += [
            ((index + 0.5) / count, Job(kind, 1000 * (number + 1) + index))
            for index in range(count)
        ]
    return [job for _, job in sorted(jobs, key=lambda each: each[0])]


def run_all(
    campaign: Campaign, jobs: list[Job], *, num_workers: int, on_done: Callable[[Report], None]
) -> None:
    """Do every job, ``num_workers`` at once."""

    def work() -> None:
        while True:
            with campaign.claimed(jobs) as job:
                if job is None:
                    return
                on_done(campaign.do(job))

    with ThreadPoolExecutor(num_workers) as pool:
        workers = [pool.submit(work) for _ in range(num_workers)]
        try:
            for worker in workers:
                worker.result()
        except BaseException:
            jobs.clear()
            campaign.members.stop()
            raise


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; exit status 1 when anything was lost, doubled or said differently."""
    options = _options(arguments)
    CONTEXT.set_forkserver_preload(["tests.faults.member"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kinds = [kind for kind in KINDS if not options.kinds or kind.name in options.kinds]
    if os.geteuid() and any(kind.mounts for kind in kinds):
        sys.stdout.write("left out: full disks, which need the right to mount one (root)\n")
        kinds = [kind for kind in kinds if not kind.mounts]
    reports: list[Report] = []
    began_s = time.monotonic()
    options.logs.mkdir(parents=True, exist_ok=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusion-faults-")))
        jobs = plan(kinds, options.scale)
        num_jobs = len(jobs)

        def on_done(report: Report) -> None:
            reports.append(report)
            passed_min = (time.monotonic() - began_s) / 60
            line = page.line(report, len(reports), num_jobs + NUM_WORKLOADS)
            sys.stdout.write(f"{passed_min:5.1f} min {line}\n")
            sys.stdout.flush()
            page.save(reports, options.json, duration_s=time.monotonic() - began_s)
            if report.faults:
                name = f"{report.kind}-{report.seed}"
                for path in folder.glob(f"{name}.*"):
                    shutil.copy(path, options.logs)

        campaign = Campaign(folder, options.model or quick_model(folder), stack)
        for number in range(NUM_WORKLOADS):
            on_done(campaign.do(Job(UNHARMED, number)))
        run_all(campaign, jobs, num_workers=options.workers, on_done=on_done)
    wrong = [report for report in reports if report.faults]
    if options.page is not None:
        page.write(options.json, options.page)
    sys.stdout.write(f"{len(reports)} runs, {len(wrong)} with faults\n")
    return 1 if wrong else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of a full campaign's runs")
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--kinds", nargs="*", help=f"of {[kind.name for kind in KINDS]}")
    parser.add_argument("--model", type=Path, help="a model of the rig, instead of training one")
    parser.add_argument("--page", type=Path, help="write the report here")
    parser.add_argument(
        "--json", type=Path, default=Path("out/faults.json"), help="write every run here"
    )
    parser.add_argument("--logs", type=Path, default=Path("out/faults"), help="logs of bad runs")
    return parser.parse_args(arguments)
