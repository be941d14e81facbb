"""Ways between an MQTT client and its real broker, as old or slow brokers are."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

VERSION_AT = 8
"""Where a CONNECT of less than 128 bytes has the version: after 2 bytes and the name MQTT."""
MQTT_5 = 5
OTHER_VERSION = b"\x20\x02\x00\x01"
"""CONNACK of MQTT 3.1.1, return code 1: unacceptable protocol version (3.2.2.3)."""


class Way:
    """Passes everything on; ``first`` sees what a client says first and may answer it itself."""

    def __init__(
        self, broker_port: int, *, first: Callable[[bytes], bytes | None], slowness_s: float = 0.0
    ) -> None:
        self._broker_port = broker_port
        self._first = first
        self._slowness_s = slowness_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.num_refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                said = client.recv(65_536)
                if (answer := self._first(said)) is not None:
                    self.num_refused += 1
                    client.sendall(answer)
                    client.close()
                    continue
                broker = socket.create_connection(("127.0.0.1", self._broker_port))
                broker.sendall(said)
                for source, sink, slowness_s in (
                    (client, broker, 0.0),
                    (broker, client, self._slowness_s),
                ):
                    ends = (source, sink, slowness_s)
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, slowness_s: float) -> None:
    num_bytes = 6 if slowness_s else 65_536
    with contextlib.suppress(OSError):
        while came := source.recv(num_bytes):
            time.sleep(slowness_s)
            sink.sendall(came)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _speaks_5(said: bytes) -> bool:
    return said[VERSION_AT] == MQTT_5


@contextlib.contextmanager
def old_broker(broker_port: int, *, hangs_up: bool = False) -> Iterator[Way]:
    """Yield a way to a broker that knows only MQTT 3.1.1: it says so, or it ``hangs_up``."""
    answer = b"" if hangs_up else OTHER_VERSION
    way = Way(broker_port, first=lambda said: answer if _speaks_5(said) else None)
    try:
        yield way
    finally:
        way.close()


@contextlib.contextmanager
def slow_way(broker_port: int, slowness_s: float) -> Iterator[Way]:
    """Yield a way that brings six bytes of the broker's (a grant by MQTT 5) every so often."""
    way = Way(broker_port, first=lambda _: None, slowness_s=slowness_s)
    try:
        yield way
    finally:
        way.close()
