"""One check for drift: the lake's recent period beside the model's own, through the champion.

Importable without Prefect; ``flows/prefect_drift.py`` puts it on a schedule.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows import wiring
from flows.feedback import told_episodes
from flows.gates import open_stored_gate
from flows.looking_back import event_ns
from flows.models import newest_model
from flows.rollout import model_named
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.alignment import tick_of
from fusion.errors import InputError
from fusion.manifest import Manifest, load_manifest
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.drift import AlarmBudget, DriftLimits, Verdicts, check
from fusion.retraining.labels import LabelledEpisode
from fusion.retraining.records import DriftRecord
from fusion.retraining.sample import Sample, sample_of
from fusion.scoring import Calibration, Scorer
from fusion.scoring.fitting import DEFAULT_ON_DELAY_S
from fusion.stream.intake import align_recorded
from fusion.stream.windows import WindowEncoder
from fusion.training.package import load_normaliser, new_folder

LEAD_S = 60.0
"""Read before a period, beside what its first window needs: clocks differ."""
WINDOWS_AT_ONCE = 32
END_OF_TIME_NS = 2**62
SAMPLE_FILE = "sample.safetensors"


@dataclass(frozen=True, slots=True)
class Period:
    """A part of what the lake holds, in the plant's time; the end is not included."""

    data_version: str
    from_ns: int
    until_ns: int


def check_drift(
    plant: Plant,
    settings: Settings,
    *,
    period_s: float,
    until_ns: int | None = None,
    limits: DriftLimits = DriftLimits(),  # noqa: B008 frozen
    on_stage: Callable[[str], None] = lambda _: None,
) -> DriftRecord:
    """Return what drifted in the last ``period_s`` seconds that the lake holds, or held then.

    What the model made of its own time is computed once per version, and kept. Nothing is written
    into the journal here.

    Raises:
        InputError: There is no model, or nothing came since it was made.
        LakeUnavailableError, ObjectStoreUnavailableError, BrokerUnavailableError,
        AlarmLogUnavailableError: Call again.
    """
    clock = wiring.open_clock()
    began_ns = clock.monotonic_ns()
    model_dir = champion_of(plant, settings)
    manifest = load_manifest(model_dir)
    manifest.require_fits(plant)
    own = _own_period(plant, settings, manifest)
    recent = _recent_period(plant, settings, own, period_s, until_ns)
    on_stage("what the model made of its own time")
    then = _kept_sample(plant, settings, model_dir, own)
    on_stage("what it makes of the recent period")
    now = read_sample(plant, settings, model_dir, recent)
    # A fault may have begun long before, and stand: by what it covers, not by when it began.
    every = told_episodes(plant, settings)
    told = [each for each in every if recent.from_ns <= each.onset_ns < recent.until_ns]
    is_real_N = _inside(now, every, plant)
    on_stage("comparing")
    found = check(
        then.without(_inside(then, every, plant)),
        now.without(is_real_N),
        tick_s=plant.tick_s,
        budget=AlarmBudget(plant.scoring.false_alarms_per_day, _on_delay_ticks(plant)),
        verdicts=Verdicts(
            num_useful=sum(each.judgement == "useful" for each in told),
            num_nuisance=sum(each.judgement == "nuisance" for each in told),
        ),
        skill_at_training=_skill_of(manifest),
        limits=limits,
    )
    return DriftRecord(
        id=_id_of(plant, manifest.version, recent, limits),
        t_ns=clock.now_ns(),
        plant=str(plant.address),
        model_version=manifest.version,
        data_version=recent.data_version,
        from_ns=recent.from_ns,
        until_ns=recent.until_ns,
        num_ticks=len(now),
        num_left_out=int(is_real_N.sum()),
        block_s=found.block_ticks * plant.tick_s,
        new_data_s=(recent.until_ns - own.until_ns) / NANOSECONDS,
        duration_s=(clock.monotonic_ns() - began_ns) / NANOSECONDS,
        findings=found.findings,
    )


def champion_of(plant: Plant, settings: Settings) -> Path:
    """Return the folder of the version that watches ``plant``: the champion, or the newest one.

    Raises:
        InputError: There is none.
    """
    champion = journal_of(settings, plant).state().champion
    return (
        newest_model(settings, plant)
        if champion is None
        else model_named(settings, plant, champion)
    )


def read_sample(plant: Plant, settings: Settings, model_dir: Path, period: Period) -> Sample:
    """Return what the model in ``model_dir`` says of a stored period; its ticks are not kept."""
    manifest, calibration = load_manifest(model_dir), Calibration.load(model_dir)
    lake = wiring.open_lake(settings)
    lead_ns = round(LEAD_S * NANOSECONDS) + manifest.window_ticks * plant.tick_ns
    topics, version = plant.sense_topics, period.data_version
    start = lake.offsets_at(topics, period.from_ns - lead_ns, version=version)
    stop = lake.offsets_at(topics, period.until_ns + lead_ns, version=version)
    wanted = range(tick_of(period.from_ns, plant), tick_of(period.until_ns, plant))
    with (
        contextlib.closing(wiring.open_inference(model_dir)) as inference,
        open_stored_gate(plant, settings) as gate,
    ):
        encoder = WindowEncoder(inference, plant, manifest, load_normaliser(model_dir))
        records = lake.read_in_arrival_order(topics, version=version, start=start, stop=stop)
        windows = encoder.run_many(
            (each for each in align_recorded(records, plant, gate) if each.tick < wanted.stop),
            windows_at_once=WINDOWS_AT_ONCE,
        )
        return sample_of(
            (window for window in windows if window.tick >= wanted.start),
            calibration.layout,
            manifest.horizons_ticks,
            Scorer(calibration, plant, manifest.version),
        )


