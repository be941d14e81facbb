"""Training from the lake: stored records → the live chain's own ticks → model → calibration.

Importable without Prefect; ``flows/prefect_train.py`` adds retries and a place on a schedule.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from flows import wiring
from flows.gates import open_stored_gate
from flows.looking_back import event_ns
from flows.settings import Settings
from flows.tracking import recorded
from flows.trust import seal
from fusion.alignment import Observation, tick_of
from fusion.errors import RecipeError
from fusion.features import TickFeatures, extract
from fusion.plant import Plant
from fusion.ports import Lake
from fusion.schema import Record
from fusion.scoring.localisation_fitting import fit_localisation
from fusion.stream.calibrating import calibrate_on
from fusion.stream.intake import Gate, align_recorded
from fusion.training import Recipe, StepReport, Trained, split, train
from fusion.training.loop import golden_batch
from fusion.training.package import new_folder, write_manifest, write_networks
from fusion.training.parallel import ONE_PROCESS, Ranks

NEAR_S = 3.0
RECORD_S = 60.0
"""No record is expected to hold more than this of its stream."""
FEATURES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training run made."""

    model_dir: Path
    data_version: str
    num_train_ticks: int
    num_calibration_ticks: int
    gauges: dict[str, float]
    run_id: str | None = None
    """What the run is called where runs are kept; None where it is not."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What a retraining says beside recipe and data; nothing of it in a plain training."""

    within: tuple[range, ...] | None = None
    """The ticks to learn from; None is all that the lake holds."""
    model_dir: Path | None = None
    """Where the model is put, instead of beside the plant's other versions, under its name."""
    run_key: str | None = None
    """One that was begun with it before goes on where runs are kept, instead of a second one."""


PLAIN = Ordered()


def train_from_lake(
    lake: Lake,
    plant: Plant,
    recipe: Recipe,
    settings: Settings,
    *,
    data_version: str | None = None,
    on_step: Callable[[StepReport], None] = lambda _: None,
    on_stage: Callable[[str], None] = lambda _: None,
    checkpoint_dir: Path | None = None,
    ordered: Ordered = PLAIN,
) -> TrainReport:
    """Return the new model version, trained on what the lake holds of ``plant``.

    ``data_version`` is a version of the lake, as a model's manifest names it; None is now. With
    ``checkpoint_dir`` a run that was cut off goes on.

    Raises:
        InputError: The lake cannot read ``data_version``, or it names no topic of the plant.
        RecipeError: The lake holds too little for the recipe.
        CollapseError: The run stopped itself; no model was written.
        TrackingUnavailableError: The run cannot be kept where the settings say.
    """
    made = train_shared(
        lake,
        plant,
        recipe,
        settings,
        ranks=ONE_PROCESS,
        data_version=data_version,
        on_step=on_step,
        on_stage=on_stage,
        checkpoint_dir=checkpoint_dir,
        ordered=ordered,
    )
    assert made is not None, "the first process writes the model"
    return made


def train_shared(
    lake: Lake,
    plant: Plant,
    recipe: Recipe,
    settings: Settings,
    *,
    ranks: Ranks,
    data_version: str | None,
    on_step: Callable[[StepReport], None],
    on_stage: Callable[[str], None],
    checkpoint_dir: Path | None,
    ordered: Ordered = PLAIN,
) -> TrainReport | None:
    """Do what :func:`train_from_lake` does with other processes, of which each calls this.

    The first keeps the run and writes the model; the others return None.
    """
    if data_version is None:
        data_version = lake.version(plant.sense_topics)
    on_stage("reading and aligning the records")
    with open_stored_gate(plant, settings) as gate:
        observations = recorded_observations(lake, plant, gate, data_version, within=ordered.within)
    if not observations:
        raise RecipeError(
            f"training needs records of {list(plant.sense_topics)} in the lake, and it holds none; "
            "run `fusion ingest` first"
        )
    with recorded(
        wiring.open_tracking(settings) if ranks.rank == 0 else None,
        experiment=plant.prefix,
        recipe=recipe,
        made_of={"data_version": data_version, "code_version": code_version()},
        key=ordered.run_key,
    ) as record:

        def note(report: StepReport) -> None:
            record.note(report)
            on_step(report)

        on_stage("learning")
        trained = train(
            observations, plant, recipe, on_step=note, checkpoint_dir=checkpoint_dir, ranks=ranks
        )
        if ranks.rank != 0:
            return None
        on_stage("exporting and calibrating")
        name = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S") + f"-{recipe.name}"
        model_dir = ordered.model_dir or settings.models_dir / plant.prefix / name
        made = replace(
            _package(trained, observations, plant, model_dir, settings, data_version=data_version),
            run_id=record.run_id,
        )
        record.finish(model_version=made.model_dir.name)
    return made


