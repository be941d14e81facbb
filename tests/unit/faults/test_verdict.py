"""The judge of the fault campaign sees what is lost, doubled or different."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from fusion.alignment import Counts
from fusion.schema import Score
from tests.faults.poisons import EVERY_RECORD
from tests.faults.verdict import Left, Position, judge

POISONED = Position("telemetry", 0, 3)
CLAIMED = Position("video", 1, 4)
TICK_NS = 500_000_000


def score(tick: int, *, surprise: float = 1.0) -> Score:
    return Score.model_construct(plant="pump", tick=tick, surprise=surprise)


@pytest.fixture
def clean() -> Left:
    return Left(
        scores={"pump": [score(1), score(2), score(3)]},
        dead_letters={POISONED: ["wrong-schema"]},
        outcomes={
            "telemetry": Counts(scored=8, late=1, duplicate=2, dead_lettered=1),
            "video": Counts(scored=6),
        },
        num_on_broker={"telemetry": 12, "video": 6},
        poisons={POISONED: "empty"},
        claims={CLAIMED: ("pump", 2 * TICK_NS)},
    )


def outcome(**counts: int) -> Callable[[Left], None]:
    return lambda left: left.outcomes.update(video=Counts(**counts))


def letter(position: Position, *reasons: str) -> Callable[[Left], None]:
    return lambda left: left.dead_letters.update({position: list(reasons)})


LOST: dict[str, Callable[[Left], object]] = {
    "a tick": lambda left: left.scores["pump"].pop(1),
    "a record": outcome(scored=5),
    "a record that is never settled": outcome(scored=5, pending=1),
    "a dead letter": lambda left: left.dead_letters.clear(),
}
DOUBLED: dict[str, Callable[[Left], object]] = {
    "a score": lambda left: left.scores["pump"].insert(1, score(1)),
    "a dead letter": letter(POISONED, "wrong-schema", "wrong-schema"),
}
OTHER: dict[str, Callable[[Left], object]] = {
    "another score": lambda left: left.scores["pump"].__setitem__(1, score(2, surprise=9.0)),
    "scores in another order": lambda left: left.scores["pump"].reverse(),
    "another reason": letter(POISONED, "headers"),
    "a dead letter of what is no poison": letter(Position("video", 0, 1), "wrong-schema"),
    "another outcome": outcome(scored=5, late=1),
}


def test_equal_runs_are_clean(clean: Left) -> None:
    verdict = judge(copy.deepcopy(clean), clean)
    assert (verdict.num_lost, verdict.num_doubled, verdict.wrong) == (0, 0, [])


@pytest.mark.parametrize("what", LOST)
def test_what_is_lost_is_counted(what: str, clean: Left) -> None:
    left = copy.deepcopy(clean)
    LOST[what](left)
    verdict = judge(left, clean)
    assert verdict.num_lost == 1
    assert verdict.wrong


@pytest.mark.parametrize("what", DOUBLED)
def test_what_is_doubled_is_counted(what: str, clean: Left) -> None:
    left = copy.deepcopy(clean)
    DOUBLED[what](left)
    verdict = judge(left, clean)
    assert (verdict.num_lost, verdict.num_doubled) == (0, 1)
    assert verdict.wrong


@pytest.mark.parametrize("what", OTHER)
def test_what_is_said_differently_is_wrong(what: str, clean: Left) -> None:
    left = copy.deepcopy(clean)
    OTHER[what](left)
    assert judge(left, clean).wrong


def test_only_claimed_records_may_be_missed_for_a_store_that_is_away(clean: Left) -> None:
    left = copy.deepcopy(clean)
    left.dead_letters[CLAIMED] = ["claim-unavailable"]
    left.outcomes["video"] = Counts(scored=5, dead_lettered=1)
    left.scores["pump"][2] = score(3, surprise=2.0)
    assert not judge(left, clean, may_miss_claims=True).wrong
    assert judge(left, clean).wrong
    left.dead_letters[Position("video", 1, 5)] = ["claim-unavailable"]
    assert judge(left, clean, may_miss_claims=True).wrong


@pytest.mark.parametrize(("committed", "is_right"), [(None, False), (7, False), (8, True)])
def test_a_plant_of_which_nothing_can_be_used_is_left_behind(
    clean: Left, committed: int | None, is_right: bool
) -> None:
    left = copy.deepcopy(clean)
    for offset in (5, 7):
        position = Position("audio", 2, offset)
        left.poisons[position] = EVERY_RECORD
        left.dead_letters[position] = ["wrong-schema"]
    if committed is not None:
        left.committed["audio", 2] = committed
    expected = copy.deepcopy(left)
    assert bool(judge(left, expected).wrong) is not is_right


def test_scores_of_a_plant_that_must_have_none_are_too_many(clean: Left) -> None:
    left = copy.deepcopy(clean)
    left.scores["fan"] = [score(1)]
    verdict = judge(left, clean)
    assert (verdict.num_lost, verdict.num_doubled) == (0, 1)


def test_without_the_store_ticks_of_refused_records_may_be_empty_and_no_others(clean: Left) -> None:
    clean.scores["pump"] = [score(tick) for tick in range(9)]
    clean.claims = {CLAIMED: ("pump", 5 * TICK_NS), Position("video", 1, 5): ("pump", 2 * TICK_NS)}
    left = copy.deepcopy(clean)
    left.dead_letters[CLAIMED] = ["claim-unavailable"]
    left.outcomes["video"] = Counts(scored=5, dead_lettered=1)
    left.scores["pump"] = [each for each in left.scores["pump"] if each.tick not in {5, 6}]
    assert not judge(left, clean, may_miss_claims=True).wrong
    assert judge(left, clean).num_lost == 2
    left.scores["pump"] = [each for each in left.scores["pump"] if each.tick not in {2, 8}]
    assert judge(left, clean, may_miss_claims=True).num_lost == 2
