"""Rules of data quality on a swinging plant, harmed in one way at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fusion.alignment import Observation
from fusion.plant import NANOSECONDS
from fusion.retraining.incidents import Incident
from fusion.retraining.quality import QualityRecipe, QualityReport, check_quality, quality_table
from tests.unit.training.tiny import PLANT, recording

NUM_TICKS = 400
RECIPE = QualityRecipe(min_train_s=100, flat_s=10)
Harm = Callable[[list[Observation]], list[Observation]]


def told(observations: list[Observation], **more: object) -> QualityReport:
    table = quality_table(observations, PLANT)
    return check_quality(table, [range(NUM_TICKS)], PLANT, RECIPE, **more)  # pyright: ignore[reportArgumentType]


def broken(report: QualityReport) -> set[str]:
    return {each.rule for each in report.findings if not each.is_met}


def harmed(observations: list[Observation], change: Callable[[np.ndarray], object]) -> None:
    for each in observations:
        change(each.senses["process"])


def flat(observations: list[Observation]) -> list[Observation]:
    for each in observations[100:200]:
        each.senses["process"][:, 1] = 0.25
    return observations


def shifted(observations: list[Observation]) -> list[Observation]:
    harmed(observations[50:90], lambda rows_SC: rows_SC.__iadd__([20, 0, 0, 0]))
    return observations


def holed(observations: list[Observation]) -> list[Observation]:
    return observations[:100] + observations[250:]


def silent(observations: list[Observation]) -> list[Observation]:
    return [each.without("other") if each.tick % 2 else each for each in observations]


def short(observations: list[Observation]) -> list[Observation]:
    return observations[:100]


@pytest.mark.parametrize(
    ("harm", "rule", "word"),
    [
        (flat, "flat lines", "process.heat stands still in"),
        (shifted, "ranges", "process.level in"),
        (holed, "gaps", "the longest gap is 75 s"),
        (silent, "streams", "other 4"),
    ],
)
def test_each_harm_breaks_its_rule_alone(harm: Harm, rule: str, word: str) -> None:
    assert told(recording(NUM_TICKS)).is_good
    report = told(harm(recording(NUM_TICKS)))
    assert broken(report) == {rule}
    assert word in report.told()


def test_a_transmitter_s_noise_at_the_end_of_its_range_is_measured_and_not_a_fault() -> None:
    low, high = PLANT.telemetry_streams[0].tags[0].range
    for beyond, is_good in ((0.012, True), (0.013, False)):
        at_rest = recording(NUM_TICKS)
        value = low - beyond * (high - low)
        harmed(at_rest, lambda rows_SC, v=value: rows_SC.__setitem__((slice(0, 1), 0), v))
        assert told(at_rest).is_good is is_good


def test_too_little_is_too_little() -> None:
    assert {"amount", "gaps"} == broken(told(short(recording(NUM_TICKS))))


def test_a_tag_that_never_moves_is_the_plant_s_own_unless_it_is_known_to_move() -> None:
    still = recording(NUM_TICKS)
    harmed(still, lambda rows_SC: rows_SC.__setitem__((slice(None), 2), 1.0))
    assert told(still).is_good
    assert "process.flow stands still in 100%" in told(still, moving={"process.flow"}).told()


def incident(first: int, last: int, judgement: str | None) -> Incident:
    onset, end = (round(tick * PLANT.tick_s * NANOSECONDS) for tick in (first, last))
    return Incident.model_validate(
        {"episode": "e1", "alarm": "a", "onset_ns": onset, "end_ns": end, "judgement": judgement}
    )


@pytest.mark.parametrize(
    ("last", "judgement", "is_good"),
    [
        (101, "useful", False),
        (300, "nuisance", True),
        (300, None, False),
        (110, None, True),
        (None, None, True),
    ],
)
def test_labels_do_not_leak(last: int | None, judgement: str | None, is_good: bool) -> None:
    incidents = [] if last is None else [incident(100, last, judgement)]
    report = told(recording(NUM_TICKS), incidents=incidents)
    assert report.is_good is is_good
    if not is_good:
        assert broken(report) == {"incidents"}


def test_what_others_found_different_is_told() -> None:
    assert "unit of level" in told(recording(NUM_TICKS), mismatches=["unit of level"]).told()
