"""One model of several rigs: each in its own normal, no window from one into another."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import RecipeError
from fusion.evaluation.calibrated import calibrate
from fusion.evaluation.transfer import joined, rig_of, train_on_rigs
from fusion.features import TickFeatures
from fusion.training import StepReport
from fusion.training.windows import Windows
from tests.unit.training.test_training import CONFIG, RECIPE, TINY, observations


def features(ticks: range, value: float) -> TickFeatures:
    column = np.full((len(ticks), 1), value, np.float32)
    return TickFeatures(tuple(ticks), {"s": column}, np.ones_like(column), column, column)


def test_no_window_reaches_from_one_rig_into_another() -> None:
    both = joined([features(range(500, 520), 1.0), features(range(100, 130), 2.0)])
    windows = Windows(both, CONFIG)
    batch = windows.batch(np.arange(len(windows)))
    assert len(windows) == 20 - 7 + 30 - 7
    assert bool((batch.readings_BLR[:, :8].std(dim=1) == 0).all())
    # A far target exists where the rig's own recording goes on that long.
    assert bool((batch.readings_BLR[:, 0] == batch.readings_BLR[:, 8])[batch.has_far_BE > 0].all())


def test_a_model_of_several_rigs_is_the_same_for_its_seed_and_can_be_calibrated_on_another() -> (
    None
):
    recordings = [observations(160, seed) for seed in (0, 1)]
    reports: list[StepReport] = []
    model = train_on_rigs(recordings, TINY, RECIPE, on_step=reports.append)
    again = train_on_rigs(recordings, TINY, RECIPE)
    assert all(
        np.array_equal(a.numpy(), b.numpy())
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert [report.step for report in reports] == [*range(1, RECIPE.steps + 1)]
    assert reports[-1].gauges is not None

    unseen = observations(400, seed=7)
    told = calibrate(model, RECIPE, unseen, TINY)
    windows = told.windows_at(unseen, {unseen[200].tick, unseen[300].tick})
    assert sorted(windows) == [unseen[200].tick, unseen[300].tick]
    assert told.calibration.panels["all"].threshold > 0


def test_no_recording_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least one recording, got none"):
        train_on_rigs([], TINY, RECIPE)


def test_rigs_of_other_seeds_have_other_physics() -> None:
    assert rig_of(1, duration_s=10).physics != rig_of(2, duration_s=10).physics
