"""Files of a folder: tables, sound, films."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from fusion.plant.described import Name
from fusion.plant.devices.described import DescribedDevice, Mask, TagSource


class ColumnSource(TagSource):
    """One column of a table."""

    column: str = Field(min_length=1)


class _Files(DescribedDevice):
    """Files of a folder, oldest name first; with ``watch`` also those that come later."""

    folder: Path
    patterns: tuple[str, ...] = Field(min_length=1, description="For example '*.csv'.")
    watch: bool = Field(
        default=False, description="Wait for more files; else the device ends with the last one."
    )
    settle_s: float = Field(
        default=2.0,
        ge=0,
        le=3_600,
        description="A file is whole when it did not change for so long. 0 where files are renamed "
        "into the folder.",
    )

    @model_validator(mode="after")
    def _below_the_folder(self) -> Self:
        for pattern in self.patterns:
            if pattern.startswith("/") or ".." in Path(pattern).parts:
                raise ValueError(
                    f"patterns must stay below the folder {self.folder}, got {pattern!r}; "
                    "name the folder that holds the files"
                )
        return self


class TableFilesDevice(_Files):
    """CSV and Parquet tables, one row a time stamp."""

    protocol: Literal["table-files"]
    columns: tuple[ColumnSource, ...] = Field(min_length=1, max_length=10_000)
    time_column: str
    time_unit_s: float | None = Field(
        default=None, gt=0, description="Of numeric times, counted from 1970: 1 s, 0.001 ms."
    )
    separator: str = Field(default=",", min_length=1, max_length=1)

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """The columns."""
        return self.columns

    @model_validator(mode="after")
    def _one_stream(self) -> Self:
        if len(self.streams) > 1:
            raise ValueError(
                f"the rows of a table are one stream, got {self.streams}; describe one device per "
                "stream, with the same files"
            )
        return self


class _SenseFiles(_Files):
    """Files whose content has no time of its own."""

    stream: Name
    start: AwareDatetime | None = Field(
        default=None, description="When the first file begins; each next one follows on it."
    )
    name_time_format: str | None = Field(
        default=None,
        description="How file names (without suffix) say when they begin, in UTC, for example "
        "'mic1_%Y%m%dT%H%M%S'.",
    )

    @property
    def streams(self) -> tuple[str, ...]:
        """The one stream that the files are."""
        return (self.stream,)

    @model_validator(mode="after")
    def _has_a_time(self) -> Self:
        if (self.start is None) == (self.name_time_format is None):
            raise ValueError(
                "files without times of their own need exactly one of start and name_time_format; "
                "say when the first begins, or how their names tell it"
            )
        return self


class SoundFilesDevice(_SenseFiles):
    """WAV, FLAC and OGG files of one microphone."""

    protocol: Literal["sound-files"]
    channel: int = Field(default=0, ge=0, le=63)
    chunk_s: float = Field(default=0.5, gt=0, le=5)

    @property
    def modality(self) -> Literal["telemetry", "audio", "video"]:
        """Sound."""
        return "audio"


class FilmFilesDevice(_SenseFiles):
    """MP4 and other films of one camera."""

    protocol: Literal["film-files"]
    masks: tuple[Mask, ...] = ()

    @property
    def modality(self) -> Literal["telemetry", "audio", "video"]:
        """Pictures."""
        return "video"

    @property
    def privacy_masks(self) -> tuple[Mask, ...]:
        """What must not leave the pictures."""
        return self.masks
