"""What is asked again and again: Modbus TCP, InfluxDB."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fusion.plant.devices.described import DescribedDevice, Login, TagSource


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


class ModbusDevice(DescribedDevice):
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


class InfluxDevice(DescribedDevice):
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
