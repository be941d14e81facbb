"""Server Machine Dataset as series of TSB-AD-M, by that benchmark's protocol and its own metric.

Shapes: N rows, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from fusion.evaluation.calibrated import calibrate
from fusion.evaluation.protocol import WHOLE, Figure, Published, folder_of
from fusion.evaluation.scored import ablation, score_recording
from fusion.evaluation.tables import table_plant, table_ticks
from fusion.training import Recipe, train

Values = NDArray[np.float64]
VUS_PR = "VUS-PR"
INDEX = "tsb_ad_m_subset"
PUBLISHED = "vuspr_"
MIN_STEP = 1e-2
"""Channels are scaled to 0..1 by the set: what moves less than this has not moved.

Every method is told so, the product as its tags' resolution.
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its first rows are for training, all of it is scored."""

    entity: str
    num_train: int
    channels: tuple[str, ...]
    rows_NC: Values
    is_anomaly_N: NDArray[np.bool_]
    published: dict[str, float]


class Smd:
    """One model for each series, learned from its first rows."""

    name = "smd"
    title = "SMD series of TSB-AD-M (real servers)"
    headline = (VUS_PR,)
    published: tuple[Published, ...] = ()
    """The index beside the recordings has them for each series; they are given as figures."""
    rules = (
        "Protocol of TSB-AD-M: the first rows of a series are for training, all of it is scored, "
        "VUS-PR with that benchmark's code and its sliding window (find_length_rank of the first "
        "channel), mean over the series. The published figures are those of the same series in the "
        "index; `best of each series` takes another method for each."
    )

    def run(
        self, directory: Path, *, seed: int, recipe: Recipe, say: Callable[[str, float], None]
    ) -> Iterator[Figure]:
        """Yield VUS-PR of the product, its members, PCA, and what is published for each series."""
        every = load(directory)
        values: dict[str, list[float]] = {}
        for number, series in enumerate(every):
            begin = number / len(every)

            def step(what: str, done: float, begin: float = begin) -> None:
                say(what, begin + done / len(every))

            scores = _scores(series, recipe.model_copy(update={"seed": seed}), step)
            for method, score_N in scores.items():
                value = vus_pr(score_N, series)
                values.setdefault(method, []).append(value)
                drawn = None if method == "PCA" else seed
                yield Figure(method, series.entity, VUS_PR, value, drawn)
        for method, found in values.items():
            drawn = None if method == "PCA" else seed
            yield Figure(method, WHOLE, VUS_PR, float(np.mean(found)), drawn)
        yield from _published(every)


def load(directory: Path) -> list[Series]:
    """Return the series of the index whose recordings are there."""
    index_folder = folder_of(directory, INDEX, "index.parquet") if _has_index(directory) else None
    index_folder = index_folder or folder_of(directory.parent, INDEX, "index.parquet")
    table = pl.read_parquet(folder_of(directory, "smd", "smd_test.parquet") / "smd_test.parquet")
    channels = tuple(name for name in table.columns if name not in {"entity", "t", "anomaly"})
    found: list[Series] = []
    for row in pl.read_parquet(index_folder / "index.parquet").iter_rows(named=True):
        part = table.filter(pl.col("entity") == row["entity"]).sort("t")
        if row["dataset"] == "SMD" and len(part):
            found.append(
                Series(
                    entity=row["entity"],
                    num_train=row["train_index"],
                    channels=channels,
                    rows_NC=part.select(channels).to_numpy().astype(np.float64),
                    is_anomaly_N=part["anomaly"].to_numpy().astype(bool),
                    published={
                        key.removeprefix(PUBLISHED): value
                        for key, value in row.items()
                        if key.startswith(PUBLISHED) and value is not None
                    },
                )
            )
    return found


def vus_pr(score_N: Values, series: Series) -> float:
    """Return the volume under the precision-recall surface (Paparrizos et al. 2022), 0 to 1."""
    # The package draws when it is imported: only who measures pays for it.
    from TSB_AD.evaluation.basic_metrics import generate_curve  # noqa: PLC0415
    from TSB_AD.utils.slidingWindows import find_length_rank  # noqa: PLC0415

    window = find_length_rank(series.rows_NC[:, :1], rank=1)
    low, high = np.nanmin(score_N), np.nanmax(score_N)
    # Rows before the first full window say nothing: the least surprising score.
    scaled_N = np.nan_to_num((score_N - low) / max(high - low, 1e-12))
    return float(generate_curve(series.is_anomaly_N.astype(int), scaled_N, window)[-1])


def _scores(series: Series, recipe: Recipe, say: Callable[[str, float], None]) -> dict[str, Values]:
    """Return the score of every row by method."""
    plant = table_plant("smd", series.channels, tick_s=60.0, resolution=MIN_STEP)
    normal, rows = table_ticks(series.rows_NC[: series.num_train]), table_ticks(series.rows_NC)
    trained = train(
        normal,
        plant,
        recipe,
        may_collapse=True,
        on_step=lambda r: say(f"{series.entity}, step {r.step}", 0.6 * r.step / r.steps),
    )
    calibrated = calibrate(trained.model, recipe, normal, plant, normaliser=trained.normaliser)
    say(f"{series.entity}, scoring", 0.6)
    scored = score_recording(calibrated, rows)
    say(f"{series.entity}, measuring", 0.9)
    return ablation(scored, calibrated.calibration) | {"PCA": _pca_score(series)}


def _pca_score(series: Series) -> Values:
    """Return the reconstruction error of a principal component model of the training rows."""
    normal_NC = series.rows_NC[: series.num_train]
    scale_C = np.maximum(normal_NC.std(axis=0), MIN_STEP)
    pca = PCA(n_components=0.9, svd_solver="full").fit(
        (normal_NC - normal_NC.mean(axis=0)) / scale_C
    )
    scaled_NC = (series.rows_NC - normal_NC.mean(axis=0)) / scale_C
    rebuilt_NC = pca.inverse_transform(pca.transform(scaled_NC))
    return ((scaled_NC - rebuilt_NC) ** 2).mean(axis=1)


def _published(every: list[Series]) -> Iterator[Figure]:
    methods = set.intersection(*(set(series.published) for series in every)) if every else set()
    for method in sorted(methods):
        for series in every:
            yield Figure(f"{method} (index)", series.entity, VUS_PR, series.published[method])
        mean = float(np.mean([series.published[method] for series in every]))
        yield Figure(f"{method} (index)", WHOLE, VUS_PR, mean)
    best = [max(series.published.values()) for series in every if series.published]
    if best:
        yield Figure("best of each series (index)", WHOLE, VUS_PR, float(np.mean(best)))


def _has_index(directory: Path) -> bool:
    return (directory / INDEX / "index.parquet").is_file()
