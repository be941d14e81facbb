"""What every device has, and how its values become tags."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from fusion.plant.described import Described, Name


class TagSource(Described):
    """How one value of a device becomes a tag: ``tag = scale * value + offset``."""

    stream: Name = Field(description="The telemetry stream that has the tag.")
    tag: str = Field(min_length=1, max_length=128)
    scale: float = Field(default=1.0, description="From the device's unit to the tag's.")
    offset: float = Field(default=0.0, description="As scale; in the tag's unit.")
    unit: str | None = Field(
        default=None,
        description="The unit that the device states, where it is not the tag's own because scale "
        "and offset convert it.",
    )
    deadband: float = Field(
        default=0.0,
        ge=0,
        description="A change of at most this much, in the tag's unit, is not sent, except once "
        "every half of the stream's max_age_s.",
    )

    @model_validator(mode="after")
    def _scale_tells_something(self) -> Self:
        if self.scale == 0:
            raise ValueError(
                f"scale of {self.tag!r} must not be 0, every value would be {self.offset:g}; "
                "give the factor from the device's unit to the tag's"
            )
        return self


class Login(Described):
    """Who this process is at a device. The password is in the environment or in a file."""

    username: str = Field(min_length=1)
    password_env: str | None = Field(
        default=None,
        pattern=r"^[A-Z][A-Z0-9_]{0,99}$",
        description="Environment variable that holds the password; FUSION_... are settings.",
    )
    password_file: Path | None = Field(
        default=None, description="File that holds the password and nothing else."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.password_env is not None and self.password_env.startswith("FUSION_"):
            raise ValueError(
                f"variables that begin with FUSION_ are settings, got {self.password_env!r} as "
                "password_env; give the variable another name"
            )
        if (self.password_env is None) == (self.password_file is None):
            raise ValueError(
                "a login must name exactly one of password_env and password_file, where the "
                f"password of {self.username!r} is; it is never in the plant file"
            )
        return self


class Mask(Described):
    """A polygon that is blackened before anything is published, in parts of width and height."""

    corners: tuple[tuple[float, float], ...] = Field(
        min_length=3, max_length=64, description="(x, y) from (0, 0) top left to (1, 1)."
    )

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if any(not 0 <= part <= 1 for corner in self.corners for part in corner):
            raise ValueError(
                "corners of a mask are parts of the picture's width and height, from 0 to 1, got "
                f"{self.corners}; divide pixels by the size of the picture"
            )
        return self


class DescribedDevice(Described):
    """What every device has."""

    name: Name
    silence_s: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="After this long without a sign of life the connection is made anew.",
    )

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """What becomes of the device's values; none for a camera or a microphone."""
        return ()

    @property
    def modality(self) -> Literal["telemetry", "audio", "video"]:
        """What kind of streams the device feeds."""
        return "telemetry"

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that this device feeds, in the order of the file."""
        return tuple(dict.fromkeys(source.stream for source in self.tag_sources))

    @property
    def privacy_masks(self) -> tuple[Mask, ...]:
        """What must not leave the device's pictures."""
        return ()
