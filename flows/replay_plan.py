"""The replay plan: where the recording of each stream lies and how it becomes that stream.

A YAML file beside the plants. Files are named relative to a folder of recordings that the user
gives (``--data``), or that the plan itself names relative to its own place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from connectors.recordings import Scalar
from fusion.errors import InputError
from fusion.plant import Plant, TelemetryStream, parse_plant

Where = dict[str, tuple[Scalar, ...]]


class _Planned(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Recording(_Planned):
    """What every recording has."""

    stream: str = Field(description="The plant's stream that it is played as.")
    repeat: int = Field(default=1, ge=1, le=10_000, description="Played this many times in a row.")


class TableRecording(_Recording):
    """Rows of a parquet or CSV file, for a telemetry stream."""

    kind: Literal["table"]
    file: str
    columns: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Tag to column; a tag that is not here has a column of its own name.",
    )
    where: Where = Field(default_factory=dict, description="Column to the values that are played.")
    separator: str = Field(default=",", min_length=1, max_length=1)
    time_column: str | None = Field(
        default=None, description="None: rows are 1 / rate_hz apart, from the plan's start."
    )
    time_unit_s: float | None = Field(
        default=None, gt=0, description="For a time column of numbers: seconds per unit."
    )
    segment_by: str | None = Field(
        default=None, description="Column that names the runs, each on its own clock."
    )
    first_rows: int | None = Field(default=None, ge=1, description="Of every segment.")
    gap_s: float = Field(
        default=600.0,
        gt=0,
        description="Pause before a segment that would start before the one before it has ended.",
    )
    labels: tuple[str, ...] = Field(
        default=(), description="Columns of the truth. Never sent; evaluation joins them by time."
    )


class SoundRecording(_Recording):
    """Sound files, one after another, for an audio stream."""

    kind: Literal["sound"]
    files: tuple[str, ...] = Field(min_length=1, description="Names or patterns such as a/*.flac.")
    channel: int = Field(default=0, ge=0)
    chunk_s: float = Field(default=0.5, gt=0, le=10)


class FilmRecording(_Recording):
    """A film, for a video stream, at its own frame times."""

    kind: Literal["film"]
    file: str


class ImagesRecording(_Recording):
    """A parquet table with one encoded image a row, for a video stream, 1 / rate_hz apart."""

    kind: Literal["images"]
    file: str
    image_column: str
    where: Where = Field(default_factory=dict)


Recording = Annotated[
    TableRecording | SoundRecording | FilmRecording | ImagesRecording, Field(discriminator="kind")
]
_MODALITY = {"table": "telemetry", "sound": "audio", "film": "video", "images": "video"}


class ReplayPlan(_Planned):
    """Which recordings are played as which streams of which plant."""

    plant: str = Field(description="The plant file, relative to the plan.")
    description: str = ""
    recordings: str | None = Field(
        default=None,
        description="Folder of the recordings, relative to the plan. None: the user names it.",
    )
    start: AwareDatetime | None = Field(
        default=None, description="Event time of the first row. None: the recording's own times."
    )
    duration_s: float | None = Field(
        default=None, gt=0, description="Everything later is left out."
    )
    streams: tuple[Recording, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_a_clock(self) -> Self:
        for recording in self.streams:
            has_times = isinstance(recording, TableRecording) and recording.time_column is not None
            if self.start is None and not has_times:
                raise ValueError(
                    f"the plan must give start, because the recording of {recording.stream!r} has "
                    "no times of its own; add start, such as 2026-01-01T00:00:00Z"
                )
        return self

    def require_fits(self, plant: Plant) -> None:
        """Return when every recording fits a stream of ``plant``.

        Raises:
            InputError: A stream or tag is unknown, or the kind does not fit the modality.
        """
        for recording in self.streams:
            streams = {stream.name: stream for stream in plant.streams}
            if recording.stream not in streams:
                raise InputError(
                    f"a recording must name a stream of the plant, got {recording.stream!r}; "
                    f"the plant has {sorted(streams)}"
                )
            stream = streams[recording.stream]
            if stream.modality != _MODALITY[recording.kind]:
                raise InputError(
                    f"a recording of kind {recording.kind!r} must feed a "
                    f"{_MODALITY[recording.kind]} stream, but {stream.name!r} is {stream.modality}"
                )
            if isinstance(recording, TableRecording) and isinstance(stream, TelemetryStream):
                unknown = sorted(set(recording.columns) - {tag.name for tag in stream.tags})
                if unknown:
                    raise InputError(
                        f"columns must map tags of {stream.name!r}, got {unknown}; "
                        f"its tags are {[tag.name for tag in stream.tags]}"
                    )
        names = [each.stream for each in self.streams if not isinstance(each, TableRecording)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(
                f"an audio or video stream must have one recording, got several of {repeated}; "
                "give several files, or repeat"
            )


def load_plan(path: Path) -> tuple[ReplayPlan, Plant]:
    """Return the plan in the file ``path`` and the plant that it plays, checked to fit together.

    Raises:
        InputError: What must hold, what came, what to change.
    """
    try:
        plan = ReplayPlan.model_validate(yaml.safe_load(_read(path)))
    except yaml.YAMLError as broken:
        raise InputError(f"{path.name} must be YAML; {broken}") from broken
    except ValidationError as invalid:
        lines = [
            f"  {'.'.join(str(part) for part in error['loc']) or 'the plan'}: {error['msg']}"
            for error in invalid.errors(include_url=False)
        ]
        raise InputError(
            "\n".join([f"{path.name} breaks {len(lines)} rule(s):", *lines])
        ) from invalid
    plant_path = path.parent / plan.plant
    plant = parse_plant(_read(plant_path), origin=plant_path.name)
    plan.require_fits(plant)
    return plan, plant


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as failed:
        raise InputError(
            f"{path} must be a readable file, but: {failed}; correct the path"
        ) from failed
