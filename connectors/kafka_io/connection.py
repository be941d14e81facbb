"""How the cluster is reached, and what its failures are called here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from kafka.errors import KafkaError, ProducerFencedError

from fusion.errors import BrokerUnavailableError, FusionError


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the cluster."""

    bootstrap_servers: str


class FencedError(FusionError):
    """Another process took over as the writer of this group; this one must stop."""


@contextlib.contextmanager
def unavailable(settings: KafkaSettings) -> Iterator[None]:
    """Say what went wrong with the cluster in the product's own errors."""
    try:
        yield
    except ProducerFencedError as fenced:
        raise FencedError(
            "only one process may write for a plant, and a newer one has taken over; "
            "stop this one, or give it another plant"
        ) from fenced
    except KafkaError as failed:
        raise BrokerUnavailableError(
            f"the broker at {settings.bootstrap_servers} must answer, but: "
            f"{type(failed).__name__}: {failed}; check that it runs and FUSION_KAFKA_BOOTSTRAP"
        ) from failed
