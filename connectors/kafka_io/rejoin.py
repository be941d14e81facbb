"""Mends of kafka-python 3.0.12: a member's place in its group is begun, kept and lost in order.

A join that was begun must come to its end, whenever that is.

A poll that returns before the group has answered leaves the join under way for the next poll.

- The next poll takes a join that has finished meanwhile for one that has not begun and joins again,
  which sends every other member back to the start. Members that work between their polls (that is
  what members do) can go on like this for ever: the group never comes to rest.
- A join that a change of the topics' metadata has caused is forgotten when the metadata change back
  before it has ended. The member then believes that it has its partitions and sends no heartbeats:
  others get them, and it never hears of it.

A static member whose place another one has taken must hear of it. The broker says so in answer to a
heartbeat; the library then sends no more of them and reads on.
"""

from __future__ import annotations

from typing import Any

from kafka.errors import FencedInstanceIdError

from connectors.kafka_io.connection import taken_over


def end_every_join(consumer: Any) -> None:
    """Let ``consumer`` follow each join to its end and use the answer, also one that came late.

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
        # Until the answer is used, whatever the metadata say meanwhile.
        coordinator.request_rejoin()
        assignment: bytes = await join()
        answers[:] = [(coordinator._generation, assignment)]  # noqa: SLF001
        return assignment

    async def complete_once(*arguments: Any) -> None:
        answers.clear()
        await complete(*arguments)

    coordinator._do_join_and_sync_async = join_unless_answered  # noqa: SLF001
    coordinator._on_join_complete_async = complete_once  # noqa: SLF001


def end_when_taken_over(consumer: Any) -> None:
    """Let the next poll of ``consumer`` raise FencedError when another one has taken its place.

    ``tests/integration/test_kafka_groups.py`` shows whether it is still needed.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 there is no other way to it
    send = coordinator._send_heartbeat_request  # noqa: SLF001

    async def send_and_hear() -> None:
        try:
            await send()
        except FencedInstanceIdError as fenced:
            # No KafkaError: it ends the loop of the heartbeats, and the next poll looks at that.
            raise taken_over(fenced) from fenced

    coordinator._send_heartbeat_request = send_and_hear  # noqa: SLF001
