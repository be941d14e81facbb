"""The simulated rig, whose faults are known: what each part of the product is worth on it.

Everything here is simulated. The figures say how methods compare on this rig, not how good any of
them is on a real plant.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.evaluation.autoencoder import learn_autoencoder, num_weights
from fusion.evaluation.calibrated import Calibrated, calibrate
from fusion.evaluation.detection import Detection, KnownRun, auprc, detect
from fusion.evaluation.late_fusion import at_least
from fusion.evaluation.protocol import OURS, WHOLE, Figure, Published
from fusion.evaluation.rig_methods import (
    Hear,
    Watch,
    learn_for_budgets,
    learn_product,
    watch,
    watch_readings,
    watch_tags,
)
from fusion.evaluation.rig_runs import (
    FALSE_ALARMS_PER_DAY,
    RigRuns,
    World,
    rig_plant,
    watching,
    with_budget,
    without,
)
from fusion.evaluation.rig_what_if import share_of_optimum
from fusion.evaluation.rig_what_if_protocol import advise_rig
from fusion.evaluation.scored import ablation, score_recording
from fusion.evaluation.transfer import record_rigs, train_on_rigs
from fusion.plant import Plant
from fusion.simulation import FAULTS, random_physics
from fusion.training import Recipe

Floats = NDArray[np.float64]
Say = Callable[[str, float], None]
RECALL, DELAY = "faults noticed", "median delay (s)"
FALSE, AUPRC = "false alarms per healthy day", "AUPRC"
KEPT, LOST = "AUPRC kept", "AUPRC lost"
OPTIMUM, BROKEN = "share of the optimum", "plans over a limit"
OR, MOST, AND = "late fusion, any", "late fusion, two of three", "late fusion, all"
PCA_TAGS, PCA_READINGS = "PCA T2|SPE, telemetry", "PCA T2|SPE, all readings"
SIZE, PARAMETERS = "model size", "parameters"
AUTOENCODER, CONSTANT = "autoencoder of equal size", "constant score"
MORE_DISTRACTORS = 4.0
DISTRACTORS, UNSEEN, ADVICE = "distractors x4", "unseen rig", "what-if"


class Rig:
    """Faults, distractors, a missing stream, another rig's physics, and advice."""

    name = "rig"
    title = "Pump rig with camera, microphone and instruments (simulated)"
    headline = (RECALL, DELAY, FALSE, AUPRC)
    published: tuple[Published, ...] = ()
    rules = (
        "Simulated: the directory may hold a rig.yaml to be used instead of the product's own, "
        "nothing else is read from it. Every method learns from an hour of normal running, and "
        "sets its threshold from it for one false alarm a day, which is extrapolated. Test: "
        "another run with each of the ten faults once for two minutes, and forty minutes without. "
        "A fault is noticed when the alarm engine raises an alarm in it (2 s on, 10 s off, for "
        "all); false alarms are those raised while all is well, and with about an hour of it one "
        "reads as 25 a day. AUPRC is over the ticks of the run with faults, and does not depend on "
        "thresholds. The minute after a fault counts for nothing. Late fusion votes among one "
        "product for each stream: for *any* each has a third of the budget; for *two of three* and "
        "*all* each has all of it, which is stricter than the budget asks. The autoencoder has the "
        "product's encoder, number of parameters, steps and calibration. A missing stream is gone "
        "from the test only. The unseen rig is known by the normal run that calibrates a model of "
        "other rigs."
    )

    def __init__(self, runs: RigRuns | None = None) -> None:
        self._runs = runs or RigRuns()

    def run(self, directory: Path, *, seed: int, recipe: Recipe, say: Say) -> Iterator[Figure]:
        """Yield the figures of one seed, each as soon as it is known."""
        seeded = recipe.model_copy(update={"seed": seed})
        trial = _Trial(self._runs, rig_plant(directory), seeded, seed)
        ours, areas = yield from _faults(trial, _between(say, 0.0, 0.5))
        yield from _distractors(trial, areas, _between(say, 0.5, 0.65))
        yield from _unseen_rig(trial, _between(say, 0.65, 0.9))
        say("advising", 0.9)
        yield from _advice(trial, ours)


