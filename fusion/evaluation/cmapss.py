"""C-MAPSS (simulated): chance of failure within d cycles, and remaining useful life.

Shapes: N cycles of one engine, C channels, F features, K horizons, E engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fusion.alignment import Observation
from fusion.errors import InputError
from fusion.evaluation.protocol import OURS, Figure, Published, each_and_mean
from fusion.evaluation.tables import table_plant, table_ticks
from fusion.scoring.events import EventHead, Labelled, fit_event_head, reliability
from fusion.training import Recipe, train
from fusion.training.event_features import event_features, raw_features

Floats = NDArray[np.floating]
HORIZONS = tuple(range(1, 151))
GRID = (1, 2, 3, 4, 6, 8, 11, 15, 20, 26, 33, 41, *range(50, 151, 10))
"""Where the head's intervals end; a line lies between."""
CAP = 125
FAM_CONTEXT = 128
"""The cycles that a window must have seen in the published evaluation."""
FEW = 5
TICK_S = 3600.0
"""A cycle is a flight; its length is not recorded and does not matter."""
RAW = "same head on raw readings"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine's recording, and the cycles from its end to the failure."""

    number: int
    values_NC: Floats
    left: int

    @property
    def to_failure(self) -> Floats:
        """Cycles from each one to the failure, [N]."""
        return np.arange(len(self.values_NC), dtype=np.float64)[::-1] + self.left


@dataclass(frozen=True, slots=True)
class Fleet:
    """The engines to learn from and those to test on, with the channels that ever change."""

    name: str
    columns: tuple[str, ...]
    learn: tuple[Engine, ...]
    test: tuple[Engine, ...]


class Cmapss:
    """The protocol; every ``test_FD*.parquet`` with its ``RUL_FD*.parquet`` is a part."""

    name = "cmapss"
    title = "C-MAPSS (simulated turbofans): failure within d cycles, remaining useful life"
    headline: tuple[str, ...] = ("h_auroc_fam", "h_auroc", "rul_rmse", "nasa_score")
    published: tuple[Published, ...] = (
        Published("FAM-JEPA", "h_auroc_fam", 0.786, "FD001, all labels"),
        Published("FAM-JEPA", "rul_rmse", 18.6, "FD001, all labels"),
        Published("STAR, supervised", "rul_rmse", 10.61, "FD001"),
    )
    rules = (
        "The encoder learns from all training engines without labels and is frozen; a small head "
        "learns from the labels of all, a tenth, or five of them. h_auroc: mean AUROC of P(failure "
        "within d) over d = 1 to 150, every cycle of the test engines from the 24th on, true "
        "failures. h_auroc_fam: the same counted as the published code does: windows of at least "
        "128 cycles, and the last recorded cycle of a test engine taken for its failure, which it "
        "is not. rul_rmse and nasa_score: at each test engine's last cycle, capped at 125."
    )

    def run(
        self, directory: Path, *, seed: int, recipe: Recipe, say: Callable[[str, float], None]
    ) -> Iterator[Figure]:
        """Yield the figures of every fleet, then their means."""
        fleets = read_fleets(directory)
        yield from each_and_mean(
            [each.name for each in fleets],
            lambda number, tell: _measure(fleets[number], seed, recipe, tell),
            say,
        )


def read_fleets(directory: Path) -> list[Fleet]:
    """Return a fleet for every test file; where its training file is missing, another's is taken.

    Without any training file, every second test engine is learned from instead.

    Raises:
        InputError: There is no test file with its RUL file.
    """
    folder = directory / "cmapss" if (directory / "cmapss").is_dir() else directory
    tests = [
        file
        for file in sorted(folder.glob("test_FD*.parquet"))
        if (folder / file.name.replace("test_", "RUL_")).is_file()
    ]
    if not tests:
        raise InputError(
            f"{directory} must hold test_FD*.parquet and RUL_FD*.parquet, or a folder cmapss that "
            "does; give a folder in the layout that docs/evaluation.md shows"
        )
    trains = {file.stem.removeprefix("train_"): file for file in folder.glob("train_FD*.parquet")}
    fleets: list[Fleet] = []
    for file in tests:
        name = file.stem.removeprefix("test_")
        left = pl.read_parquet(folder / f"RUL_{name}.parquet")["rul"].to_list()
        test = _engines(file, left)
        if not trains:
            fleets.append(_fleet(f"{name}, half to learn from", test[::2], test[1::2], file))
            continue
        source = name if name in trains else min(trains)
        shown = name if source == name else f"{name}, learned from {source}"
        fleets.append(_fleet(shown, _engines(trains[source], None), test, trains[source]))
    return fleets


def _engines(file: Path, left: Sequence[int] | None) -> list[Engine]:
    table = pl.read_parquet(file).sort("unit", "cycle")
    groups = table.partition_by("unit", maintain_order=True)
    return [
        Engine(
            number,
            group.drop("unit", "cycle").to_numpy().astype(np.float64),
            0 if left is None else int(left[number]),
        )
        for number, group in enumerate(groups)
    ]


