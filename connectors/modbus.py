"""Modbus TCP devices, by pymodbus: register maps, byte orders, and bad quality for what is refused.

Modbus carries neither time nor quality. A value is stamped with the middle of its request, which
is wrong by at most half the time that the request took; what the device refuses is BAD, with the
exception code as the status.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException, ModbusIOException
from pymodbus.pdu import ModbusPDU

from fusion.errors import DeviceUnavailableError
from fusion.plant import NANOSECONDS
from fusion.plant.devices import ModbusDevice, RegisterSource
from fusion.ports import Clock, Observed, Reading
from fusion.schema import Quality

MAX_REGISTERS, MAX_BITS = 125, 2_000
"""Of one request (Modbus Application Protocol 1.1b3, 6.1 and 6.3)."""
_FORMATS = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """What one request reads."""

    table: str
    start: int
    count: int
    sources: tuple[RegisterSource, ...]


def plan_blocks(sources: Sequence[RegisterSource], *, max_gap: int) -> list[Block]:
    """Return as few requests as read every source, none with more than the protocol allows."""
    blocks: list[Block] = []
    for source in sorted(sources, key=lambda each: (each.table, each.address)):
        end = source.address + source.num_addresses
        most = MAX_BITS if source.table in {"coil", "discrete"} else MAX_REGISTERS
        last = blocks[-1] if blocks else None
        if (
            last is not None
            and last.table == source.table
            and source.address - (last.start + last.count) <= max_gap
            and end - last.start <= most
        ):
            count = max(last.count, end - last.start)
            blocks[-1] = Block(last.table, last.start, count, (*last.sources, source))
        else:
            blocks.append(Block(source.table, source.address, source.num_addresses, (source,)))
    return blocks


def decode(source: RegisterSource, registers: Sequence[int]) -> float:
    """Return the number in ``registers`` (16 bits each), NaN where it is none.

    Example:
        >>> float32 = RegisterSource(stream="s", tag="t", address=0, type="float32")
        >>> decode(float32, [0x42F6, 0xE979])
        123.45600128173828
    """
    words = list(registers if source.word_order == "big" else reversed(registers))
    order = ">" if source.byte_order == "big" else "<"
    packed = b"".join(struct.pack(f"{order}H", word & 0xFFFF) for word in words)
    (value,) = struct.unpack(f">{_FORMATS[source.type]}", packed)
    if source.bit is not None:
        return float((int(value) & 0xFFFF) >> source.bit & 1)
    return float(value)


class ModbusSession:
    """Implements :class:`fusion.ports.DeviceSession` for one Modbus TCP unit.

    Raises:
        DeviceUnavailableError: No connection.
    """

    def __init__(self, device: ModbusDevice, *, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._blocks = plan_blocks(device.registers, max_gap=device.max_gap)
        self._t_due_ns = clock.monotonic_ns()
        self._client = ModbusTcpClient(
            device.host,
            port=device.port,
            timeout=device.timeout_s,
            retries=0,
            reconnect_delay_max=0,
        )
        if not self._client.connect():
            self._client.close()
            raise self._lost("it does not take a connection")
        try:
            # A gateway takes connections for a device that is off; only an answer tells.
            self._read_block(self._blocks[0])
        except BaseException:
            self.close()
            raise

    @property
    def units(self) -> Mapping[str, str]:
        """Modbus states none."""
        return {}

    @property
    def is_ended(self) -> bool:
        """A device never ends."""
        return False

    @property
    def holds_until_ns(self) -> int | None:
        """Every value is read again at each poll."""
        return None

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return all values when a poll is due; else nothing, after waiting for it."""
        wait_s = (self._t_due_ns - self._clock.monotonic_ns()) / NANOSECONDS
        if wait_s > timeout_s:
            self._clock.sleep(timeout_s)
            return []
        self._clock.sleep(wait_s)
        # Polls keep their beat; those that could not be made in time are left out.
        period_ns = round(self._device.poll_s * NANOSECONDS)
        late_ns = max(0, self._clock.monotonic_ns() - self._t_due_ns)
        self._t_due_ns += period_ns * (1 + late_ns // period_ns)
        return [reading for block in self._blocks for reading in self._read_block(block)]

    def position(self) -> str:
        """Return nothing: a device only knows what is now."""
        return ""

    def close(self) -> None:
        """Close the socket."""
        self._client.close()

    def _read_block(self, block: Block) -> list[Reading]:
        t_asked_ns = self._clock.now_ns()
        asked_ns = self._clock.monotonic_ns()
        try:
            answer = self._request(block)
        except (ModbusIOException, ModbusException, OSError) as lost:
            raise self._lost(str(lost)) from lost
        took_ns = self._clock.monotonic_ns() - asked_ns
        t_ns, t_receive_ns = t_asked_ns + took_ns // 2, t_asked_ns + took_ns
        if answer.isError():
            code = answer.exception_code
            times = (t_ns, t_ns, t_receive_ns)
            return [
                Reading(each.stream, each.tag, math.nan, Quality.BAD, *times, code)
                for each in block.sources
            ]
        values = self._values(block, answer)
        return [
            Reading(
                source.stream,
                source.tag,
                value,
                Quality.BAD if math.isnan(value) else Quality.GOOD,
                t_ns,
                t_ns,
                t_receive_ns,
            )
            for source, value in zip(block.sources, values, strict=True)
        ]

    def _request(self, block: Block) -> ModbusPDU:
        read = {
            "holding": self._client.read_holding_registers,
            "input": self._client.read_input_registers,
            "coil": self._client.read_coils,
            "discrete": self._client.read_discrete_inputs,
        }[block.table]
        return read(block.start, count=block.count, device_id=self._device.unit)

    def _values(self, block: Block, answer: ModbusPDU) -> list[float]:
        is_bits = block.table in {"coil", "discrete"}
        came = answer.bits if is_bits else answer.registers
        if len(came) < block.count:
            raise self._lost(f"it answered {len(came)} of {block.count} addresses")
        found: list[float] = []
        for source in block.sources:
            at = source.address - block.start
            part = came[at : at + source.num_addresses]
            found.append(float(part[0]) if is_bits else decode(source, part))
        return found

    def _lost(self, why: str) -> DeviceUnavailableError:
        return DeviceUnavailableError(
            f"{self._device.name} must be reached at {self._device.host}:{self._device.port}, unit "
            f"{self._device.unit}, but {why}; check the device and the network"
        )