@dataclass(frozen=True, slots=True)
class _Trial:
    """One seed of the protocol."""

    runs: RigRuns
    plant: Plant
    recipe: Recipe
    seed: int

    def figure(self, method: str, part: str, metric: str, value: float) -> Figure:
        return Figure(method, part, metric, value, self.seed)

    def counted(self, method: str, found: Detection) -> Iterator[Figure]:
        """Yield what a method noticed, in all and of each fault."""
        yield self.figure(method, WHOLE, RECALL, found.recall)
        if found.delay_s:
            yield self.figure(method, WHOLE, DELAY, found.median_delay_s)
        yield self.figure(method, WHOLE, FALSE, found.false_alarms_per_day)
        yield self.figure(method, WHOLE, AUPRC, found.auprc)
        for fault in sorted(FAULTS):
            is_noticed = float(fault in found.delay_s)
            yield self.figure(method, fault.replace("_", " "), RECALL, is_noticed)


@dataclass(frozen=True, slots=True)
class _Tested:
    """The run to learn from, the runs to be tested on, and what was counted so far."""

    trial: _Trial
    normal: Sequence[Observation]
    runs: Sequence[KnownRun]
    """That with the faults first."""
    areas: dict[str, float] = field(default_factory=dict[str, float])

    def count(self, method: str, surprises: Sequence[Floats]) -> Iterator[Figure]:
        """Yield what a method noticed, by its surprise of each run."""
        found = detect(self.runs, surprises, self.trial.plant)
        self.areas[method] = found.auprc
        yield from self.trial.counted(method, found)

    def kept(self, method: str, stream: str, surprise_N: Floats) -> Figure:
        """Return the part of its AUPRC that a method keeps without a stream."""
        kept = auprc(self.runs[:1], [surprise_N], self.trial.plant) / self.areas[method]
        return self.trial.figure(method, f"without {stream}", KEPT, kept)


def _faults(
    trial: _Trial, say: Say
) -> Generator[Figure, None, tuple[Calibrated, dict[str, float]]]:
    """Yield what every method notices; return the product, and the AUPRC of each method."""
    runs, plant, recipe, seed = trial.runs, trial.plant, trial.recipe, trial.seed
    say("simulating", 0.0)
    normal, campaign = runs.normal(seed, plant), runs.campaign(seed, plant)
    healthy = runs.healthy(seed, plant, after=campaign.scenario)
    tested = _Tested(trial, normal, [campaign, healthy])
    chance_N = np.zeros(len(campaign.observations))
    yield Figure(CONSTANT, WHOLE, AUPRC, auprc([campaign], [chance_N], plant))
    for method, learn in ((PCA_TAGS, watch_tags), (PCA_READINGS, watch_readings)):
        yield from tested.count(method, _asked(learn(normal, plant, recipe), tested.runs))

    ours = learn_product(normal, plant, recipe, _steps(say, "all streams", 0.1, 0.4))
    yield trial.figure(OURS, SIZE, PARAMETERS, ours.manifest.num_parameters)
    told = [
        ablation(score_recording(ours, run.observations), ours.calibration) for run in tested.runs
    ]
    for method in told[0]:
        yield from tested.count(method, [each[method] for each in told])
    for stream in plant.streams:
        found_N = watch(ours)(without(campaign, stream.name).observations)
        yield tested.kept(OURS, stream.name, found_N)

    auto = learn_autoencoder(normal, plant, recipe, on_step=_steps(say, AUTOENCODER, 0.4, 0.6))
    yield trial.figure(AUTOENCODER, SIZE, PARAMETERS, num_weights(auto.model))
    yield from tested.count(AUTOENCODER, _asked(auto.surprise, tested.runs))
    yield from _each_alone(tested, _between(say, 0.6, 1.0))
    return ours, tested.areas


def _each_alone(tested: _Tested, say: Say) -> Iterator[Figure]:
    """Yield what a product of each stream notices, and what their votes do."""
    trial, streams = tested.trial, [stream.name for stream in tested.trial.plant.streams]
    whole: dict[str, list[Floats]] = {}
    third: dict[str, list[Floats]] = {}
    for number, stream in enumerate(streams):
        own = watching(trial.plant, stream)
        budgets = [own, with_budget(own, FALSE_ALARMS_PER_DAY / len(streams))]
        begin, end = number / len(streams), (number + 1) / len(streams)
        hear = _steps(say, f"{stream} only", begin, end)
        # One sense alone may tell too little for an embedding; its control chart still watches.
        products = learn_for_budgets(tested.normal, budgets, trial.recipe, hear, may_collapse=True)
        whole[stream], third[stream] = (_asked(watch(each), tested.runs) for each in products)
        yield from tested.count(f"{stream} only", whole[stream])
    for method, num_votes, votes in ((OR, 1, third), (MOST, 2, whole), (AND, len(whole), whole)):
        by_run = zip(*votes.values(), strict=True)
        yield from tested.count(method, [at_least(num_votes, each) for each in by_run])
    for stream in streams:
        others = [found[0] for name, found in third.items() if name != stream]
        yield tested.kept(OR, stream, at_least(1, others))


