"""What people do with model versions: promote one, roll it back, compare it with the champion."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from flows import wiring
from flows.export import NETWORKS
from flows.models import models_of
from flows.rollout_journal import RolloutJournal, journal_of
from flows.serving import open_serving
from flows.settings import Settings
from flows.trust import trusted_model
from fusion.errors import InferenceUnavailableError, InputError, ModelBrokenError
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
    return journal.append(
        state, action, leaving, who=who, why=why, t_ns=wiring.open_clock().now_ns()
    )


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
            with contextlib.closing(open_serving(folder, settings)) as inference:
                return probe(inference, folder)
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


def _following(state: Rollout, *, to_champion: bool) -> Action:
    if state.champion is None:
        return Action.CHAMPION
    if state.stage is Action.PROBED:
        return Action.SHADOW
    if state.stage is Action.SHADOW and not to_champion:
        return Action.CANARY
    return Action.CHAMPION
