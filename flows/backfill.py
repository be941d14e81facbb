"""Scores of what lies in the lake, as the live process would have published them.

The records are planned once, shards are worked on by whoever :class:`Submit` gives them to, and
their evidence is judged here, in tick order. Importable without Prefect;
``flows/prefect_backfill.py`` gives shards to a pool of processes or to Ray.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flows import wiring
from flows.backfill_folder import (
    complete_plan,
    digest_of,
    load_evidence,
    load_plan,
    name_of,
    only_here,
    planned,
    save_plan,
)
from flows.backfill_shard import ShardDone, ShardJob
from flows.gates import open_stored_gate
from flows.learn import code_version
from flows.settings import Settings
from flows.trust import trusted_model
from fusion.alarms import AlarmEngine
from fusion.errors import InputError
from fusion.manifest import load_manifest
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import AlarmEvent, TopicPartition
from fusion.scoring import Calibration, Scorer
from fusion.stream.backfill import Bench
from fusion.stream.recall import Recall
from fusion.stream.shard_plan import Borders, EveryRecords, EveryTicks, ShardPlan, Span
from fusion.stream.shard_planner import plan_shards

LEAD_S = 60.0
"""Read before the first wanted tick beside what windows and ages need: clocks differ."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks of a backfill."""

    model_dir: Path
    from_ns: int | None = None
    until_ns: int | None = None
    num_shards: int | None = None
    shard_hours: float = 1.0
    """Not used with ``num_shards``."""
    data_version: str | None = None
    with_open_ticks: bool = False
    is_afresh: bool = False


class Pending(Protocol):
    """A shard that is being worked on."""

    def result(self) -> ShardDone:
        """Return what was made, once it is finished."""
        ...


Submit = Callable[[ShardJob], Pending]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is."""

    num_records: int
    num_records_read: int
    num_shards: int | None
    """None until all is planned."""
    num_judged: int
    num_ticks: int


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill made."""

    findings_uri: str
    model_version: str
    data_version: str
    num_shards: int
    num_reused: int
    """Shards that an earlier run had finished."""
    num_ticks: int
    num_windows: int
    transitions: Counter[str]
    """Alarm events by transition."""
    duration_s: float


