"""Training: equal seeds equal models, windows without jumps, and a run that stops when it dies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Observation
from fusion.errors import CollapseError, RecipeError
from fusion.features import TickFeatures, extract, fit_normaliser
from fusion.model import ModelConfig
from fusion.plant import Plant, parse_plant
from fusion.training import RECIPES, Recipe, StepReport, Trained, recipe_named, split, train
from fusion.training.windows import Windows

TINY: Plant = parse_plant(
    """
prefix: tiny
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: level, unit: m, range: [-9, 9]}
      - {name: heat, unit: K, range: [-9, 9]}
      - {name: flow, unit: l/s, range: [-9, 9]}
      - {name: goal, unit: m, range: [-9, 9], setpoint: true}
""",
    origin="tiny.yaml",
)
TRIO: Plant = parse_plant(
    """
prefix: trio
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: level, unit: m, range: [0, 1]}
      - {name: heat, unit: K, range: [0, 1]}
      - {name: goal, unit: m, range: [0, 1], setpoint: true}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
  - {name: eye, modality: video, rate_hz: 2, width_px: 64, height_px: 48}
""",
    origin="trio.yaml",
)
CONFIG = ModelConfig(
    width=32,
    embedding=16,
    stream_embedding=8,
    fusion_layers=1,
    predictor_layers=1,
    window_ticks=8,
    horizons_ticks=(1, 4, 16),
)
RECIPE = Recipe(name="tiny", model=CONFIG, steps=6, batch_windows=8, gauge_every=3, threads=1)


def observations(num_ticks: int = 160, seed: int = 0, first: int = 1000) -> list[Observation]:
    rng = np.random.default_rng(seed)
    time_K = np.arange(2 * num_ticks) / 4
    waves_KC = np.stack([np.sin(time_K * w) for w in (0.3, 0.7, 1.9, 0.1)], axis=1)
    values_KC = waves_KC + 0.3 * rng.normal(size=waves_KC.shape)
    return [
        Observation(
            first + i, {"process": values_KC[2 * i : 2 * i + 2].astype(np.float32)}, {"process": 1}
        )
        for i in range(num_ticks)
    ]


def constant(num_ticks: int = 160) -> list[Observation]:
    values_SC = np.full((2, 4), 0.5, np.float32)
    return [Observation(i, {"process": values_SC}, {"process": 1.0}) for i in range(num_ticks)]


def weights(trained: Trained) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in trained.model.state_dict().items()}


def test_the_same_seed_gives_the_same_weights() -> None:
    recorded = observations()
    first = train(recorded, TINY, RECIPE)
    torch.rand(17)  # What others draw does not matter.
    again = train(recorded, TINY, RECIPE)
    assert weights(first) == weights(again)
    assert first.history == again.history


def test_another_seed_gives_other_weights() -> None:
    recorded = observations()
    other = RECIPE.model_copy(update={"seed": 1})
    assert weights(train(recorded, TINY, RECIPE)) != weights(train(recorded, TINY, other))


def test_a_run_reports_every_step_and_lowers_its_loss() -> None:
    reports: list[StepReport] = []
    recipe = RECIPE.model_copy(update={"steps": 25, "warmup_steps": 5})
    trained = train(observations(), TINY, recipe, on_step=reports.append)
    assert [report.step for report in reports] == [*range(26)]
    totals = [report.losses["total"] for report in reports if report.losses]
    assert np.mean(totals[-5:]) < np.mean(totals[:5])
    measured = [report for report in reports if report.gauges]
    assert [report.step for report in measured] == [*range(0, 25, 3), 25]
    assert [entry["step"] for entry in trained.history] == [report.step for report in measured]
    for entry in trained.history:
        assert all(np.isfinite(value) for value in entry.values())


def test_a_constant_recording_collapses_and_says_which_gauge() -> None:
    with pytest.raises(CollapseError, match=r"must keep rankme above 3, .* not constant"):
        train(constant(), TINY, RECIPE)


def test_what_is_only_compared_with_may_collapse_and_still_not_diverge() -> None:
    trained = train(constant(), TINY, RECIPE, may_collapse=True)
    assert [entry["step"] for entry in trained.history] == [0, 3, 6]
    wild = RECIPE.model_copy(update={"learning_rate": 1e12, "warmup_steps": 1})
    with pytest.raises(CollapseError, match="must stay finite"):
        train(observations(), TINY, wild, may_collapse=True)


@pytest.mark.parametrize("gauge_every", [1, 2, 3, 100])
def test_a_far_too_large_learning_rate_collapses(gauge_every: int) -> None:
    changes = {"steps": 12, "learning_rate": 1e3, "warmup_steps": 1, "gauge_every": gauge_every}
    wild = RECIPE.model_copy(update=changes)
    with pytest.raises(CollapseError, match="Try a lower learning rate"):
        train(observations(), TINY, wild)


def test_an_honest_run_does_not_collapse() -> None:
    history = train(observations(), TINY, RECIPE.model_copy(update={"steps": 12})).history
    assert history[-1]["rankme"] > 3


@pytest.mark.parametrize("num_ticks", [0, 5, 10])
def test_too_few_ticks_are_refused_with_the_number_that_is_needed(num_ticks: int) -> None:
    with pytest.raises(RecipeError, match="stretches of at least 8 ticks without a gap"):
        train(observations(num_ticks), TINY, RECIPE)


def test_what_is_held_out_is_the_newest_and_trains_nothing() -> None:
    recorded = observations()
    seen, held_out = split(recorded, RECIPE)
    assert [*seen, *held_out] == recorded
    assert len(held_out) == round(0.33 * len(recorded))
    other = [*seen, *observations(len(held_out), seed=9, first=held_out[0].tick)]
    one, same = train(recorded, TINY, RECIPE), train(other, TINY, RECIPE)
    assert weights(one) == weights(same)
    assert one.history != same.history, "what is held out is measured on"
    for name, values in fit_normaliser(seen, TINY).statistics.items():
        np.testing.assert_array_equal(values, one.normaliser.statistics[name])


def numbered(ticks: Sequence[int]) -> TickFeatures:
    """Return features whose only reading is the number of the tick."""
    column = np.array(ticks, np.float32)[:, None]
    return TickFeatures(tuple(ticks), {"s": column}, np.ones_like(column), column, column)


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.lists(st.integers(2, 9)))
def test_windows_never_cross_a_jump(lengths: list[int], gaps: list[int]) -> None:
    ticks: list[int] = []
    for i, length in enumerate(lengths):
        begin = 100 if not ticks else ticks[-1] + (gaps[i % len(gaps)] if gaps else 2)
        ticks += range(begin, begin + length)
    if max(lengths) < 8:
        with pytest.raises(RecipeError):
            Windows(numbered(ticks), CONFIG)
        return
    windows = Windows(numbered(ticks), CONFIG)
    assert len(windows) == sum(max(0, length - 7) for length in lengths)
    batch = windows.batch(np.arange(len(windows)))
    context_BT = batch.readings_BLR[:, :8, 0]
    assert bool((context_BT.diff(dim=1) == 1).all())
    assert torch.equal(batch.setpoints_BTU[:, :, 0], context_BT)
    far_B = batch.readings_BLR[:, 8, 0]
    has_far_B = batch.has_far_BE[:, 0] > 0
    assert torch.equal(has_far_B, far_B - context_BT[:, -1] == 16)
    # Where the stretch ends the plan is held at its last tick, never taken from beyond.
    ahead_BTH = batch.plan_BTHU[..., 0] - context_BT[..., None]
    assert bool((ahead_BTH >= 0).all())
    assert bool((ahead_BTH <= torch.tensor(CONFIG.horizons_ticks)).all())


def trio_observations(count: int = 12) -> list[Observation]:
    rng = np.random.default_rng(0)
    recorded: list[Observation] = []
    for tick in range(count):
        senses: dict[str, np.ndarray] = {
            "process": rng.random((2, 3)).astype(np.float32),
            "ear": rng.integers(-9000, 9000, 2000).astype(np.int16),
            "eye": rng.integers(0, 255, (48, 64, 3)).astype(np.uint8),
        }
        if tick % 3 == 1:
            senses["process"][0, 1] = np.nan
        if tick % 4 == 2:
            del senses[["process", "ear", "eye"][tick // 4]]
        recorded.append(Observation(tick, senses, dict.fromkeys(senses, 1.0)))
    return recorded


def test_live_features_are_the_features_of_training() -> None:
    recorded = trio_observations()
    normaliser = fit_normaliser(recorded, TRIO)
    at_once = extract(recorded, TRIO, normaliser)
    for i, observation in enumerate(recorded):
        live = extract([observation], TRIO, normaliser)
        assert live.ticks == (at_once.ticks[i],)
        np.testing.assert_array_equal(live.presence_NM[0], at_once.presence_NM[i])
        np.testing.assert_array_equal(live.setpoints_NU[0], at_once.setpoints_NU[i])
        np.testing.assert_allclose(live.readings_NR[0], at_once.readings_NR[i], atol=1e-5)
        for name, values in live.inputs.items():
            np.testing.assert_allclose(values[0], at_once.inputs[name][i], atol=1e-4)


def test_features_are_standard_finite_and_zero_where_a_stream_is_absent() -> None:
    recorded = trio_observations()
    features = extract(recorded, TRIO, fit_normaliser(recorded, TRIO))
    for m, (name, values) in enumerate(features.inputs.items()):
        is_there = features.presence_NM[:, m] > 0
        assert is_there.sum() == 11
        assert np.isfinite(values).all()
        assert not values[~is_there].any()
        assert abs(values[is_there][:, :1].mean()) < 0.2, name
    assert np.isnan(features.readings_NR).any(axis=1).sum() == 3


def test_a_recipe_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"must be one of \['quick', 'standard'\]"):
        recipe_named("slow")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_keeps_everything_but_what_was_asked_for(name: str) -> None:
    assert recipe_named(name) == RECIPES[name]()
    assert recipe_named(name, seed=7) == RECIPES[name]().model_copy(update={"seed": 7})
