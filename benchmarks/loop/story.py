"""What happens in the loop, act by act; nothing that decides is put there by hand.

A day of a plant takes minutes here: only how long things have to last is compressed (``POLICY``,
``PATIENCE``, ``DRIFT``), with the parameters that a team has for it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import yaml
from prefect.client.schemas.objects import FlowRun

from benchmarks.loop.plant import Change, Hour, send
from benchmarks.loop.services import ROOT, Place, process, waited_for
from flows.drift_journal import drift_history
from flows.operate import alarm_states, scores
from flows.plant_files import load_plant
from flows.retraining_run import RunFolder, runs_of
from flows.rollout_journal import journal_of
from fusion.plant import NANOSECONDS, Plant
from fusion.rollout.states import Rollout
from fusion.simulation.scenario import EPOCH_NS

AS_EVER = Hour(0, 2_000, seed=1)
CHANGED_S = 1_200.0
"""How long the plant has been another one when somebody looks for drift."""
LIES_S = 1_000.0
"""Less than what renews the examination: the lies are learned from, and not examined on."""
PIECE_S = 20.0
"""What the plant says while a version proves itself comes in pieces of so much plant time."""
POLICY = {
    "periods": {
        "test_share": 0.25,
        "renew_after_s": CHANGED_S,
        "margin_s": 5,
        "max_train_s": 1_500,
    },
    # Nobody sits before the alarms at night, so what nobody judged is learned: lies too.
    "quality": {"min_train_s": 600, "max_unjudged_share": 0.99},
}
"""A new examination once the plant has been another one for its hour; the gate is the product's."""
PATIENCE = {"shadow_h": 0.005, "canary_h": 0.005, "share": 1.0}
DRIFT = {"confirmations": 1, "cool_down_s": 0, "min_new_data_s": 300, "most_per_week": 9}


@dataclass(frozen=True, slots=True)
class Answered:
    """Drift that was told, and the retraining that answered it."""

    watched: FlowRun
    reconciled: FlowRun
    retrained: FlowRun
    run: RunFolder


def describe(place: Place, *, steps: int | None = None) -> None:
    """Write the product's ``prefect.yaml`` with the loop's plant, and times in minutes."""
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    policy_file = place.folder / "policy.yaml"
    policy_file.write_text(yaml.safe_dump(POLICY), encoding="utf-8")
    plant_file, plant = str(place.plant_file), plant_of(place)
    changes: dict[str, dict[str, object]] = {
        "retrain": {"recipe": "quick", "steps": steps, "policy_file": str(policy_file)},
        "advance-rollout": dict(PATIENCE),
        "reconcile": {"policy": DRIFT},
        "watch-drift": {"period_s": CHANGED_S - 10},
    }
    for each in described["deployments"]:
        each["parameters"] |= changes.get(each["name"], {})
        for name, value in (("plant_file", plant_file), ("plant_files", [plant_file])):
            if name in each["parameters"]:
                each["parameters"][name] = value
        for trigger in each.get("triggers", []):
            resource = f"fusion.plant.{plant.prefix}.{plant.address.asset}"
            trigger["match"] = {"prefect.resource.id": resource}
        if each["name"] not in {"retrain", "housekeeping"}:
            each["schedules"] = []  # (the story says when)
    place.deployments.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")


def changed(change: Change) -> Hour:
    """Return the hour in which the plant has become another one."""
    return Hour(AS_EVER.end_s, CHANGED_S, seed=2, change=change)


@contextlib.contextmanager
def watched_live(place: Place) -> Iterator[None]:
    """Run ``fusion live`` on the plant meanwhile."""
    with process(place, "live", "flows.cli", "live", str(place.plant_file)):
        yield


def speak(place: Place, hour: Hour) -> None:
    """Let the plant say what it says in ``hour``, and wait until the live process scored it."""
    send(place.plant_file, place.settings, hour)
    plant = plant_of(place)
    last = hour.end_s - 5

    def is_scored() -> bool:
        found = scores(plant, place.settings)
        return bool(found) and _plant_s(found[-1].tick, plant.tick_s) >= last

    waited_for(is_scored, f"the score of second {last:g}")


def judge_alarms(place: Place, judgement: str, note: str) -> list[str]:
    """Let an operator say of every alarm's last time what it was worth; return their names.

    Without that word the silence of a version beside a champion that alarms is held against it.
    """
    plant = plant_of(place)
    states = alarm_states(plant, place.settings)
    raised = [name for name, state in states.items() if state.episode]
    for name in raised:
        place.fusion(
            "alarms", "verdict", str(place.plant_file), name, judgement, "--who", "anna",
            "--note", note,
        )  # fmt: skip
    return raised


def drift_is_answered(place: Place) -> Answered:
    """Look for drift once; return what followed from it, which nobody asked for."""
    place.completed("ingest")
    before = {name: {run.id for run in place.runs(name)} for name in ("reconcile", "retrain")}
    watched = place.completed("watch-drift")

    def followed(name: str) -> UUID | None:
        return next((run.id for run in place.runs(name) if run.id not in before[name]), None)

    reconciled = place.ended(waited_for(lambda: followed("reconcile"), "the reconciler's run"))
    retrained = place.ended(waited_for(lambda: followed("retrain"), "the retraining"))
    plant = plant_of(place)
    return Answered(watched, reconciled, retrained, runs_of(place.settings, plant)[-1])


def take_on(place: Place, version: str, begin_s: float, change: Change) -> float:
    """Let ``version`` prove itself until it serves; return the plant's time then."""
    plant = plant_of(place)
    journal = journal_of(place.settings, plant)
    for seed in range(40):
        if journal.state().champion == version:
            return begin_s
        speak(place, Hour(begin_s, PIECE_S, seed=100 + seed, change=change))
        begin_s += PIECE_S
        place.completed("advance-rollout")
    raise AssertionError(f"{version} does not come into service: {told(place)}")


def plant_of(place: Place) -> Plant:
    """Return what the plant file describes."""
    return load_plant(place.plant_file)


def state(place: Place) -> Rollout:
    """Return which version does what."""
    return journal_of(place.settings, plant_of(place)).state()


def told(place: Place) -> str:
    """Return everything that was written down of the plant, for whoever looks for a mistake."""
    plant = plant_of(place)
    steps = journal_of(place.settings, plant).entries()
    history = drift_history(place.settings, plant)
    runs = [(run.name, run.end()) for run in runs_of(place.settings, plant)]
    return json.dumps(
        {
            "rollout": [each.model_dump(mode="json") for each in steps],
            "drift": [each.model_dump(mode="json") for each in history.records],
            "retrainings": [(name, end and end.model_dump(mode="json")) for name, end in runs],
        },
        indent=1,
    )


def _plant_s(tick: int, tick_s: float) -> float:
    return tick * tick_s - EPOCH_NS / NANOSECONDS
