"""What every evaluation protocol gives: figures with their method, part and seed, and a summary.

A protocol reads a folder of recordings, trains with the one recipe, and yields figures. It never
chooses anything by a test label, and says beside its own figures what others published.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface

from fusion.errors import InputError
from fusion.training import Recipe

WHOLE = "all"
"""The part of figures about the whole set."""
OURS = "fusion"
"""The method of the product itself, with its one configuration."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that was measured."""

    method: str
    part: str
    metric: str
    value: float
    seed: int | None = None
    """None where nothing was drawn."""


@dataclass(frozen=True, slots=True)
class Published:
    """A number that somebody else published for the whole set."""

    method: str
    metric: str
    value: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and spread (standard deviation over seeds) of one figure."""

    method: str
    part: str
    metric: str
    mean: float
    spread: float
    num_seeds: int


class Protocol(Interface):
    """One benchmark, by its official rules."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        ...

    @property
    def title(self) -> str:
        """The set, and whether it is real or simulated."""
        ...

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics that decide, most important first."""
        ...

    @property
    def published(self) -> tuple[Published, ...]:
        """What others reached."""
        ...

    @property
    def rules(self) -> str:
        """In a few sentences: what is trained on, what is tested, how it is counted."""
        ...

    def run(
        self, directory: Path, *, seed: int, recipe: Recipe, say: Callable[[str, float], None]
    ) -> Iterator[Figure]:
        """Yield the figures of one seed; ``say`` hears what is done and the part of it, 0 to 1."""
        ...


def summarise(figures: Iterable[Figure]) -> list[Summary]:
    """Return mean and spread of each figure over its seeds, in the order of first appearance.

    Example:
        >>> seeds = [Figure("fusion", "all", "f1", f1, seed) for seed, f1 in enumerate((0.5, 0.7))]
        >>> [(s.mean, round(s.spread, 3), s.num_seeds) for s in summarise(seeds)]
        [(0.6, 0.141, 2)]
    """
    found: dict[tuple[str, str, str], list[float]] = {}
    for figure in figures:
        found.setdefault((figure.method, figure.part, figure.metric), []).append(figure.value)
    return [
        Summary(
            *key,
            mean=statistics.fmean(values),
            spread=statistics.stdev(values) if len(values) > 1 else 0.0,
            num_seeds=len(values),
        )
        for key, values in found.items()
    ]


def each_and_mean(
    names: Sequence[str],
    measure: Callable[[int, Callable[[str, float], None]], Iterable[Figure]],
    say: Callable[[str, float], None],
) -> Iterator[Figure]:
    """Yield the figures of every recording, if there are several, then their means.

    ``measure`` is asked for the recording of a number, and says how far it is with it, 0 to 1.
    """
    found: list[Figure] = []
    for number, name in enumerate(names):

        def tell(what: str, done: float, at: int = number, name: str = name) -> None:
            say(f"{name}: {what}", (at + done) / len(names))

        figures = list(measure(number, tell))
        found += figures
        if len(names) > 1:
            yield from figures
    for method, metric in dict.fromkeys((f.method, f.metric) for f in found):
        same = [f for f in found if (f.method, f.metric) == (method, metric)]
        mean = statistics.fmean(f.value for f in same)
        yield Figure(method, WHOLE, metric, mean, same[0].seed)


def folder_of(directory: Path, name: str, file: str) -> Path:
    """Return the folder that holds ``file``: ``directory`` itself, or ``name`` inside it.

    Raises:
        InputError: Neither holds it.
    """
    for folder in (directory / name, directory):
        if (folder / file).is_file():
            return folder
    raise InputError(
        f"{directory} must hold {file}, or a folder {name} that holds it, and does not; give a "
        "folder in the layout that docs/evaluation.md shows"
    )
