"""C-MAPSS: metrics on known values, the fleets of any folder, a small part of the real engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fusion.errors import InputError
from fusion.evaluation.cmapss import Cmapss, Engine, horizon_auroc, nasa_score, read_fleets
from fusion.evaluation.protocol import OURS, WHOLE
from fusion.scoring import events
from fusion.training import recipe_named


def write_fleet(folder: Path, name: str, *, units: int = 4, learn: bool = True) -> None:
    """Engines of 30 cycles with one channel that moves and one that never does."""
    rows = [
        {"unit": unit, "cycle": cycle, "op1": 7.0, "s1": float(cycle * unit)}
        for unit in range(1, units + 1)
        for cycle in range(1, 31)
    ]
    if learn:
        pl.DataFrame(rows).write_parquet(folder / f"train_{name}.parquet")
    pl.DataFrame(rows).write_parquet(folder / f"test_{name}.parquet")
    left = pl.DataFrame({"rul": [10 * unit for unit in range(1, units + 1)]})
    left.write_parquet(folder / f"RUL_{name}.parquet")


def test_auroc_counts_only_horizons_at_which_both_happen() -> None:
    came = np.array([[False, True], [True, True]])
    assert horizon_auroc(np.array([[0.1, 0.9], [0.8, 0.9]]), came) == 1.0
    assert np.isnan(horizon_auroc(np.zeros((2, 1)), np.zeros((2, 1), bool)))


def test_late_is_worse_than_early() -> None:
    truth = np.array([50.0])
    assert nasa_score(truth, truth) == 0
    assert nasa_score(truth + 20, truth) == pytest.approx(np.exp(2) - 1)
    assert nasa_score(truth - 20, truth) == pytest.approx(np.exp(20 / 13) - 1)


def test_an_engine_counts_down_to_its_failure() -> None:
    assert Engine(0, np.zeros((3, 1)), left=5).to_failure.tolist() == [7.0, 6.0, 5.0]


def test_channels_that_never_change_are_left_out(tmp_path: Path) -> None:
    write_fleet(tmp_path, "FD009")
    (fleet,) = read_fleets(tmp_path)
    assert fleet.columns == ("s1",)
    assert [engine.left for engine in fleet.test] == [10, 20, 30, 40]
    assert all(engine.left == 0 for engine in fleet.learn)


def test_a_test_without_its_own_training_file_learns_from_another(tmp_path: Path) -> None:
    write_fleet(tmp_path, "FD008")
    write_fleet(tmp_path, "FD009", learn=False)
    assert [fleet.name for fleet in read_fleets(tmp_path)] == [
        "FD008",
        "FD009, learned from FD008",
    ]


def test_without_any_training_file_half_of_the_engines_are_learned_from(tmp_path: Path) -> None:
    write_fleet(tmp_path, "FD009", learn=False)
    (fleet,) = read_fleets(tmp_path)
    assert [engine.left for engine in fleet.learn] == [10, 30]
    assert [engine.left for engine in fleet.test] == [20, 40]


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold test_FD"):
        read_fleets(tmp_path)


def test_a_small_part_of_the_real_engines_gives_every_figure(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STEPS", 40)
    source = shared_data / "cmapss"
    for kind in ("train", "test"):
        table = pl.read_parquet(source / f"{kind}_FD001.parquet")
        table.filter(pl.col("unit") <= 12).write_parquet(tmp_path / f"{kind}_FD001.parquet")
    pl.read_parquet(source / "RUL_FD001.parquet").head(12).write_parquet(
        tmp_path / "RUL_FD001.parquet"
    )
    figures = list(
        Cmapss().run(
            tmp_path, seed=0, recipe=recipe_named("standard", steps=2), say=lambda *_: None
        )
    )
    ours = {f.metric: f.value for f in figures if (f.method, f.part) == (OURS, WHOLE)}
    assert {"h_auroc", "h_auroc_fam", "rul_rmse", "nasa_score"} <= set(ours)
    assert ours["h_auroc"] > 0.5
    assert ours["rul_rmse"] < 125
