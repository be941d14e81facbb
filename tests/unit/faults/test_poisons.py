"""The poison of the fault campaign is complete, and is what it says it is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from connectors.object_store import LocalObjectStore
from connectors.system_clock import SystemClock
from flows.cli.plant import load_plant
from fusion.alignment import admit
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import Plant, StreamSender
from fusion.schema import Message, Payload, Record
from fusion.simulation import normal_scenario, simulate
from fusion.stream.claim_resolver import ClaimResolver
from tests.faults.poisons import (
    AS_PUBLISHED,
    CLAIMS,
    COMMANDS,
    EVERY_RECORD,
    ON_THE_WAY,
    modality_of,
    reason_of,
)
from tests.faults.workload import make_workload, plant_files

NOW_NS = 1_767_225_700_000_000_000


@pytest.fixture
def plants(tmp_path: Path) -> list[Plant]:
    return [load_plant(path) for path in plant_files(tmp_path, "rig")]


def first_payload(plant: Plant, modality: str | None) -> Payload:
    payloads = simulate(normal_scenario(duration_s=3, seed=1), plant)
    return next(each for each in payloads if modality in {None, modality_of(each)})


def sent(plant: Plant, payload: Payload) -> Message:
    sender = StreamSender(plant, payload.stream, source="test", epoch="boot")
    return sender.message(payload)


def stored(message: Message) -> Record:
    return Record(
        message.topic, 0, 0, message.key, message.value, message.headers, t_broker_ns=NOW_NS
    )


def test_every_reason_to_refuse_a_record_has_a_poison() -> None:
    kinds = [*ON_THE_WAY, *CLAIMS, *AS_PUBLISHED, *COMMANDS]
    # The last one is no poison: a store that is away is a harm of its own.
    assert {reason_of(kind) for kind in kinds} - {None} == set(DeadLetterReason) - {
        DeadLetterReason.CLAIM_UNAVAILABLE
    }


OF_THE_GATE = [
    kind
    for kind, poison in ON_THE_WAY.items()
    if poison.reason is not None and "key" not in kind  # (keys are looked at before the gate)
]


@pytest.mark.parametrize("kind", OF_THE_GATE)
def test_the_gate_refuses_it_for_its_reason(kind: str, plants: list[Plant]) -> None:
    poison = ON_THE_WAY[kind]
    payload = first_payload(plants[0], poison.modality)
    message = poison.spoil(sent(plants[0], payload), payload, random.Random(3))
    with pytest.raises(RecordError) as refused:
        admit(stored(message), plants[0])
    assert refused.value.reason == poison.reason


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_wrong_claim_is_refused_for_its_reason(
    kind: str, plants: list[Plant], tmp_path: Path
) -> None:
    spoil, reason = CLAIMS[kind]
    store = LocalObjectStore(tmp_path / "objects")
    store.put("rig/something/else", b"so that the store is there")
    message = sent(plants[0], first_payload(plants[0], "video"))
    record = stored(spoil(message, store, "rig", NOW_NS))
    resolver = ClaimResolver(store, prefix="rig", clock=SystemClock(), missing_pauses_s=())
    with pytest.raises(RecordError) as refused:
        admit(resolver.resolve(record), plants[0])
    assert refused.value.reason == reason


def test_a_workload_holds_every_kind_and_is_the_same_again(plants: list[Plant]) -> None:
    messages = make_workload(2, plants)
    assert {m.headers["poison"] for m in messages if "poison" in m.headers} == {
        *ON_THE_WAY,
        *CLAIMS,
        *AS_PUBLISHED,
        *COMMANDS,
        EVERY_RECORD,
    }
    assert make_workload(2, plants) == messages
