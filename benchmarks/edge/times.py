"""The error between when something was said and its recorded event time, per protocol.

``python -m benchmarks.edge.times`` prints a table. The peers are those of the contract suite; both
sides have this machine's clock, so the error is the protocol's and ours. Modbus, cameras and sound
say what is now: their error is that of the first value that shows the change, so it contains up to
one poll, one frame or one chunk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fusion.ports import DeviceSession
from tests.peers.modbus import ModbusPeer
from tests.peers.mqtt import JsonPeer, SparkplugPeer
from tests.peers.opcua import OpcUaPeer
from tests.peers.peer import Peer, seen
from tests.peers.rtsp import RtspPeer

PEERS: dict[str, Callable[[Path], Peer]] = {
    "OPC UA (asyncua)": lambda folder: OpcUaPeer(folder, "asyncua"),
    "OPC UA (node-opcua)": lambda folder: OpcUaPeer(folder, "node-opcua"),
    "MQTT, JSON": JsonPeer,
    "Sparkplug B": SparkplugPeer,
    "Modbus TCP, polled every 50 ms": ModbusPeer,
    "RTSP camera, 10 frames/s": lambda folder: RtspPeer(folder, "camera"),
    "RTSP sound, chunks of 100 ms": lambda folder: RtspPeer(folder, "sound"),
}


def errors_ms(peer: Peer, num_samples: int) -> list[float]:
    """Return recorded minus said, in ms, of ``num_samples`` changes between 20 and 80."""
    found: list[float] = []
    session = peer.open()
    try:
        for index in range(num_samples):
            value = 20.0 if index % 2 else 80.0
            t_said_ns = time.time_ns()
            peer.say(value)
            found.append((_first_ns(session, value, t_said_ns) - t_said_ns) / 1e6)
    finally:
        session.close()
    return found


def _first_ns(session: DeviceSession, value: float, t_said_ns: int) -> int:
    t_end_s = time.monotonic() + 20
    while time.monotonic() < t_end_s:
        for each in seen(session.read(timeout_s=0.05)):
            # (What lies well before the change is of the last time that this value was said.)
            if abs(each.value - value) < 5 and each.t_source_ns > t_said_ns - 5 * 10**7:
                return each.t_source_ns
    raise TimeoutError(f"{value} did not come within 20 s")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=60)
    num_samples = parser.parse_args().samples
    print("| protocol | p50, ms | p99, ms |\n|---|---|---|")
    for name, make in PEERS.items():
        with tempfile.TemporaryDirectory() as folder:
            peer = make(Path(folder))
            peer.start()
            try:
                errors = np.array(errors_ms(peer, num_samples))
            finally:
                peer.stop()
        p50, p99 = np.percentile(errors, [50, 99])
        print(f"| {name} | {p50:.1f} | {p99:.1f} |", flush=True)


if __name__ == "__main__":
    main()
