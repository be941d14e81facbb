"""Maps: normal shows nothing, what is injected lights up there and only there, scales are fixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.features import Layout, StreamLayout, TickFeatures
from fusion.scoring.localisation import ORDINARY, Localisation, opacity
from fusion.scoring.localisation_fitting import PATCHES, fit_localisation

HEIGHT, WIDTH, BANDS, FRAMES = 12, 16, 10, 15
LAYOUT = Layout(
    streams=(
        StreamLayout(
            name="eye", modality="video", input_shape=(3, HEIGHT, WIDTH), readings=(), units=()
        ),
        StreamLayout(
            name="ear", modality="audio", input_shape=(BANDS, FRAMES), readings=(), units=()
        ),
    ),
    setpoints=(),
)
REACH = max(max(patch) for patch in PATCHES["video"]) // 2


def ticks(count: int, seed: int) -> TickFeatures:
    """Return normal ticks: noise that is partly the same in every colour, more at the top."""
    rng = np.random.default_rng(seed)
    grey = rng.normal(size=(count, 1, HEIGHT, WIDTH))
    eye = grey * np.linspace(2, 0.5, HEIGHT)[:, None] + 0.3 * rng.normal(
        size=(count, 3, HEIGHT, WIDTH)
    )
    ear = rng.normal(size=(count, BANDS, FRAMES)) * np.linspace(0.5, 2, BANDS)[:, None]
    return TickFeatures(
        ticks=tuple(range(count)),
        inputs={"eye": eye.astype(np.float32), "ear": ear.astype(np.float32)},
        presence_NM=np.ones((count, 2), np.float32),
        setpoints_NU=np.zeros((count, 1), np.float32),
        readings_NR=np.zeros((count, 0), np.float32),
    )


FITTED = fit_localisation([ticks(200, 0), ticks(200, 1)], [ticks(300, 2)], LAYOUT)
NORMAL = ticks(200, 3)


@pytest.mark.parametrize("stream", ["eye", "ear"])
def test_a_normal_tick_shows_nothing(stream: str) -> None:
    rarity_NHW = FITTED.maps(NORMAL, LAYOUT)[stream]
    assert (rarity_NHW > ORDINARY).mean() == pytest.approx(0.05, abs=0.02)
    shown_from = FITTED.scales[stream].shown_from.item()
    assert shown_from >= ORDINARY
    assert (rarity_NHW > shown_from).any(axis=(1, 2)).mean() < 0.12


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, HEIGHT - 3), st.integers(0, WIDTH - 3), st.integers(0, 2), st.integers(0, 199)
)
def test_a_patch_of_another_colour_lights_up_there_and_nowhere_else(
    top: int, left: int, colour: int, index: int
) -> None:
    before = one(NORMAL, index)
    changed = one(NORMAL, index)
    changed.inputs["eye"][0, colour, top : top + 3, left : left + 3] += 4
    was_HW = FITTED.maps(before, LAYOUT)["eye"][0]
    is_HW = FITTED.maps(changed, LAYOUT)["eye"][0]
    assert is_HW[top : top + 3, left : left + 3].min() > FITTED.scales["eye"].shown_from.item()
    far_HW = np.ones((HEIGHT, WIDTH), bool)
    far_HW[max(0, top - REACH) : top + 3 + REACH, max(0, left - REACH) : left + 3 + REACH] = False
    # Bit for bit: no cell's scale depends on the rest of the picture.
    assert np.array_equal(is_HW[far_HW], was_HW[far_HW])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, BANDS - 1), st.integers(0, FRAMES - 5), st.integers(0, 199))
def test_a_tone_lights_up_in_its_band_while_it_lasts(band: int, begin: int, index: int) -> None:
    before, changed = one(NORMAL, index), one(NORMAL, index)
    changed.inputs["ear"][0, band, begin : begin + 5] += 24
    was_BF = FITTED.maps(before, LAYOUT)["ear"][0]
    is_BF = FITTED.maps(changed, LAYOUT)["ear"][0]
    rows, columns = np.nonzero(is_BF > FITTED.scales["ear"].shown_from.item())
    assert {(band, f) for f in range(begin, begin + 5)} <= set(zip(rows, columns, strict=True))
    far_BF = np.ones((BANDS, FRAMES), bool)
    far_BF[max(0, band - 1) : band + 2, max(0, begin - 2) : begin + 7] = False
    assert np.array_equal(is_BF[far_BF], was_BF[far_BF])


@given(st.floats(0, 20), st.floats(0, 20))
@settings(deadline=None, max_examples=20)
def test_a_stronger_change_is_never_less_rare(first: float, second: float) -> None:
    weak, strong = sorted((first, second))
    rarities: list[float] = []
    for by in (weak, strong):
        flat = one(NORMAL, 0)
        flat.inputs["eye"][:] = FITTED.scales["eye"].mean_SCHW[0]
        flat.inputs["eye"][0, :, 5, 5] += by
        rarities.append(float(FITTED.maps(flat, LAYOUT)["eye"][0, 5, 5]))
    assert rarities[0] <= rarities[1] + 1e-5


def test_a_tick_is_drawn_the_same_alone_as_among_others() -> None:
    together = FITTED.maps(NORMAL, LAYOUT)
    alone = FITTED.maps(one(NORMAL, 7), LAYOUT)
    for stream in ("eye", "ear"):
        np.testing.assert_allclose(alone[stream][0], together[stream][7], atol=1e-4)


def test_an_absent_stream_has_no_map_and_is_transparent() -> None:
    tick = one(NORMAL, 0)
    tick.presence_NM[0, 0] = 0
    maps = FITTED.maps(tick, LAYOUT)
    assert np.isnan(maps["eye"]).all()
    assert np.isfinite(maps["ear"]).all()
    assert (opacity(maps["eye"][0], 1.3) == 0).all()


def test_what_is_ordinary_is_transparent_and_opacity_has_one_scale() -> None:
    rarity_HW = np.array([[0.0, ORDINARY, 4.0, 40.0]], np.float32)
    assert opacity(rarity_HW, ORDINARY)[0, :2].tolist() == [0, 0]
    beside_a_rarer = np.concatenate([rarity_HW, [[400.0] * 4]]).astype(np.float32)
    assert np.array_equal(opacity(beside_a_rarer, ORDINARY)[:1], opacity(rarity_HW, ORDINARY))


def test_scales_come_back_from_their_file(tmp_path: Path) -> None:
    FITTED.save(tmp_path)
    back = Localisation.load(tmp_path)
    for stream, rarity_NHW in FITTED.maps(NORMAL, LAYOUT).items():
        assert np.array_equal(back.maps(NORMAL, LAYOUT)[stream], rarity_NHW)


def test_a_plant_without_pictures_and_sounds_has_an_empty_file(tmp_path: Path) -> None:
    Localisation({}).save(tmp_path)
    assert Localisation.load(tmp_path).scales == {}


def test_a_model_from_before_there_were_maps_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold localisation.safetensors"):
        Localisation.load(tmp_path)


def test_a_stream_that_was_hardly_ever_there_has_no_map() -> None:
    seldom = ticks(60, 1)
    seldom.presence_NM[39:, 0] = 0
    fitted = fit_localisation([ticks(100, 0)], [seldom], LAYOUT)
    assert set(fitted.maps(NORMAL, LAYOUT)) == {"ear"}


def one(features: TickFeatures, index: int) -> TickFeatures:
    """Return one tick, to be changed."""
    return TickFeatures(
        ticks=(features.ticks[index],),
        inputs={name: x[index : index + 1].copy() for name, x in features.inputs.items()},
        presence_NM=features.presence_NM[index : index + 1].copy(),
        setpoints_NU=features.setpoints_NU[index : index + 1],
        readings_NR=features.readings_NR[index : index + 1],
    )
