"""What could be seen, heard and measured when an alarm was raised, beside the normal.

Shapes: H x W pixels, N samples of sound, F frequencies, T columns of the spectrogram.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from console.gauges import Gauge, gauge_of
from flows.report.drawing import (
    ABNORMAL,
    INK,
    MUTED,
    Picture,
    data_uri,
    is_narrow,
    new_figure,
    picture,
)
from flows.report.heat import HeatMap, draw_over_spectrogram, overlaid, place_in_words
from flows.report.inputs import Moment
from flows.report.verdicts import Verdict, Verdicts
from fusion.scoring.leave_one_out import LeftOut, verdict_in_words
from fusion.wording import clock

_MOST_SOUND_S: Final = 4
_MOST_IMAGE_PX: Final = 640
_RANGE_DB: Final = 60.0
_LEAST_SAMPLES: Final = 256
_NOTABLE_DB: Final = 6.0
"""Twice the amplitude: from here a frequency is drawn as louder than normal."""
_DIFFERENCE_FULL: Final = 96
"""A pixel that differs by this much (of 255) is drawn black; the same for every picture."""
_MOST_SIGNALS: Final = 5
_MOST_TAGS: Final = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the page."""

    uri: str
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class _Heard:
    """One sound as it is drawn; levels in dB re full scale."""

    title: str
    duration_s: float
    level_FT: NDArray[np.float64]
    mean_F: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything about one moment, ready for the page."""

    moment: Moment
    verdict: Verdict | None
    """The fault that the alarm is credited to; None for a false alarm."""
    frames: tuple[Frame, ...]
    spectrograms: Picture | None
    sound_said: str
    sound_uri: str | None
    normal_sound_uri: str | None
    gauges: tuple[Gauge, ...]
    shares: tuple[tuple[str, float], ...]
    sensor_or_process: str
    """What leaving out one sense after the other says, as a sentence; "" where it says nothing."""
    left_out: tuple[LeftOut, ...]


def show(moment: Moment, verdicts: Verdicts | None = None) -> Shown:
    """Return ``moment`` ready for the page; senses that are absent are left out.

    ``verdicts`` tell which fault it is credited to, where the faults are known.
    """
    score = moment.event.score
    shares = moment.event.state.shares or (score.shares if score else {})
    return Shown(
        moment=moment,
        verdict=next(
            (
                v
                for v in (() if verdicts is None else verdicts.faults)
                if any(e.id == moment.event.id for e in v.alarms)
            ),
            None,
        ),
        frames=_frames(moment),
        spectrograms=_spectrograms(moment),
        sound_said=_sound_in_words(moment),
        sound_uri=_wav_uri(moment.sound_N, moment.sample_rate_hz),
        normal_sound_uri=_wav_uri(moment.normal_sound_N, moment.sample_rate_hz),
        gauges=tuple(gauge_of(s) for s in (score.signals if score else ())[:_MOST_SIGNALS]),
        shares=tuple(sorted(shares.items(), key=lambda item: -item[1])),
        sensor_or_process=verdict_in_words(moment.left_out),
        left_out=_worth_showing(moment.left_out),
    )


def _worth_showing(left_out: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    """Return every stream, and the tags that cure it best."""
    tags = [each for each in left_out if each.tag is not None][:_MOST_TAGS]
    return tuple(each for each in left_out if each.tag is None or each in tags)


def _frames(moment: Moment) -> tuple[Frame, ...]:
    frame_HW3, normal_HW3 = moment.frame_HW3, moment.normal_frame_HW3
    if frame_HW3 is None:
        return ()
    at = clock(moment.event.t_ns)
    frames = [Frame(_image_uri(frame_HW3), f"At the alarm, {at}", f"Camera frame at {at}")]
    if normal_HW3 is not None:
        frames.append(Frame(_image_uri(normal_HW3), "Normal", "Camera frame of normal running"))
    if moment.frame_map is not None:
        said = place_in_words(moment.frame_map)
        frames.append(Frame(_image_uri(overlaid(frame_HW3, moment.frame_map)), said, said))
    elif normal_HW3 is not None and normal_HW3.shape == frame_HW3.shape:
        difference_HW = np.abs(frame_HW3.astype(np.int16) - normal_HW3).max(axis=2)
        grey_HW = 255 - np.clip(difference_HW * (255 / _DIFFERENCE_FULL), 0, 255)
        frames.append(
            Frame(
                _image_uri(grey_HW.astype(np.uint8)),
                "Difference (dark)",
                "Where the two frames differ; movement differs too",
            )
        )
    return tuple(frames)


def _image_uri(pixels: NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((_MOST_IMAGE_PX, _MOST_IMAGE_PX))
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, format="PNG", optimize=True)
    if png.tell() <= 40_000:
        return data_uri(png.getvalue(), "image/png")
    image.save(jpeg, format="JPEG", quality=88)
    return data_uri(jpeg.getvalue(), "image/jpeg")


def _wav_uri(sound_N: NDArray[np.int16] | None, sample_rate_hz: int) -> str | None:
    if sound_N is None or sound_N.size == 0:
        return None
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(sound_N[-_MOST_SOUND_S * sample_rate_hz :].astype("<i2").tobytes())
    return data_uri(content.getvalue(), "audio/wav")


def spectrogram_db(sound_N: NDArray[np.int16], sample_rate_hz: int) -> NDArray[np.float64]:
    """Return the spectrogram [F, T] of 32-ms windows in dB; a full-scale sine is 0 dB."""
    num = min(max(64, round(0.032 * sample_rate_hz)), sound_N.size)
    transform = ShortTimeFFT(
        hann(num, sym=False), hop=num // 2, fs=sample_rate_hz, scale_to="magnitude"
    )
    spectrum_FT = transform.stft(sound_N / 32768.0, p0=1, p1=max(2, sound_N.size // (num // 2)))
    # Scaled by the sum of the window, a full-scale sine has magnitude 1/2.
    return 20 * np.log10(2 * np.abs(spectrum_FT) + 1e-6)


def _coarser(level_FT: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean powers of blocks: about 130 x 220 cells, what the page has room for."""
    num_f, num_t = level_FT.shape
    at_f = np.arange(0, num_f, max(1, num_f // 128))
    at_t = np.arange(0, num_t, max(1, -(-num_t // 220)))
    power_FT = 10 ** (level_FT / 10)
    sums = np.add.reduceat(np.add.reduceat(power_FT, at_f, axis=0), at_t, axis=1)
    cells = np.outer(np.diff([*at_f, num_f]), np.diff([*at_t, num_t]))
    return 10 * np.log10(sums / cells)


def _hear(title: str, sound_N: NDArray[np.int16], sample_rate_hz: int) -> _Heard:
    recent_N = sound_N[-_MOST_SOUND_S * sample_rate_hz :]
    level_FT = spectrogram_db(recent_N, sample_rate_hz)
    return _Heard(title, recent_N.size / sample_rate_hz, _coarser(level_FT), level_FT.mean(axis=1))


def _spectrograms(moment: Moment) -> Picture | None:
    sounds = {"At the alarm": moment.sound_N, "Normal": moment.normal_sound_N}
    heard = [
        _hear(title, sound_N, moment.sample_rate_hz)
        for title, sound_N in sounds.items()
        if sound_N is not None and sound_N.size >= _LEAST_SAMPLES
    ]
    if not heard or heard[0].title != "At the alarm":
        return None
    every_db = np.concatenate([sound.level_FT.ravel() for sound in heard])
    top_db = float(np.percentile(every_db, 99.8))
    floor_db = max(top_db - _RANGE_DB, float(np.percentile(every_db, 10)))
    scale_db = (min(floor_db, top_db - 1), top_db)

    def paint(width_px: int) -> Figure:
        fig = _paint(width_px, heard, scale_db, moment.sample_rate_hz / 2000)
        if moment.sound_map is not None:
            draw_over_spectrogram(
                fig.axes[0],
                _recent(moment.sound_map, moment),
                duration_s=heard[0].duration_s,
                sample_rate_hz=moment.sample_rate_hz,
            )
        return fig

    beside = " beside a normal one on the same scale" if len(heard) == 2 else ""
    beside += "" if moment.sound_map is None else "; what is rare in normal running is coloured"
    said = _sound_in_words(moment)
    return picture(paint, alt=f"Spectrogram of the sound at the alarm{beside}. {said}".strip())


def _recent(heat: HeatMap, moment: Moment) -> HeatMap:
    """Return the part of the map that belongs to the sound as it is drawn."""
    assert moment.sound_N is not None, "a map of a sound comes with the sound"
    part = min(1.0, _MOST_SOUND_S * moment.sample_rate_hz / moment.sound_N.size)
    num_frames = max(1, round(part * heat.rarity_HW.shape[1]))
    return HeatMap(heat.rarity_HW[:, -num_frames:], heat.shown_from)


def _paint(
    width_px: int, heard: list[_Heard], scale_db: tuple[float, float], top_khz: float
) -> Figure:
    num = len(heard) + (len(heard) == 2)
    narrow = is_narrow(width_px)
    fig = new_figure(width_px, 200 * num if narrow else 240)
    axes = np.atleast_1d(fig.subplots(num, 1) if narrow else fig.subplots(1, num))
    image = None
    for ax, sound in zip(axes, heard, strict=False):
        image = ax.imshow(
            sound.level_FT, origin="lower", aspect="auto", cmap="Greys", vmin=scale_db[0],
            vmax=scale_db[1], extent=(0, sound.duration_s, 0, top_khz), interpolation="nearest",
        )  # fmt: skip
        ax.set_title(f"{sound.title}: kHz over s")
    if len(heard) == 2:
        _spectra(axes[2], heard[0].mean_F, heard[1].mean_F, top_khz)
    left, right = (0.09, 0.985) if narrow else (0.03, 0.99)
    fig.subplots_adjust(
        left=left, right=right, bottom=0.06 if narrow else 0.26, top=0.955 if narrow else 0.88,
        hspace=0.42, wspace=0.13,
    )  # fmt: skip
    if not narrow and image is not None:
        place = fig.add_axes((0.03, 0.1, 0.2, 0.035))
        bar = fig.colorbar(image, cax=place, orientation="horizontal")
        bar.outline.set_visible(False)
        fig.text(0.24, 0.1, "dB re full scale, the same for both", fontsize=11, color=MUTED)
    return fig


def _spectra(
    ax: Axes, alarm_F: NDArray[np.float64], normal_F: NDArray[np.float64], top_khz: float
) -> None:
    """Draw both mean spectra; what is louder than normal by 6 dB or more is filled."""
    khz_F = np.linspace(0, top_khz, alarm_F.size)
    normal_F = np.interp(khz_F, np.linspace(0, top_khz, normal_F.size), normal_F)
    is_louder_F = alarm_F - normal_F > _NOTABLE_DB
    ax.fill_between(khz_F, normal_F, alarm_F, where=is_louder_F, color=ABNORMAL, alpha=0.35, lw=0)
    ax.plot(khz_F, normal_F, color=MUTED, lw=1, ls=(0, (3, 1.5)))
    ax.plot(khz_F, alarm_F, color=INK, lw=1)
    ax.plot(khz_F, np.where(is_louder_F, alarm_F, np.nan), color=ABNORMAL, lw=1.6)
    ax.set_title("Mean level: dB over kHz (dashed = normal)")
    ax.set_xlim(0, top_khz)


def _sound_in_words(moment: Moment) -> str:
    """Return which frequency rose most above the normal sound, as a sentence; "" without both."""
    alarm_N, normal_N = moment.sound_N, moment.normal_sound_N
    if alarm_N is None or normal_N is None or min(alarm_N.size, normal_N.size) < _LEAST_SAMPLES:
        return ""
    alarm_F = spectrogram_db(alarm_N, moment.sample_rate_hz).mean(axis=1)
    normal_F = spectrogram_db(normal_N, moment.sample_rate_hz).mean(axis=1)
    if alarm_F.size != normal_F.size:
        return ""
    rise_F = alarm_F - normal_F
    at = int(np.argmax(rise_F))
    if rise_F[at] < _NOTABLE_DB:
        return f"No frequency is {_NOTABLE_DB:.0f} dB or more louder than in the normal sound."
    khz = at * moment.sample_rate_hz / 2000 / max(1, alarm_F.size - 1)
    return f"The largest rise above the normal sound is {rise_F[at]:.0f} dB, at {khz:.1f} kHz."
