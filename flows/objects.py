"""What lies in the object store, who refers to it, and the removal of what nobody refers to.

An object without a reference is left by an upload whose publish failed, or by records that the
broker's retention has removed before they came into the lake.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from flows import wiring
from flows.lake import model_data_versions
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Modality, Plant
from fusion.ports import Lake, ObjectStore, StoredObject
from fusion.schema import CLAIM_HEADER
from fusion.stream.claims import last_put_ns
from fusion.stream.reading import read_to_end

MIN_AGE_HOURS = 1.0
"""Room for clocks that differ, and for a publish that is still being tried."""
_KINDS = (*get_args(Modality), "dead-letters")
_HEADERS = (CLAIM_HEADER, f"original-{CLAIM_HEADER}")
"""Of a record, and of the dead letter that keeps one, which may be replayed."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The objects of a plant's prefix beside the references to them."""

    objects: tuple[StoredObject, ...]
    referred: frozenset[str]
    has_lake: bool
    """Whether the lake holds anything of the plant's topics."""

    @property
    def missing(self) -> frozenset[str]:
        """The keys that records refer to, and nothing is there."""
        return self.referred - {each.key for each in self.objects}

    def orphans(self, *, now_ns: int, older_than_hours: float) -> list[StoredObject]:
        """Return the objects that nobody refers to and nobody will: older than the given hours.

        An object counts as young until the day in its key is over: a sender that repeats itself
        stores the same object again, and publishes its reference then.
        """
        latest_ns = now_ns - round(older_than_hours * 3600 * NANOSECONDS)
        return [
            each
            for each in self.objects
            if each.key not in self.referred and _youngest_ns(each) <= latest_ns
        ]


def take_inventory(plant: Plant, settings: Settings) -> Inventory:
    """Return what the store holds below the plant's prefix, and every reference to it.

    Plants may share a prefix, so the topics of all modalities are read, not only this plant's. The
    objects are listed first, the broker is read second and the lake last: a record that moves on
    meanwhile is seen in one of them.

    Raises:
        ObjectStoreUnavailableError, BrokerUnavailableError, LakeUnavailableError: Call again.
    """
    objects = tuple(
        each
        for each in wiring.open_objects(settings).list(plant.prefix)
        if last_put_ns(each.key, prefix=plant.prefix) is not None
    )
    topics = [plant.topic(kind) for kind in _KINDS]
    lake = wiring.open_lake(settings)
    referred = {
        *_references(_broker_headers(plant, topics, settings)),
        # What expired may still be in a version that a model was trained on.
        *_references(lake.read_headers(topics, also=set(model_data_versions(settings).values()))),
    }
    return Inventory(objects, frozenset(referred), has_lake=_has_any(lake, topics))


def sweep(
    plant: Plant,
    settings: Settings,
    *,
    older_than_hours: float,
    needs_lake: bool = True,
    is_dry_run: bool = False,
) -> list[StoredObject]:
    """Remove the orphans of the plant's prefix, and return them; a dry run removes nothing.

    Every reference is known before the first object goes. A sweep that dies leaves fewer orphans.

    Raises:
        InputError: The age is too small, or ``needs_lake`` and the lake holds nothing: it may be
            the wrong one, and its records would lose their values.
        ObjectStoreUnavailableError, BrokerUnavailableError, LakeUnavailableError: Call again.
    """
    if older_than_hours < MIN_AGE_HOURS:
        raise InputError(
            f"only objects older than {MIN_AGE_HOURS:g} hours may be removed, "
            f"got {older_than_hours:g}; a sender may be about to publish a younger one's reference"
        )
    inventory = take_inventory(plant, settings)
    now_ns = wiring.open_clock().now_ns()
    orphans = inventory.orphans(now_ns=now_ns, older_than_hours=older_than_hours)
    if is_dry_run or not orphans:
        return orphans
    if needs_lake and not inventory.has_lake:
        raise InputError(
            f"the lake must be known before objects are removed, and {settings.lake_uri} holds "
            f"nothing of {plant.prefix}.*; check FUSION_DATA_DIR, or say --without-lake if this "
            "plant has none"
        )
    _remove(orphans, wiring.open_objects(settings))
    return orphans


def _remove(orphans: Sequence[StoredObject], store: ObjectStore) -> None:
    for each in orphans:
        store.delete(each.key)


def _references(headers: Iterator[Mapping[str, str]]) -> Iterator[str]:
    for each in headers:
        yield from (each[name] for name in _HEADERS if name in each)


def _broker_headers(
    plant: Plant, topics: Sequence[str], settings: Settings
) -> Iterator[Mapping[str, str]]:
    there = wiring.topics_there(settings, topics)
    if not there:
        return
    source = wiring.open_source(settings, there, f"sweeps-{plant.prefix}")
    with contextlib.closing(source):
        for record in read_to_end(source):
            yield record.headers


def _has_any(lake: Lake, topics: Sequence[str]) -> bool:
    return any(part.topic in topics for part in lake.next_offsets())


def _youngest_ns(found: StoredObject) -> int:
    prefix = found.key.partition("/")[0]
    return max(found.t_modified_ns, last_put_ns(found.key, prefix=prefix) or found.t_modified_ns)
