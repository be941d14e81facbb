"""Where a plant's streams come from: one description for each device that an edge process reads.

A device says where it is and which of its values is which tag. It never holds a secret: a login
names the environment variable or the file that does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

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


class _Device(Described):
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


class ColumnSource(TagSource):
    """One column of a table."""

    column: str = Field(min_length=1)


class _Files(_Device):
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


class NodeSource(TagSource):
    """One variable of an OPC UA server."""

    node: str = Field(
        pattern=r"^(nsu=[^;]+;|ns=\d+;)?[isgb]=.+$",
        description="Node id; 'nsu=' (the namespace's URI) stays right when a server numbers its "
        "namespaces anew, 'ns=' does not.",
    )


class OpcUaSecurity(Described):
    """How the channel is secured. Files are PEM or DER; keys have no passphrase."""

    policy: Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate_file: Path = Field(description="Of this process; the server has to trust it.")
    key_file: Path
    server_certificate_file: Path = Field(
        description="Of the server: it is trusted because it is this one."
    )


class UserCertificate(Described):
    """A certificate as the user, PEM or DER, in place of name and password."""

    certificate_file: Path
    key_file: Path = Field(description="Without a passphrase.")


class OpcUaDevice(_Device):
    """An OPC UA server: subscriptions, and history for what was missed."""

    protocol: Literal["opcua"]
    endpoint: str = Field(pattern=r"^opc\.tcp://[^/\s@]+(:\d+)?(/\S*)?$")
    security: OpcUaSecurity | None = None
    login: Login | None = None
    user_certificate: UserCertificate | None = Field(
        default=None, description="Who logs in, where the server knows users by certificates."
    )
    nodes: tuple[NodeSource, ...] = Field(min_length=1, max_length=10_000)
    publishing_s: float = Field(default=0.1, ge=0.01, le=60, description="How often it may tell.")
    sampling_s: float = Field(default=0.0, ge=0, le=3_600, description="0: as fast as it can.")
    queue_size: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Values of a node that the server keeps between two publications, or while "
        "this process cannot send; then it drops the oldest.",
    )
    watchdog_s: float = Field(
        default=5.0,
        ge=1,
        le=600,
        description="The server's clock must be heard, and go on, at least so often.",
    )
    timeout_s: float = Field(default=4.0, ge=0.5, le=30, description="Of each request.")
    history: bool = Field(
        default=False, description="Ask the server's history for what was missed in an outage."
    )
    max_history_s: float = Field(
        default=86_400, gt=0, le=31_536_000, description="How far back at most."
    )

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """The nodes."""
        return self.nodes

    @model_validator(mode="after")
    def _user_is_one_and_secret(self) -> Self:
        if self.login is not None and self.user_certificate is not None:
            raise ValueError(
                f"device {self.name!r} must have login or user_certificate, it has both; delete "
                "the one that the server does not ask for"
            )
        if self.user_certificate is not None and self.security is None:
            raise ValueError(
                f"device {self.name!r} has a user_certificate, so it must have security too: the "
                "server asks for a signature over its own certificate; add security"
            )
        if self.login is not None and self.security is None:
            raise ValueError(
                f"device {self.name!r} has a login, so it must have security too: without it the "
                "password may cross the network in the clear; add security"
            )
        return self


class Tls(Described):
    """Certificates, PEM; without ca_file the system's authorities are trusted."""

    ca_file: Path | None = None
    certificate_file: Path | None = Field(default=None, description="Where the peer asks for one.")
    key_file: Path | None = None

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError(
                "certificate_file and key_file belong together, got only one; give the other too"
            )
        return self


class _Mqtt(_Device):
    """What every use of an MQTT broker has."""

    host: str = Field(min_length=1, max_length=255)
    port: int = Field(default=1883, ge=1, le=65_535, description="8883 is usual with tls.")
    tls: Tls | None = None
    login: Login | None = None
    client_id: str | None = Field(
        default=None,
        max_length=64,
        description="Unique at the broker; without it fusion-edge- and the device's name.",
    )
    keepalive_s: float = Field(default=15.0, ge=1, le=600)
    timeout_s: float = Field(default=5.0, ge=0.5, le=30)


