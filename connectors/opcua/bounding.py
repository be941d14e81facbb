"""How much one answer of an OPC UA server may hold.

asyncua's client knows no bound: it keeps the chunks of a message until the last one, and waits for
all bytes of a chunk, whatever size its header promises. A server that is hostile or broken could
fill the memory of the edge machine with one answer.
"""

# pyright: reportPrivateImportUsage=false
# (asyncua exports nothing by name.)

from __future__ import annotations

import struct
from typing import Any

from asyncua import Client
from asyncua.client.ua_client import UASocketProtocol

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Ten thousand values with a text of 400 characters each: more than is asked for at once. Decoded
it may take far more: asyncua makes 200 bytes of an empty DataValue, which travels as one."""
HEADER = struct.Struct("<3scI")
"""Type, whether it is the last chunk (F), and bytes with this header (Part 6, 7.1.2.2)."""
_MORE = b"C"


class AnswerMeter:
    """Counts the bytes of the message that is under way, whatever pieces they come in.

    Example:
        >>> meter = AnswerMeter(max_bytes=100)
        >>> meter.take(HEADER.pack(b"MSG", b"C", 60)), meter.take(bytes(52))
        (None, None)
        >>> meter.take(HEADER.pack(b"MSG", b"F", 60))
        Traceback (most recent call last):
        ConnectionError: an answer must have at most 100 bytes, and the server's has 120 or more
    """

    def __init__(self, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._max_bytes = max_bytes
        self._header = b""
        self._left_in_chunk = 0
        self._num_bytes = 0

    def take(self, came: bytes) -> None:
        """Follow the chunks in ``came``.

        Raises:
            ConnectionError: A message promises more than the bound, or a chunk less than a header.
        """
        at = 0
        while at < len(came):
            if self._left_in_chunk:
                step = min(self._left_in_chunk, len(came) - at)
                self._left_in_chunk -= step
                at += step
                continue
            missing = HEADER.size - len(self._header)
            self._header += came[at : at + missing]
            at += missing
            if len(self._header) == HEADER.size:
                self._begin_chunk()

    def _begin_chunk(self) -> None:
        _kind, follows, size = HEADER.unpack(self._header)
        self._header = b""
        if size < HEADER.size:
            raise ConnectionError(
                f"a chunk must have its header's {HEADER.size} bytes, and the server's has {size}"
            )
        self._left_in_chunk = size - HEADER.size
        self._num_bytes += size
        if self._num_bytes > self._max_bytes:
            raise ConnectionError(
                f"an answer must have at most {self._max_bytes} bytes, and the server's has "
                f"{self._num_bytes} or more"
            )
        if follows != _MORE:
            self._num_bytes = 0


class AnswerBound:
    """Closes every connection of ``client`` whose server says too much in one answer.

    ``broken`` is why, once it has: asyncua tells who waits that the connection is closed.
    """

    def __init__(self, client: Client) -> None:
        self.broken: ConnectionError | None = None
        self._make = client.uaclient._make_protocol  # noqa: SLF001 asyncua lets nobody choose it
        client.uaclient._make_protocol = self._make_bounded  # noqa: SLF001

    def _make_bounded(self) -> UASocketProtocol:
        protocol, meter = self._make(), AnswerMeter()
        take = protocol.data_received

        def data_received(data: bytes) -> None:
            try:
                meter.take(data)
            except ConnectionError as too_much:
                self.broken = too_much
                raise  # (asyncio then closes the connection.)
            take(data)

        protocol.data_received = data_received  # type: ignore[method-assign]
        return protocol


class BoundedClient(Client):
    """A client whose connections have an :class:`AnswerBound`; made like any other."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.bound = AnswerBound(self)
