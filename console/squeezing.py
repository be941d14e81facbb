"""Messages squeezed once for all tabs that are told the same.

A stream of gzip (RFC 1952) may be put together of pieces: each ends at a byte and looks back at
nothing before it. What is a tab's own goes in as it is, as a stored block (RFC 1951, section
3.2.4); what many share is deflated once. The stream has no end: whoever closes it closes the tab.
"""

from __future__ import annotations

import struct
import zlib

HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflated, no name, no time, from no particular system."""
_LEVEL = 1
_MAX_STORED = 0xFFFF


def stored(content: bytes) -> bytes:
    """Return ``content`` as pieces that cost nothing to make.

    Example:
        >>> zlib.decompressobj(wbits=31).decompress(HEAD + stored(b"own") + deflated(b" shared"))
        b'own shared'
    """
    parts: list[bytes] = []
    for begin in range(0, len(content), _MAX_STORED):
        part = content[begin : begin + _MAX_STORED]
        parts += [struct.pack("<BHH", 0, len(part), len(part) ^ _MAX_STORED), part]
    return b"".join(parts)


def deflated(content: bytes) -> bytes:
    """Return ``content`` as a small piece."""
    squeezer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezer.compress(content) + squeezer.flush(zlib.Z_FULL_FLUSH)
