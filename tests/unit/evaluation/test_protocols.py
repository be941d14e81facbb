"""Protocols on small tables in the layout of the recordings: any channels, any files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from flows.cli.evaluate import evaluate
from fusion.errors import InputError
from fusion.evaluation import PROTOCOLS
from fusion.evaluation.protocol import OURS, WHOLE, Figure, folder_of, summarise
from fusion.evaluation.skab import Skab
from fusion.evaluation.smd import Smd, load, vus_pr
from fusion.evaluation.tep import Tep
from fusion.training import Recipe, recipe_named

QUICK: Recipe = recipe_named("quick", steps=4)


def walk(num_rows: int, num_channels: int, seed: int) -> NDArray[np.float64]:
    """Return channels that follow one another, with noise."""
    rng = np.random.default_rng(seed)
    hidden = np.convolve(rng.normal(size=num_rows + 20), np.ones(20) / 5, "valid")[:num_rows, None]
    return hidden * np.linspace(0.5, 2, num_channels) + 0.3 * rng.normal(
        size=(num_rows, num_channels)
    )


def figures_of(protocol: Tep | Skab | Smd, directory: Path) -> dict[tuple[str, str, str], float]:
    heard: list[float] = []
    found = protocol.run(
        directory, seed=0, recipe=QUICK, say=lambda _what, part: heard.append(part)
    )
    figures = {(f.method, f.part, f.metric): f.value for f in found}
    assert heard, "long work says how far it is"
    assert all(0 <= part <= 1 for part in heard)
    return figures


@pytest.fixture
def tep_folder(tmp_path: Path) -> Path:
    parts: list[pl.DataFrame] = []
    for split, fault, num_rows in (("train", 0, 500), ("test", 0, 400), ("test", 5, 400)):
        values = walk(num_rows, 4, seed=len(parts))
        values[160:] += 8.0 * (fault > 0) * np.array([1, -1, 1, -1])
        table = pl.DataFrame({f"XMEAS_{c:02d}": values[:, c] for c in range(4)})
        parts.append(
            table.with_columns(
                pl.lit(split).alias("split"),
                pl.lit(fault).cast(pl.Int8).alias("fault"),
                pl.Series("sample", range(num_rows)),
            )
        )
    (tmp_path / "tep").mkdir()
    pl.concat(parts).write_parquet(tmp_path / "tep" / "tep.parquet")
    return tmp_path


def test_tep_finds_a_fault_that_anybody_would_see(tep_folder: Path) -> None:
    figures = figures_of(Tep(), tep_folder)
    for method in (OURS, "chart only", "PCA T2|SPE", "DPCA T2|SPE"):
        assert figures[method, "fault 5", "detection rate"] > 0.9
        assert figures[method, WHOLE, "false alarms, normal test"] <= 0.011


def test_skab_counts_the_rows_after_the_400th(tmp_path: Path) -> None:
    parts: list[pl.DataFrame] = []
    for name, group in (("valve1/0", "valve1"), ("other/3", "other"), ("free", "anomaly-free")):
        values = walk(560, 3, seed=len(parts))
        is_anomaly = np.arange(560) >= 480
        values[is_anomaly] += 15.0
        table = pl.DataFrame({f"channel {c}": values[:, c] for c in range(3)})
        parts.append(
            table.with_columns(
                pl.Series("datetime", range(560)),
                pl.Series("anomaly", is_anomaly.astype(np.int64)),
                pl.lit(0).alias("changepoint"),
                pl.lit(group).alias("group"),
                pl.lit(name).alias("experiment"),
            )
        )
    pl.concat(parts).write_parquet(tmp_path / "skab.parquet")
    figures = figures_of(Skab(), tmp_path)
    # Half of the test rows of both labelled experiments: always to alarm has F1 2/3.
    assert figures["always alarm", WHOLE, "f1"] == pytest.approx(2 / 3)
    assert figures[OURS, WHOLE, "f1"] > 0.8
    assert figures[OURS, WHOLE, "missed alarm rate"] < 0.2


@pytest.fixture
def smd_folder(tmp_path: Path) -> Path:
    values = walk(1200, 4, seed=3)
    is_anomaly = (np.arange(1200) >= 900) & (np.arange(1200) < 960)
    values[is_anomaly] += 6.0
    table = pl.DataFrame({f"m{c:02d}": values[:, c] for c in range(4)}).with_columns(
        pl.lit("machine-9-9").alias("entity"),
        pl.Series("t", range(1200)),
        pl.Series("anomaly", is_anomaly.astype(np.int64)),
    )
    (tmp_path / "smd").mkdir()
    table.write_parquet(tmp_path / "smd" / "smd_test.parquet")
    (tmp_path / "tsb_ad_m_subset").mkdir()
    pl.DataFrame(
        {
            "dataset": ["SMD", "MSL", "SMD"],
            "entity": ["machine-9-9", "M-7", "machine-not-here"],
            "train_index": [500, 10, 10],
            "vuspr_PCA": [0.25, 0.5, 0.9],
            "vuspr_CNN": [0.125, 0.5, 0.9],
        }
    ).write_parquet(tmp_path / "tsb_ad_m_subset" / "index.parquet")
    return tmp_path


def test_smd_measures_the_series_that_are_there(smd_folder: Path) -> None:
    figures = figures_of(Smd(), smd_folder)
    assert figures[OURS, WHOLE, "VUS-PR"] == figures[OURS, "machine-9-9", "VUS-PR"] > 0.5
    assert figures["PCA (index)", WHOLE, "VUS-PR"] == 0.25
    assert figures["best of each series (index)", WHOLE, "VUS-PR"] == 0.25


def test_smd_may_be_given_its_own_folder(smd_folder: Path) -> None:
    (one,), (other,) = load(smd_folder), load(smd_folder / "smd")
    assert one.entity == other.entity
    assert one.num_train == 500


def test_a_perfect_score_has_the_highest_volume(smd_folder: Path) -> None:
    (series,) = load(smd_folder)
    right_N = series.is_anomaly_N.astype(float)
    noise_N = np.random.default_rng(0).random(len(right_N))
    assert vus_pr(right_N, series) > 0.9 > vus_pr(noise_N, series)


def test_a_folder_without_the_recording_is_told_what_it_must_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold tep.parquet, or a folder tep"):
        folder_of(tmp_path, "tep", "tep.parquet")


def test_a_figure_that_nothing_is_drawn_for_has_no_spread() -> None:
    (summary,) = summarise([Figure("PCA", WHOLE, "f1", 0.5)])
    assert (summary.mean, summary.spread, summary.num_seeds) == (0.5, 0.0, 1)


def seeds_of(values: list[float]) -> Iterator[Figure]:
    return (Figure(OURS, WHOLE, "f1", value, seed) for seed, value in enumerate(values))


def test_the_spread_is_that_of_a_sample() -> None:
    (summary,) = summarise(seeds_of([0.0, 1.0, 2.0]))
    assert summary.mean == 1.0
    assert summary.spread == pytest.approx(1.0)
    assert not math.isnan(summary.spread)


def test_figures_of_an_interrupted_evaluation_are_kept_and_say_where_it_stopped(
    tep_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Tep):
        def run(
            self, directory: Path, *, seed: int, recipe: Recipe, say: Callable[[str, float], None]
        ) -> Iterator[Figure]:
            yield Figure(OURS, WHOLE, "detection rate", 0.5, seed)
            raise KeyboardInterrupt

    monkeypatch.setitem(PROTOCOLS, "tep", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        evaluate("tep", tep_folder, out=tmp_path / "out")
    page = (tmp_path / "out" / "tep.md").read_text()
    assert "**Not finished**: stopped in seed 0, number 1 of 3" in page
    assert "| 0.500 |" in page
