"""Small records that unfold into giants: sizes must be bounded before anything is decoded."""

from __future__ import annotations

import functools
import io
from typing import Any

import kafka
import numpy as np
import soundfile  # pyright: ignore[reportMissingTypeStubs] it has none

from flows.settings import Settings
from fusion.schema import Message

GIANT_BYTES = 96 * 1024 * 1024
"""On the broker it is a batch of a few kilobytes, far below the largest that a topic takes."""
GIANT_SAMPLES = 24_000_000
GIANT_PX = 60_000
_START_OF_FRAME = b"\xff\xc0"


def giant_picture(content: dict[str, Any]) -> dict[str, Any]:
    """Return a frame's fields whose JPEG says, as the record does, that it has 3.6 gigapixels."""
    jpeg: bytes = content["data"]
    at = jpeg.index(_START_OF_FRAME) + 5  # (marker, length and precision are before the size)
    side = GIANT_PX.to_bytes(2, "big")
    return content | {
        "width_px": GIANT_PX,
        "height_px": GIANT_PX,
        "data": jpeg[:at] + side + side + jpeg[at + 4 :],
    }


def giant_sound(content: dict[str, Any]) -> dict[str, Any]:
    """Return a chunk's fields whose FLAC holds far more samples than the record announces."""
    return content | {"encoding": "FLAC", "data": _silence(content["sample_rate_hz"])}


@functools.cache
def _silence(sample_rate_hz: int) -> bytes:
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(GIANT_SAMPLES, np.int16), sample_rate_hz, format="FLAC")
    return sound.getvalue()


def publish_giant(message: Message, settings: Settings) -> None:
    """Send ``message`` with a value of ``GIANT_BYTES``, in a batch of its own.

    The product's own publisher refuses to: this is what another program can do to it.
    """
    producer: Any = kafka.KafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",
        max_request_size=2 * GIANT_BYTES,
    )
    headers = [(name, text.encode()) for name, text in message.headers.items()]
    try:
        sent = producer.send(
            message.topic, key=message.key.encode(), value=bytes(GIANT_BYTES), headers=headers
        )
        producer.flush(60)
        sent.get(timeout=60)
    finally:
        producer.close(timeout=5)
