"""What normal looks like: centres, whiteners, tails and the threshold, as files of a model.

Shapes: V size of a member's vector, R readings, G tags, H horizons.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.errors import InputError
from fusion.features import Layout
from fusion.scoring.members import STATE, kind_of, owner
from fusion.scoring.normal import Normal
from fusion.scoring.tails import Tail

ARRAYS_FILE = "calibration.safetensors"
SCALARS_FILE = "calibration.json"
WHOLE = "all"
"""The panel of all members: what the score is."""


_Numbers = TypeVar("_Numbers", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class Panel:
    """Members that are asked together, and from what rarity on they alarm.

    Kinds of members have weights (weighted p-values; Genovese, Roeder & Wasserman 2006): with more
    weight a kind alarms at a lower rarity.
    """

    threshold: float
    bonus: dict[str, float]
    """Of each kind, the logarithm (base 10) of its weight."""

    def surprise(self, kind: str, rarity: float) -> float:
        """Return the rarity on the scale of the score: at 1 it alarms."""
        return max(0.0, rarity + self.bonus[kind]) / self.threshold

    def rarity(self, kind: str, surprise: _Numbers) -> _Numbers:
        """Return what :meth:`surprise` was made of, where it is not 0."""
        return surprise * self.threshold - self.bonus[kind]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whiteners and tails of every member, the threshold, and the forecasts' corrections."""

    layout: Layout
    horizons_ticks: tuple[int, ...]
    tick_s: float
    normal: Normal
    """While every stream is there."""
    without: dict[str, Normal]
    """While one stream, and only it, is absent: what the networks say of the others is not the same
    without it. Empty for a plant of one stream, and for a model from before this was learned."""
    panels: dict[str, Panel]
    """See :func:`panels_of`."""
    caveat: str
    reading_mean_R: NDArray[np.float64]
    reading_std_R: NDArray[np.float64]
    residual_std_R: NDArray[np.float64]
    """Robust standard deviation of readings less expected readings, standardised."""
    widen_HG: NDArray[np.float64]
    """Added to both ends of the forecasts' band (conformalised quantiles, Romano et al. 2019)."""

    def normal_with(self, present: Mapping[str, bool]) -> Normal:
        """Return what is normal while the streams are there that ``present`` says are."""
        absent = [name for name, is_there in present.items() if not is_there]
        return self.without.get(absent[0], self.normal) if len(absent) == 1 else self.normal

    def surprise(self, key: str, rarity: float, panel: str = WHOLE) -> float:
        """Return a member's rarity on the scale of the score: at 1 it alarms."""
        return self.panels[panel].surprise(kind_of(key), rarity)

    def save(self, folder: Path) -> None:
        """Write the calibration into a model's folder."""
        kept = {"": self.normal, **{f"without {name}/": n for name, n in self.without.items()}}
        arrays = {
            **{f"{at}centre/{k}": v for at, n in kept.items() for k, v in n.centres.items()},
            **{f"{at}whitener/{k}": v for at, n in kept.items() for k, v in n.whiteners.items()},
            "reading_mean": self.reading_mean_R,
            "reading_std": self.reading_std_R,
            "residual_std": self.residual_std_R,
            "widen": self.widen_HG,
        }
        save_file(
            {name: np.ascontiguousarray(value, np.float64) for name, value in arrays.items()},
            folder / ARRAYS_FILE,
        )
        scalars = {
            "layout": self.layout.model_dump(mode="json"),
            "horizons_ticks": self.horizons_ticks,
            "tick_s": self.tick_s,
            "panels": {name: asdict(panel) for name, panel in self.panels.items()},
            "caveat": self.caveat,
            "tails": {
                f"{at}{key}": asdict(tail)
                for at, n in kept.items()
                for key, tail in n.tails.items()
            },
            "without": list(self.without),
        }
        (folder / SCALARS_FILE).write_text(json.dumps(scalars, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Return the calibration of the model version in ``folder``.

        Raises:
            InputError: It is not there.
        """
        if not (folder / ARRAYS_FILE).is_file() or not (folder / SCALARS_FILE).is_file():
            raise InputError(
                f"a model folder must hold {ARRAYS_FILE} and {SCALARS_FILE}, {folder} does not; "
                "train the model again"
            )
        arrays = load_file(folder / ARRAYS_FILE)
        scalars: dict[str, Any] = json.loads((folder / SCALARS_FILE).read_text(encoding="utf-8"))
        return cls(
            layout=Layout.model_validate(scalars["layout"]),
            horizons_ticks=tuple(scalars["horizons_ticks"]),
            tick_s=scalars["tick_s"],
            normal=_normal(arrays, scalars["tails"], ""),
            without={
                name: _normal(arrays, scalars["tails"], f"without {name}/")
                for name in scalars.get("without", ())
            },
            panels={name: Panel(**panel) for name, panel in scalars["panels"].items()},
            caveat=scalars["caveat"],
            reading_mean_R=arrays["reading_mean"],
            reading_std_R=arrays["reading_std"],
            residual_std_R=arrays["residual_std"],
            widen_HG=arrays["widen"],
        )


def panels_of(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return the sets of members that have thresholds of their own, by name.

    All of them; each stream alone, behind ``@``; and, to show what each kind of member adds, the
    kind alone and, behind ``-``, all without it.

    Example:
        >>> {name: len(keys) for name, keys in panels_of(["ear/chart/1", "eye/latent/1"]).items()}
        {'all': 2, '@ear': 1, '@eye': 1, 'chart': 1, '-chart': 1, 'latent': 1, '-latent': 1}
    """
    keys = list(keys)
    streams = dict.fromkeys(owner(key) for key in keys if owner(key) != STATE)
    kinds = dict.fromkeys(kind_of(key) for key in keys)
    names = [WHOLE, *(f"@{stream}" for stream in streams)]
    names += [name for kind in kinds for name in (kind, f"-{kind}")]
    panels = {name: [key for key in keys if is_in_panel(key, name)] for name in names}
    return {name: members for name, members in panels.items() if members}


def is_in_panel(key: str, panel: str) -> bool:
    """Whether a member belongs to a panel."""
    if panel.startswith("@"):
        return is_alone(key, panel[1:])
    if panel.startswith("-"):
        return kind_of(key) != panel[1:]
    return panel in {WHOLE, kind_of(key)}


def is_alone(key: str, stream: str) -> bool:
    """Whether a member looks at ``stream`` without help from the other streams' present."""
    return owner(key) == stream and "contradiction" not in key


def _normal(arrays: Mapping[str, Any], tails: Mapping[str, Any], at: str) -> Normal:
    """Return what was saved behind the prefix ``at``."""
    return Normal(
        centres=_behind(f"{at}centre/", arrays),
        whiteners=_behind(f"{at}whitener/", arrays),
        tails={
            key: Tail(**tail)
            for key, tail in _behind(at, tails).items()
            if at or not key.startswith("without ")
        },
    )


def _behind(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): v for key, v in named.items() if key.startswith(prefix)}
