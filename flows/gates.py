"""What opens stored records, alike for training, backfills and dead letters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flows import wiring
from flows.schemas import open_schemas
from flows.settings import Settings
from fusion.plant import Plant
from fusion.stream.intake import Gate


@contextlib.contextmanager
def open_stored_gate(plant: Plant, settings: Settings) -> Iterator[Gate]:
    """Yield the live gate for records that are stored: it waits for nothing.

    The broker is asked only for a schema that nobody knows.
    """
    with open_schemas(plant, settings) as schemas:
        yield Gate(wiring.open_stored_resolver(settings, plant).resolve, schemas)
