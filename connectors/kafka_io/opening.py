"""Open a client of kafka-python, and leave nothing behind where that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka.net.compat import KafkaNetClient

from connectors.kafka_io.settings import KafkaSettings


def opened(make: Callable[..., Any], settings: KafkaSettings, **options: Any) -> Any:
    """Return the client that ``make`` makes, connected as ``settings`` say.

    kafka-python 3.0.12 keeps the thread, the sockets and the selector of a client whose constructor
    finds no broker: whoever waits for a broker by trying again would run out of file descriptors.

    Raises:
        kafka.errors.KafkaError: No broker answers, or it refuses this client.

    Example:
        >>> from kafka import KafkaProducer
        >>> nobody = KafkaSettings("127.0.0.1:1")
        >>> opened(KafkaProducer, nobody, bootstrap_timeout_ms=100)
        Traceback (most recent call last):
            ...
        kafka.errors.KafkaTimeoutError: KafkaTimeoutError: Unable to bootstrap from 127.0.0.1:1
    """
    nets: list[KafkaNetClient] = []

    def net_client(**configs: Any) -> KafkaNetClient:
        nets.append(KafkaNetClient(**configs))
        return nets[-1]

    try:
        return make(**settings.client_options(), kafka_client=net_client, **options)
    except BaseException:
        for net in nets:
            net.close()
        raise
