"""What normal looks like: centres, whiteners, tails and the threshold, as files of a model.

Shapes: V size of a member's vector, R readings, G tags, H horizons.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.errors import InputError
from fusion.features import Layout
from fusion.scoring.members import owner
from fusion.scoring.tails import Tail
from fusion.scoring.whitening import limited, log_distance

ARRAYS_FILE = "calibration.safetensors"
SCALARS_FILE = "calibration.json"
MAX_DISTANCE = 3.0
"""Per dimension, in standard deviations: more than this does not count in running averages."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whiteners and tails of every member, the threshold, and the forecasts' corrections."""

    layout: Layout
    horizons_ticks: tuple[int, ...]
    tick_s: float
    centres: dict[str, NDArray[np.float64]]
    """Of each member's vector; with ``@mode`` behind the name, in one operating mode."""
    whiteners: dict[str, NDArray[np.float64]]
    tails: dict[str, Tail]
    """Of each accumulated member's distance; with ``@mode``, in one operating mode."""
    threshold: float
    stream_thresholds: dict[str, float]
    """The threshold that each stream would have alone, for the same budget."""
    caveat: str
    reading_mean_R: NDArray[np.float64]
    reading_std_R: NDArray[np.float64]
    residual_std_R: NDArray[np.float64]
    """Robust standard deviation of readings less expected readings, standardised."""
    widen_HG: NDArray[np.float64]
    """Added to both ends of the forecasts' band (conformalised quantiles, Romano et al. 2019)."""

    def centred(
        self, member: str, vector: NDArray[np.float64], mode: str | None
    ) -> NDArray[np.float64]:
        """Return a member's vector less what is normal for it in ``mode``."""
        if member not in self.centres:
            return vector
        return vector - self.centres.get(in_mode(member, mode), self.centres[member])

    def rarity(self, key: str, centred: NDArray[np.float64], mode: str | None) -> float | None:
        """Return ``-log10 P`` of a member's vector; None for a member that was never calibrated."""
        if key not in self.whiteners:
            return None
        tail = self.tails.get(in_mode(key, mode), self.tails[key])
        return tail.rarity(float(log_distance(centred, self.whiteners[key])))

    def limit(self, key: str, centred: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``centred``, shortened if it lies very far out."""
        if key not in self.whiteners:
            return centred
        return limited(centred, self.whiteners[key], most=MAX_DISTANCE)

    def save(self, folder: Path) -> None:
        """Write the calibration into a model's folder."""
        arrays = {
            **{f"centre/{key}": value for key, value in self.centres.items()},
            **{f"whitener/{key}": value for key, value in self.whiteners.items()},
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
            "threshold": self.threshold,
            "stream_thresholds": self.stream_thresholds,
            "caveat": self.caveat,
            "tails": {key: asdict(tail) for key, tail in self.tails.items()},
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
            centres=_with_prefix(arrays, "centre/"),
            whiteners=_with_prefix(arrays, "whitener/"),
            tails={key: Tail(**tail) for key, tail in scalars["tails"].items()},
            threshold=scalars["threshold"],
            stream_thresholds=scalars["stream_thresholds"],
            caveat=scalars["caveat"],
            reading_mean_R=arrays["reading_mean"],
            reading_std_R=arrays["reading_std"],
            residual_std_R=arrays["residual_std"],
            widen_HG=arrays["widen"],
        )


def in_mode(key: str, mode: str | None) -> str:
    """Return the name of ``key`` in one operating mode."""
    return key if mode is None else f"{key}@{mode}"


def is_alone(key: str, stream: str) -> bool:
    """Whether a member looks at ``stream`` without help from the other streams' present."""
    return owner(key) == stream and "contradiction" not in key


def _with_prefix(arrays: dict[str, Any], prefix: str) -> dict[str, NDArray[np.float64]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
