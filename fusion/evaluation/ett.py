"""ETT: long forecasts of transformer loads and oil temperature, by the literature's rules.

Shapes: R rows, N windows, H rows ahead, G variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.errors import InputError
from fusion.evaluation.protocol import OURS, Figure, Published, each_and_mean
from fusion.evaluation.tables import table_plant, table_ticks
from fusion.plant import Plant
from fusion.scoring.bands import followed
from fusion.scoring.embedding_forecast import fit_embedding_forecast
from fusion.scoring.forecaster import Forecaster
from fusion.scoring.linear_forecast import level_of
from fusion.training import Recipe, Trained, train
from fusion.training.forecasting import EmbeddedRows, fit_forecaster

Floats = NDArray[np.floating]
ROWS_PER_TICK = 24
"""A day of hours, six hours of quarters: the window of 24 ticks then looks back 576 rows."""
HORIZONS = (96, 192, 336, 720)
MONTH_H = 30 * 24
MONTHS = (12, 4, 4)
BATCH = 256
BASE, EMBEDDING, NAIVE = "linear base alone", "embedding alone", "the last day again"
STATIC = "fusion, band not following"


@dataclass(frozen=True, slots=True)
class Recording:
    """One file, standardised by its training part."""

    name: str
    columns: tuple[str, ...]
    rows_RG: Floats
    tick_s: float
    parts: tuple[int, int, int]
    """Rows to learn from, to choose on, to test on."""


class Ett:
    """The protocol; every file ``ETT*.parquet`` of the folder is a part."""

    name = "ett"
    title = "ETT: forecasts 96 to 720 rows ahead"
    headline: tuple[str, ...] = tuple(f"mse_{h}" for h in HORIZONS)
    published: tuple[Published, ...] = tuple(
        Published(method, f"{metric}_{h}", value, "ETTh1 only")
        for method, metric, values in (
            ("DLinear", "mse", (0.375, 0.405, 0.439, 0.472)),
            ("DLinear", "mae", (0.399, 0.416, 0.443, 0.490)),
            ("PatchTST/64", "mse", (0.370, 0.413, 0.422, 0.447)),
            ("PatchTST/64", "mae", (0.400, 0.429, 0.440, 0.468)),
        )
        for h, value in zip(HORIZONS, values, strict=True)
    )
    rules = (
        "Twelve months to learn from, four to choose on, four to test on; values standardised by "
        "the first twelve. Every window of the test months (stride 1), all variables; a window may "
        "look back into the months before. One forecaster gives all horizons: the linear base, and "
        "the part of the embedding's correction that helped in the months to choose on. Bands of "
        "90 % are fitted on those months and follow each outcome once it has come."
    )

    def run(
        self, directory: Path, *, seed: int, recipe: Recipe, say: Callable[[str, float], None]
    ) -> Iterator[Figure]:
        """Yield the figures of every recording, then their means."""
        recordings = _recordings(directory)
        yield from each_and_mean(
            [each.name for each in recordings],
            lambda number, tell: _measure(recordings[number], seed, recipe, tell),
            say,
        )


def _recordings(directory: Path) -> list[Recording]:
    folder = directory / "ett" if (directory / "ett").is_dir() else directory
    files = sorted(folder.glob("ETT*.parquet"))
    if not files:
        raise InputError(
            f"{directory} must hold files ETT*.parquet, or a folder ett that holds them, and does "
            "not; give a folder in the layout that docs/evaluation.md shows"
        )
    return [_recording(file) for file in files]


def _recording(file: Path) -> Recording:
    table = pl.read_parquet(file).sort("date")
    row_s = float(np.median(np.diff(table["date"].dt.epoch("s").to_numpy())))
    table = table.drop("date")
    rows_RG = table.to_numpy().astype(np.float64)
    months = [round(months * MONTH_H * 3600 / row_s) for months in MONTHS]
    seen = rows_RG[: months[0]]
    std_G = np.maximum(seen.std(axis=0), 1e-9)
    return Recording(
        name=file.stem,
        columns=tuple(table.columns),
        rows_RG=((rows_RG - seen.mean(axis=0)) / std_G)[: sum(months)],
        tick_s=row_s * ROWS_PER_TICK,
        parts=(months[0], months[1], months[2]),
    )


def _measure(
    recording: Recording, seed: int, recipe: Recipe, say: Callable[[str, float], None]
) -> Iterator[Figure]:
    plant = table_plant(
        recording.name.lower(),
        recording.columns,
        tick_s=recording.tick_s,
        rows_per_tick=ROWS_PER_TICK,
    )
    say("learning", 0.0)
    trained = _train(recording, plant, recipe.model_copy(update={"seed": seed}), say)
    say("fitting forecasts", 0.6)
    embedded = EmbeddedRows(recording.rows_RG, trained, plant, _ticks, ROWS_PER_TICK)
    seen, unseen, _ = recording.parts
    num_ticks = max(HORIZONS) // ROWS_PER_TICK
    forecaster = fit_forecaster(
        embedded, seen_rows=seen, unseen_rows=unseen, num_ticks_ahead=num_ticks
    )
    say("testing", 0.8)
    yield from _test(embedded, forecaster, recording, seed)
    say("done", 1.0)


def _train(
    recording: Recording, plant: Plant, recipe: Recipe, say: Callable[[str, float], None]
) -> Trained:
    """Return a model of the months before the test, from ticks that begin at every row of a tick.

    The older parts of all phases come first, then the newer parts: what is held out is newer.
    """
    rows = recording.rows_RG[: sum(recording.parts[:2])]
    cut = round(len(rows) * (1 - recipe.held_out))
    observations: list[Observation] = []
    for part in (rows[:cut], rows[cut:]):
        for phase in range(ROWS_PER_TICK):
            # A gap of ticks between stretches: no window reaches from one into the next.
            first = observations[-1].tick + 2 if observations else 0
            observations += table_ticks(part[phase:], rows_per_tick=ROWS_PER_TICK, first_tick=first)
    return train(
        observations,
        plant,
        recipe,
        may_collapse=True,
        on_step=lambda step: say("learning", 0.6 * step.step / step.steps),
    )


def _ticks(rows_RG: Floats) -> list[Observation]:
    return table_ticks(rows_RG, rows_per_tick=ROWS_PER_TICK)


def _test(
    embedded: EmbeddedRows, forecaster: Forecaster, recording: Recording, seed: int
) -> Iterator[Figure]:
    """Yield errors of the whole and of its parts alone, and what the bands held."""
    begin, end, horizon = sum(recording.parts[:2]), len(recording.rows_RG), max(HORIZONS)
    origins_N = np.arange(begin, end - min(HORIZONS) + 1)
    alone = _embedding_alone(embedded, recording)
    errors: dict[str, list[NDArray[np.float32]]] = {}
    for first in range(0, len(origins_N), BATCH):
        origins = origins_N[first : first + BATCH]
        past, came = embedded.past(origins), embedded.future(origins, horizon)
        features = embedded.features(origins, horizon // ROWS_PER_TICK)
        base = forecaster.base.forecast(past)
        level = level_of(past, ROWS_PER_TICK)[:, None]
        days = -(-horizon // ROWS_PER_TICK)
        for method, said in (
            (OURS, base + forecaster.embedding.correction(features)),
            (BASE, base),
            (EMBEDDING, level + alone(features)),
            (NAIVE, np.tile(past[:, -ROWS_PER_TICK:], (1, days, 1))[:, :horizon]),
        ):
            errors.setdefault(method, []).append((came - said).astype(np.float32))
    for method, parts in errors.items():
        drawn = seed if method in {OURS, EMBEDDING} else None
        whole = np.concatenate(parts)
        yield from window_errors(method, whole, recording.name, drawn, horizons=HORIZONS)
    ours = np.concatenate(errors[OURS])
    yield Figure(
        OURS, recording.name, "embedding_share", float(forecaster.embedding.share_G.mean()), seed
    )
    yield from _coverage(ours, forecaster.bands_2HG, recording.name, seed)


def _embedding_alone(embedded: EmbeddedRows, recording: Recording) -> Callable[[Floats], Floats]:
    """Return what decodes embeddings to rows less their level, without the linear base."""
    lookback, horizon = embedded.lookback_rows, max(HORIZONS)
    seen, unseen, _ = recording.parts
    parts: list[Floats] = []
    for begin, end in ((lookback + ROWS_PER_TICK, seen), (seen, seen + unseen)):
        origins = np.arange(begin, end - horizon + 1, max(1, (end - begin) // 2500))
        level = level_of(embedded.past(origins), ROWS_PER_TICK)[:, None]
        parts += [
            embedded.features(origins, horizon // ROWS_PER_TICK),
            embedded.future(origins, horizon) - level,
        ]
    return fit_embedding_forecast(*parts).decode


def window_errors(
    method: str,
    errors_NHG: NDArray[np.float32],
    part: str,
    seed: int | None,
    *,
    horizons: tuple[int, ...],
) -> Iterator[Figure]:
    """Yield MSE and MAE per horizon over the windows that end inside the test months.

    Errors are of every origin at which the shortest horizon fits, in order.
    """
    for horizon in horizons:
        num_windows = len(errors_NHG) - horizon + min(horizons)
        whole = errors_NHG[:num_windows, :horizon].astype(np.float64)
        yield Figure(method, part, f"mse_{horizon}", float((whole**2).mean()), seed)
        yield Figure(method, part, f"mae_{horizon}", float(np.abs(whole).mean()), seed)


def _coverage(
    errors_NHG: NDArray[np.float32], bands_2HG: Floats, part: str, seed: int
) -> Iterator[Figure]:
    """Yield which share of what came lay inside the 90 % bands, up to each horizon."""
    inside = (errors_NHG >= bands_2HG[0]) & (errors_NHG <= bands_2HG[1])
    known = np.isfinite(errors_NHG)
    fixed_HG = inside.sum(axis=0) / known.sum(axis=0)
    following_HG = followed(errors_NHG, bands_2HG, np.arange(1, errors_NHG.shape[1] + 1))
    for method, held_HG in ((OURS, following_HG), (STATIC, fixed_HG)):
        for horizon in HORIZONS:
            value = float(held_HG[:horizon].mean())
            yield Figure(method, part, f"held_90_{horizon}", value, seed)
