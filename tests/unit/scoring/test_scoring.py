"""Scores: rare is surprising, the stream that deviates is named, absence accuses nobody."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.errors import InputError, RecipeError
from fusion.features import Normaliser, layout_of
from fusion.manifest import Manifest, trained_streams
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant, parse_plant
from fusion.schema import Score
from fusion.scoring import Calibration, Scorer, fit_calibration, fitting, shares_of
from fusion.scoring.tails import Tail, fit_tail, threshold_for_budget

PLANT_TEXT = """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: level, unit: m, range: [0, 9]}
      - {name: heat, unit: K, range: [0, 9]}
      - {name: goal, unit: m, range: [0, 10], setpoint: true}
  - name: motor
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: current, unit: A, range: [0, 9]}
      - {name: speed, unit: rpm, range: [0, 9]}
modes:
  - {name: fast, tag: speed, between: [5, 9]}
  - {name: filling, tag: goal, between: [7, 10]}
"""
PLANT: Plant = parse_plant(PLANT_TEXT, origin="duo.yaml")
NAMES = ("process", "motor")
HORIZONS = (1, 4, 16)
T, D, P, R, M = 8, 6, 4, 4, 2


def windows(count: int, seed: int = 0, first: int = 100) -> list[WindowOutputs]:
    """Return consecutive windows of a plant whose every reading is noise about its prediction."""
    rng = np.random.default_rng(seed)

    def noise(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return rng.normal(scale=scale, size=shape).astype(np.float32)

    length = count + T - 1
    z, p, readings = noise(length, D), noise(length, M, P), noise(length, R)
    # Of the horizons 1, 4 and 16 two lie inside a window of 8 ticks.
    z_due, p_due = noise(count, 2, D, scale=0.1), noise(count, 2, M, P, scale=0.1)
    cross, cross_readings = noise(length, M, P, scale=0.1), noise(length, R, scale=0.1)
    readings_due = noise(count, 2, R, scale=0.1)
    band = np.array([-1.6, 0.0, 1.6], np.float32)
    return [
        WindowOutputs(
            tick=first + i,
            presence_TM=np.ones((T, M), np.float32),
            z_TD=z[i : i + T],
            p_TMP=p[i : i + T],
            cross_TMP=cross[i : i + T],
            readings_TR=readings[i : i + T],
            cross_readings_TR=cross_readings[i : i + T],
            z_due_SD=z_due[i],
            p_due_SMP=p_due[i],
            readings_due_SR=readings_due[i],
            z_ahead_HD=np.zeros((3, D), np.float32),
            forecast_HGQ=np.broadcast_to(band, (3, 4, 3)).copy(),
            setpoints_TU=np.zeros((T, 1), np.float32),
            usable=dict.fromkeys(NAMES, 1.0),
        )
        for i in range(count)
    ]


def shifted(window: WindowOutputs, stream: str, by: float) -> WindowOutputs:
    """Return ``window`` with the newest readings of one stream moved."""
    readings_TR = window.readings_TR.copy()
    readings_TR[-1, layout_of(PLANT).columns(stream)] += by
    return replace(window, readings_TR=readings_TR)


def without(window: WindowOutputs, stream: str) -> WindowOutputs:
    """Return ``window`` with one stream absent in its newest tick."""
    presence_TM, readings_TR = window.presence_TM.copy(), window.readings_TR.copy()
    presence_TM[-1, NAMES.index(stream)] = 0
    readings_TR[-1, layout_of(PLANT).columns(stream)] = np.nan
    usable = {name: 1.0 for name in NAMES if name != stream}
    return replace(window, presence_TM=presence_TM, readings_TR=readings_TR, usable=usable)


def normaliser() -> Normaliser:
    return Normaliser(
        {
            f"{name}.readings.{what}": np.full(2, value, np.float32)
            for name in NAMES
            for what, value in (("mean", 4.0), ("std", 0.5))
        }
    )


def calibrated(
    unseen: Sequence[WindowOutputs],
    plant: Plant = PLANT,
    without: Mapping[str, tuple[list[WindowOutputs], list[WindowOutputs]]] | None = None,
    learned: Sequence[WindowOutputs] | None = None,
) -> Calibration:
    manifest = Manifest(
        name="duo",
        version="1",
        plant_address="",
        plant_fingerprint="",
        tick_s=plant.tick_s,
        streams=trained_streams(plant),
        window_ticks=T,
        horizons_ticks=HORIZONS,
        layout=layout_of(plant).model_dump(mode="json"),
        recipe={},
        data_version="",
        code_version="",
        num_parameters=0,
        num_train_ticks=0,
        num_calibration_ticks=0,
        gauges=(),
    )
    return fit_calibration(
        (learned or LEARNED, unseen), plant, manifest, normaliser(), without=without
    )


LEARNED = windows(300, seed=20)
CALIBRATION = calibrated(windows(400))


def scorer() -> Scorer:
    return Scorer(CALIBRATION, PLANT, "1")


def scores_of(scored: Sequence[WindowOutputs], by: Scorer | None = None) -> list[Score]:
    by = by or scorer()
    return [by.update(window) for window in scored]


def test_a_normal_run_stays_below_the_threshold_nearly_always() -> None:
    surprises = [score.surprise for score in scores_of(windows(300, seed=5))]
    assert min(surprises) >= 0
    assert np.mean(np.array(surprises) >= 1) < 0.02


def test_shares_sum_to_one() -> None:
    for score in scores_of(windows(40, seed=3)):
        assert sum(score.shares.values()) == pytest.approx(1)
        assert set(score.shares) == set(NAMES)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["process/chart/1", "motor/chart/1", "motor/latent/0.3", "state/density/1"]
        ),
        st.floats(0, 300),
    ),
    st.booleans(),
    st.booleans(),
)
def test_shares_are_parts_of_one_and_absent_streams_have_none(
    rarities: dict[str, float], has_process: bool, has_motor: bool
) -> None:
    present = {"process": has_process, "motor": has_motor}
    shares = shares_of(rarities, present)
    assert set(shares) == set(present)
    assert all(0 <= share <= 1 for share in shares.values())
    assert all(shares[name] == 0 for name in present if not present[name])
    assert sum(shares.values()) == pytest.approx(1 if any(present.values()) else 0)


@pytest.mark.parametrize("stream", NAMES)
@pytest.mark.parametrize("by", [-25.0, 25.0])
def test_the_stream_whose_readings_move_is_ranked_first(stream: str, by: float) -> None:
    run = windows(30, seed=4)
    run[-1] = shifted(run[-1], stream, by)
    score = scores_of(run)[-1]
    assert score.surprise > 1
    assert score.shares[stream] > 0.8
    assert score.signals[0].stream == stream
    assert math.copysign(1, score.signals[0].deviation) == math.copysign(1, by)
    assert max(score.members, key=lambda key: score.members[key]).startswith(f"{stream}/")


def test_a_larger_deviation_is_more_surprising() -> None:
    run = windows(30, seed=4)
    surprises = [
        scores_of([*run[:-1], shifted(run[-1], "motor", by)])[-1].surprise for by in (0, 6, 12, 50)
    ]
    assert surprises == sorted(surprises)
    assert surprises[0] < 1 < surprises[-1]


def test_signals_are_told_in_the_units_of_their_tags() -> None:
    run = windows(2, seed=4)
    moved = shifted(run[-1], "motor", 12.0)
    signal = next(s for s in scores_of([run[0], moved])[-1].signals if s.tag == "current")
    assert signal.unit == "A"
    assert signal.actual == pytest.approx(4 + 0.5 * moved.readings_TR[-1, 2], rel=1e-5)
    assert signal.band[0] < signal.expected < signal.band[1] < signal.actual


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 30))
def test_a_restart_anywhere_gives_the_same_scores(at: int) -> None:
    run = windows(30, seed=6)
    first, second = scorer(), scorer()
    before = scores_of(run[:at], first)
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert before + scores_of(run[at:], second) == scores_of(run)


@pytest.mark.parametrize("stream", NAMES)
def test_an_absent_stream_has_no_share_no_member_and_a_caveat(stream: str) -> None:
    run = windows(10, seed=7)
    score = scores_of([*run[:-1], without(run[-1], stream)])[-1]
    assert score.shares[stream] == 0
    assert sum(score.shares.values()) == pytest.approx(1)
    assert not score.present[stream]
    assert not any(key.startswith(f"{stream}/") for key in score.members)
    assert not any(signal.stream == stream for signal in score.signals)
    assert f"no data from {stream}" in score.caveats


def wandering(count: int, seed: int) -> list[WindowOutputs]:
    """Return windows that are normal but for an embedding that goes on and on to new places."""
    steps_NP = np.random.default_rng(seed).normal(scale=0.3, size=(count, P)).astype(np.float32)
    return [
        replace(window, p_TMP=window.p_TMP + way_P)
        for window, way_P in zip(windows(count), np.cumsum(steps_NP, axis=0), strict=True)
    ]


def test_an_embedding_that_wanders_is_held_against_where_it_was_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strongest(seed: int) -> float:
        run = wandering(900, seed)
        told = calibrated(run[300:600], learned=run[:300])
        later = scores_of(run[600:], Scorer(told, PLANT, "1"))
        return max(score.members["process/density"] for score in later)

    before = [strongest(seed) for seed in range(4)]
    monkeypatch.setattr(fitting, "WANDERING", set())
    around = [strongest(seed) for seed in range(4)]
    assert np.mean(before) < 0.8 * np.mean(around)


def half_blind(seed: int, count: int = 400) -> list[WindowOutputs]:
    """Return normal windows without the motor, which shifts how the process is embedded."""
    return [
        replace(window, p_TMP=window.p_TMP + np.float32(1.5))
        for window in (without(each, "motor") for each in windows(count, seed=seed))
    ]


def test_a_plant_without_a_stream_is_normal_where_that_was_learned(tmp_path: Path) -> None:
    told = calibrated(windows(400), without={"motor": (half_blind(30, 300), half_blind(31))})
    unaware = [score.surprise for score in scores_of(half_blind(5, 200))]
    aware = [score.surprise for score in scores_of(half_blind(5, 200), Scorer(told, PLANT, "1"))]
    assert np.median(unaware) > 2 * np.median(aware)
    assert np.mean(np.array(aware) >= 1) < 0.02
    whole = windows(100, seed=6)
    assert scores_of(whole, Scorer(told, PLANT, "1")) == scores_of(whole), "nothing is absent"
    told.save(tmp_path)
    again = Scorer(Calibration.load(tmp_path), PLANT, "1")
    back = [score.surprise for score in scores_of(half_blind(5, 200), again)]
    assert back == pytest.approx(aware, rel=1e-9)


def test_without_any_stream_nothing_is_surprising() -> None:
    (window,) = windows(1)
    score = scores_of([without(without(window, "process"), "motor")])[0]
    assert score.surprise == 0
    assert set(score.shares.values()) == {0.0}
    assert score.signals == ()


def test_a_stream_that_is_hardly_usable_has_a_caveat() -> None:
    (window,) = windows(1)
    usable = {"process": 0.4, "motor": 1.0}
    (score,) = scores_of([replace(window, usable=usable)])
    assert "only 40% of process was usable" in score.caveats


@pytest.mark.parametrize(
    ("speed", "goal", "mode"), [(6.0, 9.0, "fast"), (4.0, 9.0, "filling"), (4.0, 2.0, None)]
)
def test_the_first_mode_that_holds_is_shown(speed: float, goal: float, mode: str | None) -> None:
    (window,) = windows(1)
    readings_TR, setpoints_TU = window.readings_TR.copy(), window.setpoints_TU.copy()
    readings_TR[-1, 3] = (speed - 4) / 0.5
    setpoints_TU[-1, 0] = goal / 5 - 1
    (score,) = scores_of([replace(window, readings_TR=readings_TR, setpoints_TU=setpoints_TU)])
    assert score.mode == mode


def test_a_calibration_comes_back_from_its_files(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path)
    run = windows(20, seed=8)
    back = Scorer(Calibration.load(tmp_path), PLANT, "1")
    for loaded, fitted in zip(scores_of(run, back), scores_of(run), strict=True):
        # Not to the last bit: the files keep matrices in another memory order.
        assert loaded.surprise == pytest.approx(fitted.surprise, rel=1e-9)
        assert loaded.shares == pytest.approx(fitted.shares, rel=1e-9)
        assert loaded.signals == fitted.signals


def test_a_folder_without_a_calibration_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold calibration.safetensors and calibration.json"):
        Calibration.load(tmp_path)


def test_a_run_that_is_too_short_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"at least 60 windows of normal running .* got 59"):
        calibrated(windows(59))


def test_a_smaller_budget_of_false_alarms_has_a_higher_threshold() -> None:
    normal = windows(300)
    thresholds = [
        calibrated(normal, with_budget(per_day)).panels["all"].threshold
        for per_day in (1000, 100, 10, 1)
    ]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]


def with_budget(per_day: float) -> Plant:
    text = PLANT_TEXT + f"scoring: {{false_alarms_per_day: {per_day}}}\n"
    return parse_plant(text, origin="duo.yaml")


def test_a_budget_beyond_the_run_is_said_to_be_extrapolated() -> None:
    normal = windows(300)
    assert "extrapolated" in calibrated(normal, with_budget(1)).caveat
    assert not calibrated(normal, with_budget(10_000)).caveat


finite = st.floats(-50, 50)


@given(
    finite,
    st.floats(0.02, 20),
    st.floats(1e-4, 0.5),
    st.floats(1, 1e6),
    st.lists(finite, min_size=2),
)
def test_a_larger_value_is_never_less_rare(
    start: float, scale: float, share: float, num_peaks: float, values: list[float]
) -> None:
    tail = Tail(start, scale, share, num_peaks)
    rarities = [tail.rarity(value) for value in sorted(values)]
    assert all(a <= b + 1e-12 for a, b in pairwise(rarities))
    assert all(rarity >= 0 for rarity in rarities)


def test_the_rarity_of_the_tail_is_that_of_the_data() -> None:
    values_N = np.random.default_rng(0).exponential(size=20_000)
    tail = fit_tail(values_N)
    for chance in (1e-2, 1e-3, 1e-5):
        assert tail.rarity(-math.log(chance)) == pytest.approx(-math.log10(chance), rel=0.05)


@given(st.lists(finite, min_size=1, max_size=200))
def test_a_tail_can_be_fitted_to_any_values(values: list[float]) -> None:
    tail = fit_tail(np.array(values))
    assert math.isfinite(tail.rarity(max(values) + 1))


@given(
    st.lists(st.floats(0, 10), min_size=20, max_size=200),
    st.integers(1, 8),
    st.integers(1, 20),
    st.lists(st.floats(0.1, 1e4), min_size=2, max_size=5),
    st.floats(0, 20) | st.just(math.inf),
)
def test_more_allowed_false_alarms_never_raise_the_threshold(
    values: list[float], on_ticks: int, off_ticks: int, budgets: list[float], reach: float
) -> None:
    thresholds = [
        threshold_for_budget(
            np.array(values),
            tick_s=0.5,
            on_delay_ticks=on_ticks,
            off_delay_ticks=off_ticks,
            per_day=per_day,
            reach=reach,
        ).threshold
        for per_day in sorted(budgets)
    ]
    assert all(a >= b - 1e-9 for a, b in pairwise(thresholds))


@pytest.mark.parametrize(
    "per_day",
    [
        10.0,
        100.0,
        1000.0,
    ],
)
def test_the_threshold_keeps_its_budget_on_the_run_that_it_is_from(per_day: float) -> None:
    values_N = np.random.default_rng(1).exponential(size=20_000)
    budget = threshold_for_budget(
        values_N, tick_s=0.5, on_delay_ticks=1, off_delay_ticks=20, per_day=per_day
    )
    above = np.flatnonzero(values_N > budget.threshold)
    alarms = 1 + int((np.diff(above) > 20).sum())
    assert alarms <= max(1, per_day * 20_000 * 0.5 / 86_400)


@pytest.mark.parametrize("num_unseen", [60, 100, 150, 300])
def test_a_model_that_was_calibrated_on_a_minute_or_two_can_still_alarm(num_unseen: int) -> None:
    """A budget of one false alarm a day, extrapolated from 30 s: what is at the clip must pass."""
    calibration = calibrated(windows(num_unseen, seed=5))
    scorer = Scorer(calibration, PLANT, "1")
    for normal in windows(40, seed=6, first=1_000):
        assert scorer.update(normal).surprise < 1
    far_out = windows(1, first=2_000)[0]
    for stream in NAMES:
        far_out = shifted(far_out, stream, 10.0)
    assert scorer.update(far_out).surprise >= 1


def test_what_can_be_reached_changes_no_threshold_of_a_longer_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long_run = windows(2_400, seed=7)
    bounded = calibrated(long_run)
    monkeypatch.setattr(fitting, "FAR_OUT", 1e9)
    assert calibrated(long_run).panels == bounded.panels
