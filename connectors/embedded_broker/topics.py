"""Creates topics, and holds those that exist to what they must be."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping

from connectors.embedded_broker.file import EmbeddedBroker, transaction, unavailable
from fusion.plant import TopicPlan, TopicSpec, plan_topics


def describe_topics(broker: EmbeddedBroker, topics: Iterable[str]) -> dict[str, TopicSpec]:
    """Return what those of ``topics`` that exist are; messages of any size fit into them."""
    with contextlib.closing(broker.connect()) as connection, unavailable():
        return _describe(connection, topics)


def apply_topics(
    broker: EmbeddedBroker, specs: Mapping[str, TopicSpec], *, update_configs: bool
) -> TopicPlan:
    """Create the topics of ``specs`` that are not there, and return what was done.

    With ``update_configs`` the retention of those that are there is altered where it differs.

    Raises:
        TopicMismatchError: Topics that exist differ; then nothing was done to any.
    """
    with contextlib.closing(broker.connect()) as connection, unavailable():
        # Most calls change nothing, and to look is to wait for no writer.
        plan = plan_topics(specs, _describe(connection, specs), update_configs=update_configs)
        if not plan.missing and not plan.altered:
            return plan
        with transaction(connection):
            found = _describe(connection, specs)
            plan = plan_topics(specs, found, update_configs=update_configs)
            connection.executemany(
                "INSERT OR REPLACE INTO topics VALUES (?, ?, ?, ?)",
                [_to_row(topic, spec) for topic, spec in {**plan.missing, **plan.altered}.items()],
            )
        return plan


def _describe(connection: sqlite3.Connection, topics: Iterable[str]) -> dict[str, TopicSpec]:
    rows = connection.execute("SELECT topic, partitions, is_compacted, retention_ms FROM topics")
    found = {row[0]: TopicSpec(row[1], bool(row[2]), row[3]) for row in rows}
    return {topic: found[topic] for topic in topics if topic in found}


def _to_row(topic: str, spec: TopicSpec) -> tuple[str, int, bool, int | None]:
    assert spec.retention_ms is None or spec.retention_ms > 0, "a plant keeps records for a while"
    return topic, spec.partitions, spec.is_compacted, spec.retention_ms