def backfill(
    wanted: Wanted,
    plant: Plant,
    settings: Settings,
    *,
    submit: Submit,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> BackfillReport:
    """Score the stored records of ``plant``, put the findings in their table, return what was done.

    Raises:
        InputError: Nothing is stored in the wanted span, or the model is another plant's.
        LakeUnavailableError, ObjectStoreUnavailableError, BrokerUnavailableError: What is finished
            stays; run it again.
    """
    began_ns = wiring.open_clock().monotonic_ns()
    manifest = load_manifest(wanted.model_dir)
    manifest.require_fits(plant)
    run = _Run(wanted, plant, settings, manifest.window_ticks)
    done = Counter[str]()
    transitions = Counter[str]()
    with only_here(run.folder):
        if wanted.is_afresh:
            run.forget()
        pending = [(job, submit(job)) for job in run.jobs(on_progress)]
        run.require_ticks(len(pending))
        judged = _Judged(plant, settings, wanted.model_dir, run.data_version)
        for number, (job, working) in enumerate(pending, start=1):
            shard = working.result()
            transitions.update(judged.shard(job))
            done.update(
                ticks=shard.num_ticks, windows=shard.num_windows, reused=int(shard.is_reused)
            )
            on_progress(run.progress(len(pending), num_judged=number, num_ticks=done["ticks"]))
        # It is in the table now; the plan serves other models too.
        shutil.rmtree(run.evidence_dir, ignore_errors=True)
    return BackfillReport(
        findings_uri=settings.findings_uri(plant.prefix),
        model_version=manifest.version,
        data_version=run.data_version,
        num_shards=len(pending),
        num_reused=done["reused"],
        num_ticks=done["ticks"],
        num_windows=done["windows"],
        transitions=transitions,
        duration_s=(wiring.open_clock().monotonic_ns() - began_ns) / NANOSECONDS,
    )


class _Judged:
    """Judges shard after shard, and keeps what comes of it."""

    def __init__(
        self, plant: Plant, settings: Settings, model_dir: Path, data_version: str
    ) -> None:
        self._plant, self._data_version = plant, data_version
        with trusted_model(model_dir, settings) as folder:
            self._model_version = load_manifest(folder).version
            calibration = Calibration.load(folder)
        self._table = wiring.open_findings(settings, plant)
        scorer = Scorer(calibration, plant, self._model_version)
        recall = Recall(plant, calibration, self._model_version)
        self._bench = Bench(plant, scorer, AlarmEngine(plant), recall)

    def shard(self, job: ShardJob) -> Counter[str]:
        """Judge the next shard and return its alarm events by transition."""
        shard = load_plan(job.plan_file)
        findings = list(self._bench.findings(load_evidence(job.evidence_dir), shard.health))
        self._table.replace(
            findings,
            plant=str(self._plant.address),
            model_version=self._model_version,
            data_version=self._data_version,
            ticks=range(shard.first_tick, shard.end_tick),
        )
        bodies = (each.body for each in findings if each.kind == "alarm-event")
        return Counter(AlarmEvent.model_validate_json(body).transition for body in bodies)


class _Run:
    """The names and places of one backfill, and its plan."""

    def __init__(self, wanted: Wanted, plant: Plant, settings: Settings, window_ticks: int) -> None:
        self._wanted, self._plant, self._settings = wanted, plant, settings
        self._window_ticks = window_ticks
        self._lake = wiring.open_lake(settings)
        self.data_version = wanted.data_version or self._lake.version(plant.sense_topics)
        self._span = _span(wanted, plant)
        self._start = self._find_start()
        self.num_records = self._lake.num_records(
            plant.sense_topics, version=self.data_version, start=self._start
        )
        self._borders = self._find_borders()
        plan = name_of(
            plant.model_dump_json(),
            window_ticks,
            self.data_version,
            self._span,
            self._borders,
            wanted.with_open_ticks,
            code_version(),
        )
        self.folder = settings.backfill_dir / plant.prefix / plan
        self._shards_dir = self.folder / "shards"
        self.evidence_dir = self.folder / digest_of(wanted.model_dir)

    def forget(self) -> None:
        """Remove what earlier runs have finished."""
        shutil.rmtree(self._shards_dir, ignore_errors=True)
        shutil.rmtree(self.evidence_dir, ignore_errors=True)

    def jobs(self, on_progress: Callable[[Progress], None]) -> Iterator[ShardJob]:
        """Yield the shards, each as soon as it is planned."""
        known = planned(self._shards_dir)
        if known is None:
            num_shards = 0
            for shard in self._plan(lambda num: on_progress(self.progress(num_read=num))):
                num_shards += 1
                yield self._job(save_plan(shard, self._shards_dir))
            complete_plan(self._shards_dir, num_shards)
        else:
            num_shards = len(known)
            yield from map(self._job, known)
        on_progress(self.progress(num_shards))

    def progress(
        self,
        num_shards: int | None = None,
        *,
        num_read: int | None = None,
        num_judged: int = 0,
        num_ticks: int = 0,
    ) -> Progress:
        """Return how far it is; all is read unless ``num_read`` says otherwise."""
        read = self.num_records if num_read is None else num_read
        return Progress(self.num_records, read, num_shards, num_judged, num_ticks)

    def require_ticks(self, num_shards: int) -> None:
        """Refuse a span in which nothing is stored."""
        if num_shards == 0:
            raise InputError(
                f"the lake must hold ticks of {self._plant.address} in the wanted span, and "
                f"{self.data_version} holds none; run `fusion ingest` first, or widen --from and "
                "--until"
            )

    def _plan(self, on_read: Callable[[int], None]) -> Iterator[ShardPlan]:
        with open_stored_gate(self._plant, self._settings) as gate:
            yield from plan_shards(
                self._lake.read_in_arrival_order(
                    self._plant.sense_topics, version=self.data_version, start=self._start
                ),
                self._plant,
                window_ticks=self._window_ticks,
                borders=self._borders,
                span=self._span,
                with_open_ticks=self._wanted.with_open_ticks,
                gate=gate,
                on_read=on_read,
            )

    def _job(self, plan_file: Path) -> ShardJob:
        name = plan_file.name.partition(".")[0]
        return ShardJob(
            self._plant,
            self._settings,
            self._wanted.model_dir,
            self.data_version,
            plan_file,
            self.evidence_dir / name,
        )

    def _find_start(self) -> dict[TopicPartition, int]:
        """Return where to begin to read, so that the first wanted tick has all that it needs."""
        if self._span.first_tick is None:
            return {}
        plant = self._plant
        ages_s = max(stream.max_age_s for stream in plant.streams)
        lateness_ns = max(plant.lateness_ns(stream) for stream in plant.streams)
        lead_ns = 2 * self._window_ticks * plant.tick_ns + lateness_ns
        lead_ns += round((ages_s + LEAD_S) * NANOSECONDS)
        first_ns = self._span.first_tick * plant.tick_ns - lead_ns
        return self._lake.offsets_at(plant.sense_topics, first_ns, version=self.data_version)

    def _find_borders(self) -> Borders:
        wanted = self._wanted
        if wanted.num_shards is not None:
            return EveryRecords(max(1, -(-self.num_records // wanted.num_shards)))
        ticks = round(wanted.shard_hours * 3_600 * NANOSECONDS) // self._plant.tick_ns
        return EveryTicks(max(1, ticks))


def _span(wanted: Wanted, plant: Plant) -> Span:
    """Return the ticks that begin in the wanted time."""
    if wanted.num_shards is not None and wanted.num_shards < 1:
        raise InputError(f"--shards must be 1 or more, got {wanted.num_shards}")
    if wanted.num_shards is None and wanted.shard_hours <= 0:
        raise InputError(f"--shard-hours must be above 0, got {wanted.shard_hours:g}")
    first, end = (
        None if t_ns is None else -(-t_ns // plant.tick_ns)
        for t_ns in (wanted.from_ns, wanted.until_ns)
    )
    if first is not None and end is not None and first >= end:
        raise InputError("--from must lie before --until by a tick or more; widen the span")
    return Span(first, end)
