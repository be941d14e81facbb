"""What a plant streams: tags with their limits, telemetry, microphones, cameras."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from fusion.plant.described import Described, Name

NANOSECONDS = 1_000_000_000

MAX_CLOCK_OFFSET_S = 3_155_760_000
"""A century: further off no clock is, and nanoseconds still fit into 64 bits."""

ClockName = Literal["source", "server", "receive"]
Modality = Literal["telemetry", "audio", "video"]
_Sense = TypeVar("_Sense", "AudioStream", "VideoStream")


class Limits(Described):
    """Operating limits of a tag, in the tag's unit. A forecast that crosses one is a finding."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("limits must give low, high or both; delete limits if there are none")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(
                f"limits must satisfy low < high, got {self.low:g} and {self.high:g}; swap them"
            )
        return self


class Tag(Described):
    """One instrument signal or set-point."""

    name: str = Field(min_length=1, max_length=128)
    unit: str = Field(description="Unit symbol, for example 'bar'; '1' where there is none.")
    range: tuple[float, float] = Field(description="What the instrument can report, in the unit.")
    resolution: float | None = Field(
        default=None,
        gt=0,
        description="The smallest change that means something, in the unit: a reading that moved "
        "less while the model was learned is not magnified beyond it. Without one a reading that "
        "never moved counts in its unit, and one that hardly moved by how little it did.",
    )
    setpoint: bool = Field(
        default=False,
        description="True for what operators set. Conditions predictions, is never encoded.",
    )
    limits: Limits | None = Field(
        default=None,
        description="Of a measured tag: forecasts that cross one are findings. Of a set-point: "
        "between these a what-if may move it, instead of anywhere in its range.",
    )
    rate_limit_per_s: float | None = Field(
        default=None,
        gt=0,
        description="Of a set-point: how fast a what-if may move it, in the unit per second; "
        "without one it may step.",
    )
    description: str = ""

    @field_validator("range")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if low >= high:
            raise ValueError(f"range must satisfy low < high, got {low:g} and {high:g}; swap them")
        return value

    @model_validator(mode="after")
    def _only_setpoints_are_moved(self) -> Self:
        if self.rate_limit_per_s is not None and not self.setpoint:
            raise ValueError(
                f"rate_limit_per_s says how fast a set-point may be moved, but {self.name!r} is "
                "measured; delete it, or write setpoint: true"
            )
        if self.setpoint and self.bounds[0] >= self.bounds[1]:
            raise ValueError(
                f"the limits of set-point {self.name!r} must leave some of its range, got "
                f"{self.bounds[0]:g} to {self.bounds[1]:g}; widen them, or the range"
            )
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The range, narrowed by the limits: where a set-point may be moved to."""
        low, high = self.range
        if self.limits is not None and self.limits.low is not None:
            low = max(low, self.limits.low)
        if self.limits is not None and self.limits.high is not None:
            high = min(high, self.limits.high)
        return low, high


class _StreamDescription(Described):
    """What every stream has."""

    name: Name
    clock: ClockName = Field(
        default="source", description="Which of the record's time stamps is event time."
    )
    max_age_s: float = Field(
        default=2.0,
        gt=0,
        le=86_400,
        description="After this long without data the stream is absent, not held.",
    )
    allowed_lateness_s: float | None = Field(
        default=None, ge=0, le=86_400, description="Instead of the plant's, where it is given."
    )
    clock_offset_s: float = Field(
        default=0.0,
        ge=-MAX_CLOCK_OFFSET_S,
        le=MAX_CLOCK_OFFSET_S,
        description="What this stream's clock shows more than the plant's time. Subtracted from "
        "its event times; only what is declared here is ever corrected.",
    )

    @property
    def clock_offset_ns(self) -> int:
        """The declared correction in nanoseconds."""
        return round(self.clock_offset_s * NANOSECONDS)


class TelemetryStream(_StreamDescription):
    """Tags that are sampled together."""

    modality: Literal["telemetry"]
    rate_hz: float = Field(gt=0, le=100_000)
    tags: tuple[Tag, ...] = Field(min_length=1, max_length=10_000)

    @property
    def measured(self) -> tuple[Tag, ...]:
        """The tags that the encoder sees: all but the set-points."""
        return tuple(tag for tag in self.tags if not tag.setpoint)

    @property
    def setpoints(self) -> tuple[Tag, ...]:
        """The tags that operators set."""
        return tuple(tag for tag in self.tags if tag.setpoint)


class AudioStream(_StreamDescription):
    """One microphone."""

    modality: Literal["audio"]
    sample_rate_hz: int = Field(ge=4_000, le=192_000)

    @model_validator(mode="after")
    def _clock_is_carried(self) -> Self:
        return _refuse_server_clock(self)


class VideoStream(_StreamDescription):
    """One camera."""

    modality: Literal["video"]
    rate_hz: float = Field(gt=0, le=240)
    width_px: int = Field(ge=16, le=7_680)
    height_px: int = Field(ge=16, le=4_320)
    frames_per_tick: int = Field(
        default=1,
        ge=1,
        le=16,
        # What is not asked for leaves the fingerprint as it was before it could be.
        exclude_if=lambda count: count == 1,
        description="How many frames of a tick the model sees: 1 is a picture, more are a clip, "
        "in which it sees motion. At most rate_hz x tick_s.",
    )

    @model_validator(mode="after")
    def _clock_is_carried(self) -> Self:
        return _refuse_server_clock(self)


def _refuse_server_clock(stream: _Sense) -> _Sense:
    if stream.clock == "server":
        raise ValueError(
            f"clock of {stream.name!r} must be source or receive, got 'server': only telemetry "
            "passes a server that stamps it; write clock: receive"
        )
    return stream


Stream = Annotated[TelemetryStream | AudioStream | VideoStream, Field(discriminator="modality")]
