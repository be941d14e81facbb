"""Operators' verdicts as labels: precision of each alarm, and the event head that learns from them.

Importable without Prefect.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from flows import wiring
from flows.event_heads import head_folders, newest_head, save_head
from flows.gates import open_stored_gate
from flows.operate import alarm_events
from flows.settings import Settings
from flows.trust import trusted_model
from fusion.manifest import load_manifest
from fusion.model.outputs import WindowOutputs
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.labels import LabelledEpisode, episodes_of, labels_of, onset_tick
from fusion.schema import AlarmEvent, Verdict
from fusion.scoring.events import (
    MAX_WINDOWS,
    MIN_EVENT_GROUPS,
    EventHead,
    Labelled,
    fit_event_head,
    outcomes,
)
from fusion.scoring.foresight import HeadBasis, KnownHead
from fusion.scoring.head_worth import HeadWorth, head_worth
from fusion.scoring.running_means import RunningMeans, ahead_of
from fusion.stream.alarm_topics import kept_of
from fusion.stream.checkpoint import newest_by_key
from fusion.stream.intake import align_recorded
from fusion.stream.windows import WindowEncoder
from fusion.training.package import load_normaliser

MAX_EVENTS = 100_000
MIN_USEFUL = MIN_EVENT_GROUPS
"""With fewer groups fit_event_head cannot hold one out, and its chances would be made up."""
GRID_S = (30.0, 60.0, 120.0, 300.0, 600.0)
MAX_DAYS = 7.0
"""So far before and after the newest useful alarm is read: a fit costs time with every day."""
WINDOWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class HeadReport:
    """What became of a refit."""

    num_useful: int
    num_nuisance: int
    num_windows: int
    head: Path | None
    """The folder of the new head; None where there were too few labels, or it is worth nothing."""
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
    grid_s: Sequence[float] = GRID_S,
    max_days: float = MAX_DAYS,
    seed: int = 0,
) -> HeadReport:
    """Fit the chance of a useful alarm within each of ``grid_s`` seconds, on the frozen encoder.

    Features are those that a live process makes, from the exported networks and what the lake holds
    of ``max_days`` before and after the newest useful alarm. The head is saved beside the model's
    versions, which never change, if it is worth more than the base rate and no less than the one
    before. The lake is read only where enough was judged, and something new.

    Raises:
        LakeUnavailableError, ObjectStoreUnavailableError, BrokerUnavailableError,
        AlarmLogUnavailableError: Call again.
        InputError: The head cannot be written, or another fit was faster.
    """
    episodes = told_episodes(plant, settings)
    useful = [each for each in episodes if each.judgement == "useful"]
    num_nuisance = sum(each.judgement == "nuisance" for each in episodes)

    def nothing(why: str) -> HeadReport:
        return HeadReport(len(useful), num_nuisance, 0, None, why)

    if len(useful) < MIN_USEFUL:
        return nothing(_too_few(f"{len(useful)} are"))
    verdicts = _digest(episodes)
    known = newest_head(model_dir, plant, settings)
    if known is not None and known.basis.verdicts == verdicts:
        return nothing(f"nothing was judged since head {known.basis.number} was fitted")
    reach = max(1, round(max(grid_s) / plant.tick_s))
    windows = _windows(plant, settings, model_dir, useful[-1].onset_ns, max_days)
    labelled, read = _labelled(windows, episodes, plant, reach)
    # A group with an event ends with it: so many alarms have windows before them.
    num_seen = len(np.unique(labelled.group_N[labelled.has_event_N]))
    if num_seen < MIN_USEFUL:
        return nothing(_too_few(f"the lake holds what came before {num_seen} of {len(useful)}"))
    grid = watched_grid(labelled, sorted({max(1, round(s / plant.tick_s)) for s in grid_s}))
    if not grid:
        return nothing(
            f"{MIN_USEFUL} stretches between alarms must last {min(grid_s):g} s and end with a "
            "useful one, and fewer do"
        )
    head = fit_event_head(labelled, grid=grid, seed=seed)
    before = None if known is None else known.head
    worth = head_worth(head, labelled, seed=seed, before=before)
    if (why := worth.refusal()) is not None:
        return HeadReport(num_seen, num_nuisance, len(labelled), None, why)
    basis = HeadBasis(
        plant=str(plant.address),
        model_version=model_dir.name,
        number=1 + max((int(each.name) for each in head_folders(model_dir, plant)), default=0),
        t_ns=wiring.open_clock().now_ns(),
        num_useful=num_seen,
        num_nuisance=sum(
            each.judgement == "nuisance" and onset_tick(each, plant.tick_ns) in read
            for each in episodes
        ),
        num_windows=len(labelled),
        verdicts=verdicts,
        error=worth.error,
        base_rate_error=worth.base_rate,
        error_before=None if worth.before is None else worth.before[0],
    )
    folder = save_head(KnownHead(head, basis), model_dir, plant, settings)
    return HeadReport(num_seen, num_nuisance, len(labelled), folder, _told(head, basis, worth))


def _too_few(how_many: str) -> str:
    return (
        f"{MIN_USEFUL} alarms must be judged useful before a head can be fitted and held against "
        f"alarms that it never saw, and {how_many}; judge more with `fusion alarms verdict`"
    )


def _told(head: EventHead, basis: HeadBasis, worth: HeadWorth) -> str:
    error = head.reliability.error
    held = "nothing is known" if np.isnan(error) else f"it lies {error:.2f} from what happened"
    return (
        f"head {basis.number} of {basis.model_version} was fitted on {basis.num_windows} windows "
        f"and {basis.num_useful} useful alarms; in the stretches that were held back {held}, "
        f"{worth.told()}"
    )


def _digest(episodes: Sequence[LabelledEpisode]) -> str:
    """Return what all verdicts are, in a word that another verdict changes."""
    judged = sorted((each.id, each.judgement) for each in episodes if each.judgement is not None)
    return hashlib.sha256(json.dumps(judged).encode()).hexdigest()


def _labelled(
    windows: Iterable[WindowOutputs],
    episodes: Sequence[LabelledEpisode],
    plant: Plant,
    reach: int,
) -> tuple[Labelled, range]:
    """Return what a head sees of ticks, and labels; and the ticks that were read.

    Of many ticks some are kept, evenly, and say how many they stand for: neighbours say the same.
    The few within ``reach`` of a useful alarm are thinned apart from all others.
    """
    useful = [onset_tick(e, plant.tick_ns) for e in episodes if e.judgement == "useful"]
    onsets = np.array([*sorted(useful), np.iinfo(np.int64).max])
    ticks: list[int] = []
    near, far, means = _Thinned(MAX_WINDOWS // 2), _Thinned(MAX_WINDOWS // 2), RunningMeans()
    for window in windows:
        features_F = means.follow(window.tick, ahead_of(window))
        if features_F is not None:
            to_onset = int(onsets[np.searchsorted(onsets, window.tick)]) - window.tick
            (near if to_onset <= reach else far).take(len(ticks), features_F.astype(np.float32))
        ticks.append(window.tick)
    kept = {at: (each, part.every) for part in (near, far) for at, each in part.kept.items()}
    if not kept:
        nothing = Labelled(np.zeros((0, 1)), np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))
        return nothing, range(0)
    # Every tick is labelled, and stands for itself: a jump ends a recording, a left-out one not.
    places_N1 = np.arange(len(ticks), dtype=np.float64)[:, None]
    labelled = labels_of(places_N1, np.array(ticks, np.int64), episodes, tick_ns=plant.tick_ns)
    labelled = labelled.part(np.isin(labelled.features_NF[:, 0], list(kept)))
    found = [kept[int(at)] for at in labelled.features_NF[:, 0]]
    no_features = np.zeros((0, len(next(iter(kept.values()))[0])), np.float32)
    return replace(
        labelled,
        features_NF=np.concatenate([no_features, *(features[None] for features, _ in found)]),
        weight_N=np.array([every for _, every in found], np.float64),
    ), range(ticks[0], ticks[-1] + 1)


class _Thinned:
    """Some of what was taken, evenly, at most ``size``; each stands for ``every``."""

    def __init__(self, size: int) -> None:
        self._size, self._num_taken = size, 0
        self.every = 1
        self.kept: dict[int, np.ndarray] = {}

    def take(self, at: int, features_F: np.ndarray) -> None:
        """Keep it, or not."""
        if self._num_taken % self.every == 0:
            self.kept[at] = features_F
        self._num_taken += 1
        if len(self.kept) > self._size:
            self.every *= 2
            self.kept = dict(list(self.kept.items())[::2])


def _windows(
    plant: Plant, settings: Settings, model_dir: Path, around_ns: int, max_days: float
) -> Iterator[WindowOutputs]:
    lake, topics = wiring.open_lake(settings), plant.sense_topics
    version, reach_ns = lake.version(topics), round(max_days * 86_400 * NANOSECONDS)
    start = lake.offsets_at(topics, around_ns - reach_ns, version=version)
    stop = lake.offsets_at(topics, around_ns + reach_ns, version=version)
    with (
        trusted_model(model_dir, settings) as checked,
        contextlib.closing(wiring.open_inference(checked)) as inference,
        open_stored_gate(plant, settings) as gate,
    ):
        manifest = load_manifest(checked)
        encoder = WindowEncoder(inference, plant, manifest, load_normaliser(checked))
        records = lake.read_in_arrival_order(topics, version=version, start=start, stop=stop)
        observations = align_recorded(records, plant, gate)
        yield from encoder.run_many(observations, windows_at_once=WINDOWS_AT_ONCE)


def watched_grid(labelled: Labelled, grid: Sequence[int]) -> list[int]:
    """Return the ends of ``grid`` up to the first of which too little is known.

    Too few stretches between alarms reach it, or too few alarms came before it: a chance would be
    made up.
    """
    ends_K = np.array(grid, np.int64)
    happened_NK, known_NK = outcomes(labelled, ends_K)
    begins_K = np.append(0, ends_K[:-1])
    at_risk_NK = known_NK & (labelled.ticks_to_end_N[:, None] > begins_K)
    told: list[int] = []
    for end, *masks in zip(grid, at_risk_NK.T, happened_NK.T, strict=True):
        if min(len(np.unique(labelled.group_N[is_in_N])) for is_in_N in masks) < MIN_USEFUL:
            break
        told.append(end)
    return told
