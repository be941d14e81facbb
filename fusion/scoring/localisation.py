"""Where in the picture, and where in time and frequency, a tick is not as it normally is.

Every cell of a map has a scale of its own, fixed by calibration: the rarity ``-log10 P`` of what is
seen there, held against what normal running showed at that very place. Nothing is divided by the
maximum of the image at hand: a dull frame stays empty, and a bright corner hides no other.

A cell is looked at alone and as the middle of patches, because a faint change of a whole patch is
lost in the noise of its cells. The colours of a cell are whitened together: noise that moves all of
them alike must not hide a change of hue. What a patch says of one cell is a Mahalanobis distance;
over patch sizes the largest counts, and the tail of *that* is learned again from ticks that no
statistic has seen, so that 1.3 is the 95th percentile of normal in every cell.

Shapes: N ticks, S patch sizes, C channels of a cell (colours; 1 of a sound), H x W cells: pixels of
the small picture, or mel bands x spectrogram frames.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.ndimage import uniform_filter1d

from fusion.errors import InputError
from fusion.features import Layout, TickFeatures
from fusion.scoring.tails import TAIL

Floats = NDArray[np.float32]
FILE = "localisation.safetensors"
ORDINARY = -float(np.log10(TAIL))
"""The rarity of the 95th percentile of normal."""


@dataclass(frozen=True, slots=True)
class CellScale:
    """What is normal in every cell of one stream. W is 1 for sound: a tick begins anywhere."""

    patches_S2: NDArray[np.int64]
    mean_SCHW: Floats
    whitener_SHWCC: Floats
    ordinary_SHW: Floats
    """The 95th percentile of the logarithm of the distance, at each patch size."""
    start_HW: Floats
    """The 95th percentile of the largest excess over it; the start of the tail."""
    scale_HW: Floats
    shown_from: NDArray[np.float64]
    """The rarity that 95 of 100 normal ticks reach nowhere, at least 1.3: less is transparent."""

    def rarity(self, inputs_NCHW: Floats) -> Floats:
        """Return ``-log10 P`` of every cell, [N, H, W]; 1.3 and less is ordinary."""
        excess_NHW = self._excess(inputs_NCHW) - self.start_HW
        beyond_NHW = ORDINARY + excess_NHW / self.scale_HW * np.log10(np.e)
        inside_NHW = ORDINARY * np.exp(np.minimum(excess_NHW, 0.0))
        return np.where(excess_NHW > 0, beyond_NHW, inside_NHW).astype(np.float32)

    def _excess(self, inputs_NCHW: Floats) -> Floats:
        """Return how far the log distance lies over the ordinary, the most of any patch size."""
        return np.max(self.log_distances(inputs_NCHW) - self.ordinary_SHW[:, None], axis=0)

    def log_distances(self, inputs_NCHW: Floats) -> Floats:
        """Return the logarithm of the distance from normal at each patch size, [S, N, H, W]."""
        logs: list[Floats] = []
        for patch_2, mean, whitener in zip(
            self.patches_S2, self.mean_SCHW, self.whitener_SHWCC, strict=True
        ):
            centred_NCHW = smoothed(inputs_NCHW, patch_2) - mean
            white = np.einsum("hwdc,nchw->ndhw", _over(whitener, centred_NCHW), centred_NCHW)
            logs.append(0.5 * np.log((white**2).mean(axis=1) + 1e-6))
        return np.stack(logs).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Localisation:
    """The scales of every stream that can be drawn: pictures and sounds."""

    scales: dict[str, CellScale]

    def maps(self, features: TickFeatures, layout: Layout) -> dict[str, Floats]:
        """Return the rarity of every cell by stream, [N, H, W]; NaN where a stream was absent."""
        maps: dict[str, Floats] = {}
        for index, stream in enumerate(layout.streams):
            if stream.name in self.scales:
                inputs_NCHW = as_cells(features.inputs[stream.name])
                rarity_NHW = self.scales[stream.name].rarity(inputs_NCHW)
                rarity_NHW[features.presence_NM[:, index] == 0] = np.nan
                maps[stream.name] = rarity_NHW
        return maps

    def save(self, folder: Path) -> None:
        """Write the scales into a model's folder."""
        arrays = {
            f"{stream}/{each.name}": np.ascontiguousarray(getattr(scale, each.name))
            for stream, scale in self.scales.items()
            for each in fields(CellScale)
        }
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Localisation:
        """Return the scales of the model version in ``folder``.

        Raises:
            InputError: It has none: it was trained before there were any.
        """
        if not (folder / FILE).is_file():
            raise InputError(
                f"to draw maps a model folder must hold {FILE}, {folder} does not; train it again"
            )
        arrays = load_file(folder / FILE)
        names = dict.fromkeys(key.rpartition("/")[0] for key in arrays)
        return cls(
            {
                name: CellScale(**{f.name: arrays[f"{name}/{f.name}"] for f in fields(CellScale)})
                for name in names
            }
        )


def opacity(rarity_HW: Floats, shown_from: float, *, full: float = 3.0) -> Floats:
    """Return how opaque each cell is drawn, 0 to 1: 0 up to ``shown_from``, 1 from ``full`` more.

    The same for every image of a model; an absent cell (NaN) is transparent.

    Example:
        >>> opacity(np.array([[1.0, 2.0, 3.5, 99.0, np.nan]]), 2.0).tolist()
        [[0.0, 0.0, 0.5, 1.0, 0.0]]
    """
    return np.nan_to_num(np.clip((rarity_HW - shown_from) / full, 0.0, 1.0).astype(np.float32))


def as_cells(inputs: Floats) -> Floats:
    """Return inputs of a picture or a sound as [N, C, H, W]; of a clip its newest picture.

    Example:
        >>> as_cells(np.zeros((2, 40, 30), np.float32)).shape
        (2, 1, 40, 30)
        >>> as_cells(np.zeros((2, 5, 3, 48, 64), np.float32)).shape
        (2, 3, 48, 64)
    """
    if inputs.ndim == 5:
        return inputs[:, -1]
    return inputs[:, None] if inputs.ndim == 3 else inputs


def smoothed(inputs_NCHW: Floats, patch_2: NDArray[np.int64] | tuple[int, int]) -> Floats:
    """Return the mean of the patch around every cell; beyond the edge the edge goes on.

    Example:
        >>> spot = np.zeros((1, 1, 3, 3), np.float32)
        >>> spot[0, 0, 1, 1] = 9
        >>> smoothed(spot, (3, 1))[0, 0].tolist()
        [[0.0, 3.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0]]
    """
    rows = uniform_filter1d(inputs_NCHW, int(patch_2[0]), axis=2, mode="nearest")
    return np.asarray(uniform_filter1d(rows, int(patch_2[1]), axis=3, mode="nearest"), np.float32)


def _over(whitener_HWCC: Floats, cells_NCHW: Floats) -> Floats:
    """Return the whitener of every cell; those of a sound are the same at any time."""
    return np.broadcast_to(whitener_HWCC, (*cells_NCHW.shape[2:], *whitener_HWCC.shape[2:]))
