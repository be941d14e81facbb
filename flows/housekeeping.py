"""Keeps disks from filling: the lake's upkeep, old retrainings, versions that nobody needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows import wiring
from flows.event_heads import heads_of_version
from flows.lake import named_versions
from flows.models import models_of
from flows.retraining_run import one_at_a_time, runs_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant

COMPACT_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was removed."""

    num_lake_files: int
    num_lake_bytes: int
    runs: tuple[str, ...]
    models: tuple[str, ...]


def tidy(
    settings: Settings,
    plant: Plant,
    *,
    keep_days: float = 30.0,
    keep_models: int = 5,
    lake_keep_hours: int = 7 * 24,
    say: Callable[[str], None] = lambda _: None,
) -> Tidied:
    """Join small files of the lake, and remove what is old and that nobody names.

    Of retrainings that ended before ``keep_days`` everything goes; of younger refused ones the
    candidate stays for a look. Of model versions stay the ``keep_models`` newest, and whatever the
    journal's last state names; what the journal ever named stays for ``keep_days``. A version's
    event heads go with it.

    Raises:
        InputError: A retraining of the plant runs now.
        LakeUnavailableError: Call again; what is done stays.
    """
    with one_at_a_time(settings, plant):
        before_ns = wiring.open_clock().now_ns() - round(keep_days * 86_400 * NANOSECONDS)
        runs = _old_runs(settings, plant, before_ns)
        models = _old_models(settings, plant, before_ns, keep_models)
        # What a head learned means nothing without its version.
        heads = [heads for each in models if (heads := heads_of_version(each)).is_dir()]
        for path in (*runs, *heads, *models):
            say(f"removing {path}")
            _remove(path)
    # Versions that went no longer keep files of the lake.
    files, size = _tidy_lake(settings, plant, lake_keep_hours, say)
    return Tidied(files, size, tuple(p.name for p in runs), tuple(p.name for p in models))


def _old_runs(settings: Settings, plant: Plant, before_ns: int) -> list[Path]:
    ended = [(run, run.end()) for run in runs_of(settings, plant)]
    return [run.path for run, end in ended if end is not None and end.t_ns < before_ns]


def _old_models(settings: Settings, plant: Plant, before_ns: int, keep: int) -> list[Path]:
    journal = journal_of(settings, plant)
    state, entries = journal.state(), journal.entries()
    if state.champion is None:
        return []  # (a live process takes the newest: nobody has said what is needed)
    named = {state.champion, state.challenger, state.standby}
    named |= {entry.version for entry in entries if entry.t_ns >= before_ns}
    return [path for path in models_of(settings, plant)[:-keep] if path.name not in named]


def _remove(path: Path) -> None:
    """Remove a folder: first out of sight, so that nobody ever finds half of it."""
    hidden = path.with_name(f".{path.name}.gone")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden)


def _tidy_lake(
    settings: Settings, plant: Plant, keep_hours: int, say: Callable[[str], None]
) -> tuple[int, int]:
    upkeep, named = wiring.open_lake_upkeep(settings), named_versions(settings)
    held, files, size = set(upkeep.topics()), 0, 0
    for topic in plant.sense_topics:
        if topic not in held:
            continue
        joined = upkeep.compact(topic, target_bytes=COMPACT_BYTES)
        gone = upkeep.vacuum(topic, keep_hours=keep_hours, named=tuple(named.get(topic, ())))
        say(
            f"{topic}: {joined.num_files_before} files joined to {joined.num_files_after}, "
            f"{gone.num_files} removed"
        )
        files, size = files + gone.num_files, size + gone.num_bytes
    return files, size
