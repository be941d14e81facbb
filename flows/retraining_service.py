"""The steps that bring a candidate that may serve into service: export, rollout."""

from __future__ import annotations

import shutil

from flows.export import check_parity, export_to_triton
from flows.registry import follow_journal, register
from flows.retraining_results import WHO, Exported, Retraining, RolledOut, Validated
from flows.rollout import promote
from flows.rollout_journal import journal_of
from fusion.retraining.gate import Decision
from fusion.rollout.states import Action, Rollout
from fusion.training.package import new_folder


def export(at: Retraining) -> Exported:
    """Put the version where live processes look; return how well its runtimes agree."""
    target = at.settings.models_dir / at.plant.prefix / at.asked.version
    _adopt(at)
    deviations = check_parity(at.candidate) if at.candidate.exists() else check_parity(target)
    if not target.exists():
        with new_folder(target) as folder:
            shutil.copytree(at.candidate, folder, dirs_exist_ok=True)
    in_triton = at.settings.inference == "triton"
    if in_triton:
        export_to_triton(
            target,
            at.settings.triton_repository_dir,
            backend=at.settings.triton_backend,
            device_if_new=at.settings.triton_device,
            batching=None,
        )
    register(at.settings, at.plant, at.asked).published(target)
    largest = {network: max(d.largest for d in each) for network, each in deviations.items()}
    return Exported(folder=str(target), deviations=largest, in_triton=in_triton)


def _adopt(at: Retraining) -> None:
    """Write down who is the champion, where nobody has.

    A live process without one takes the newest version there is, and a newer one that has not
    proved itself is about to lie there.
    """
    champion = at.result("validate", Validated).champion
    if champion is None or journal_of(at.settings, at.plant).state().champion is not None:
        return
    why = "it was the newest version when the first retraining began, and so in service"
    promote(at.settings, [at.plant], champion, who=WHO, why=why)


def rollout(at: Retraining) -> RolledOut:
    """Let the version begin to prove itself, and return what it does now."""
    version, decision = at.asked.version, at.result("gate", Decision)
    state = journal_of(at.settings, at.plant).state()
    if not _is_rolled_out(state, version):
        why = f"{at.asked.reason}: {decision.why}"
        state = promote(at.settings, [at.plant], version, who=WHO, why=why)
    follow_journal(at.settings, at.plant)
    stage = Action.CHAMPION if state.champion == version else state.stage
    return RolledOut(stage=str(stage), told=state.told())


def _is_rolled_out(state: Rollout, version: str) -> bool:
    has_begun = state.stage in {Action.SHADOW, Action.CANARY}
    return state.champion == version or (state.challenger == version and has_begun)
