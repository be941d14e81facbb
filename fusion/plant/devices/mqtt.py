"""What comes through MQTT brokers: JSON, Sparkplug B."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from fusion.plant.described import Described
from fusion.plant.devices.described import DescribedDevice, Login, TagSource


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


class _Mqtt(DescribedDevice):
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

    @field_validator("topic")
    @classmethod
    def _wildcards_are_levels(cls, topic: str) -> str:
        *before, last = topic.split("/")
        is_right = all("+" not in level or level == "+" for level in (*before, last))
        if not is_right or any("#" in level for level in before) or ("#" in last and last != "#"):
            raise ValueError(
                f"a topic must have + only as a whole level and # only as the last one, got "
                f"{topic!r}; correct it"
            )
        return topic


class MqttJsonDevice(_Mqtt):
    """JSON on topics of an MQTT broker."""

    protocol: Literal["mqtt-json"]
    rules: tuple[JsonRule, ...] = Field(min_length=1, max_length=10_000)
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
