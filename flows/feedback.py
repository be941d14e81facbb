"""Operators' verdicts as labels: precision of each alarm, and the event head that learns from them.

Importable without Prefect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from flows import wiring
from flows.gates import open_stored_gate
from flows.operate import alarm_events
from flows.settings import Settings
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.retraining.labels import LabelledEpisode, episodes_of, labels_of
from fusion.schema import AlarmEvent, Verdict
from fusion.scoring.events import EventHead, fit_event_head
from fusion.stream.alarm_topics import kept_of
from fusion.stream.checkpoint import newest_by_key
from fusion.stream.intake import align_recorded
from fusion.stream.windows import WindowEncoder
from fusion.training.event_features import running_features
from fusion.training.package import load_normaliser, new_folder

MAX_EVENTS = 100_000
MIN_USEFUL = 5
"""With fewer groups fit_event_head cannot hold one out, and its chances would be made up."""
WINDOWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class HeadReport:
    """What became of a refit."""

    num_useful: int
    num_nuisance: int
    num_windows: int
    head: Path | None
    """The folder of the new head; None where there were too few labels."""
    sentence: str


def told_episodes(
    plant: Plant, settings: Settings, *, start_ns: int = 0, end_ns: int = 2**62
) -> list[LabelledEpisode]:
    """Return the alarms of ``plant`` that began in a time, with their newest verdicts.

    The broker lets its journal go after a while, the alarms' history keeps it: both are asked.

    Raises:
        BrokerUnavailableError, AlarmLogUnavailableError: Call again.
    """
    address = str(plant.address)
    events = [e for e in alarm_events(plant, settings) if e.state.plant == address]
    if settings.alarm_history_url is not None or settings.alarm_history_path.is_file():
        with contextlib.closing(wiring.open_alarm_log(settings)) as log:
            kept = log.read(plant=address, start_ns=0, end_ns=end_ns, limit=MAX_EVENTS)
        for entry in kept:
            with contextlib.suppress(ValidationError):  # (of another release: passed over)
                events.append(AlarmEvent.model_validate_json(entry.line))
    found = episodes_of(events, verdicts_of(plant, settings))
    return [each for each in found if start_ns <= each.onset_ns < end_ns]


def verdicts_of(plant: Plant, settings: Settings) -> dict[str, Verdict]:
    """Return what operators said of alarms of ``plant``, by the id of the raising."""
    newest = newest_by_key(wiring.read_topic(settings, plant, "feedback"))
    return kept_of(str(plant.address), newest).verdicts


def refit_event_head(
    plant: Plant,
    settings: Settings,
    model_dir: Path,
    *,
    grid_s: Sequence[float] = (30, 60, 120, 300, 600),
    seed: int = 0,
) -> HeadReport:
    """Fit the chance of a useful alarm within each of ``grid_s`` seconds, on the frozen encoder.

    Features are those of :mod:`fusion.training.event_features`, from the exported networks. The
    head is saved in ``event-heads`` beside the model's versions, which never change.

    Raises:
        LakeUnavailableError, ObjectStoreUnavailableError, BrokerUnavailableError,
        AlarmLogUnavailableError: Call again.
    """
    episodes = told_episodes(plant, settings)
    num_useful = sum(each.judgement == "useful" for each in episodes)
    num_nuisance = sum(each.judgement == "nuisance" for each in episodes)
    if num_useful < MIN_USEFUL:
        return HeadReport(
            num_useful,
            num_nuisance,
            0,
            None,
            f"{MIN_USEFUL} alarms must be judged useful before a head can be fitted and held "
            f"against alarms that it never saw, and {num_useful} are; judge more with `fusion "
            "alarms verdict`",
        )
    ticks_N, features_NF = _features(plant, settings, model_dir)
    labelled = labels_of(features_NF, ticks_N, episodes, tick_ns=plant.tick_ns)
    grid = sorted({max(1, round(seconds / plant.tick_s)) for seconds in grid_s})
    head = fit_event_head(labelled, grid=grid, seed=seed)
    folder = model_dir.parent / "event-heads" / f"{model_dir.name}-{num_useful + num_nuisance}"
    if not folder.is_dir():
        with new_folder(folder) as beside:
            head.save(beside)
    return HeadReport(
        num_useful, num_nuisance, len(labelled), folder, _told(head, len(labelled), num_useful)
    )


def _told(head: EventHead, num_windows: int, num_useful: int) -> str:
    return (
        f"fitted on {num_windows} windows before {num_useful} useful alarms; on alarms that it "
        f"never saw, what it says lies {head.reliability.error:.2f} from what happened"
    )


def _features(plant: Plant, settings: Settings, model_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the ticks of all that the lake holds, and what a head sees of each."""
    manifest = load_manifest(model_dir)
    ticks: list[int] = []
    ahead: list[np.ndarray] = []
    with (
        contextlib.closing(wiring.open_inference(model_dir)) as inference,
        open_stored_gate(plant, settings) as gate,
    ):
        encoder = WindowEncoder(inference, plant, manifest, load_normaliser(model_dir))
        records = wiring.open_lake(settings).read_in_arrival_order(plant.sense_topics)
        observations = align_recorded(records, plant, gate)
        for window in encoder.run_many(observations, windows_at_once=WINDOWS_AT_ONCE):
            ticks.append(window.tick)
            ahead.append(window.z_hat_THD[-1].mean(axis=0))
    ticks_N = np.array(ticks, np.int64)
    # Running means begin anew after a jump: nothing is known of what lies between.
    jumps = np.flatnonzero(np.diff(ticks_N) != 1) + 1
    parts = [running_features(part) for part in np.split(np.array(ahead), jumps) if len(part)]
    return ticks_N, np.concatenate(parts) if parts else np.zeros((0, 1))
