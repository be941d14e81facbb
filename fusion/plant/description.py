"""The plant description: what a plant is, in one frozen tree of models.

Words and levels are ISA-95's (IEC 62264-1). One file describes one monitored asset: everything
whose behaviour the model learns together. Its JSON Schema is ``fusion plant schema``.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Self

from pydantic import Field, model_validator

from fusion.plant.alarm_definition import AlarmDefinition, require_hang_together
from fusion.plant.described import Described, Name
from fusion.plant.devices import Device, check_devices
from fusion.plant.streams import (
    NANOSECONDS,
    AudioStream,
    Stream,
    Tag,
    TelemetryStream,
    VideoStream,
)


class Address(Described):
    """Where the asset stands: the levels of ISA-95, from the enterprise down to the asset."""

    enterprise: Name
    site: Name
    area: Name
    line: Name
    cell: Name
    asset: Name

    def __str__(self) -> str:
        return "/".join((self.enterprise, self.site, self.area, self.line, self.cell, self.asset))


class OperatingMode(Described):
    """A mode holds while ``tag`` lies in ``between`` (inclusive). The first that holds is shown."""

    name: Name
    tag: str
    between: tuple[float, float]


class Scoring(Described):
    """How much attention the plant may ask for."""

    false_alarms_per_day: float = Field(
        default=1.0, gt=0, le=10_000, description="The budget that thresholds are set from."
    )


Hours = Annotated[float, Field(gt=0, le=87_840)]
"""At most ten years."""


class RetentionHours(Described):
    """How long the broker keeps each kind of record, in hours since it got it."""

    telemetry: Hours = Field(
        default=168,
        description="Apache Kafka's own default (log.retention.hours). `fusion ingest` must run "
        "more often: the lake keeps records for ever, the broker does not.",
    )
    audio: Hours = Field(default=168, description="As telemetry.")
    video: Hours = Field(default=168, description="As telemetry; most of the broker's disk.")
    alarm_commands: Hours = Field(default=168, description="Answered at once, kept for questions.")
    scores: Hours = Field(
        default=720, description="30 days: what ISA-18.2 asks for to rate an alarm system."
    )
    alarm_events: Hours = Field(default=720, description="As scores: the journal of the alarms.")
    dead_letters: Hours = Field(default=720, description="Until somebody has looked at them.")
    stream_health: Hours = Field(default=168, description="As the streams that it is about.")


class Topics(Described):
    """How the plant's records are stored on the broker. Plants with one prefix must agree."""

    partitions: int = Field(
        default=1,
        ge=1,
        le=1_000,
        description="Of each topic of senses, and of alarm-commands: so many processes can share "
        "the assets of one prefix. It cannot be changed later.",
    )
    retention_h: RetentionHours = RetentionHours()


