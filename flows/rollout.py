"""What people do with model versions: promote one, roll it back, compare it with the champion."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from flows import wiring
from flows.export import NETWORKS
from flows.models import models_of, newest_model
from flows.rollout_journal import RolloutJournal, journal_of
from flows.serving import end_serving, open_serving
from flows.settings import Settings
from flows.trust import trusted_model
from fusion.errors import (
    InferenceUnavailableError,
    InputError,
    ModelBrokenError,
    ModelLoadingError,
    SettingsError,
)
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.ports import Inference
from fusion.rollout.parity import require_parity
from fusion.rollout.states import Action, Rollout
from fusion.training.package import load_golden

CANARY_SHARE = 0.1


def model_named(settings: Settings, plant: Plant, version: str) -> Path:
    """Return the folder of ``version``.

    Raises:
        InputError: There is no such version.
    """
    known = {path.name: path for path in models_of(settings, plant)}
    if version not in known:
        raise InputError(
            f"a version must be one of {sorted(known) or 'none yet'}, got {version!r}; "
            "`fusion models list` shows them"
        )
    return known[version]


def promote(
    settings: Settings,
    plants: Sequence[Plant],
    version: str,
    *,
    who: str,
    why: str,
    share: float = CANARY_SHARE,
    to_champion: bool = False,
) -> Rollout:
    """Take ``version`` one stage further, and return the state after it.

    A version that is new is loaded and probed against its golden windows, then runs in shadow; from
    there it becomes a canary on ``share`` of the assets, and from there, or at once with
    ``to_champion``, the champion. Without a champion it becomes that once it is probed.

    Raises:
        InputError: The step is not possible; a version that does not fit the plant, or does not
            answer its golden windows, is refused, and the journal says so.
        SettingsError: A setting of this process is wrong; the same call goes on once it is right.
        InferenceUnavailableError: The server is away; the same call goes on later.
    """
    journal = journal_of(settings, plants[0])
    model_dir = model_named(settings, plants[0], version)
    clock = wiring.open_clock()
    state = journal.state()
    if state.champion == version:
        raise InputError(f"{version} is the champion already")
    if state.challenger not in {None, version}:
        raise InputError(
            f"one version at a time proves itself, and {state.told()}; promote that one on, or "
            f"take it back with `fusion models rollback`, then promote {version}"
        )
    if state.challenger is None:
        state = journal.append(state, Action.LOADED, version, who=who, why=why, t_ns=clock.now_ns())
    if state.stage is Action.LOADED and state.challenger == version:
        found = _prove(settings, plants, model_dir, journal, state, who=who)
        state = journal.append(
            state,
            Action.PROBED,
            version,
            who=who,
            why="it answers its golden windows as the model did in training",
            t_ns=clock.now_ns(),
            evidence=found,
        )
    follows = _following(state, to_champion=to_champion)
    return journal.append(
        state,
        follows,
        version,
        who=who,
        why=why,
        t_ns=clock.now_ns(),
        share=share if follows is Action.CANARY else 0.0,
    )


def rollback(settings: Settings, plant: Plant, *, who: str, why: str) -> Rollout:
    """Take the challenger, or else the champion of late, out of service.

    Raises:
        InputError: There is nothing to go back to.
    """
    journal = journal_of(settings, plant)
    state = journal.state()
    leaving = state.challenger or state.champion
    is_early = state.stage in {Action.LOADED, Action.PROBED}
    action = Action.REFUSED if is_early else Action.ROLLED_BACK
    if leaving is None or action not in state.possible():
        raise InputError(
            f"there must be a version to go back to, and {state.told()}, with nobody beside it; "
            "promote the version that shall serve instead"
        )
    after = journal.append(
        state, action, leaving, who=who, why=why, t_ns=wiring.open_clock().now_ns()
    )
    # What is only about to be proved no live process has opened, and so none frees it.
    if is_early:
        _let_go(settings, plant, state, leaving)
    return after


def probe(inference: Inference, model_dir: Path) -> dict[str, float]:
    """Return the largest deviation of each network from its golden windows.

    Raises:
        ParityError: One differs too much.
        InferenceUnavailableError: The server did not answer.
    """
    found: dict[str, float] = {}
    for network in NETWORKS:
        inputs, golden = load_golden(model_dir, network)
        deviations = require_parity(
            inference.infer(network, inputs), golden, who=f"{model_dir.name} {network}"
        )
        found[f"{network} deviation"] = max(each.largest for each in deviations)
    return found


def _prove(
    settings: Settings,
    plants: Sequence[Plant],
    model_dir: Path,
    journal: RolloutJournal,
    state: Rollout,
    *,
    who: str,
) -> dict[str, float]:
    try:
        with trusted_model(model_dir, settings) as folder:
            manifest = load_manifest(folder)
            for plant in plants:
                manifest.require_fits(plant)
            try:
                with contextlib.closing(open_serving(folder, settings)) as inference:
                    return _probe_once_loaded(inference, folder)
            except (InputError, ModelBrokenError):
                if not _is_in_service(settings, plants[0], state, model_dir.name):
                    end_serving(manifest, settings)
                raise
    except SettingsError:
        raise  # (it says nothing of the model: the same step goes on once the setting is right)
    except (InputError, ModelBrokenError) as refused:
        journal.append(
            state,
            Action.REFUSED,
            model_dir.name,
            who=who,
            why=str(refused),
            t_ns=wiring.open_clock().now_ns(),
        )
        if isinstance(refused, InferenceUnavailableError):
            # It is the model that has to change: trying again would not help.
            raise InputError(str(refused)) from refused
        raise


def _probe_once_loaded(inference: Inference, model_dir: Path) -> dict[str, float]:
    """Return as :func:`probe` does: a server may load for longer than it may answer."""
    while True:
        try:
            return probe(inference, model_dir)
        except ModelLoadingError:
            continue  # (whoever loads gives up after a while, and says something else)


def _is_in_service(settings: Settings, plant: Plant, state: Rollout, version: str) -> bool:
    """Whether live processes ask ``version``, proved or not: without a champion, the newest."""
    if state.champion is None and version == newest_model(settings, plant).name:
        return True
    return version in {state.champion, state.standby}


def _let_go(settings: Settings, plant: Plant, state: Rollout, version: str) -> None:
    """Free what the server holds of a version that was only about to be proved."""
    try:
        if _is_in_service(settings, plant, state, version):
            return
        with trusted_model(model_named(settings, plant, version), settings) as folder:
            end_serving(load_manifest(folder), settings)
    except InputError as gone:
        logging.getLogger(__name__).info("nothing is freed of %s: %s", version, gone)


def _following(state: Rollout, *, to_champion: bool) -> Action:
    if state.champion is None:
        return Action.CHAMPION
    if state.stage is Action.PROBED:
        return Action.SHADOW
    if state.stage is Action.SHADOW and not to_champion:
        return Action.CANARY
    return Action.CHAMPION
