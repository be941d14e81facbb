"""Senders that keep what they have while the broker is away."""

from __future__ import annotations

import contextlib

from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from flows.carrier import BackgroundCarrier
from flows.settings import Settings
from flows.spool_files import lock_spool, spool_file
from flows.wiring.brokers import open_publisher
from flows.wiring.clock import open_clock
from flows.wiring.objects import open_objects
from flows.wiring.topics import prepare_topics
from fusion.plant import Plant
from fusion.ports import Publisher, Source
from fusion.schema import MAX_CLAIMED_BYTES
from fusion.stream.claims import CLAIM_THRESHOLD_BYTES, ClaimCheckPublisher
from fusion.stream.spool import SpoolingPublisher
from fusion.stream.spool_log import SPOOL_GROUP, SPOOL_TOPIC


def open_sender(
    settings: Settings,
    plant: Plant,
    *,
    source: str,
    threshold_bytes: int = CLAIM_THRESHOLD_BYTES,
) -> Publisher:
    """Return a writer for what ``source`` says of ``plant``, whose topics it creates.

    For Kafka it is a :class:`SpoolingPublisher`; the embedded broker is as near as its spool.
    Values above ``threshold_bytes`` go to the object store.
    """
    if settings.broker == "kafka":
        name = f"{plant.prefix}-{source}"
        return open_spool(settings, name, plant, threshold_bytes=threshold_bytes)
    prepare_topics(settings, plant)
    return _claiming(settings, threshold_bytes)


def open_spool(
    settings: Settings,
    name: str,
    plant: Plant | None = None,
    *,
    threshold_bytes: int = CLAIM_THRESHOLD_BYTES,
) -> SpoolingPublisher:
    """Return the sender ``name``, with what waits for the broker since its last run.

    Large values wait whole, and are stored when their turn comes: an object whose reference still
    waited could be taken for one that nobody refers to.

    Raises:
        InputError: Another process has it open.
        BrokerUnavailableError: The disk is full, or cannot be written.
    """

    def open_remote() -> Publisher:
        if plant is not None:
            prepare_topics(settings, plant)
        return _claiming(settings, threshold_bytes)

    with contextlib.ExitStack() as until_open:
        lock = until_open.enter_context(lock_spool(settings, name))
        broker = _spool_log(settings, name)
        sender = SpoolingPublisher(
            BackgroundCarrier(open_remote),
            local=EmbeddedPublisher(broker, group=SPOOL_GROUP),
            local_source=EmbeddedSource(broker, [SPOOL_TOPIC], SPOOL_GROUP),
            trim=broker.delete_before,
            max_bytes=settings.spool_max_mb * 1_000_000,
            max_record_bytes=MAX_CLAIMED_BYTES,
            clock=open_clock(),
            on_close=lock.close,
        )
        until_open.pop_all()
    return sender


def open_spool_source(settings: Settings, name: str) -> Source:
    """Return a reader of what waits in the spool ``name``, also while its sender runs."""
    return EmbeddedSource(_spool_log(settings, name), [SPOOL_TOPIC], SPOOL_GROUP)


def _claiming(settings: Settings, threshold_bytes: int) -> Publisher:
    return ClaimCheckPublisher(
        open_publisher(settings),
        open_objects(settings),
        clock=open_clock(),
        threshold_bytes=threshold_bytes,
    )


def _spool_log(settings: Settings, name: str) -> EmbeddedBroker:
    # What waits must survive a power cut: nobody else has it.
    broker = EmbeddedBroker(spool_file(settings, name), is_power_safe=True)
    broker.create_topic(SPOOL_TOPIC)
    return broker