def _fleet(name: str, learn: Sequence[Engine], test: Sequence[Engine], file: Path) -> Fleet:
    """Return the fleet without the channels that never change in the engines to learn from."""
    names = [n for n in pl.read_parquet_schema(file) if n not in {"unit", "cycle"}]
    together = np.concatenate([engine.values_NC for engine in learn])
    kept = np.flatnonzero(together.max(axis=0) > together.min(axis=0))
    learn, test = (
        tuple(Engine(e.number, e.values_NC[:, kept], e.left) for e in part)
        for part in (learn, test)
    )
    return Fleet(name, tuple(names[i] for i in kept), learn, test)


def _measure(
    fleet: Fleet, seed: int, recipe: Recipe, say: Callable[[str, float], None]
) -> Iterator[Figure]:
    plant = table_plant(fleet.name[:5].lower(), fleet.columns, tick_s=TICK_S)
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(fleet.learn))
    say("learning", 0.0)
    trained = train(
        _apart([fleet.learn[i] for i in order]),
        plant,
        recipe.model_copy(update={"seed": seed}),
        may_collapse=True,
        on_step=lambda step: say("learning", 0.6 * step.step / step.steps),
    )
    num_learn = len(fleet.learn)
    amounts = {"": num_learn, ", a tenth of the labels": max(2, round(0.1 * num_learn))}
    amounts[f", labels of {FEW} engines"] = FEW
    for method, of in ((OURS, event_features), (RAW, raw_features)):
        say("fitting heads", 0.7 if method == OURS else 0.85)
        learn, test = (
            [of(table_ticks(engine.values_NC), trained, plant) for engine in part]
            for part in (fleet.learn, fleet.test)
        )
        for label, amount in amounts.items():
            head = fit_event_head(
                labelled(
                    [learn[i] for i in order[:amount]], [fleet.learn[i] for i in order[:amount]]
                ),
                grid=GRID,
                seed=seed,
            )
            for metric, value in figures_of(head, test, fleet.test):
                yield Figure(f"{method}{label}", fleet.name, metric, value, seed)
    say("done", 1.0)


def _apart(engines: Sequence[Engine]) -> list[Observation]:
    """Return the ticks of all engines, with a gap of time between two."""
    ticks: list[Observation] = []
    for engine in engines:
        ticks += table_ticks(engine.values_NC, first_tick=ticks[-1].tick + 2 if ticks else 0)
    return ticks


def labelled(features: Sequence[Floats], engines: Sequence[Engine]) -> Labelled:
    """Return the windows of all cycles of ``engines`` with the cycles to their failures."""
    sizes = [len(each) for each in features]
    return Labelled(
        np.concatenate(features),
        np.concatenate([engine.to_failure for engine in engines]),
        np.ones(sum(sizes), np.bool_),
        np.repeat([engine.number for engine in engines], sizes),
    )


def figures_of(
    head: EventHead, features: Sequence[Floats], engines: Sequence[Engine]
) -> Iterator[tuple[str, float]]:
    """Yield every metric of a head on test engines."""
    within = [head.within_each(each, HORIZONS) for each in features]
    true_p, true_y, fam_p, fam_y = [], [], [], []
    horizons_K = np.array(HORIZONS)
    for said_NK, engine in zip(within, engines, strict=True):
        true_p.append(said_NK[23:])
        true_y.append(engine.to_failure[23:, None] <= horizons_K)
        # A window of the published code ends before cycle t, and t runs to the last but one.
        fam_p.append(said_NK[FAM_CONTEXT - 1 : -2])
        last_N = np.arange(len(said_NK), dtype=np.float64)[::-1] - 1
        fam_y.append(last_N[FAM_CONTEXT - 1 : -2, None] <= horizons_K)
    yield "h_auroc_fam", horizon_auroc(np.concatenate(fam_p), np.concatenate(fam_y))
    said, came = np.concatenate(true_p), np.concatenate(true_y)
    yield "h_auroc", horizon_auroc(said, came)
    yield "reliability_error", reliability(said.ravel(), came.ravel()).error
    last_EF = np.stack([each[-1] for each in features])
    rul_E = head.expected_ticks(last_EF, cap=CAP)
    true_E = np.minimum([engine.left for engine in engines], CAP).astype(np.float64)
    yield "rul_rmse", float(np.sqrt(np.mean((rul_E - true_E) ** 2)))
    yield "nasa_score", nasa_score(rul_E, true_E)


def horizon_auroc(said_NK: Floats, came_NK: NDArray[np.bool_]) -> float:
    """Return the mean over horizons of the AUROC, where both outcomes happen.

    Example:
        >>> came = np.array([[False, False], [False, True], [False, True]])
        >>> horizon_auroc(np.array([[0.0, 0.1], [0.0, 0.3], [0.0, 0.05]]), came)
        0.5
    """
    columns = [k for k in range(came_NK.shape[1]) if 0 < came_NK[:, k].sum() < len(came_NK)]
    if not columns:
        return float("nan")
    return float(np.mean([roc_auc_score(came_NK[:, k], said_NK[:, k]) for k in columns]))


def nasa_score(said_E: Floats, true_E: Floats) -> float:
    """Return the sum of asymmetric penalties (Saxena et al. 2008, PHM): late is worse than early.

    Example:
        >>> round(nasa_score(np.array([10.0, 0.0]), np.array([0.0, 13.0])), 3)  # 2 (e - 1)
        3.437
    """
    late_E = said_E - true_E
    return float(np.sum(np.where(late_E < 0, np.expm1(-late_E / 13), np.expm1(late_E / 10))))
