"""What a plant sends in one run of the campaign: ordinary, late, repeated and poisoned records.

Everything follows from a seed, so that an unharmed run and a harmed one get the same records.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator

import numpy as np

from fusion.plant import Plant, StreamSender
from fusion.schema import AudioChunk, Message, Payload, TelemetryBatch, VideoFrame
from fusion.schema.records import MAX_RECORD_BYTES
from fusion.simulation import normal_scenario, simulate

DURATION_S = 30.0
FAR_AHEAD_NS = 4_000_000_000_000_000_000
POISON_SHARE, REPEAT_SHARE, LATE_SHARE = 0.05, 0.05, 0.02

Spoil = Callable[[Message, random.Random], Message]


def _value(change: Callable[[bytes, random.Random], bytes]) -> Spoil:
    return lambda message, rng: dataclasses.replace(message, value=change(message.value, rng))


def _header(name: str, text: str | None) -> Spoil:
    def spoil(message: Message, _rng: random.Random) -> Message:
        headers = {key: value for key, value in message.headers.items() if key != name}
        return dataclasses.replace(
            message, headers=headers if text is None else {**headers, name: text}
        )

    return spoil


def _flip(value: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(value) // 4, len(value) - 64)
    return value[:at] + bytes(64) + value[at + 64 :]


POISONS: dict[str, Spoil] = {
    "empty": _value(lambda _value, _rng: b""),
    "random bytes": _value(lambda value, rng: rng.randbytes(len(value))),
    "JSON instead of Avro": _value(lambda _value, _rng: b'{"tank_level": 1.0}'),
    "cut in half": _value(lambda value, _rng: value[: len(value) // 2]),
    "something appended": _value(lambda value, _rng: value + b"\x00"),
    "overwritten in the middle": _value(_flip),
    "too large": _value(lambda _value, _rng: bytes(MAX_RECORD_BYTES + 1)),
    "no subject": _header("ce_subject", None),
    "unknown subject": _header("ce_subject", "a/b/c/d/e/f/nobody"),
    "a sequence number that is none": _header("seq", "seven"),
    "no epoch": _header("epoch", None),
    "unknown type": _header("ce_type", "fusion.smell"),
    "headers that are no text": _header("seq", b"\xff\xfe".decode(errors="surrogateescape")),
    "a stranger's key": lambda message, _rng: dataclasses.replace(message, key="who/is/this"),
    "another stream's payload": _header("ce_type", "fusion.telemetry"),
}


def messages_of(plant: Plant, seed: int) -> list[Message]:
    """Return everything that ``plant`` sends, in the order in which it is published."""
    rng = random.Random(seed)
    senders = {
        stream.name: StreamSender(plant, stream.name, source="campaign", epoch=f"boot-{seed}")
        for stream in plant.streams
    }
    arrivals: list[tuple[float, int, Message]] = []
    for number, payload in enumerate(_payloads(plant, seed)):
        message = senders[payload.stream].message(_perhaps_impossible(payload, rng))
        # Jitter within the allowed lateness; a few come long after their ticks are closed.
        arrival = number + rng.uniform(0, 3)
        if rng.random() < LATE_SHARE:
            arrival += 60
        if rng.random() < POISON_SHARE:
            kind = rng.choice(sorted(POISONS))
            message = POISONS[kind](message, rng)
        arrivals.append((arrival, number, message))
        if rng.random() < REPEAT_SHARE:
            arrivals.append((arrival + rng.uniform(0, 30), number, message))
    return [message for _, _, message in sorted(arrivals, key=lambda each: each[:2])]


def _payloads(plant: Plant, seed: int) -> Iterator[Payload]:
    return simulate(normal_scenario(duration_s=DURATION_S, seed=seed), plant)


def _perhaps_impossible(payload: Payload, rng: random.Random) -> Payload:
    """Return ``payload``, now and then with content that decodes and cannot be used."""
    if rng.random() > POISON_SHARE / 2:
        return payload
    if isinstance(payload, TelemetryBatch):
        far_R_ns = payload.t_source_R_ns + FAR_AHEAD_NS
        return rng.choice(
            [
                dataclasses.replace(payload, t_source_R_ns=far_R_ns),
                dataclasses.replace(payload, tags=("nobody", *payload.tags[1:])),
                dataclasses.replace(payload, values_RC=np.full_like(payload.values_RC, np.nan)),
            ]
        )
    if isinstance(payload, AudioChunk):
        return dataclasses.replace(payload, sample_rate_hz=payload.sample_rate_hz // 2)
    assert isinstance(payload, VideoFrame)
    return dataclasses.replace(payload, t_capture_ns=payload.t_capture_ns + FAR_AHEAD_NS)
