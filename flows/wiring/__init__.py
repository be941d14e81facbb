"""The only place that chooses and builds connectors; devices have ``flows/device_wiring.py``.

Each module changes for its own reason; callers know this package only. A module is imported when
one of its names is first asked for: a process that reads a device needs a sender, and must not
carry the lake, the networks and the operators' database in its memory.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.delta_lake import table_files
    from connectors.onnx_quantisation import quantise
    from connectors.triton_io import (
        PYTHON_MODEL,
        Backend,
        Batching,
        Device,
        TritonServer,
        model_config,
    )
    from flows.wiring.brokers import (
        kafka_settings,
        key_partitions,
        open_member,
        open_publisher,
        open_source,
        read_topic,
        topics_there,
    )
    from flows.wiring.clock import open_clock
    from flows.wiring.lake import open_findings, open_lake, open_lake_upkeep
    from flows.wiring.networks import (
        open_inference,
        open_triton_inference,
        triton_models,
        triton_server,
        unload_from_triton,
    )
    from flows.wiring.objects import open_archive, open_objects, open_resolver, open_stored_resolver
    from flows.wiring.operators import open_alarm_log, open_identity_provider, open_notifiers
    from flows.wiring.senders import open_sender, open_spool, open_spool_source
    from flows.wiring.topics import (
        apply_grants,
        create_topics,
        found_grants,
        found_topics,
        prepare_topics,
        topic_copies,
        topic_ids,
    )
    from flows.wiring.tracking import open_tracking

__all__ = [
    "PYTHON_MODEL",
    "Backend",
    "Batching",
    "Device",
    "TritonServer",
    "apply_grants",
    "create_topics",
    "found_grants",
    "found_topics",
    "kafka_settings",
    "key_partitions",
    "model_config",
    "open_alarm_log",
    "open_archive",
    "open_clock",
    "open_findings",
    "open_identity_provider",
    "open_inference",
    "open_lake",
    "open_lake_upkeep",
    "open_member",
    "open_notifiers",
    "open_objects",
    "open_publisher",
    "open_resolver",
    "open_sender",
    "open_source",
    "open_spool",
    "open_spool_source",
    "open_stored_resolver",
    "open_tracking",
    "open_triton_inference",
    "prepare_topics",
    "quantise",
    "read_topic",
    "table_files",
    "topic_copies",
    "topic_ids",
    "topics_there",
    "triton_models",
    "triton_server",
    "unload_from_triton",
]

_NAMES = {
    "connectors.delta_lake": ("table_files",),
    "connectors.onnx_quantisation": ("quantise",),
    "connectors.triton_io": (
        "PYTHON_MODEL",
        "Backend",
        "Batching",
        "Device",
        "TritonServer",
        "model_config",
    ),
    "flows.wiring.brokers": (
        "kafka_settings",
        "key_partitions",
        "open_member",
        "open_publisher",
        "open_source",
        "read_topic",
        "topics_there",
    ),
    "flows.wiring.clock": ("open_clock",),
    "flows.wiring.lake": (
        "open_findings",
        "open_lake",
        "open_lake_upkeep",
    ),
    "flows.wiring.networks": (
        "open_inference",
        "open_triton_inference",
        "triton_models",
        "triton_server",
        "unload_from_triton",
    ),
    "flows.wiring.objects": (
        "open_archive",
        "open_objects",
        "open_resolver",
        "open_stored_resolver",
    ),
    "flows.wiring.operators": (
        "open_alarm_log",
        "open_identity_provider",
        "open_notifiers",
    ),
    "flows.wiring.senders": (
        "open_sender",
        "open_spool",
        "open_spool_source",
    ),
    "flows.wiring.topics": (
        "apply_grants",
        "create_topics",
        "found_grants",
        "found_topics",
        "prepare_topics",
        "topic_copies",
        "topic_ids",
    ),
    "flows.wiring.tracking": ("open_tracking",),
}
"""What each module brings; the imports above say the same to those who read types."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return what this package brings as ``name``, from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
