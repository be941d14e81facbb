"""A way between a client and its server that can spoil single bytes of what the server says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from tests.conftest import free_port

Spoil = Callable[[bytes], bytes]


class SpoilingWay:
    """Passes everything on, the server's words through ``spoil``, which keeps their length."""

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
        self.spoil: Spoil = lambda came: came
        self.num_spoiled = 0
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for source, sink, passes in (
                    (client, server, lambda came: came),
                    (server, client, self._spoiled),
                ):
                    way = threading.Thread(target=_pass_on, args=(source, sink, passes))
                    way.daemon = True
                    way.start()

    def _spoiled(self, came: bytes) -> bytes:
        spoiled = self.spoil(came)
        assert len(spoiled) == len(came)
        self.num_spoiled += spoiled != came
        return spoiled


def _pass_on(source: socket.socket, sink: socket.socket, passes: Spoil) -> None:
    with contextlib.suppress(OSError):
        while came := source.recv(65_536):
            sink.sendall(passes(came))
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextlib.contextmanager
def spoiling_way(server_port: int) -> Iterator[SpoilingWay]:
    """Yield a way to ``server_port``; close it afterwards."""
    way = SpoilingWay(server_port)
    try:
        yield way
    finally:
        way.close()
