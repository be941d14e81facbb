"""What plants send in one run of the campaign: ordinary, late, repeated and poisoned records.

Everything follows from a seed, so that an unharmed run and a harmed one get the same records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from flows import wiring
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.ports import ObjectStore
from fusion.schema import AudioChunk, Message, Payload
from fusion.simulation import EPOCH_NS, FaultInterval, Scenario, simulate
from fusion.stream.claims import Claim
from tests.faults.giants import publish_giant
from tests.faults.poisons import (
    AS_PUBLISHED,
    CLAIMS,
    COMMANDS,
    EVERY_RECORD,
    NUM_PARTITIONS,
    ON_THE_WAY,
    POISON_HEADER,
    modality_of,
)

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
ASSETS = ("pump-a", "pump-b", "pump-c", "pump-d")
REFUSED_ASSET = "pump-d"
"""Nothing that it says can be used. It shares a partition with another one."""
DURATION_S, REFUSED_DURATION_S = 40.0, 8.0
REPEAT_SHARE, LATE_SHARE = 0.05, 0.02
NUM_SPARED = 12
"""Records of a plant's beginning that are never poisoned: only after them can one be too old."""
CLAIM_THRESHOLD_BYTES = 3_000
"""Most sounds and pictures are larger: where runs claim at all, they claim often."""


def plant_files(folder: Path, prefix: str) -> list[Path]:
    """Write the plant files of a run: equal rigs beside one another, sharing topics."""
    files: list[Path] = []
    for asset in ASSETS:
        content = yaml.safe_load(RIG.read_text(encoding="utf-8"))
        content["prefix"] = prefix
        content["address"]["asset"] = asset
        content["topics"] = {"partitions": NUM_PARTITIONS}
        for stream in content["streams"]:
            if stream["modality"] == "audio":
                stream["clock"] = "receive"
        path = folder / f"{prefix}-{asset}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        files.append(path)
    return files


def make_workload(seed: int, plants: Sequence[Plant]) -> list[Message]:
    """Return what all plants send, mixed as it would come in, with every kind of poison."""
    rng = random.Random(seed)
    kinds = sorted([*ON_THE_WAY, *CLAIMS, *AS_PUBLISHED])
    rng.shuffle(kinds)
    usable = [plant for plant in plants if plant.address.asset != REFUSED_ASSET]
    queues = [
        list(_sent_by(plant, seed * 10 + number, kinds[number :: len(usable)]))
        for number, plant in enumerate(usable)
    ]
    queues += [list(_refused(plant, seed)) for plant in plants if plant not in usable]
    topic, key = plants[0].topic("alarm-commands"), str(plants[0].address)
    queues.append(
        [
            Message(topic, key, value.replace(b"ADDRESS", key.encode()), _poison(kind))
            for kind, (value, _) in _commands()
        ]
    )
    mixed: list[Message] = []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        mixed.append(queue.pop(0))
    return mixed


def without_poison(messages: Iterable[Message]) -> list[Message]:
    """Return what a sender that makes no mistake would send: late and repeated, but usable."""
    return [message for message in messages if POISON_HEADER not in message.headers]


def addressed(
    messages: Iterable[Message], plants: Sequence[Plant], settings: Settings, *, claims: bool
) -> list[Message]:
    """Return ``messages``, made for other topics, as they go to the topics of these plants.

    With ``claims`` large values go to the object store; poison that is larger stays what it is.
    """
    prefix = plants[0].prefix
    store, now_ns = wiring.open_objects(settings), wiring.open_clock().now_ns()
    sent: list[Message] = []
    for made in messages:
        message = dataclasses.replace(made, topic=f"{prefix}.{made.topic.partition('.')[2]}")
        poison = message.headers.get(POISON_HEADER)
        if poison in CLAIMS:
            spoil, _ = CLAIMS[poison]
            message = spoil(message, store, prefix, now_ns)
        elif poison is None and claims and len(message.value) > CLAIM_THRESHOLD_BYTES:
            message = _claimed(message, store, prefix, now_ns)
        sent.append(message)
    return sent


