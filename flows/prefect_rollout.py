"""Prefect flows of versions in service: take one on, take it back, and keep disks from filling.

The work itself is in :mod:`flows.rollout_advance`, :mod:`flows.rollout` and
:mod:`flows.housekeeping`.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from flows.housekeeping import Tidied, tidy
from flows.plant_files import load_plant
from flows.prefect_ingest import is_retriable
from flows.registry import follow_journal
from flows.rollout import rollback as take_back
from flows.rollout_advance import Advance, Patience, advance
from flows.settings import Settings
from fusion.plant import Plant
from fusion.rollout.states import Rollout

_again = task(
    retries=5,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_retriable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
"""What is away is tried again; what is wrong is not."""


@_again
def look(settings: Settings, plants: list[Plant], patience: Patience) -> Advance:
    """Take the challenger on, if it may."""
    return advance(settings, plants, patience)


@flow(name="advance-rollout", persist_result=False, validate_parameters=False)
def advance_rollout(
    plant_files: list[str],
    *,
    shadow_h: float = 24.0,
    canary_h: float = 24.0,
    min_seen_share: float = 0.5,
    share: float = 0.1,
    skips_canary: bool = False,
    settings: Settings | None = None,
) -> Advance:
    """Take a challenger that did well for long enough to the next stage; say why if it may not.

    ``plant_files`` are all of one prefix.
    """
    patience = Patience(
        shadow_s=shadow_h * 3_600,
        canary_s=canary_h * 3_600,
        min_seen_share=min_seen_share,
        share=share,
        skips_canary=skips_canary,
    )
    plants = [load_plant(Path(each)) for each in plant_files]
    done = look(Settings.load() if settings is None else settings, plants, patience)
    get_run_logger().info("%s; %s", done.why, done.state.told())
    if done.has_moved:
        create_markdown_artifact(
            f"# {done.state.told()}\n\n{done.why}\n", description=f"Rollout of {plants[0].prefix}"
        )
    return done


@_again
def follow(settings: Settings, plant: Plant) -> Rollout:
    """Let the registry name the versions that the journal does."""
    return follow_journal(settings, plant)


@flow(name="rollback", persist_result=False, validate_parameters=False)
def rollback(
    plant_file: str, why: str, *, who: str = "rollback flow", settings: Settings | None = None
) -> Rollout:
    """Take the challenger back; without one, the champion of late: the former one serves again."""
    where, plant = Settings.load() if settings is None else settings, load_plant(Path(plant_file))
    state = take_back(where, plant, who=who, why=why)
    get_run_logger().warning("%s", state.told())
    follow(where, plant)
    return state


@_again
def tidy_plant(
    settings: Settings, plant: Plant, keep_days: float, keep_models: int, lake_keep_hours: int
) -> Tidied:
    """Remove what is old and that nobody names."""
    return tidy(
        settings,
        plant,
        keep_days=keep_days,
        keep_models=keep_models,
        lake_keep_hours=lake_keep_hours,
        say=get_run_logger().info,
    )


@flow(name="housekeeping", persist_result=False, validate_parameters=False)
def housekeeping(
    plant_file: str,
    *,
    keep_days: float = 30.0,
    keep_models: int = 5,
    lake_keep_hours: int = 168,
    settings: Settings | None = None,
) -> Tidied:
    """Join small files of the lake; remove old retrainings, and versions that nobody names."""
    where, plant = Settings.load() if settings is None else settings, load_plant(Path(plant_file))
    done = tidy_plant(where, plant, keep_days, keep_models, lake_keep_hours)
    follow(where, plant)
    get_run_logger().info(
        "removed %d files of the lake, %d retrainings, %d model versions",
        done.num_lake_files,
        len(done.runs),
        len(done.models),
    )
    return done
