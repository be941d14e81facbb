"""One answer of an OPC UA server never fills the memory, whatever it promises or sends."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary
from hypothesis import given
from hypothesis import strategies as st

from connectors.opcua import OpcUaSession
from connectors.opcua.bounding import HEADER, MAX_ANSWER_BYTES, AnswerMeter
from fusion.errors import DeviceUnavailableError
from fusion.plant.devices import OpcUaDevice
from tests.peers.opcua import OpcUaPeer
from tests.peers.peer import CLOCK

CHUNK_BYTES = 65_535
MOST_BYTES = 4 * MAX_ANSWER_BYTES
"""What a server gets rid of before it notices that nobody listens: the buffers of two sockets."""


def endless_chunks(came: bytes) -> Iterator[bytes]:
    """Yield chunks that are as they must be, of an answer that never ends."""
    channel, token, sequence, request = struct.unpack_from("<4I", came, HEADER.size)
    for number in itertools.count(sequence):
        head = HEADER.pack(b"MSG", b"C", CHUNK_BYTES)
        head += struct.pack("<4I", channel, token, number, request)
        yield head.ljust(CHUNK_BYTES, b"\0")


def giant_chunk(came: bytes) -> Iterator[bytes]:
    """Yield the parts of a single chunk of two gigabytes."""
    yield HEADER.pack(b"MSG", b"F", 2**31) + came[HEADER.size :]
    yield from itertools.repeat(bytes(CHUNK_BYTES))


class HostileWay:
    """Passes on what a real server says until its first message, and says that without an end."""

    def __init__(self, server_port: int, answer: Callable[[bytes], Iterator[bytes]]) -> None:
        self._server_port = server_port
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.num_bytes = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._server_port))
        with client, server, contextlib.suppress(OSError):
            while said := client.recv(65_536):
                server.sendall(said)
                came = server.recv(65_536)
                if not came.startswith(b"MSG"):
                    client.sendall(came)
                    continue
                for part in self._answer(came):
                    client.sendall(part)
                    self.num_bytes += len(part)

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpcUaDevice]:
    peer = OpcUaPeer(tmp_path_factory.mktemp("peer"), "asyncua")
    peer.start()
    assert isinstance(peer.device, OpcUaDevice)
    yield peer.device
    peer.stop()


def test_what_an_answer_may_take_once_it_is_decoded_is_as_it_is_said() -> None:
    """The largest of what was tried: empty DataValues, a byte each."""
    num_values = 50_000
    said = struct.pack("<i", num_values) + bytes(num_values)
    tracemalloc.start()
    try:
        decoded = struct_from_binary(ua.HistoryData, Buffer(said))
        num_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(decoded.DataValues) == num_values
    assert 100 < num_bytes / len(said) <= 250


@pytest.mark.parametrize("answer", [endless_chunks, giant_chunk])
def test_a_server_that_says_too_much_is_left(
    device: OpcUaDevice, answer: Callable[[bytes], Iterator[bytes]]
) -> None:
    (port,) = re.findall(r":(\d+)/", device.endpoint)
    way = HostileWay(int(port), answer)
    through = device.model_copy(update={"endpoint": f"opc.tcp://127.0.0.1:{way.port}/plc"})
    with (
        contextlib.closing(way),
        pytest.raises(DeviceUnavailableError, match=f"at most {MAX_ANSWER_BYTES} bytes"),
    ):
        OpcUaSession(through, None, clock=CLOCK)
    assert way.num_bytes < MOST_BYTES


@given(
    st.lists(st.tuples(st.sampled_from(b"CFA"), st.integers(8, 200)), min_size=1, max_size=20),
    st.data(),
)
def test_the_bound_does_not_depend_on_how_the_bytes_come(
    chunks: list[tuple[int, int]], data: st.DataObject
) -> None:
    said = b"".join(
        HEADER.pack(b"MSG", bytes([follows]), size) + bytes(size - 8) for follows, size in chunks
    )
    sizes, size_now = [], 0
    for follows, size in chunks:
        size_now += size
        sizes.append(size_now)
        if follows != ord("C"):
            size_now = 0
    meter, at = AnswerMeter(max_bytes=300), 0
    is_refused = False
    while at < len(said) and not is_refused:
        step = data.draw(st.integers(1, 250))
        try:
            meter.take(said[at : at + step])
        except ConnectionError:
            is_refused = True
        at += step
    assert is_refused == (max(sizes) > 300)
