"""The plant's topic of schemas: senders say there what they write with, readers look it up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flows import wiring
from flows.settings import Settings
from fusion.errors import BrokerUnavailableError
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Clock, Publisher, Source
from fusion.schema import Record, WriterSchemas, schema_messages
from fusion.stream.reading import read_to_end

KIND = "schemas"
ASK_AGAIN_S = 5.0
MAX_ASKED = 16
"""Fingerprints that are looked up in ``ASK_AGAIN_S``: broken senders must not slow the others."""


def publish_schemas(plant: Plant, publisher: Publisher) -> None:
    """Publish what this product writes with. Call before the first record; repeats do no harm.

    ``publisher`` is the sender's own: while the broker is away the schemas wait in its spool,
    before the records that need them.
    """
    publisher.publish(schema_messages(plant.topic(KIND)))


@contextlib.contextmanager
def open_schemas(
    plant: Plant, settings: Settings, *, clock: Clock | None = None
) -> Iterator[WriterSchemas]:
    """Yield the released schemas, which look up an unknown one on the plant's topic.

    Nothing is read before the first unknown fingerprint. Pass it to ``admit``.
    """
    topic = SchemaTopic(plant, settings, wiring.open_clock() if clock is None else clock)
    with contextlib.closing(topic):
        yield WriterSchemas(look_up=topic.look_up)


class SchemaTopic:
    """Reads what came to the topic of schemas since it was last asked.

    Each unknown fingerprint is looked up at once, and again every ``ASK_AGAIN_S``: a sender that
    never publishes its schema must not delay that of one which just did.
    """

    def __init__(self, plant: Plant, settings: Settings, clock: Clock) -> None:
        self._plant = plant
        self._settings = settings
        self._clock = clock
        self._source: Source | None = None
        self._asked_ns: dict[str, int] = {}

    def look_up(self, fingerprint: str) -> list[Record]:
        """Return the new records of the topic; none when asked again too soon.

        Raises:
            BrokerUnavailableError: The broker did not answer; ask again.
        """
        now_ns = self._clock.monotonic_ns()
        since_ns = now_ns - round(ASK_AGAIN_S * NANOSECONDS)
        self._asked_ns = {name: t_ns for name, t_ns in self._asked_ns.items() if t_ns > since_ns}
        if fingerprint in self._asked_ns or len(self._asked_ns) >= MAX_ASKED:
            return []
        if self._source is None:
            group = f"schemas-{self._plant.prefix}"
            self._source = wiring.open_source(self._settings, (self._plant.topic(KIND),), group)
        try:
            records = list(read_to_end(self._source))
        except BrokerUnavailableError:
            # What was read until then has not been learnt: begin anew when asked again.
            self.close()
            raise
        self._asked_ns[fingerprint] = now_ns
        return records

    def close(self) -> None:
        """Close the connection, if one was needed."""
        if self._source is not None:
            self._source.close()
            self._source = None