class JsonSource(TagSource):
    """One value in a JSON document."""

    path: str = Field(
        description="Names and list positions with dots between, such as 'data.0.v'; '' where the "
        "whole payload is the number."
    )
    is_optional: bool = Field(default=False, description="Whether a message may lack it.")


class JsonRule(Described):
    """What messages of some topics say."""

    topic: str = Field(min_length=1, max_length=1_024, description="With + and # as in MQTT.")
    values: tuple[JsonSource, ...] = Field(min_length=1, max_length=1_000)
    time: str | None = Field(
        default=None, description="Path of the source's time; without it, when it was received."
    )
    time_unit: Literal["iso8601", "s", "ms", "us", "ns"] = "iso8601"
    quality: str | None = Field(default=None, description="Path of the quality, if it is told.")
    good: tuple[bool | int | str, ...] = Field(
        default=(True, "good", "Good", "GOOD", 192), description="What it says when all is well."
    )


class MqttJsonDevice(_Mqtt):
    """JSON on topics of an MQTT broker."""

    protocol: Literal["mqtt-json"]
    rules: tuple[JsonRule, ...] = Field(min_length=1, max_length=1_000)
    on_change: bool = Field(
        default=False,
        description="True where a value is published only when it changes: it then holds as long "
        "as the connection to the broker lives.",
    )

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """The values of all rules."""
        return tuple(value for rule in self.rules for value in rule.values)


class MetricSource(TagSource):
    """One metric of a Sparkplug B edge node, or of a device behind it."""

    node: str = Field(pattern=r"^[^/+#]+$", description="The edge node's id.")
    device: str = Field(default="", pattern=r"^[^/+#]*$", description="Empty: the node's own.")
    metric: str = Field(min_length=1)


class SparkplugDevice(_Mqtt):
    """Sparkplug B edge nodes behind one MQTT broker."""

    protocol: Literal["sparkplug"]
    group: str = Field(pattern=r"^[^/+#]+$")
    metrics: tuple[MetricSource, ...] = Field(min_length=1, max_length=10_000)
    host_id: str | None = Field(
        default=None,
        pattern=r"^[^/+#]+$",
        description="Says STATE as this host, where edge nodes wait for a primary host.",
    )
    rebirth_s: float = Field(
        default=10.0, ge=1, le=3_600, description="A node is asked for its births at most so often."
    )

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """The metrics."""
        return self.metrics


class RegisterSource(TagSource):
    """One value in the registers or bits of a Modbus device."""

    table: Literal["holding", "input", "coil", "discrete"] = "holding"
    address: int = Field(
        ge=0, le=65_535, description="As it is sent: from 0. 40001 of a manual is holding 0."
    )
    type: Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"] = (
        Field(default="uint16", description="Of registers; coils and discrete inputs are bits.")
    )
    byte_order: Literal["big", "little"] = Field(
        default="big", description="Of the two bytes in a register; big is the standard."
    )
    word_order: Literal["big", "little"] = Field(
        default="big", description="Of the registers of a longer number; makers differ."
    )
    bit: int | None = Field(
        default=None, ge=0, le=15, description="Of a status word: only this bit, 0 is the lowest."
    )

    @property
    def num_addresses(self) -> int:
        """How many registers or bits it takes."""
        if self.table in {"coil", "discrete"}:
            return 1
        return int(self.type.lstrip("uintfloa")) // 16

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.bit is not None and (
            self.table in {"coil", "discrete"} or self.type not in {"int16", "uint16"}
        ):
            raise ValueError(
                f"bit of {self.tag!r} picks one of the 16 bits of a register, got type "
                f"{self.type} in {self.table}; delete bit, or read a uint16 register"
            )
        if self.address + self.num_addresses > 65_536:
            raise ValueError(
                f"{self.tag!r} must end at address 65535, it begins at {self.address} and takes "
                f"{self.num_addresses}; correct address or type"
            )
        return self


