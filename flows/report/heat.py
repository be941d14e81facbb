"""Maps over pictures and spectrograms: the abnormal in one colour, the ordinary transparent.

How opaque a cell is follows from its rarity alone, on the scale that the model's calibration fixed:
the same for every alarm of a model, and nothing at all on 95 of 100 normal ticks.

Shapes: H x W pixels or cells, B mel bands, T spectrogram frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from numpy.typing import NDArray
from PIL import Image

from flows.report.drawing import ABNORMAL
from fusion.scoring.localisation import opacity as opacity_of

_MOST_OPAQUE: Final = 0.65
"""What lies under the colour must still be seen."""
_NO_PLACE: Final = 0.002
"""A smaller part of a picture is not worth a sentence."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The rarity ``-log10 P`` of every cell, and from where on it is drawn; NaN where absent."""

    rarity_HW: NDArray[np.float32]
    shown_from: float

    @property
    def opacity(self) -> NDArray[np.float32]:
        """How opaque each cell is, 0 to 1."""
        return opacity_of(self.rarity_HW, self.shown_from)


def overlaid(frame_HW3: NDArray[np.uint8], heat: HeatMap) -> NDArray[np.uint8]:
    """Return the frame, greyed, with the map over it in the colour of the abnormal.

    Example:
        >>> cool = HeatMap(np.zeros((2, 2), np.float32), shown_from=1.3)
        >>> grey = np.full((4, 4, 3), 90, np.uint8)
        >>> bool((overlaid(grey, cool) == grey).all())
        True
    """
    height, width = frame_HW3.shape[:2]
    small = Image.fromarray(heat.opacity)
    alpha_HW = np.asarray(small.resize((width, height), Image.Resampling.NEAREST))
    alpha_HW1 = _MOST_OPAQUE * alpha_HW[..., None]
    grey_HW1 = frame_HW3.mean(axis=2, keepdims=True)
    colour_3 = 255 * np.array(to_rgb(ABNORMAL))
    return np.round(grey_HW1 * (1 - alpha_HW1) + colour_3 * alpha_HW1).astype(np.uint8)


def draw_over_spectrogram(
    ax: Axes, heat: HeatMap, *, duration_s: float, sample_rate_hz: int
) -> None:
    """Draw the map [B, T] over a spectrogram whose axes are seconds and kHz."""
    colours_BT4 = np.zeros((*heat.rarity_HW.shape, 4))
    colours_BT4[...] = to_rgba(ABNORMAL)
    colours_BT4[..., 3] = _MOST_OPAQUE * heat.opacity
    times_s = np.linspace(0, duration_s, heat.rarity_HW.shape[1] + 1)
    edges_khz = mel_edges_hz(heat.rarity_HW.shape[0], sample_rate_hz) / 1000
    ax.pcolormesh(times_s, edges_khz, colours_BT4, rasterized=True)


def mel_edges_hz(num_bands: int, sample_rate_hz: int) -> NDArray[np.float64]:
    """Return where each mel band ends and the next begins, num_bands + 1 edges in Hz.

    Bands are triangles that overlap (HTK's scale, ``mel = 2595 log10(1 + f / 700)``); the edge is
    half way between two of their tips.

    Example:
        >>> mel_edges_hz(2, 16_000).round().tolist()
        [365.0, 1768.0, 5016.0]
    """
    top_mel = 2595 * np.log10(1 + sample_rate_hz / 2 / 700)
    mels = top_mel * (np.arange(num_bands + 1) + 0.5) / (num_bands + 1)
    return 700 * (10 ** (mels / 2595) - 1)


def place_in_words(heat: HeatMap) -> str:
    """Return where in the picture it is abnormal, as a sentence.

    Example:
        >>> rarity_HW = np.zeros((6, 6), np.float32)
        >>> rarity_HW[4:, :2] = 9
        >>> place_in_words(HeatMap(rarity_HW, shown_from=1.3))
        'Unusual: 11% of the picture, most of it at the bottom left.'
    """
    weight_HW = heat.opacity.astype(np.float64)
    part = float((weight_HW > 0).mean())
    if part < _NO_PLACE:
        return "Nothing in the picture is unusual."
    rows = weight_HW.sum(axis=1)
    columns = weight_HW.sum(axis=0)
    at = (_third(rows, ("top", "middle", "bottom")), _third(columns, ("left", "middle", "right")))
    where = "in the middle" if at == ("middle", "middle") else f"at the {at[0]} {at[1]}"
    return f"Unusual: {part:.0%} of the picture, most of it {where}."


def _third(weights_N: NDArray[np.float64], names: tuple[str, str, str]) -> str:
    """Return the name of the third of a side in which the middle of the weight lies."""
    half = int(np.searchsorted(np.cumsum(weights_N), weights_N.sum() / 2))
    return names[min(2, 3 * half // len(weights_N))]
