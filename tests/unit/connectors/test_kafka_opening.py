"""Whoever waits for a broker by trying again does not run out of threads or file descriptors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kafka
import pytest
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaTimeoutError

from connectors.kafka_io.opening import opened
from connectors.kafka_io.settings import KafkaSettings

NOBODY = KafkaSettings("127.0.0.1:1")

# A TCP socket that was refused is left to the garbage collector by kafka-python.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.*family=2:ResourceWarning")


@pytest.mark.parametrize("make", [kafka.KafkaProducer, kafka.KafkaConsumer, KafkaAdminClient])
def test_a_client_that_finds_no_broker_leaves_no_thread_and_no_selector(
    make: Callable[..., Any],
) -> None:
    def held() -> tuple[int, int]:
        links = []
        for each in Path("/proc/self/fd").iterdir():
            try:
                links.append(str(each.readlink()))
            except FileNotFoundError:  # the listing's own
                continue
        # (Selectors, since sockets of other tests in this process may end meanwhile.)
        selectors = sum("eventpoll" in link for link in links)
        threads = sum("kafka-io" in thread.name for thread in threading.enumerate())
        return threads, selectors

    threads, selectors = held()
    for _ in range(3):
        with pytest.raises(KafkaTimeoutError):
            opened(make, NOBODY, bootstrap_timeout_ms=50)
    threads_after, selectors_after = held()
    assert threads_after <= threads
    assert selectors_after <= selectors