def publish(messages: Iterable[Message], plants: Sequence[Plant], settings: Settings) -> None:
    """Send ``messages`` to the topics of these plants, which are there afterwards."""
    wiring.prepare_topics(settings, plants[0])
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        for is_alone, group in itertools.groupby(messages, _is_giant):
            if is_alone:
                for message in group:
                    publish_giant(message, settings)
            else:
                publisher.publish(list(group))


def _is_giant(message: Message) -> bool:
    return message.headers.get(POISON_HEADER) in AS_PUBLISHED


def _claimed(message: Message, store: ObjectStore, prefix: str, now_ns: int) -> Message:
    claim = Claim.of(message.value, prefix=prefix, now_ns=now_ns)
    store.put(claim.key, message.value)
    return dataclasses.replace(
        message, value=b"", headers={**message.headers, **claim.to_headers()}
    )


def _sent_by(plant: Plant, seed: int, kinds: Sequence[str]) -> Iterator[Message]:
    """Yield everything that ``plant`` sends, in the order in which it is published."""
    rng = random.Random(seed)
    senders = {
        stream.name: StreamSender(plant, stream.name, source="campaign", epoch=f"boot-{seed}")
        for stream in plant.streams
    }
    payloads = [_received(payload) for payload in simulate(_scenario(seed), plant)]
    spoilt = _choose(payloads, kinds, rng)
    arrivals: list[tuple[float, int, Message]] = []
    for number, payload in enumerate(payloads):
        message = senders[payload.stream].message(payload)
        # Jitter within the allowed lateness; a few come long after their ticks are closed.
        arrival = number + rng.uniform(0, 3)
        if rng.random() < LATE_SHARE and number not in spoilt:
            arrival += 60
        if number in spoilt:
            message = _spoil(message, payload, spoilt[number], rng)
        arrivals.append((arrival, number, message))
        if rng.random() < REPEAT_SHARE:
            arrivals.append((arrival + rng.uniform(0, 30), number, message))
    yield from (message for _, _, message in sorted(arrivals, key=lambda each: each[:2]))


def _refused(plant: Plant, seed: int) -> Iterator[Message]:
    """Yield what the plant sends that nobody can use."""
    senders = {
        stream.name: StreamSender(plant, stream.name, source="campaign", epoch=f"boot-{seed}")
        for stream in plant.streams
    }
    for payload in simulate(Scenario(REFUSED_DURATION_S, seed, EPOCH_NS, ()), plant):
        message = senders[payload.stream].message(_received(payload))
        headers = {**message.headers, **_poison(EVERY_RECORD)}
        yield dataclasses.replace(message, value=b"?" + message.value[1:], headers=headers)


def _scenario(seed: int) -> Scenario:
    """Return a run with something to alarm about, so that alarms are judged too."""
    knocked = FaultInterval("camera_moved", DURATION_S / 3, DURATION_S)
    return Scenario(DURATION_S, seed, EPOCH_NS, (knocked,))


def _received(payload: Payload) -> Payload:
    """Return ``payload`` with the time that counts where a plant trusts its own host's clock."""
    if not isinstance(payload, AudioChunk):
        return payload
    length_ns = len(payload.samples_N) * NANOSECONDS // payload.sample_rate_hz
    return dataclasses.replace(payload, t_receive_ns=payload.t_start_ns + length_ns)


def _choose(
    payloads: Sequence[Payload], kinds: Sequence[str], rng: random.Random
) -> dict[int, str]:
    """Return which payload is spoilt how: every kind once, a fitting payload for each."""
    chosen: dict[int, str] = {}
    for kind in kinds:
        poison = ON_THE_WAY.get(kind)
        wanted = None if poison is None else poison.modality
        fitting = [
            number
            for number, payload in enumerate(payloads)
            if number >= NUM_SPARED
            and number not in chosen
            and wanted in {None, modality_of(payload)}
        ]
        chosen[rng.choice(fitting)] = kind
    return chosen


def _spoil(message: Message, payload: Payload, kind: str, rng: random.Random) -> Message:
    poison = ON_THE_WAY.get(kind)
    if poison is not None:
        message = poison.spoil(message, payload, rng)
    return dataclasses.replace(message, headers={**message.headers, **_poison(kind)})


def _poison(kind: str) -> dict[str, str]:
    return {POISON_HEADER: kind}


def _commands() -> Iterator[tuple[str, tuple[bytes, object]]]:
    yield from COMMANDS.items()