class ModbusDevice(_Device):
    """A Modbus TCP device, or the gateway before one. It is polled; it has no clock."""

    protocol: Literal["modbus-tcp"]
    host: str = Field(min_length=1, max_length=255)
    port: int = Field(default=502, ge=1, le=65_535)
    unit: int = Field(default=1, ge=0, le=255, description="The unit identifier behind a gateway.")
    poll_s: float = Field(default=1.0, ge=0.01, le=3_600)
    timeout_s: float = Field(default=3.0, ge=0.1, le=30, description="Of each request.")
    max_gap: int = Field(
        default=8,
        ge=0,
        le=120,
        description="Addresses that nobody asked for are read too if no more lie between two that "
        "somebody did; 0 where the device refuses addresses that it does not have.",
    )
    registers: tuple[RegisterSource, ...] = Field(min_length=1, max_length=10_000)

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """The registers."""
        return self.registers


class FieldSource(TagSource):
    """One field of a series in InfluxDB."""

    measurement: str = Field(min_length=1, max_length=256)
    field: str = Field(min_length=1, max_length=256)
    where: dict[str, str] = Field(
        default={},
        max_length=16,
        description="InfluxDB's tags that pick one series, such as {host: press1}.",
    )


class InfluxDevice(_Device):
    """A database of InfluxDB, read by time: what comes in later than ``settle_s`` is not seen."""

    protocol: Literal["influxdb"]
    url: str = Field(pattern=r"^https?://[^@\s/?#]+/?$", description="Without name and password.")
    database: str = Field(min_length=1, max_length=256)
    login: Login | None = None
    poll_s: float = Field(default=1.0, ge=0.05, le=3_600)
    settle_s: float = Field(
        default=1.0,
        ge=0,
        le=3_600,
        description="Rows are read so long after their time: whoever writes them may be late by "
        "that much.",
    )
    timeout_s: float = Field(default=5.0, ge=0.5, le=30, description="Of each query.")
    max_history_s: float = Field(
        default=86_400, gt=0, le=31_536_000, description="How far back at most after an outage."
    )
    fields: tuple[FieldSource, ...] = Field(min_length=1, max_length=10_000)

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """The fields."""
        return self.fields


class _Media(_Device):
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


class SoundCardDevice(_Device):
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


MqttDevice = MqttJsonDevice | SparkplugDevice
Device = Annotated[
    TableFilesDevice
    | SoundFilesDevice
    | FilmFilesDevice
    | OpcUaDevice
    | MqttJsonDevice
    | SparkplugDevice
    | ModbusDevice
    | InfluxDevice
    | CameraDevice
    | SoundUrlDevice
    | SoundCardDevice,
    Field(discriminator="protocol"),
]
FilesDevice = TableFilesDevice | SoundFilesDevice | FilmFilesDevice


def check_devices(
    devices: Sequence[Device],
    *,
    modality: Mapping[str, str],
    tags: Mapping[str, Set[str]],
) -> None:
    """Check that every device feeds what the plant has, and no two feed the same.

    ``modality`` is that of every stream, ``tags`` are those of the telemetry streams.

    Raises:
        ValueError: A stream or tag is not there, is of another kind, or comes twice.
    """
    fed_by: dict[str, str] = {}
    for device in devices:
        for stream in device.streams:
            if modality.get(stream) != device.modality:
                known = sorted(name for name, kind in modality.items() if kind == device.modality)
                raise ValueError(
                    f"device {device.name!r} ({device.protocol}) must feed {device.modality} "
                    f"streams of this plant, got {stream!r}; those are {known}"
                )
            if stream in fed_by:
                raise ValueError(
                    f"a stream must come from one device, {stream!r} comes from "
                    f"{fed_by[stream]!r} and {device.name!r}; give each a stream of its own"
                )
            fed_by[stream] = device.name
        seen: set[str] = set()
        for source in device.tag_sources:
            if source.tag not in tags[source.stream] or source.tag in seen:
                raise ValueError(
                    f"device {device.name!r} must map each tag of {source.stream!r} once, got "
                    f"{source.tag!r}, which "
                    + ("came before" if source.tag in seen else "the stream does not have")
                    + "; correct the mapping"
                )
            seen.add(source.tag)
