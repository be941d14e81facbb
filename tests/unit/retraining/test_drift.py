"""Tests of drift: their false alarms are as rare as they say, also where neighbours are alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from fusion.retraining import two_samples
from fusion.retraining.drift import AlarmBudget, DriftLimits, Verdicts, check
from fusion.retraining.records import DriftFinding
from fusion.retraining.sample import Sample
from fusion.retraining.two_samples import (
    block_length,
    blocks_of,
    correlation_ticks,
    energy_test,
    whitened,
)

BUDGET = AlarmBudget(per_day=24, on_delay_ticks=4)
NOBODY = Verdicts(0, 0)


def wandering(num_ticks: int, seed: int, *, phi: float, size: int = 3) -> np.ndarray:
    """AR(1): each tick remembers the one before, with variance 1."""
    noise = np.random.default_rng(seed).normal(size=(num_ticks + 200, size))
    return np.asarray(lfilter([np.sqrt(1 - phi**2)], [1, -phi], noise, axis=0))[200:]


def sample(seed: int, *, first: int = 0, num_ticks: int = 1500) -> Sample:
    draw = np.random.default_rng(seed)
    return Sample(
        ticks_N=np.arange(first, first + num_ticks),
        embeddings={
            "ear": wandering(num_ticks, seed, phi=0.8).astype(np.float32),
            "state": wandering(num_ticks, seed + 500, phi=0.8).astype(np.float32),
        },
        errors_NH=draw.gamma(4, 0.1, size=(num_ticks, 2)).astype(np.float32),
        persistence_NH=draw.gamma(4, 0.25, size=(num_ticks, 2)).astype(np.float32),
        surprise_N=np.full(num_ticks, 0.3, np.float32),
    )


THEN, NOW = sample(1), sample(2, first=10_000)


def drifts(now: Sample, verdicts: Verdicts = NOBODY) -> list[DriftFinding]:
    found = check(THEN, now, tick_s=0.5, budget=BUDGET, verdicts=verdicts)
    return [each for each in found.findings if each.is_drift]


def test_ticks_that_remember_give_no_more_false_alarms_than_stated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(two_samples, "NUM_PERMUTATIONS", 199)
    level, num_trials = 0.1, 120
    ticks, rejected, naive = np.arange(700), 0, 0
    for seed in range(num_trials):
        first = wandering(700, 2 * seed, phi=0.8)
        second = wandering(700, 2 * seed + 1, phi=0.8)
        pair = whitened(first, second)
        blocks = blocks_of(ticks, ticks + 9_000, block_length(pair))
        rejected += energy_test(*pair, blocks).p_value <= level
        if seed < 20:
            naive += energy_test(*pair, blocks_of(ticks, ticks, 5)).p_value <= level
    # So many at the most, in 999 of 1,000 runs, if the level is kept.
    assert rejected <= binom.ppf(0.999, num_trials, level)
    assert naive >= 8, "blocks that are too short must be found out by this test"


def test_the_correlation_time_is_that_of_the_process() -> None:
    told = correlation_ticks([wandering(40_000, 3, phi=0.9)])
    assert told == pytest.approx((1 + 0.9) / (1 - 0.9), rel=0.25)


def test_a_step_between_the_samples_is_no_slowness() -> None:
    first, second = wandering(4_000, 4, phi=0.5), wandering(4_000, 5, phi=0.5) + 100
    assert correlation_ticks([first, second]) < 5


def test_alike_periods_do_not_drift() -> None:
    assert not drifts(NOW)


@pytest.mark.parametrize("change", ["moved", "wider", "other shape"])
def test_what_the_encoder_sees_elsewhere_drifts_and_only_that(change: str) -> None:
    ear = NOW.embeddings["ear"]
    changed = {"moved": ear + 1.5, "wider": ear * 4, "other shape": np.abs(ear)}[change]
    now = replace(NOW, embeddings={**NOW.embeddings, "ear": changed})
    assert [(each.kind, each.about) for each in drifts(now)] == [("embedding", "ear")]


def test_what_is_certain_but_small_does_not_matter() -> None:
    many = sample(7, first=10_000, num_ticks=6_000)
    moved = {**many.embeddings, "ear": many.embeddings["ear"] + 0.28}
    found = check(
        sample(8, num_ticks=6_000),
        replace(many, embeddings=moved),
        tick_s=0.5,
        budget=BUDGET,
        verdicts=NOBODY,
    ).findings
    ear = next(each for each in found if each.about == "ear")
    assert ear.p_value is not None
    assert ear.p_value <= ear.level
    assert not ear.is_drift


def test_lost_skill_drifts() -> None:
    (found,) = drifts(replace(NOW, errors_NH=NOW.errors_NH * 2))
    assert found.kind == "skill"
    assert found.effect == pytest.approx(0.4, abs=0.1)
    assert "and removed 0.60 then" in found.sentence


def test_an_alarm_that_never_ends_is_no_calibration_any_more() -> None:
    (found,) = drifts(replace(NOW, surprise_N=NOW.surprise_N + 1))
    assert found.kind == "calibration"
    spikes_N = NOW.surprise_N + (np.arange(len(NOW)) % 50 == 0)
    assert not drifts(replace(NOW, surprise_N=spikes_N)), "shorter than the alarm's delay"


def test_nuisance_counts_from_enough_verdicts() -> None:
    assert not drifts(NOW, Verdicts(num_useful=0, num_nuisance=3))
    (found,) = drifts(NOW, Verdicts(num_useful=1, num_nuisance=9))
    assert found.kind == "feedback"
    assert "9 of 10 judged alarms a nuisance" in found.sentence


def test_too_little_is_said_and_is_no_drift() -> None:
    short = sample(3, first=10_000, num_ticks=60)
    moved = {name: values + 9 for name, values in short.embeddings.items()}
    found = check(
        THEN, replace(short, embeddings=moved), tick_s=0.5, budget=BUDGET, verdicts=NOBODY
    )
    assert not any(each.is_drift for each in found.findings)
    assert sum("cannot be said" in each.sentence for each in found.findings) == 3


def test_an_absent_stream_says_nothing() -> None:
    silent = np.full_like(NOW.embeddings["ear"], np.nan)
    now = replace(NOW, embeddings={**NOW.embeddings, "ear": silent})
    assert not drifts(now)


def test_a_stricter_level_finds_no_more() -> None:
    now = replace(NOW, embeddings={n: v + 0.8 for n, v in NOW.embeddings.items()})
    found = [
        {
            each.about
            for each in check(
                THEN,
                now,
                tick_s=0.5,
                budget=BUDGET,
                verdicts=NOBODY,
                limits=DriftLimits(level=level),
            ).findings
            if each.is_drift
        }
        for level in (0.05, 0.01, 1e-6)
    ]
    assert found[0] >= found[1] >= found[2] == set()


def test_a_sample_comes_back_from_its_file(tmp_path: Path) -> None:
    THEN.save(tmp_path / "s")
    again = Sample.load(tmp_path / "s")
    assert again.embeddings.keys() == THEN.embeddings.keys()
    for name, values in THEN.embeddings.items():
        np.testing.assert_array_equal(again.embeddings[name], values)
    np.testing.assert_array_equal(again.errors_NH, THEN.errors_NH)
    np.testing.assert_array_equal(again.ticks_N, THEN.ticks_N)
