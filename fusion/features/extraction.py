"""Observations to what the networks read; one function, live with one tick, in training with many.

Shapes: N ticks, M streams, S slots, C measured tags, R readings of all streams, U set-points,
F spectrogram frames, H x W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.features.layout import (
    FFT_SECONDS,
    HOP_SECONDS,
    NUM_MELS,
    PICTURE_HW,
    REGIONS_HW,
    Layout,
    StreamLayout,
    layout_of,
)
from fusion.plant import Plant, TelemetryStream

NEVER_MOVED = 1e-6
"""A standard deviation up to this is rounding."""
MAX_DEVIATIONS = 10.0
"""Inputs are clipped here, in standard deviations: one broken sensor must not blind the rest."""

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class TickFeatures:
    """What the networks read of N ticks. Inputs of absent streams are zero."""

    ticks: tuple[int, ...]
    inputs: Arrays
    presence_NM: NDArray[np.float32]
    setpoints_NU: NDArray[np.float32]
    """NaN where the telemetry was absent; :func:`held` says what to read then."""
    readings_NR: NDArray[np.float32]
    """Standardised readings; NaN where the stream was absent or the tag missing."""

    def __len__(self) -> int:
        return len(self.ticks)


class Normaliser:
    """Mean and standard deviation of every input and reading, learned from training ticks only."""

    def __init__(self, statistics: Arrays) -> None:
        self.statistics = statistics

    def scale(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``values`` in standard deviations from the mean, clipped at 10."""
        scaled = (values - self.statistics[f"{name}.mean"]) / self.statistics[f"{name}.std"]
        return np.clip(scaled, -MAX_DEVIATIONS, MAX_DEVIATIONS).astype(np.float32)

    def reading_scale(self, layout: Layout) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean [R] and standard deviation [R] of the readings, in their units."""
        names = [stream.name for stream in layout.streams]
        return (
            np.concatenate([self.statistics[f"{name}.readings.mean"] for name in names]),
            np.concatenate([self.statistics[f"{name}.readings.std"] for name in names]),
        )


def fit_normaliser(observations: Sequence[Observation], plant: Plant) -> Normaliser:
    """Return the statistics of ``observations``, the training part and nothing else."""
    layout, statistics = layout_of(plant), Arrays()
    for stream in layout.streams:
        present = [o for o in observations if o.is_present(stream.name)]
        raw, readings = _raw(present, stream, plant)
        axes = (0, 1) if stream.modality == "telemetry" else (0, 2)
        floor = NEVER_MOVED
        if stream.modality == "video":
            # All frames of a clip are seen by one camera.
            axes, floor = (0,) if len(stream.input_shape) == 3 else (0, 1), 2.0 / 255
        for name, values, over in (("", raw, axes), (".readings", readings, (0,))):
            with warnings.catch_warnings():
                # A tag that never had a value has the statistics of nothing: 0 and 1.
                warnings.simplefilter("ignore", RuntimeWarning)
                mean = np.nanmean(values, axis=over, keepdims=len(over) > 1)
                std = np.nanstd(values, axis=over, keepdims=len(over) > 1)
            if len(over) > 1:
                mean, std = mean[0], std[0]
            described = plant.stream(stream.name)
            if isinstance(described, TelemetryStream):
                scale = _telemetry_scale(std, described)
            else:
                scale = np.where(np.isfinite(std) & (std > floor), std, max(floor, 1e-3))
            statistics[f"{stream.name}{name}.mean"] = np.nan_to_num(mean).astype(np.float32)
            statistics[f"{stream.name}{name}.std"] = scale.astype(np.float32)
    return Normaliser(statistics)


def _telemetry_scale(std_C: NDArray[np.float32], described: TelemetryStream) -> NDArray[np.float32]:
    """Return what one standard deviation is of each measured tag, at least its resolution."""
    resolution_C = np.array(
        [np.nan if t.resolution is None else t.resolution for t in described.tags if not t.setpoint]
    )
    has_moved_C = np.isfinite(std_C) & (std_C > NEVER_MOVED)
    usual_C = np.where(has_moved_C, std_C, np.nan)
    # (fmax knows the other where one is unknown.)
    return np.nan_to_num(np.fmax(usual_C, resolution_C), nan=1.0)


def extract(
    observations: Sequence[Observation], plant: Plant, normaliser: Normaliser
) -> TickFeatures:
    """Return the features of ``observations``, the same for one tick as for many."""
    layout = layout_of(plant)
    count = len(observations)
    inputs: Arrays = {}
    presence_NM = np.zeros((count, len(layout.streams)), np.float32)
    readings_NR = np.full((count, layout.num_readings), np.nan, np.float32)
    for index, stream in enumerate(layout.streams):
        at = [i for i, o in enumerate(observations) if o.is_present(stream.name)]
        inputs[stream.name] = np.zeros((count, *stream.input_shape), np.float32)
        if not at:
            continue
        raw, readings = _raw([observations[i] for i in at], stream, plant)
        inputs[stream.name][at] = _input(raw, stream, normaliser)
        readings_NR[at, layout.columns(stream.name)] = normaliser.scale(
            f"{stream.name}.readings", readings
        )
        presence_NM[at, index] = 1.0
    return TickFeatures(
        ticks=tuple(o.tick for o in observations),
        inputs=inputs,
        presence_NM=presence_NM,
        setpoints_NU=_setpoints(observations, plant),
        readings_NR=readings_NR,
    )


def _input(
    raw: NDArray[np.float32], stream: StreamLayout, normaliser: Normaliser
) -> NDArray[np.float32]:
    scaled = normaliser.scale(stream.name, raw)
    if stream.modality != "telemetry":
        return scaled
    is_missing_NSC = np.isnan(scaled)
    return np.stack([np.where(is_missing_NSC, 0.0, scaled), is_missing_NSC], axis=1)


def _raw(
    observations: Sequence[Observation], stream: StreamLayout, plant: Plant
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the unscaled input and the readings of ticks in which ``stream`` is present."""
    if not observations:
        empty = stream.input_shape if stream.modality != "telemetry" else stream.input_shape[1:]
        return np.zeros((0, *empty), np.float32), np.zeros((0, len(stream.readings)), np.float32)
    values = np.stack([o.senses[stream.name] for o in observations])
    if stream.modality == "telemetry":
        described = plant.stream(stream.name)
        assert isinstance(described, TelemetryStream)
        measured = [i for i, tag in enumerate(described.tags) if not tag.setpoint]
        values_NSC = values[:, :, measured].astype(np.float32)
        num_NC = np.isfinite(values_NSC).sum(axis=1)
        sum_NC = np.nansum(values_NSC, axis=1)
        means_NC = np.where(num_NC > 0, sum_NC / np.maximum(num_NC, 1), np.nan)
        return values_NSC, means_NC.astype(np.float32)
    if stream.modality == "audio":
        mel_NBF = log_mel(values, sample_rate_hz=stream.sample_rate_hz)
        return mel_NBF, mel_NBF.mean(axis=2)
    shape = (len(values), *stream.input_shape)
    pictures = shrink(values.reshape(-1, *values.shape[-3:])).reshape(shape)
    # What people read off a clip is its newest frame, as of a single picture.
    newest_N3HW = torch.from_numpy(pictures.reshape(len(values), -1, 3, *PICTURE_HW)[:, -1])
    regions = torch.nn.functional.adaptive_avg_pool2d(newest_N3HW, REGIONS_HW)
    return pictures, regions.flatten(1).numpy()


