"""ETT: which windows count, and a small part of the real recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fusion.errors import InputError
from fusion.evaluation import ett
from fusion.evaluation.ett import BASE, NAIVE, Ett, window_errors
from fusion.evaluation.protocol import OURS, WHOLE
from fusion.training import recipe_named


def test_a_horizon_counts_the_windows_that_end_inside_the_test() -> None:
    # The literature: rows - horizon + 1 windows. Errors of origins up to rows - 96.
    errors = np.full((200 - 96 + 1, 720, 1), np.nan, np.float32)
    for origin in range(len(errors)):
        errors[origin, : 200 - origin] = origin
    found = {f.metric: f.value for f in window_errors("m", errors, "p", None, horizons=(96, 192))}
    assert found["mae_96"] == pytest.approx(np.mean(np.arange(105)))
    assert found["mae_192"] == pytest.approx(np.mean(np.arange(9)))
    assert found["mse_192"] == pytest.approx(np.mean(np.arange(9) ** 2))


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold files ETT\*.parquet"):
        list(Ett().run(tmp_path, seed=0, recipe=recipe_named("quick"), say=lambda *_: None))


def test_a_small_part_of_the_real_recording_gives_every_figure(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ett, "MONTHS", (3, 2, 2))
    monkeypatch.setattr(ett, "HORIZONS", (96, 192))
    (source,) = sorted((shared_data / "ett").glob("ETTh1.parquet"))
    table = pl.read_parquet(source).select("date", "HUFL", "OT").head(7 * 720)
    table.write_parquet(tmp_path / "ETTh1.parquet")
    recipe = recipe_named("standard", steps=2)
    figures = list(Ett().run(tmp_path, seed=0, recipe=recipe, say=lambda *_: None))
    whole = {(f.method, f.metric): f.value for f in figures if f.part == WHOLE}
    for horizon in (96, 192):
        assert whole[OURS, f"mse_{horizon}"] < whole[NAIVE, f"mse_{horizon}"]
        assert whole[BASE, f"mse_{horizon}"] < whole[NAIVE, f"mse_{horizon}"]
        assert 0.7 < whole[OURS, f"held_90_{horizon}"] <= 1
