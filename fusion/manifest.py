"""The manifest: what a model version is, was trained on, and may serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fusion.errors import InputError, ManifestMismatchError
from fusion.plant import AudioStream, Plant, Stream, TelemetryStream

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class TrainedStream(BaseModel):
    """One stream as the model knows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    modality: str
    rate_hz: float
    tags: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    setpoints: tuple[str, ...] = ()
    setpoint_units: tuple[str, ...] | None = None
    """None in models of before it was kept: nothing is held against it then."""
    setpoint_ranges: tuple[tuple[float, float], ...] | None = None
    """What a set-point is scaled by; of other tags the range may change."""
    size_px: tuple[int, int] | None = None
    frames_per_tick: int = 1


class Manifest(BaseModel):
    """Written at export, checked before serving."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    plant_address: str
    plant_fingerprint: str
    tick_s: float
    streams: tuple[TrainedStream, ...]
    window_ticks: int
    horizons_ticks: tuple[int, ...]
    layout: dict[str, Any]
    recipe: dict[str, Any]
    data_version: str
    code_version: str
    num_parameters: int
    num_train_ticks: int
    num_calibration_ticks: int
    gauges: tuple[dict[str, float], ...] = Field(
        description="Every measurement of the training run"
    )
    precision: Literal["fp32", "int8"] = Field(
        default="fp32", description="int8: weights of the networks are quantised."
    )

    def require_fits(self, plant: Plant) -> None:
        """Return when this model may serve ``plant``.

        Limits, alarms and budgets of the plant may change; what the network reads may not.

        Raises:
            ManifestMismatchError: Names the first field that differs, with both values.
        """
        trained = {"tick_s": self.tick_s, **_by_field(self.streams)}
        asked = {"tick_s": plant.tick_s, **_by_field(trained_streams(plant))}
        for where in [*trained, *(key for key in asked if key not in trained)]:
            was_not_kept = where in trained and trained[where] is None
            if trained.get(where) != asked.get(where) and not was_not_kept:
                raise ManifestMismatchError(
                    f"model {self.name} {self.version} must match the plant, but {where} differs: "
                    f"the model was trained with {trained.get(where)!r}, the plant file has "
                    f"{asked.get(where)!r}; change the plant file back, or train a new model"
                )


def trained_streams(plant: Plant) -> tuple[TrainedStream, ...]:
    """Return what a model learns of the streams of ``plant``, in plant order."""
    return tuple(_trained(stream) for stream in plant.streams)


def load_manifest(model_dir: Path) -> Manifest:
    """Return the manifest of the model version in ``model_dir``.

    Raises:
        InputError: There is no complete model version there.
    """
    path = model_dir / MANIFEST_FILE
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise InputError(f"a manifest must be below {MAX_MANIFEST_BYTES} bytes; {path} is not")
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as missing:
        raise InputError(
            f"a model folder must hold {MANIFEST_FILE}, but {missing}; "
            "give the folder of one model version, as `fusion train` prints it"
        ) from missing
    except ValidationError as invalid:
        raise InputError(f"{path} must be a manifest of this product, but: {invalid}") from invalid


def _trained(stream: Stream) -> TrainedStream:
    if isinstance(stream, TelemetryStream):
        return TrainedStream(
            name=stream.name,
            modality="telemetry",
            rate_hz=stream.rate_hz,
            tags=tuple(tag.name for tag in stream.measured),
            units=tuple(tag.unit for tag in stream.measured),
            setpoints=tuple(tag.name for tag in stream.setpoints),
            setpoint_units=tuple(tag.unit for tag in stream.setpoints),
            setpoint_ranges=tuple(tag.range for tag in stream.setpoints),
        )
    if isinstance(stream, AudioStream):
        return TrainedStream(
            name=stream.name, modality="audio", rate_hz=float(stream.sample_rate_hz)
        )
    return TrainedStream(
        name=stream.name,
        modality="video",
        rate_hz=stream.rate_hz,
        size_px=(stream.width_px, stream.height_px),
        frames_per_tick=stream.frames_per_tick,
    )


def _by_field(streams: tuple[TrainedStream, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {"the order of streams": tuple(stream.name for stream in streams)}
    for stream in streams:
        for field, value in stream.model_dump().items():
            fields[f"{field} of stream {stream.name!r}"] = value
    return fields