def log_mel(samples_NT: NDArray[np.generic], *, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the mel spectrogram in dB relative to full scale, [N, mels, F].

    Example:
        >>> log_mel(np.zeros((1, 8_000), np.int16), sample_rate_hz=16_000).shape
        (1, 40, 30)
    """
    waves_NT = torch.from_numpy(samples_NT.astype(np.float32) / 32_768)
    power_NBF = _mel_transform(sample_rate_hz)(waves_NT)
    return (10 * torch.log10(power_NBF + 1e-8)).numpy()


@lru_cache(maxsize=8)
def _mel_transform(sample_rate_hz: int) -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(
        sample_rate_hz,
        n_fft=round(FFT_SECONDS * sample_rate_hz),
        hop_length=round(HOP_SECONDS * sample_rate_hz),
        n_mels=NUM_MELS,
        # A tick's spectrum is made of the tick's samples only.
        center=False,
    )


def shrink(pixels_NHW3: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return frames as [N, 3, 48, 64] between 0 and 1, averaged over areas."""
    frames_N3HW = torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(frames_N3HW.float() / 255, PICTURE_HW, mode="area")
    return small.numpy()


def _setpoints(observations: Sequence[Observation], plant: Plant) -> NDArray[np.float32]:
    """Return the set-points at the end of each tick, -1 to 1 over the tag's range; [N, U].

    NaN where the telemetry was absent; 0 in the one column of a plant without set-points.
    """
    columns = [
        (stream.name, index, tag.range)
        for stream in plant.telemetry_streams
        for index, tag in enumerate(stream.tags)
        if tag.setpoint
    ]
    values_NU = np.full((len(observations), max(1, len(columns))), np.nan, np.float32)
    if not columns:
        values_NU[:] = 0.0
    for row, observation in enumerate(observations):
        for column, (stream, index, (low, high)) in enumerate(columns):
            if observation.is_present(stream):
                value = observation.senses[stream][-1, index]
                values_NU[row, column] = 2 * (value - low) / (high - low) - 1
    return values_NU


def held(setpoints_TU: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the set-points with the last known value where one is missing; 0 before any is known.

    A sensor that falls silent is not an operator who turns a knob.

    Example:
        >>> held(np.array([[np.nan], [0.5], [np.nan]], np.float32)).ravel().tolist()
        [0.0, 0.5, 0.5]
    """
    known_TU = np.where(np.isnan(setpoints_TU), -1, np.arange(len(setpoints_TU))[:, None])
    last_TU = np.maximum.accumulate(known_TU, axis=0)
    filled_TU = np.take_along_axis(setpoints_TU, np.maximum(last_TU, 0), axis=0)
    return np.nan_to_num(filled_TU)
