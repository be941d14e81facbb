"""The protocol *rig*: metrics on known values, votes, the autoencoder, and all of it, tiny."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.lib.stride_tricks import sliding_window_view

from fusion.alignment import Observation
from fusion.errors import RecipeError
from fusion.evaluation import PROTOCOLS
from fusion.evaluation.autoencoder import Autoencoder, learn_autoencoder, num_weights
from fusion.evaluation.detection import KnownRun, auprc, detect
from fusion.evaluation.error_chart import fit_error_chart
from fusion.evaluation.late_fusion import at_least
from fusion.evaluation.protocol import OURS, WHOLE
from fusion.evaluation.rig import (
    ADVICE,
    AND,
    AUPRC,
    AUTOENCODER,
    CONSTANT,
    DISTRACTORS,
    FALSE,
    KEPT,
    LOST,
    MOST,
    OPTIMUM,
    OR,
    PARAMETERS,
    PCA_READINGS,
    PCA_TAGS,
    RECALL,
    SIZE,
    UNSEEN,
    Rig,
)
from fusion.evaluation.rig_runs import RigRuns, rig_plant, watching, with_budget, without
from fusion.features import layout_of
from fusion.model import Jepa, ModelConfig
from fusion.planning import Search
from fusion.simulation import FAULTS, FaultInterval, Scenario
from fusion.training import Recipe
from tests.unit.training.test_training import RECIPE, TINY, observations

PLANTS = Path(__file__).parents[3] / "plants"
RIG = rig_plant(PLANTS)
QUICK = Recipe(
    name="tiny",
    model=ModelConfig(width=32, window_ticks=8, horizons_ticks=(1, 4, 16)),
    steps=4,
    batch_windows=8,
    threads=1,
)
SHORT = RigRuns(
    normal_s=110.0,
    fault_s=8.0,
    gap_s=4.0,
    healthy_s=20.0,
    num_rigs=2,
    advice_minutes=1.5,
    search=Search(rounds=2, population=8),
)


def known(
    duration_s: float, *faults: FaultInterval, first_s: float = 0.0
) -> tuple[KnownRun, np.ndarray]:
    """Return a run that nobody simulated, and a surprise of 0 for each of its ticks."""
    scenario = Scenario(duration_s, seed=0, faults=faults)
    first = scenario.t_start_ns // RIG.tick_ns
    ticks = range(first + round(first_s * 2), first + round(duration_s * 2))
    return KnownRun(scenario, [Observation(t, {}, {}) for t in ticks]), np.zeros(len(ticks))


LEAK, WEAR = FaultInterval("leak", 100, 200), FaultInterval("bearing_wear", 400, 500)


def test_an_alarm_in_a_fault_is_counted_with_its_delay_and_one_in_health_as_false() -> None:
    run, surprise_N = known(600, LEAK, WEAR)
    surprise_N[2 * 120 : 2 * 150] = 1.5
    surprise_N[2 * 300 : 2 * 310] = 1.5
    found = detect([run], [surprise_N], RIG)
    # The tick that ends 120.5 s after the start is the first; the alarm waits for 2 s.
    assert found.delay_s == {"leak": pytest.approx(22.5)}
    assert (found.recall, found.median_delay_s) == (0.5, pytest.approx(22.5))
    assert found.num_false == 1
    assert found.healthy_s == pytest.approx(600 - 2 * (100 + 60))
    assert found.false_alarms_per_day == pytest.approx(86_400 / 280)


def test_an_alarm_that_stands_at_the_onset_is_no_detection_and_recovery_counts_for_nothing() -> (
    None
):
    run, surprise_N = known(600, LEAK, WEAR)
    surprise_N[2 * 80 : 2 * 190] = 2.0
    surprise_N[2 * 520 : 2 * 540] = 2.0
    found = detect([run], [surprise_N], RIG)
    assert found.recall == 0
    assert math.isnan(found.median_delay_s)
    assert found.num_false == 1, "the one at 80 s; the one at 520 s is recovery"


def test_short_passings_raise_no_alarm_and_unknown_ticks_are_nothing() -> None:
    run, surprise_N = known(600, LEAK)
    surprise_N[2 * 120 : 2 * 121] = 9.0
    surprise_N[:40] = np.nan
    found = detect([run], [surprise_N], RIG)
    assert (found.recall, found.num_false) == (0, 0)
    assert 100 / 540 < found.auprc < 0.2


def test_a_run_without_faults_adds_healthy_time_and_false_alarms_only() -> None:
    run, surprise_N = known(600, LEAK)
    healthy, loud_N = known(1_000)
    loud_N[100:140] = 3.0
    found = detect([run, healthy], [surprise_N, loud_N], RIG)
    assert (found.num_faults, found.num_false) == (1, 1)
    assert found.healthy_s == pytest.approx(600 - 160 + 1_000)
    assert found.auprc == pytest.approx(auprc([run], [surprise_N], RIG))


def test_auprc_of_the_truth_is_1_of_a_constant_the_share_and_recovery_does_not_matter() -> None:
    run, surprise_N = known(600, LEAK)
    share = 100 / (600 - 60)
    assert auprc([run], [surprise_N], RIG) == pytest.approx(share)
    surprise_N[2 * 100 : 2 * 200] = 1.0
    assert auprc([run], [surprise_N], RIG) == 1.0
    surprise_N[2 * 200 : 2 * 260] = 5.0
    assert auprc([run], [surprise_N], RIG) == 1.0
    assert math.isnan(auprc([known(60)[0]], [np.zeros(120)], RIG))


votes = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(0, 9)
)


@given(votes)
def test_fewer_votes_never_say_less_and_the_order_of_products_does_not_matter(
    votes_KN: np.ndarray,
) -> None:
    told = [at_least(count, list(votes_KN)) for count in range(1, len(votes_KN) + 1)]
    assert all((few >= many).all() for few, many in pairwise(told))
    assert np.array_equal(told[0], votes_KN.max(axis=0))
    assert np.array_equal(told[-1], votes_KN.min(axis=0))
    assert np.array_equal(told[0], at_least(1, list(votes_KN[::-1])))
    for count, said_N in enumerate(told, 1):
        assert np.array_equal(said_N >= 1, (votes_KN >= 1).sum(axis=0) >= count)


def test_more_votes_than_products_are_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and the 1 products, got 2"):
        at_least(2, [np.zeros(3)])


def test_a_chart_of_white_errors_keeps_its_budget_and_sees_a_small_shift_that_lasts() -> None:
    rng = np.random.default_rng(0)
    hourly = with_budget(TINY, 24.0)
    chart = fit_error_chart({"process": rng.normal(size=(6_000, 5))}, hourly, num_learned=4_000)
    new_NV = rng.normal(size=(6_000, 5))
    # What counts is what lasts for the on-delay of 4 ticks.
    usual_N, shifted_N = (
        sliding_window_view(chart.surprise({"process": each}), 4).min(axis=1)
        for each in (new_NV, new_NV + 0.8)
    )
    assert (usual_N >= 1).mean() < 0.02, "about one alarm, that may last"
    assert (shifted_N[100:] >= 1).mean() > 0.9


def test_a_chart_without_unseen_ticks_is_refused() -> None:
    with pytest.raises(RecipeError, match="not learned from, got 20"):
        fit_error_chart({"process": np.zeros((100, 2))}, TINY, num_learned=80)


def test_the_autoencoder_is_as_large_as_the_product_and_passes_everything_through_its_bottleneck() -> (  # noqa: E501
    None
):
    config, layout = ModelConfig(), layout_of(RIG)
    wanted = num_weights(Jepa(layout, config))
    model = Autoencoder(layout, config, num_parameters=wanted)
    assert num_weights(model) == pytest.approx(wanted, rel=2e-3)
    first = model.decoder[0]
    assert isinstance(first, torch.nn.Linear)
    assert first.in_features == config.embedding


def test_the_autoencoder_is_the_same_for_its_seed_and_is_surprised_by_what_it_never_saw() -> None:
    recipe, often = RECIPE.model_copy(update={"steps": 60}), with_budget(TINY, 2_000.0)
    normal = observations(400)
    told, again = (learn_autoencoder(normal, often, recipe) for _ in range(2))
    strange = [
        Observation(
            each.tick, {"process": np.asarray(each.senses["process"], np.float32) * 4}, each.usable
        )
        for each in normal
    ]
    usual_N, strange_N = told.surprise(normal), told.surprise(strange)
    assert np.array_equal(usual_N, again.surprise(normal))
    assert np.median(strange_N) > 1 > np.median(usual_N)


def test_a_silent_stream_is_gone_and_the_budget_is_the_protocols() -> None:
    run = KnownRun(
        Scenario(1, seed=0), [Observation(1, {"a": np.zeros(1), "b": np.ones(1)}, {"a": 1, "b": 1})]
    )
    left = without(run, "a").observations[0]
    assert (list(left.senses), list(left.usable)) == (["b"], ["b"])
    assert RIG.scoring.false_alarms_per_day == 1
    assert [stream.name for stream in watching(RIG, "camera").streams] == ["camera"]


def test_rigs_to_learn_from_are_never_the_one_that_is_watched() -> None:
    seen = [RigRuns().rigs(seed) for seed in range(3)]
    assert all(watched not in others for others, watched in seen)
    assert max(Counter(r for others, w in seen for r in (*others, w)).values()) == 1


def test_the_whole_protocol_runs_and_gives_every_figure(tmp_path: Path) -> None:
    said: list[float] = []
    figures = list(
        Rig(SHORT).run(tmp_path, seed=3, recipe=QUICK, say=lambda _, done: said.append(done))
    )
    assert said == sorted(said)
    assert 0 <= said[0] <= said[-1] <= 1
    value = {(f.method, f.part, f.metric): f.value for f in figures}
    assert len(value) == len(figures), "no figure twice"
    assert all(f.seed == (None if f.method == CONSTANT else 3) for f in figures)
    singles = [f"{stream.name} only" for stream in RIG.streams]
    kinds = ["chart only", f"{OURS} without chart"]
    for method in (OURS, AUTOENCODER, PCA_TAGS, PCA_READINGS, OR, MOST, AND, *singles, *kinds):
        assert 0 <= value[method, WHOLE, RECALL] <= 1
        assert value[method, WHOLE, FALSE] >= 0
        assert 0 < value[method, WHOLE, AUPRC] <= 1
        by_fault = [value[method, fault.replace("_", " "), RECALL] for fault in FAULTS]
        assert np.mean(by_fault) == pytest.approx(value[method, WHOLE, RECALL])
    sizes = [value[method, SIZE, PARAMETERS] for method in (OURS, AUTOENCODER)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    for method in (OURS, OR):
        assert all(value[method, f"without {s.name}", KEPT] > 0 for s in RIG.streams)
    for method in (OURS, AUTOENCODER):
        lost = value[method, WHOLE, AUPRC] - value[method, DISTRACTORS, AUPRC]
        assert value[method, DISTRACTORS, LOST] == pytest.approx(lost)
    assert value[f"{OURS}, calibrated only", UNSEEN, KEPT] > 0
    assert value[OURS, ADVICE, OPTIMUM] <= 1.1
    assert "rig" in PROTOCOLS
