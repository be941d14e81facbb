"""Ten thousand sensors behind one bare MQTT 3.1.1 connection, QoS 1.

``python -m benchmarks.edge.mqtt_sensors PORT TAGS TAGS_PER_MESSAGE``. Lines on standard input:
``flood VALUE`` publishes that value of every tag; it answers ``ok`` when the broker has
acknowledged all. Packets are put together by hand, so that the sensors, which are no part of what
is measured, leave the cores to what is.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

CONNECT, PUBLISH_QOS_1, PUBACK_BYTES = 0x10, 0x32, 4
MAX_UNDER_WAY = 10_000
"""Below the 16 bits of a packet's number."""


def main() -> None:
    """Publish whenever a line says so."""
    port, num_tags, tags_per_message = map(int, sys.argv[1:])
    connection = socket.create_connection(("127.0.0.1", port))
    name = b"sensors"
    said = struct.pack(">H4sBBHH", 4, b"MQTT", 4, 0x02, 0, len(name)) + name
    connection.sendall(_packet(CONNECT, said))
    _receive(connection, 4)
    print("ready", flush=True)
    for line in sys.stdin:
        value = float(line.split()[1])
        document = {"t": time.time_ns(), "v": [value] * tags_per_message}
        payload = json.dumps(document).encode()
        num_messages = num_tags // tags_per_message
        for start in range(0, num_messages, MAX_UNDER_WAY):
            numbers = range(start, min(start + MAX_UNDER_WAY, num_messages))
            connection.sendall(b"".join(_publish(number, payload) for number in numbers))
            _receive(connection, PUBACK_BYTES * len(numbers))
        print("ok", flush=True)


def _publish(number: int, payload: bytes) -> bytes:
    topic = f"line/{number}".encode()
    packet_id = number % MAX_UNDER_WAY + 1
    said = struct.pack(">H", len(topic)) + topic + struct.pack(">H", packet_id) + payload
    return _packet(PUBLISH_QOS_1, said)


def _packet(kind: int, content: bytes) -> bytes:
    length, left = b"", len(content)
    while left > 127:
        length += bytes([left % 128 | 0x80])
        left //= 128
    return bytes([kind]) + length + bytes([left]) + content


def _receive(connection: socket.socket, num_bytes: int) -> None:
    while num_bytes:
        came = connection.recv(num_bytes)
        if not came:
            raise ConnectionError("the broker must acknowledge what it gets, and left")
        num_bytes -= len(came)


if __name__ == "__main__":
    main()