def _distractors(trial: _Trial, usual: Mapping[str, float], say: Say) -> Iterator[Figure]:
    """Yield what flicker, people and hiss four times as strong cost both networks."""
    runs, plant, recipe, seed = trial.runs, trial.plant, trial.recipe, trial.seed
    world = World(distractors=MORE_DISTRACTORS)
    say(f"simulating {DISTRACTORS}", 0.0)
    normal, campaign = runs.normal(seed, plant, world), runs.campaign(seed, plant, world)

    def lost(method: str, learned: Watch) -> Iterator[Figure]:
        area = auprc([campaign], _asked(learned, [campaign]), plant)
        yield trial.figure(method, DISTRACTORS, AUPRC, area)
        yield trial.figure(method, DISTRACTORS, LOST, usual[method] - area)

    hear = _steps(say, DISTRACTORS, 0.1, 0.6)
    yield from lost(OURS, watch(learn_product(normal, plant, recipe, hear)))
    hear = _steps(say, f"{AUTOENCODER}, {DISTRACTORS}", 0.6, 1.0)
    auto = learn_autoencoder(normal, plant, recipe, on_step=hear)
    yield from lost(AUTOENCODER, auto.surprise)


def _unseen_rig(trial: _Trial, say: Say) -> Iterator[Figure]:
    """Yield what a model of other rigs notices on this one, beside a model trained on it."""
    runs, plant, recipe, seed = trial.runs, trial.plant, trial.recipe, trial.seed
    say("simulating other rigs", 0.0)
    others, watched = runs.rigs(seed)
    hear = _steps(say, "other rigs", 0.1, 0.5)
    recordings = record_rigs(others, plant, duration_s=runs.normal_s / runs.num_rigs)
    model = train_on_rigs(recordings, plant, recipe, on_step=hear)
    del recordings
    world = World(physics=random_physics(watched))
    normal, campaign = runs.normal(seed, plant, world), runs.campaign(seed, plant, world)

    def area(told: Calibrated) -> float:
        return auprc([campaign], _asked(watch(told), [campaign]), plant)

    calibrated = area(calibrate(model, recipe, normal, plant))
    yield trial.figure(f"{OURS}, calibrated only", UNSEEN, AUPRC, calibrated)
    trained = area(learn_product(normal, plant, recipe, _steps(say, "this rig", 0.6, 1.0)))
    yield trial.figure(f"{OURS}, trained on it", UNSEEN, AUPRC, trained)
    yield trial.figure(f"{OURS}, calibrated only", UNSEEN, KEPT, calibrated / trained)


def _advice(trial: _Trial, ours: Calibrated) -> Iterator[Figure]:
    """Yield how much of the possible saving the product's advice reaches, and what it breaks."""
    runs = trial.runs
    trials = advise_rig(
        ours,
        trial.plant,
        seed=trial.seed,
        minutes=runs.advice_minutes,
        every_s=runs.advice_every_s,
        search=runs.search,
    )
    yield trial.figure(OURS, ADVICE, OPTIMUM, share_of_optimum(trials))
    num_broken = sum(bool(each.limits_broken) for each in trials)
    yield trial.figure(OURS, ADVICE, BROKEN, num_broken)
    yield trial.figure(OURS, ADVICE, "plans", len(trials))


def _asked(learned: Watch, runs: Sequence[KnownRun]) -> list[Floats]:
    return [learned(run.observations) for run in runs]


def _between(say: Say, begin: float, end: float) -> Say:
    """Return a ``say`` for a part of the work, which itself goes from 0 to 1."""
    return lambda what, done: say(what, begin + (end - begin) * done)


def _steps(say: Say, what: str, begin: float, end: float) -> Hear:
    """Return what tells the steps of a training."""
    within = _between(say, begin, end)
    return lambda report: within(f"{what}, step {report.step}", report.step / report.steps)
