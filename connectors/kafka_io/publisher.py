"""Writes messages: idempotent, and in transactions with the offsets that they answer for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import kafka
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2
from kafka.structs import OffsetAndMetadata
from kafka.structs import TopicPartition as KafkaPartition

from connectors.kafka_io.batches import HeaderName
from connectors.kafka_io.connection import FENCED, KafkaSettings, unavailable, within
from connectors.kafka_io.opening import opened
from fusion.errors import BrokerUnavailableError
from fusion.plant import MAX_MESSAGE_BYTES
from fusion.schema import Message, TopicPartition, WireForm

MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""kafka-python's producer has no bound of its own; publish waits for acknowledgements beyond it."""
REQUEST_TIMEOUT_S = 30.0
ABORT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 5.0
TRANSACTION_TIMEOUT_S = 60.0


class KafkaPublisher:
    """Implements :class:`fusion.ports.Publisher` on Apache Kafka.

    With a ``transactional_id`` every call of :meth:`publish` is one transaction, and opening a
    second publisher of the same id shuts out the first and undoes what it had begun.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str | None = None,
        transactional_id: str | None = None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._is_transactional = transactional_id is not None
        with unavailable(settings):
            self._producer: Any = opened(
                kafka.KafkaProducer,
                settings,
                acks="all",
                # Must be said: kafka-python silently switches it off otherwise.
                enable_idempotence=True,
                transactional_id=transactional_id,
                compression_type="zstd",
                linger_ms=5,
                max_request_size=MAX_MESSAGE_BYTES,
                request_timeout_ms=round(REQUEST_TIMEOUT_S * 1000),
                delivery_timeout_ms=round(REQUEST_TIMEOUT_S * 1000) + 5,
                max_block_ms=round(REQUEST_TIMEOUT_S * 1000),
                transaction_timeout_ms=round(TRANSACTION_TIMEOUT_S * 1000),
            )
            if self._is_transactional:
                try:
                    self._producer.init_transactions()
                except BaseException:
                    self.close()  # Its thread would go on for ever.
                    raise

    def publish(
        self,
        messages: Sequence[Message],
        *,
        commit: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Store ``messages``; in a transaction, with the group's ``commit`` or not at all."""
        if commit is not None and (self._group is None or not self._is_transactional):
            raise ValueError(
                "positions can be committed only in a transaction of a group; "
                "open the publisher with group=... and transactional_id=..."
            )
        with unavailable(self._settings):
            if not self._is_transactional:
                self._send(messages)
                return
            began_s = time.monotonic()
            self._producer.begin_transaction()
            try:
                self._send(messages)
                if commit:
                    self._send_offsets(commit)
                within(REQUEST_TIMEOUT_S, self._producer.commit_transaction, what="a commit")
            except FENCED as fenced:
                lasted_s = time.monotonic() - began_s
                if lasted_s >= TRANSACTION_TIMEOUT_S:
                    raise _given_up(lasted_s) from fenced
                raise
            except BaseException:
                self._abort()
                raise

    def _send_offsets(self, commit: Mapping[TopicPartition, int]) -> None:
        offsets, group = _to_offsets(commit), self._group
        within(
            REQUEST_TIMEOUT_S,
            lambda: self._producer.send_offsets_to_transaction(offsets, group),
            what="the offsets of a transaction",
        )

    def _abort(self) -> None:
        """Undo what was begun. Where that fails too, the next publisher of this id undoes it."""
        with contextlib.suppress(KafkaError, BrokerUnavailableError):
            within(ABORT_TIMEOUT_S, self._producer.abort_transaction, what="an abort")

    def close(self) -> None:
        """Close the connection. What was published is stored already."""
        try:
            self._producer.close(timeout=CLOSE_TIMEOUT_S)
        except KafkaError:
            # Flushing what waits has failed, and the library would leave its thread running.
            self._producer._sender.force_close()  # noqa: SLF001

    def _send(self, messages: Sequence[Message]) -> None:
        waiting: list[Any] = []
        num_bytes = 0
        for message in messages:
            if num_bytes > MAX_IN_FLIGHT_BYTES:
                _await_all(waiting)
                waiting, num_bytes = [], 0
            waiting.append(self._producer.send(message.topic, **_on_the_wire(message)))
            num_bytes += len(message.value)
        self._producer.flush(REQUEST_TIMEOUT_S)
        _await_all(waiting)


def _on_the_wire(message: Message) -> dict[str, Any]:
    form = message.form or WireForm(tuple(message.headers.items()))
    return {
        "key": None if form.is_key_null else message.key.encode(errors="surrogateescape"),
        "value": None if form.is_value_null else message.value,
        "headers": [
            (HeaderName(name), text.encode(errors="surrogateescape")) for name, text in form.pairs
        ],
        "partition": message.partition,
    }


def _given_up(lasted_s: float) -> BrokerUnavailableError:
    # The broker's answer is the same in both cases; the time tells which one is likely.
    return BrokerUnavailableError(
        f"a transaction must end within {TRANSACTION_TIMEOUT_S:g} s, and this one lasted "
        f"{lasted_s:.0f} s: the broker has given it up (or another process has taken over "
        "meanwhile), and nothing of it was stored; a new publisher goes on from what is committed; "
        "check why broker or disk are slow, or whether this process was suspended"
    )


def _to_offsets(commit: Mapping[TopicPartition, int]) -> dict[Any, OffsetAndMetadata]:
    return {
        KafkaPartition(*part): OffsetAndMetadata(offset, "", -1) for part, offset in commit.items()
    }


def _await_all(futures: Sequence[Any]) -> None:
    for future in futures:
        future.get(timeout=REQUEST_TIMEOUT_S)


def partition_of(key: str, num_partitions: int) -> int:
    """Return the partition of a topic that messages of ``key`` go to, as Kafka's own clients do.

    Example:
        >>> partition_of("demo/lab/utilities/line1/cell1/pump-b", 3)
        1
    """
    return (murmur2(key.encode(errors="surrogateescape")) & 0x7FFFFFFF) % num_partitions