def newest_ns(plant: Plant, settings: Settings, data_version: str) -> int | None:
    """Return the event time of the newest record of a version of the lake; None without any.

    The median over streams' partitions: one dead stream, or one clock that is wrong, moves nothing.
    """
    lake = wiring.open_lake(settings)
    ends = lake.offsets_at(plant.sense_topics, END_OF_TIME_NS, version=data_version)
    last = {part: max(0, end - 1) for part, end in ends.items()}
    times = sorted(
        t_ns
        for record in lake.read_in_arrival_order(
            plant.sense_topics, version=data_version, start=last
        )
        for t_ns in [event_ns(record)]
        if t_ns is not None
    )
    return times[len(times) // 2] if times else None


def _own_period(plant: Plant, settings: Settings, manifest: Manifest) -> Period:
    """Return the newest part of what the model was made of: that which training never saw."""
    until_ns = newest_ns(plant, settings, manifest.data_version)
    if until_ns is None:
        raise InputError(
            f"the lake must still hold what model {manifest.version} was made of "
            f"({manifest.data_version}), and it holds nothing of it; train a new model"
        )
    lasted_ns = manifest.num_calibration_ticks * plant.tick_ns
    return Period(manifest.data_version, until_ns - lasted_ns, until_ns)


def _recent_period(
    plant: Plant, settings: Settings, own: Period, period_s: float, until_ns: int | None
) -> Period:
    data_version = wiring.open_lake(settings).version(plant.sense_topics)
    newest = newest_ns(plant, settings, data_version)
    assert newest is not None, "it holds what the model was made of"
    end_ns = newest if until_ns is None else min(until_ns, newest)
    from_ns = max(own.until_ns, end_ns - round(period_s * NANOSECONDS))
    if from_ns >= end_ns:
        raise InputError(
            f"the lake must hold records of {plant.address} that are newer than what the model was "
            "made of, and it holds none; run `fusion ingest` first"
        )
    return Period(data_version, from_ns, end_ns)


def _kept_sample(plant: Plant, settings: Settings, model_dir: Path, own: Period) -> Sample:
    """Return the model's own period, computed by the first check of the version."""
    named = f"{plant.address}\n{own.from_ns}\n{own.until_ns}\n{own.data_version}"
    digest = hashlib.sha256(named.encode()).hexdigest()[:12]
    folder = settings.data_dir / "drift" / plant.prefix / f"{model_dir.name}-{digest}"
    if not folder.is_dir():
        sample = read_sample(plant, settings, model_dir, own)
        with contextlib.suppress(FileExistsError, OSError), new_folder(folder) as beside:
            sample.save(beside / SAMPLE_FILE)
        if not folder.is_dir():
            raise InputError(f"{os.fspath(folder)} must be writable; make room or change its owner")
    return Sample.load(folder / SAMPLE_FILE)


def _inside(sample: Sample, told: Sequence[LabelledEpisode], plant: Plant) -> np.ndarray:
    """Return which ticks lie in alarms that operators called useful: faults, not drift."""
    is_in_N = np.zeros(len(sample), bool)
    for each in told:
        if each.judgement == "useful":
            is_after_N = sample.ticks_N >= tick_of(each.onset_ns, plant)
            last = END_OF_TIME_NS if each.cleared_ns is None else tick_of(each.cleared_ns, plant)
            is_in_N |= is_after_N & (sample.ticks_N <= last)
    return is_in_N


def _on_delay_ticks(plant: Plant) -> int:
    delays = [alarm.on_delay_s for alarm in plant.alarms if alarm.finding == "surprise"]
    return max(1, round(min(delays, default=DEFAULT_ON_DELAY_S) / plant.tick_s))


def _skill_of(manifest: Manifest) -> float | None:
    """Return the skill that training measured last, at the farthest horizon of the window."""
    if not manifest.gauges:
        return None
    scored = [h for h in manifest.horizons_ticks if h < manifest.window_ticks]
    return manifest.gauges[-1].get(f"skill.h{scored[-1]}")


def _id_of(plant: Plant, version: str, recent: Period, limits: DriftLimits) -> str:
    said = f"{plant.address}\n{version}\n{recent.from_ns}\n{recent.until_ns}\n" + (
        limits.model_dump_json()
    )
    return hashlib.sha256(said.encode()).hexdigest()[:16]
