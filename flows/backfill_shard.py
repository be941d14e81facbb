"""One shard of a backfill, worked on wherever it was sent: records in, evidence in its folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch

from flows import wiring
from flows.backfill_folder import load_plan, num_windows_in, save_evidence
from flows.gates import open_stored_gate
from flows.settings import Settings
from flows.trust import trusted_model
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.scoring import Calibration, Scorer
from fusion.stream.backfill import evidence_of
from fusion.stream.windows import WindowEncoder
from fusion.training.package import load_normaliser


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard, for a worker that may be another process."""

    plant: Plant
    settings: Settings
    model_dir: Path
    data_version: str
    plan_file: Path
    evidence_dir: Path


@dataclass(frozen=True, slots=True)
class ShardDone:
    """What a worker made of a shard."""

    num_ticks: int
    num_windows: int
    is_reused: bool
    """It was finished by an earlier run."""


def compute_shard(job: ShardJob) -> ShardDone:
    """Leave the evidence of a shard in its folder; what an earlier run left there is not redone.

    Raises:
        InputError: A record that could be read when the shards were planned cannot be read now.
        LakeUnavailableError, ObjectStoreUnavailableError: Call it again.
    """
    shard = load_plan(job.plan_file)
    if job.evidence_dir.is_dir():
        return ShardDone(shard.num_ticks, num_windows_in(job.evidence_dir), is_reused=True)
    # As the live process has it: the number of threads can move the last bit.
    torch.set_num_threads(1)
    plant = job.plant
    with (
        trusted_model(job.model_dir, job.settings) as folder,
        contextlib.closing(wiring.open_inference(folder)) as inference,
        open_stored_gate(plant, job.settings) as gate,
    ):
        manifest = load_manifest(folder)
        records = wiring.open_lake(job.settings).read_in_arrival_order(
            plant.sense_topics, version=job.data_version, start=shard.start(), stop=shard.stop()
        )
        evidence = evidence_of(
            shard,
            records,
            plant,
            windows=WindowEncoder(inference, plant, manifest, load_normaliser(folder)),
            scorer=Scorer(Calibration.load(folder), plant, manifest.version),
            window_ticks=manifest.window_ticks,
            gate=gate,
        )
        num_windows = save_evidence(evidence, job.evidence_dir)
    return ShardDone(shard.num_ticks, num_windows, is_reused=False)