def recorded_observations(
    lake: Lake,
    plant: Plant,
    gate: Gate,
    data_version: str | None = None,
    *,
    near: Collection[int] | None = None,
    within: Sequence[range] | None = None,
) -> list[Observation]:
    """Return the ticks of the stored records, in the order in which the broker got them.

    ``near`` keeps the ticks around the given ones only, and nothing else is fetched or decoded.
    Those in ``within`` are given alone.

    Raises:
        ObjectStoreUnavailableError: Values of large records cannot be fetched now.
    """
    records = lake.read_in_arrival_order(plant.sense_topics, version=data_version)
    if near is not None:
        records = (record for record in records if _is_near(record, plant, near))
    if within is not None:
        wide = _widened(within, plant)
        records = (record for record in records if _is_around(record, plant, wide))
    found = align_recorded(records, plant, gate)
    return [each for each in found if within is None or _is_in(each.tick, within)]


def _is_near(record: Record, plant: Plant, near: Collection[int]) -> bool:
    """Whether the event time in the envelope lies within a few seconds of a wanted tick."""
    stamp = np.datetime64(record.headers["ce_time"].removesuffix("Z"), "ns")
    tick = tick_of(int(stamp.astype(np.int64)), plant)
    reach = max(1, round(NEAR_S / plant.tick_s))
    return any(abs(tick - wanted) <= reach for wanted in near)


def _widened(within: Sequence[range], plant: Plant) -> list[range]:
    """Return ranges in whose records those of ``within`` are whole: a record may span seconds."""
    offset_s = max(abs(stream.clock_offset_s) for stream in plant.streams)
    age_s = max(stream.max_age_s for stream in plant.streams)
    reach = math.ceil((RECORD_S + offset_s + age_s) / plant.tick_s)
    return [range(each.start - reach, each.stop + reach) for each in within]


def _is_around(record: Record, plant: Plant, wide: Sequence[range]) -> bool:
    """Whether the envelope's time lies in ``wide``; one without is for the gate to refuse."""
    t_ns = event_ns(record)
    return t_ns is None or _is_in(tick_of(t_ns, plant), wide)


def _is_in(tick: int, ranges: Sequence[range]) -> bool:
    return any(tick in each for each in ranges)


def _package(
    trained: Trained,
    observations: Sequence[Observation],
    plant: Plant,
    model_dir: Path,
    settings: Settings,
    *,
    data_version: str,
) -> TrainReport:
    """Write networks, calibration and manifest; the folder appears whole or not at all."""
    seen, held_out = split(observations, trained.recipe)
    with new_folder(model_dir) as folder:
        write_networks(trained, golden_batch(trained, held_out, plant), folder)
        manifest = write_manifest(
            trained,
            plant,
            folder,
            version=model_dir.name,
            data_version=data_version,
            code_version=code_version(),
            num_train_ticks=len(seen),
            num_calibration_ticks=len(held_out),
        )
        with contextlib.closing(wiring.open_inference(folder)) as inference:
            calibration = calibrate_on(
                (seen, held_out), inference, plant, manifest, trained.normaliser
            )
        calibration.save(folder)
        fit_localisation(
            _features(seen, trained, plant), _features(held_out, trained, plant), calibration.layout
        ).save(folder)
        seal(folder, settings)
    return TrainReport(model_dir, data_version, len(seen), len(held_out), dict(trained.history[-1]))


def _features(
    observations: Sequence[Observation], trained: Trained, plant: Plant
) -> Iterator[TickFeatures]:
    """Yield what the networks read, in batches: a long recording does not fit in memory."""
    for begin in range(0, len(observations), FEATURES_AT_ONCE):
        part = observations[begin : begin + FEATURES_AT_ONCE]
        yield extract(part, plant, trained.normaliser)


def code_version() -> str:
    """Return the product's version, with the commit where it runs from a checkout."""
    release = version("industrial-fusion")
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 the user's own git
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{release}+{asked.stdout.strip()}" if asked.returncode == 0 else release
