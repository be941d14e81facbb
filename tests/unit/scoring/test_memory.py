"""Memory: what repeats a nuisance is lowered, by a bounded part, and nothing else ever is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.features import layout_of
from fusion.plant import parse_plant
from fusion.schema import Judgement
from fusion.scoring import Calibration
from fusion.scoring.memory import MOST_LOWERED, REACH, Episode, Memory, fingerprint, similarity
from fusion.scoring.normal import Normal

SIZE = 6
numbers = st.lists(st.floats(-3, 3), min_size=SIZE, max_size=SIZE).map(np.array)
judgements = st.sampled_from(["useful", "nuisance", None])
pasts = st.lists(st.tuples(numbers, judgements), max_size=8)
Past = list[tuple[np.ndarray, Judgement | None]]


def memory_of(past: Past) -> Memory:
    memory = Memory("model-1")
    for index, (print_V, judgement) in enumerate(past):
        memory.remember(Episode(f"e{index}", index, "rig-abnormal", judgement), print_V)
    return memory


@given(pasts, numbers)
def test_the_nearest_of_an_episode_is_itself(past: Past, print_V: np.ndarray) -> None:
    memory = memory_of(past)
    memory.remember(Episode("own", 99, "leak"), print_V)
    nearest = memory.nearest(print_V)[0]
    assert nearest.similarity == 1
    assert nearest.episode.id == "own"


@given(pasts, numbers)
def test_what_is_lowered_is_never_lowered_to_nothing(past: Past, print_V: np.ndarray) -> None:
    lowered = memory_of(past).lowers(print_V)
    assert 1 - MOST_LOWERED <= lowered.factor <= 1
    if not any(judgement == "nuisance" for _, judgement in past):
        assert lowered.factor == 1
    if lowered.factor < 0.99:
        assert f"{1 - lowered.factor:.0%}" in lowered.in_words()


@given(pasts, numbers, numbers)
def test_a_useful_episode_never_lowers(past: Past, useful_V: np.ndarray, new_V: np.ndarray) -> None:
    before = memory_of(past).lowers(new_V).factor
    after = memory_of([*past, (useful_V, "useful")]).lowers(new_V).factor
    assert after >= before


@given(pasts, numbers, numbers)
def test_taking_a_judgement_back_takes_back_all_that_it_did(
    past: Past, nuisance_V: np.ndarray, new_V: np.ndarray
) -> None:
    memory = memory_of([*past, (nuisance_V, None)])
    before = memory.lowers(new_V)
    memory.judge(f"e{len(past)}", "nuisance", "someone walked by")
    memory.judge(f"e{len(past)}", None)
    assert memory.lowers(new_V) == before


@given(st.lists(st.floats(0, 9), min_size=2, max_size=6))
def test_the_more_alike_the_more_it_is_lowered(distances: list[float]) -> None:
    memory = memory_of([(np.zeros(SIZE), "nuisance")])
    factors = [memory.lowers(np.full(SIZE, distance)).factor for distance in sorted(distances)]
    assert all(nearer <= farther for nearer, farther in pairwise(factors))


def test_a_nuisance_lowers_only_what_resembles_it() -> None:
    memory = memory_of([(np.zeros(SIZE), "nuisance")] * 20)
    assert memory.lowers(np.zeros(SIZE)).factor == 1 - MOST_LOWERED
    assert memory.lowers(np.full(SIZE, REACH)).factor == 1
    assert not memory.nearest(np.full(SIZE, REACH))


def test_a_priority_falls_by_one_step_at_most() -> None:
    memory = memory_of([(np.zeros(SIZE), "nuisance")])
    lowered = memory.lowers(np.zeros(SIZE))
    assert [lowered.priority(p) for p in ("high", "medium", "low")] == ["medium", "low", "low"]
    untouched = memory.lowers(np.full(SIZE, 9.0))
    assert [untouched.priority(p) for p in ("high", "medium", "low")] == ["high", "medium", "low"]


@given(numbers, numbers)
def test_likeness_goes_both_ways(first_V: np.ndarray, second_V: np.ndarray) -> None:
    assert similarity(first_V, second_V) == similarity(second_V, first_V)
    assert 0 <= similarity(first_V, second_V) <= 1


@given(past=pasts, new_V=numbers)
def test_memory_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, past: Past, new_V: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("memory")
    memory = memory_of(past)
    memory.save(folder)
    back = Memory.load(folder, "model-1")
    assert back.episodes() == memory.episodes()
    assert back.nearest(new_V) == memory.nearest(new_V)


def test_a_memory_of_another_model_is_refused(tmp_path: Path) -> None:
    memory_of([(np.zeros(SIZE), "useful")]).save(tmp_path)
    with pytest.raises(InputError, match="must be of model model-2"):
        Memory.load(tmp_path, "model-2")
    assert Memory.load(tmp_path / "nothing", "model-2").episodes() == []


def test_only_what_is_remembered_can_be_judged() -> None:
    with pytest.raises(InputError, match="must be remembered to be judged, got 'x'"):
        memory_of([]).judge("x", "nuisance")


PLANT = parse_plant(
    """
prefix: one
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4,
     tags: [{name: level, unit: m, range: [0, 9]}]}
""",
    origin="one.yaml",
)


def fitted() -> Calibration:
    return Calibration(
        layout=layout_of(PLANT),
        horizons_ticks=(1,),
        tick_s=0.5,
        normal=Normal(
            {"state/density": np.array([1.0, 0.0])},
            {"state/density/1": np.diag([1.0, 2.0]), "process/chart/1": np.eye(1)},
            {},
        ),
        without={},
        panels={},
        caveat="",
        reading_mean_R=np.zeros(1),
        reading_std_R=np.ones(1),
        residual_std_R=np.ones(1),
        widen_HG=np.zeros((1, 1)),
    )


def test_a_fingerprint_is_of_the_first_ticks_and_of_normal_size() -> None:
    rest = fingerprint(np.tile([1.0, 0.0], (9, 1)), [{}] * 9, fitted())
    assert not rest.any()
    late_TD = np.tile([1.0, 0.0], (9, 1))
    late_TD[6:] = 99.0
    assert np.array_equal(fingerprint(late_TD, [{}] * 9, fitted()), rest)


def test_state_and_profile_both_tell_episodes_apart() -> None:
    same_TD = np.tile([1.0, 0.0], (6, 1))
    quiet = fingerprint(same_TD, [{}] * 6, fitted())
    loud = fingerprint(same_TD, [{"process/chart": 2.0}] * 6, fitted())
    elsewhere = fingerprint(same_TD + np.array([0.0, 1.0]), [{}] * 6, fitted())
    assert similarity(quiet, loud) < 0.5
    assert similarity(quiet, elsewhere) < similarity(quiet, quiet)
