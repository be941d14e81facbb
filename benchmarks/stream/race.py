"""Contestants against one another: the same bytes, one after the other, several times over."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.broker import ROOT, create_topics, publish
from benchmarks.stream.jobs import Answer, Job
from benchmarks.stream.workloads import Workload, messages
from flows.settings import Settings
from fusion.plant import TelemetryStream

CONTESTANTS = Path("benchmarks") / "stream" / "contestants"
TIMEOUT_S = 900


@dataclass(frozen=True)
class Contestant:
    """One way of reading a topic, and the command that runs it."""

    name: str
    title: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def telemetry_only(self) -> bool:
        """Whether it cannot read sound and pictures."""
        return self.name.startswith("quix")


@dataclass
class Result:
    """All runs of one workload."""

    workload: str
    title: str
    num_records: int
    num_bytes: int
    num_cells: int
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def contestants(peers_python: Path) -> list[Contestant]:
    """Return who runs: the product, the two bare clients, and Quix Streams in two writings."""
    module = f"{CONTESTANTS.as_posix().replace('/', '.')}"
    own, peer = (sys.executable, "-m"), str(peers_python)
    quix = (peer, str(CONTESTANTS / "quix.py"))
    return [
        Contestant("product", "product: to closed ticks", (*own, f"{module}.product")),
        Contestant("bare", "bare kafka-python", (*own, f"{module}.bare")),
        Contestant("confluent", "bare confluent-kafka", (peer, str(CONTESTANTS / "confluent.py"))),
        Contestant("quix-rows", "Quix Streams, an event a row", quix, options=("rows",)),
        Contestant("quix-batches", "Quix Streams, batches reduced", quix, options=("batches",)),
    ]


def race(
    settings: Settings,
    workload: Workload,
    entrants: Sequence[Contestant],
    *,
    repetitions: int,
    min_seconds: float,
    on_run: Callable[[str], None],
) -> Result:
    """Publish the workload, and return what every contestant made of it in every repetition.

    Contestants take turns (A B C A B C ...), so that a machine that slows down slows all of them.
    """
    topics = list(workload.plant.sense_topics)
    create_topics(settings, topics)
    sent = [message for _, message in messages(workload)]
    result = Result(
        workload=workload.name,
        title=workload.title,
        num_records=len(sent),
        num_bytes=publish(settings, sent),
        num_cells=sum(message.topic.endswith(".telemetry") for message in sent)
        * cells_per_batch(workload),
    )
    only_telemetry = all(isinstance(s, TelemetryStream) for s in workload.plant.streams)
    taking_part = [each for each in entrants if only_telemetry or not each.telemetry_only]
    for repetition in range(repetitions):
        for contestant in taking_part:
            answer = run(settings, workload, contestant, len(sent), min_seconds)
            result.answers.setdefault(contestant.name, []).append(asdict(answer))
            rate = answer.num_records / answer.seconds
            on_run(f"{workload.name} {repetition + 1}: {contestant.name} {rate:,.0f} records/s")
    return result


def run(
    settings: Settings,
    workload: Workload,
    contestant: Contestant,
    num_records: int,
    min_seconds: float,
) -> Answer:
    """Return the answer of one contestant, run as a process of its own."""
    job = job_of(settings, workload, num_records, min_seconds)
    command = [*contestant.command, job.to_argument(), *contestant.options]
    return ask(command)


def job_of(settings: Settings, workload: Workload, num_records: int, min_seconds: float) -> Job:
    """Return the job of reading ``workload``, in a group that nobody used before."""
    return Job(
        bootstrap=settings.kafka_bootstrap,
        topics=list(workload.plant.sense_topics),
        num_records=num_records,
        min_seconds=min_seconds,
        group=f"bench-{uuid.uuid4().hex[:12]}",
        plants=[workload.plant.model_dump_json()],
    )


def ask(command: Sequence[str]) -> Answer:
    """Return what the process of ``command`` answers on its last line."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if done.returncode:
        raise RuntimeError(f"{command[:3]} must answer, but ended with:\n{done.stderr[-4000:]}")
    return Answer(**json.loads(done.stdout.splitlines()[-1]))


def cells_per_batch(workload: Workload) -> int:
    """Return how many values one telemetry record holds."""
    num_tags = sum(len(stream.tags) for stream in workload.plant.telemetry_streams)
    return num_tags * workload.rows_per_batch
