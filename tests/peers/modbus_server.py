"""pymodbus' own server. Lines on standard input: ``say VALUE`` sets a float32 in holding 100."""

from __future__ import annotations

import asyncio
import struct
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

WRITE_REGISTERS = 16


async def serve(port: int) -> None:
    coils = [SimData(0, values=[True, False, True] + [False] * 13, datatype=DataType.BITS)]
    inputs = [SimData(0, values=[False, True] + [False] * 14, datatype=DataType.BITS)]
    holding = [SimData(0, count=300, values=0, datatype=DataType.REGISTERS)]
    read_only = [SimData(0, values=[0xFFFE, 0x0001, 0x0203], datatype=DataType.REGISTERS)]
    device = SimDevice(1, simdata=(coils, inputs, holding, read_only))
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    task = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0.2)
    print("ready", flush=True)  # noqa: T201
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        _, word = line.split()
        words = struct.unpack(">HH", struct.pack(">f", float(word)))
        await server.async_setValues(1, WRITE_REGISTERS, 100, list(words))
        print("ok", flush=True)  # noqa: T201
    task.cancel()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
