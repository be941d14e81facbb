"""Chances of an event: the head's, on the means that training sees; none while it is abnormal."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.model.outputs import WindowOutputs
from fusion.schema import Score
from fusion.scoring import Scorer
from fusion.scoring.events import EventHead, Labelled, fit_event_head
from fusion.scoring.foresight import HeadBasis, KnownHead
from fusion.scoring.running_means import SPANS_TICKS, RunningMeans
from fusion.training.event_features import running_features
from tests.unit.scoring.test_scoring import PLANT, D, scorer, shifted, windows
from tests.warnings_heard import warnings_of

GRID = (4, 20)


def fitted(num_features: int) -> EventHead:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(120, num_features))
    labelled = Labelled(
        features, np.where(features[:, 0] > 0, 3.0, 30.0), features[:, 0] > 0, np.arange(120) % 6
    )
    return fit_event_head(labelled, grid=GRID, num_heads=1)


def known(head: EventHead) -> KnownHead:
    basis = HeadBasis(
        plant=str(PLANT.address),
        model_version="1",
        number=2,
        t_ns=0,
        num_useful=6,
        num_nuisance=1,
        num_windows=120,
        verdicts="",
    )
    return KnownHead(head, basis)


HEAD = known(fitted(len(SPANS_TICKS) * D))


def heading(count: int, seed: int = 0, first: int = 100) -> list[WindowOutputs]:
    """Return windows that expect something else after each tick."""
    rng = np.random.default_rng([seed, 5])
    return [
        replace(each, z_ahead_HD=rng.normal(size=(3, D)).astype(np.float32))
        for each in windows(count, seed, first)
    ]


def foreseeing(head: KnownHead | None = HEAD) -> Scorer:
    made = scorer()
    made.foresight.head = head
    return made


def naive_features(run: list[WindowOutputs]) -> NDArray[np.float64]:
    """Return the means over ``run``, which has no jump, each from its definition."""
    ahead_ND = np.array([each.z_ahead_HD.astype(np.float64).mean(axis=0) for each in run])
    back_N = np.arange(len(run))[::-1]
    means = []
    for span in SPANS_TICKS:
        weights_N = (1 - 2 / (span + 1)) ** back_N
        means.append((weights_N[:, None] * ahead_ND).sum(axis=0) / weights_N.sum())
    return np.concatenate(means)


def chances(score: Score) -> list[float] | None:
    told = score.event_chances
    return None if told is None else [each.chance for each in told.within]


def test_chances_are_those_of_the_head_on_the_means_since_the_last_jump() -> None:
    run = [*heading(12, seed=1), *heading(9, seed=2, first=500)]
    by = foreseeing()
    told = [by.update(window) for window in run]
    assert max(score.surprise for score in told) < 1
    for at, score in enumerate(told):
        since = 0 if at < 12 else 12
        expected = HEAD.head.within(naive_features(run[since : at + 1])[None])[0]
        assert chances(score) == pytest.approx(expected, rel=1e-5)
    last = told[-1].event_chances
    assert last is not None
    assert [each.within_s for each in last.within] == [ticks * PLANT.tick_s for ticks in GRID]
    assert (last.head, last.num_useful, last.num_nuisance) == (2, 6, 1)
    assert last.error == HEAD.head.reliability.error


def test_live_sees_of_a_recording_what_training_sees() -> None:
    values_NX = np.random.default_rng(3).normal(size=(30, 2)).astype(np.float32)
    live = RunningMeans()
    followed = [live.follow(tick, values) for tick, values in enumerate(values_NX)]
    assert np.array_equal(np.array(followed), running_features(values_NX)[:, :-1])


def test_without_a_head_a_score_is_what_it_was() -> None:
    run = heading(5)
    before = scorer().update(run[0])
    assert chances(before) is None
    assert "event_chances" not in json.loads(before.model_dump_json())
    assert "foresight" not in scorer().snapshot()
    told = foreseeing().update(run[0])
    assert told.model_copy(update={"event_chances": None}) == before
    assert Score.model_validate_json(told.model_dump_json()) == told


def test_while_it_is_abnormal_nothing_is_foreseen_and_means_go_on() -> None:
    run = heading(30, seed=4)
    hit = [*run[:10], shifted(run[10], "motor", 50.0), *run[11:]]
    plain, by = foreseeing(), foreseeing()
    calm = [plain.update(window) for window in run]
    told = [by.update(window) for window in hit]
    assert told[10].surprise >= 1
    for score, same in zip(told, calm, strict=True):
        assert (chances(score) is None) == (score.surprise >= 1)
        if score.surprise < 1:
            assert chances(score) == chances(same)
    assert chances(told[-1]) is not None


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 20))
def test_a_restart_anywhere_foresees_the_same(at: int) -> None:
    run = heading(20, seed=6)
    first, second, whole = foreseeing(), foreseeing(), foreseeing()
    before = [first.update(window) for window in run[:at]]
    second.restore(json.loads(json.dumps(first.snapshot())))
    after = [second.update(window) for window in run[at:]]
    assert before + after == [whole.update(window) for window in run]


def test_the_means_begin_when_a_head_comes_and_a_newer_one_goes_on_with_them() -> None:
    run = heading(9, seed=7)
    by = foreseeing(None)
    for window in run[:3]:
        assert chances(by.update(window)) is None
    newer = replace(HEAD, basis=HEAD.basis.model_copy(update={"number": 3}))
    by.foresight.head = HEAD
    by.update(run[3])
    by.foresight.head = newer
    told = by.update(run[4]).event_chances
    assert told is not None
    assert told.head == 3
    expected = HEAD.head.within(naive_features(run[3:5])[None])[0]
    assert [each.chance for each in told.within] == pytest.approx(expected, rel=1e-5)


def test_what_is_no_number_is_forgotten_with_all_before_it() -> None:
    run = heading(6, seed=8)
    broken = replace(run[2], z_ahead_HD=np.full((3, D), np.nan, np.float32))
    by = foreseeing()
    told = [by.update(window) for window in (*run[:2], broken, *run[3:])]
    assert chances(told[2]) is None
    expected = HEAD.head.within(naive_features(run[3:])[None])[0]
    assert chances(told[-1]) == pytest.approx(expected, rel=1e-5)


def test_a_head_of_other_features_says_nothing_and_that_is_said_once() -> None:
    by = foreseeing(known(fitted(4)))
    with warnings_of("fusion.scoring.foresight") as warned:
        told = [by.update(window) for window in heading(4)]
    assert [chances(score) for score in told] == [None] * 4
    assert len(warned) == 1
    assert "must see 18 numbers" in warned[0]
