"""What a way to use MQTT has to tell the connection to its broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fusion.ports import Observed


@dataclass(frozen=True, slots=True)
class Publication:
    """Something to tell others through the broker."""

    topic: str
    payload: bytes
    is_retained: bool = False
    qos: int = 0


class Interpreter(Protocol):
    """What the messages of one way to use MQTT mean. One for each connection."""

    @property
    def keeps_session(self) -> bool:
        """Whether the broker is to keep what is said while nobody is connected."""
        ...

    @property
    def filters(self) -> Sequence[str]:
        """What to subscribe to."""
        ...

    @property
    def will(self) -> Publication | None:
        """What the broker is to say when the connection is lost."""
        ...

    def on_connect(self) -> Sequence[Publication]:
        """Return what to say first."""
        ...

    def on_close(self) -> Sequence[Publication]:
        """Return what to say last."""
        ...

    def interpret(
        self, topic: str, payload: bytes, *, is_retained: bool, t_receive_ns: int
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        """Return what a message says, and what to answer. Takes any bytes."""
        ...

    def holds_until_ns(self, now_ns: int) -> int | None:
        """Return until when what was said holds, while the connection lives."""
        ...
