"""Cameras and microphones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fusion.plant.described import Described, Name
from fusion.plant.devices.described import DescribedDevice, Login, Mask


class _Media(DescribedDevice):
    """Sound or pictures from an address."""

    url: str = Field(
        pattern=r"^(rtsps?|https?|rtp|srt|udp|tcp)://[^@\s]+$|^/\S+$",
        description="rtsp://..., http://... (MJPEG) or the absolute path of a file or pipe; never "
        "with a name and password in it, which login says.",
    )
    stream: Name
    login: Login | None = None
    transport: Literal["tcp", "udp"] = Field(
        default="tcp", description="Of RTSP; tcp loses nothing and passes firewalls."
    )
    open_timeout_s: float = Field(default=10.0, ge=0.5, le=30)
    read_timeout_s: float = Field(
        default=5.0, ge=0.5, le=30, description="Nothing for so long is a lost connection."
    )

    @property
    def streams(self) -> tuple[str, ...]:
        """The one stream."""
        return (self.stream,)


class CameraDevice(_Media):
    """A camera: RTSP, HTTP (MJPEG), or anything else that FFmpeg opens."""

    protocol: Literal["camera"]
    masks: tuple[Mask, ...] = Field(
        default=(), max_length=64, description="What must not leave this machine, blackened."
    )

    @property
    def modality(self) -> Literal["telemetry", "audio", "video"]:
        """Pictures."""
        return "video"

    @property
    def privacy_masks(self) -> tuple[Mask, ...]:
        """What must not leave the pictures."""
        return self.masks


class SpeechFilter(Described):
    """What is not recorded: spans in which somebody speaks. They are missing, not silent.

    Needs the extra 'speech' (pip install 'industrial-fusion[speech]').
    """

    threshold: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="A span is withheld from this probability of speech on: lower withholds more.",
    )
    margin_s: float = Field(
        default=0.3,
        ge=0.1,
        le=2,
        description="So much before and after is withheld too; all sound comes that much later.",
    )


SPEECH_RATES_HZ = (16_000, 32_000, 48_000)
"""What the speech filter can listen to."""


class SoundUrlDevice(_Media):
    """The sound of an IP microphone, or of a camera that has one."""

    protocol: Literal["sound-url"]
    chunk_s: float = Field(default=0.5, ge=0.05, le=5)
    speech_filter: SpeechFilter | None = Field(
        default=None, description="Given, even empty ({}): speech is not recorded."
    )

    @property
    def modality(self) -> Literal["telemetry", "audio", "video"]:
        """Sound."""
        return "audio"


class SoundCardDevice(DescribedDevice):
    """A microphone at a sound card of this machine (PortAudio)."""

    protocol: Literal["sound-card"]
    stream: Name
    card: str | None = Field(
        default=None, description="Part of the card's name; without it the system's default."
    )
    channel: int = Field(default=0, ge=0, le=63)
    chunk_s: float = Field(default=0.5, ge=0.05, le=5)
    speech_filter: SpeechFilter | None = Field(
        default=None, description="Given, even empty ({}): speech is not recorded."
    )

    @property
    def streams(self) -> tuple[str, ...]:
        """The one stream."""
        return (self.stream,)

    @property
    def modality(self) -> Literal["telemetry", "audio", "video"]:
        """Sound."""
        return "audio"
