"""What a model says of one period of its plant, kept small enough to be compared with another.

Shapes: N ticks, V size of an embedding, H horizons, T ticks of a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.features import Layout
from fusion.model.outputs import WindowOutputs
from fusion.scoring import Scorer
from fusion.scoring.members import STATE

Floats = NDArray[np.float32]
_ALONE = ("ticks", "surprise", "errors", "persistence")


@dataclass(frozen=True, slots=True)
class Sample:
    """One period, tick by tick; a tick without a full window is not in it."""

    ticks_N: NDArray[np.int64]
    embeddings: Mapping[str, Floats]
    """Of each stream and of the plant's state, [N, V]; NaN where the stream was absent."""
    errors_NH: Floats
    """Mean squared error of the state's prediction, for each horizon that the window scores."""
    persistence_NH: Floats
    """The same of saying that the state stays as it was."""
    surprise_N: Floats
    """1 is the alarm threshold."""

    def __len__(self) -> int:
        return len(self.ticks_N)

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        return sum(array.nbytes for array in self._arrays().values())

    def without(self, is_out_N: NDArray[np.bool_]) -> Sample:
        """Return the period without some of its ticks."""
        kept_N = ~is_out_N
        return Sample(
            ticks_N=self.ticks_N[kept_N],
            embeddings={name: values[kept_N] for name, values in self.embeddings.items()},
            errors_NH=self.errors_NH[kept_N],
            persistence_NH=self.persistence_NH[kept_N],
            surprise_N=self.surprise_N[kept_N],
        )

    def save(self, path: Path) -> None:
        """Write it to one file."""
        save_file({k: np.ascontiguousarray(v) for k, v in self._arrays().items()}, path)

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Return what :meth:`save` wrote."""
        arrays = load_file(path)
        return cls(
            ticks_N=arrays["ticks"],
            embeddings={
                name.removeprefix("of/"): array
                for name, array in arrays.items()
                if name not in _ALONE
            },
            errors_NH=arrays["errors"],
            persistence_NH=arrays["persistence"],
            surprise_N=arrays["surprise"],
        )

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        alone: tuple[NDArray[np.generic], ...] = (
            self.ticks_N,
            self.surprise_N,
            self.errors_NH,
            self.persistence_NH,
        )
        named = {f"of/{name}": array for name, array in self.embeddings.items()}
        return {**dict(zip(_ALONE, alone, strict=True)), **named}


def sample_of(
    windows: Iterable[WindowOutputs], layout: Layout, horizons: tuple[int, ...], scorer: Scorer
) -> Sample:
    """Return what the networks and ``scorer``, which is new, say of ``windows`` in their order."""
    ticks: list[int] = []
    surprise: list[float] = []
    errors: list[list[float]] = []
    persistence: list[list[float]] = []
    embeddings: dict[str, list[Floats]] = {STATE: [], **{s.name: [] for s in layout.streams}}
    for window in windows:
        ticks.append(window.tick)
        surprise.append(scorer.update(window).surprise)
        for name, embedding in _embeddings(window, layout):
            embeddings[name].append(embedding)
        now_D, last = window.z_TD[-1], len(window.z_TD) - 1
        errors.append([float(np.mean((due_D - now_D) ** 2)) for due_D in window.z_due_SD])
        persistence.append(
            [float(np.mean((window.z_TD[last - h] - now_D) ** 2)) for h in horizons if h <= last]
        )
    return Sample(
        ticks_N=np.array(ticks, np.int64),
        embeddings={name: _stacked(rows) for name, rows in embeddings.items()},
        errors_NH=_stacked(errors),
        persistence_NH=_stacked(persistence),
        surprise_N=np.array(surprise, np.float32),
    )


def _embeddings(window: WindowOutputs, layout: Layout) -> Iterable[tuple[str, Floats]]:
    is_there_M = window.presence_TM[-1] > 0
    yield STATE, _where(window.z_TD[-1], is_there=bool(is_there_M.all()))
    for m, stream in enumerate(layout.streams):
        yield stream.name, _where(window.p_TMP[-1, m], is_there=bool(is_there_M[m]))


def _where(embedding: Floats, *, is_there: bool) -> Floats:
    return (
        embedding.astype(np.float32) if is_there else np.full(embedding.shape, np.nan, np.float32)
    )


def _stacked(rows: list[list[float]] | list[Floats]) -> Floats:
    return np.array(rows, np.float32) if rows else np.zeros((0, 0), np.float32)
