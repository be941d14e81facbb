"""Mend of kafka-python 3.0.12: a join that finishes between two polls must count.

A poll that returns before the group has answered leaves the join under way, for the next poll to
find. But the next poll takes one that has finished meanwhile for one that has not begun, and joins
again, which sends every other member back to the start. Members that work between their polls
(that is what members do) can go on like this for ever: the group never comes to rest.
"""

from __future__ import annotations

from typing import Any


def keep_finished_joins(consumer: Any) -> None:
    """Let ``consumer`` use the answer to a join that came while it was not polling.

    Everything here runs on the client's own event loop, so nothing comes in between.
    ``tests/integration/test_kafka_groups.py`` shows whether it is still needed.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 there is no other way to it
    join = coordinator._do_join_and_sync_async  # noqa: SLF001
    complete = coordinator._on_join_complete_async  # noqa: SLF001
    answers: list[tuple[Any, bytes]] = []

    async def join_unless_answered() -> bytes:
        if answers and answers[0][0] == coordinator._generation:  # noqa: SLF001
            return answers[0][1]
        assignment: bytes = await join()
        answers[:] = [(coordinator._generation, assignment)]  # noqa: SLF001
        return assignment

    async def complete_once(*arguments: Any) -> None:
        answers.clear()
        await complete(*arguments)

    coordinator._do_join_and_sync_async = join_unless_answered  # noqa: SLF001
    coordinator._on_join_complete_async = complete_once  # noqa: SLF001