class Plant(Described):
    """One monitored asset: where it stands, what it streams, when it must alarm."""

    prefix: Name = Field(description="First part of every topic of this plant.")
    address: Address
    description: str = ""
    is_simulated: bool = False
    tick_s: float = Field(default=0.5, gt=0, le=86_400)
    allowed_lateness_s: float = Field(default=1.0, ge=0, le=86_400)
    max_skew_s: float = Field(
        default=1.0,
        gt=0,
        le=86_400,
        description="An advisory is raised when a stream's clock lies further from the others'.",
    )
    max_future_s: float = Field(
        default=60.0, ge=0, description="Event times further ahead of the broker are refused."
    )
    streams: tuple[Stream, ...] = Field(min_length=1, max_length=64)
    devices: tuple[Device, ...] = Field(
        default=(), max_length=64, description="What `fusion edge run` reads the streams from."
    )
    modes: tuple[OperatingMode, ...] = ()
    scoring: Scoring = Scoring()
    alarms: tuple[AlarmDefinition, ...] = ()
    topics: Topics = Topics()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_repeats("streams", [stream.name for stream in self.streams])
        _refuse_repeats("alarms", [alarm.name for alarm in self.alarms])
        _refuse_repeats("modes", [mode.name for mode in self.modes])
        tags = self.tags
        num_tags = sum(len(stream.tags) for stream in self.telemetry_streams)
        if len(tags) < num_tags:
            names = [tag.name for stream in self.telemetry_streams for tag in stream.tags]
            _refuse_repeats("tags", names)
        for alarm in self.alarms:
            if alarm.tag is not None and alarm.tag not in tags:
                self.tag(alarm.tag, wanted_by=f"alarm {alarm.name!r}")
            thresholds_of(alarm, tags[alarm.tag] if alarm.tag is not None else None)
        require_hang_together(
            {alarm.name: alarm for alarm in self.alarms}, {mode.name for mode in self.modes}
        )
        for mode in self.modes:
            self.tag(mode.tag, wanted_by=f"mode {mode.name!r}")
        _refuse_repeats("devices", [device.name for device in self.devices])
        check_devices(
            self.devices,
            modality={stream.name: stream.modality for stream in self.streams},
            tags={s.name: {tag.name for tag in s.tags} for s in self.telemetry_streams},
        )
        for stream in self.streams:
            if isinstance(stream, AudioStream):
                num_samples = stream.sample_rate_hz * self.tick_s
                if abs(num_samples - round(num_samples)) > 1e-9:
                    raise ValueError(
                        f"a tick must hold a whole number of audio samples, but {self.tick_s:g} s "
                        f"of {stream.name!r} are {num_samples:g}; change tick_s"
                    )
            if isinstance(stream, VideoStream) and stream.frames_per_tick > 1:
                num_frames = stream.rate_hz * self.tick_s
                if stream.frames_per_tick > num_frames + 1e-9:
                    raise ValueError(
                        f"frames_per_tick of {stream.name!r} must be at most the {num_frames:g} "
                        f"frames that a tick of {self.tick_s:g} s has, got "
                        f"{stream.frames_per_tick}; lower it, or make the tick longer"
                    )
        return self

    @property
    def tick_ns(self) -> int:
        """The tick in nanoseconds."""
        return round(self.tick_s * NANOSECONDS)

    def lateness_ns(self, stream: Stream) -> int:
        """Return how long after newer ones a record of ``stream`` may come, in nanoseconds."""
        own_s = stream.allowed_lateness_s
        return round((self.allowed_lateness_s if own_s is None else own_s) * NANOSECONDS)

    @property
    def telemetry_streams(self) -> tuple[TelemetryStream, ...]:
        """The telemetry streams, in the order of the file."""
        return tuple(s for s in self.streams if isinstance(s, TelemetryStream))

    @property
    def tags(self) -> dict[str, Tag]:
        """Every tag of the plant by name; to ask for many, ask once."""
        return {tag.name: tag for stream in self.telemetry_streams for tag in stream.tags}

    @property
    def setpoints(self) -> tuple[Tag, ...]:
        """Every set-point of the plant, in the order of the file."""
        return tuple(tag for stream in self.telemetry_streams for tag in stream.setpoints)

    @property
    def measured(self) -> tuple[Tag, ...]:
        """Every measured tag of the plant, in the order of the file."""
        return tuple(tag for stream in self.telemetry_streams for tag in stream.measured)

    def stream(self, name: str) -> TelemetryStream | AudioStream | VideoStream:
        """Return the stream called ``name``.

        Raises:
            KeyError: The plant has no such stream.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise KeyError(name)

    def device(self, name: str) -> Device:
        """Return the device called ``name``.

        Raises:
            KeyError: The plant has no such device.
        """
        for device in self.devices:
            if device.name == name:
                return device
        raise KeyError(name)

    def tag(self, name: str, *, wanted_by: str) -> Tag:
        """Return the tag called ``name``, which ``wanted_by`` refers to.

        Raises:
            ValueError: No stream of the plant has that tag.
        """
        for stream in self.telemetry_streams:
            for tag in stream.tags:
                if tag.name == name:
                    return tag
        known = [tag.name for stream in self.telemetry_streams for tag in stream.tags]
        raise ValueError(
            f"{wanted_by} must name a tag of this plant, got {name!r}; known tags: {known}"
        )

    def stream_address(self, name: str) -> str:
        """Return the full address of a stream, the ``ce_subject`` of its records."""
        return f"{self.address}/{name}"

    def topic(self, kind: str) -> str:
        """Return the topic of one kind of record, for example ``rig.telemetry``."""
        return f"{self.prefix}.{kind}"

    @property
    def sense_topics(self) -> tuple[str, ...]:
        """The topics that carry what the plant senses, one for each modality that it has."""
        kinds = dict.fromkeys(stream.modality for stream in self.streams)
        return tuple(self.topic(kind) for kind in kinds)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the description: equal plants, equal fingerprints.

        How long records are kept, how they come in, and how fast an operator may turn a knob, say
        nothing about the plant, and what resolution a model was learned with is kept with it: they
        are left out.
        """
        of_tags = {"__all__": {"tags": {"__all__": {"rate_limit_per_s", "resolution"}}}}
        told = self.model_dump_json(exclude={"topics": True, "devices": True, "streams": of_tags})
        return hashlib.sha256(told.encode()).hexdigest()


def thresholds_of(alarm: AlarmDefinition, tag: Tag | None) -> tuple[float, float]:
    """Return the on- and the off-threshold of ``alarm``, in the unit of what it looks at.

    ``tag`` is the one that it names. A limit's deadband is 2 % of the tag's range unless it is
    given (EEMUA 191: 1 to 5 %).

    Raises:
        ValueError: They are not given, and do not follow from the tag either.
    """
    if tag is None:
        default, calm = 1.0, 0.7
    elif alarm.finding == "forecast":
        if tag.limits is None:
            raise ValueError(
                f"alarm {alarm.name!r} needs limits on its tag, and {tag.name!r} has none; "
                "add limits to the tag"
            )
        default, calm = 0.5, 0.6
    else:
        return _require_calm(alarm, *_limit_thresholds(alarm, tag))
    on = default if alarm.on_at is None else alarm.on_at
    return _require_calm(alarm, on, calm * on if alarm.off_at is None else alarm.off_at)


def _limit_thresholds(alarm: AlarmDefinition, tag: Tag) -> tuple[float, float]:
    on = alarm.on_at
    if on is None and tag.limits is not None and not tag.setpoint:
        on = tag.limits.low if alarm.side == "low" else tag.limits.high
    if on is None:
        raise ValueError(
            f"alarm {alarm.name!r} needs its on-threshold, and {tag.name!r} has no "
            f"{alarm.side} limit that says it; write on_at: in {tag.unit}"
        )
    deadband = 0.02 * (tag.range[1] - tag.range[0]) * (1 if alarm.side == "low" else -1)
    return on, on + deadband if alarm.off_at is None else alarm.off_at


def _require_calm(alarm: AlarmDefinition, on: float, off: float) -> tuple[float, float]:
    if off <= on if alarm.side == "low" else off >= on:
        raise ValueError(
            f"off_at must lie on the calm side of on_at, got {off:g} and {on:g} in "
            f"{alarm.name!r}; mend off_at, or leave it out"
        )
    return on, off


def _refuse_repeats(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{what} must have different names, got {repeated} twice; rename one")
