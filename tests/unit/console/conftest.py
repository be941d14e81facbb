"""A console that is served, for the tests of who may do what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.console_app import Served, served
from tests.postgres import PostgresServer


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("pg"))],
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A console for a whole module, with its people in SQLite, and again in PostgreSQL."""
    people = None
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        people = server.new_database()
    with served(tmp_path_factory.mktemp("console"), people=people) as running:
        yield running
