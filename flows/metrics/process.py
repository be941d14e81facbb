"""The registry of one process, with what every process tells."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector

from flows.health import Answer
from flows.metrics import catalogue
from flows.metrics.catalogue import Process


def new_registry(process: Process, ready: Callable[[], Answer]) -> CollectorRegistry:
    """Return a registry that has memory, CPU time and files of this process, and who it is.

    One of its own, not the library's: two processes in one interpreter, as tests have them, must
    not meet.
    """
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    catalogue.BUILD.new_gauge(registry).labels(
        process, version("industrial-fusion"), platform.python_version()
    ).set(1)
    catalogue.READY.new_gauge(registry).set_function(lambda: float(ready()[0]))
    return registry
