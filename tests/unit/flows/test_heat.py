"""Maps on the page: the ordinary leaves the picture alone, the abnormal is coloured where it is."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from flows.report.heat import HeatMap, draw_over_spectrogram, mel_edges_hz, overlaid, place_in_words
from fusion.features.layout import NUM_MELS

GREY_HW3 = np.full((120, 160, 3), 120, np.uint8)


def heat(rows: slice, columns: slice) -> HeatMap:
    rarity_HW = np.full((48, 64), 1.0, np.float32)
    rarity_HW[rows, columns] = 9.0
    return HeatMap(rarity_HW, shown_from=1.3)


@pytest.mark.parametrize("rarity", [0.0, 1.3, np.nan])
def test_what_is_ordinary_or_absent_is_not_coloured(rarity: float) -> None:
    cool = HeatMap(np.full((48, 64), rarity, np.float32), shown_from=1.3)
    assert np.array_equal(overlaid(GREY_HW3, cool), GREY_HW3)
    assert place_in_words(cool) == "Nothing in the picture is unusual."


def test_what_is_rare_is_coloured_there_only() -> None:
    drawn_HW3 = overlaid(GREY_HW3, heat(slice(40, 48), slice(0, 16))).astype(int)
    is_red_HW = drawn_HW3[..., 0] > drawn_HW3[..., 1]
    assert is_red_HW[100:, :40].all()
    assert is_red_HW.sum() == 20 * 40


def test_the_place_is_told_in_words() -> None:
    assert place_in_words(heat(slice(40, 48), slice(0, 16))).endswith("at the bottom left.")
    assert place_in_words(heat(slice(20, 28), slice(28, 36))).endswith("in the middle.")


def test_bands_cover_the_spectrogram_in_order() -> None:
    edges_hz = mel_edges_hz(NUM_MELS, 16_000)
    assert len(edges_hz) == NUM_MELS + 1
    assert (np.diff(edges_hz) > 0).all()
    assert 0 < edges_hz[0] < edges_hz[-1] < 8_000


def test_a_map_is_drawn_over_the_spectrogram() -> None:
    ax = Figure().subplots()
    draw_over_spectrogram(ax, heat(slice(0, 4), slice(0, 8)), duration_s=3.0, sample_rate_hz=16_000)
    (mesh,) = ax.collections
    assert mesh.get_array() is not None
    assert ax.dataLim.x1 == pytest.approx(3.0)
