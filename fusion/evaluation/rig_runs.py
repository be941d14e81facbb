"""The runs of the protocol *rig*: how long they last, from which seeds, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from fusion.alignment import Observation
from fusion.evaluation.detection import KnownRun
from fusion.evaluation.rig_recording import rig_observations
from fusion.planning import Search
from fusion.plant import Plant, Scoring, parse_plant
from fusion.simulation import Physics, Scenario, fault_campaign, normal_scenario

FALSE_ALARMS_PER_DAY = 1.0
TEST_SEED, HEALTHY_SEED = 100, 200
"""Added to the seed of the training: other set-points, other weather, other noise."""
RIGS_PER_SEED = 10


@dataclass(frozen=True, slots=True)
class World:
    """What a run differs in besides its length and its faults."""

    physics: Physics = field(default_factory=Physics)
    distractors: float = 1.0

    def of(self, scenario: Scenario) -> Scenario:
        """Return ``scenario`` in this world."""
        return replace(scenario, physics=self.physics, distractors=self.distractors)


USUAL = World()


@dataclass(frozen=True, slots=True)
class RigRuns:
    """How long everything lasts; tests take less."""

    normal_s: float = 3_600.0
    fault_s: float = 120.0
    gap_s: float = 150.0
    healthy_s: float = 2_400.0
    """Of a run without faults after the campaign, for false alarms."""
    num_rigs: int = 4
    """Rigs to learn from for one that was never seen; together they last as long as one."""
    advice_minutes: float = 40.0
    advice_every_s: float = 480.0
    search: Search = field(default_factory=Search)

    def normal(self, seed: int, plant: Plant, world: World = USUAL) -> list[Observation]:
        """Return the run to learn from."""
        run = world.of(normal_scenario(duration_s=self.normal_s, seed=seed))
        return list(rig_observations(run, plant))

    def campaign(self, seed: int, plant: Plant, world: World = USUAL) -> KnownRun:
        """Return the run with every fault once, after the one to learn from."""
        faults = fault_campaign(
            seed=TEST_SEED + seed, after_s=self.normal_s, fault_s=self.fault_s, gap_s=self.gap_s
        )
        return _known(world.of(faults), plant)

    def healthy(self, seed: int, plant: Plant, *, after: Scenario) -> KnownRun:
        """Return a run without faults, after the run ``after``."""
        run = normal_scenario(
            duration_s=self.healthy_s,
            seed=HEALTHY_SEED + seed,
            after_s=self.normal_s + after.duration_s,
        )
        return _known(run, plant)

    def rigs(self, seed: int) -> tuple[list[int], int]:
        """Return the seeds of the rigs to learn from, and that of the rig to be watched."""
        first = RIGS_PER_SEED * (seed + 1)
        return list(range(first, first + self.num_rigs)), first + self.num_rigs


def rig_plant(directory: Path) -> Plant:
    """Return the rig of ``directory``, or the product's own, with the protocol's budget.

    Alarms have the delays of an advisory, for every method: 2 s on, 10 s off.
    """
    own = Path(__file__).parents[2] / "plants"
    path = (directory if (directory / "rig.yaml").is_file() else own) / "rig.yaml"
    plant = parse_plant(path.read_text(encoding="utf-8"), origin=path.name)
    return plant.model_copy(
        update={"alarms": (), "scoring": Scoring(false_alarms_per_day=FALSE_ALARMS_PER_DAY)}
    )


def watching(plant: Plant, stream: str) -> Plant:
    """Return the plant as a product would know it that has only ``stream``."""
    return plant.model_copy(update={"streams": (plant.stream(stream),)})


def with_budget(plant: Plant, false_alarms_per_day: float) -> Plant:
    """Return the plant with another budget."""
    return plant.model_copy(update={"scoring": Scoring(false_alarms_per_day=false_alarms_per_day)})


def without(run: KnownRun, stream: str) -> KnownRun:
    """Return the run as it is when ``stream`` fell silent before it began."""
    return KnownRun(run.scenario, [each.without(stream) for each in run.observations])


def _known(scenario: Scenario, plant: Plant) -> KnownRun:
    return KnownRun(scenario, list(rig_observations(scenario, plant)))
