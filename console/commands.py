"""What people ask of alarms, as records on ``alarm-commands``; the live process carries it out.

A command that was begun is sent until the broker has it, under one id: the live process does each
id once. So what was on its way when the broker failed is neither lost nor done twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from console.picture import Shown
from console.ports import Ports
from console.rights import Role
from fusion.errors import BrokerUnavailableError, FusionError
from fusion.ports import Publisher
from fusion.schema import AlarmCommand, Judgement, Message
from fusion.schema.alarms import MAX_TEXT, Action

ENGINEERS = {"remove-from-service", "return-to-service"}
"""All else an operator may ask for."""
MAX_DURATION_S = 366 * 86_400.0
"""No more can be asked for; the live process allows much less, and says so."""
PATIENCE_S = 5.0
"""So long somebody waits for the broker's word before they are told that their command waits."""
MAX_WAITING = 1_000
PAUSE_S = 1.0
CLOSE_TIMEOUT_S = 2.0
LOG = logging.getLogger(__name__)


class Asked(BaseModel):
    """What somebody asks of an alarm."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    action: Action
    revision: int = Field(ge=0, lt=2**53, description="Of the alarm, as it was seen.")
    duration_s: float | None = Field(
        default=None, gt=0, le=MAX_DURATION_S, description="Of what takes an alarm away, in s"
    )
    is_one_shot: bool = Field(default=False, description="A shelf that also ends when it clears.")
    note: str = Field(default="", max_length=MAX_TEXT, description="The reason, or the comment")
    episode: str | None = Field(default=None, max_length=MAX_TEXT, description="What is judged")
    judgement: Judgement | None = Field(default=None, description="None takes one back.")

    @property
    def role(self) -> Role:
        """The role that may ask for it."""
        return Role.ENGINEER if self.action in ENGINEERS else Role.OPERATOR


@dataclass(slots=True, eq=False)
class _Waiting:
    """A command that the broker is not known to have."""

    command: AlarmCommand
    message: Message
    is_settled: threading.Event = field(default_factory=threading.Event)
    failed: FusionError | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A command, and whether the broker has it; otherwise it is sent as soon as that is back."""

    command: AlarmCommand
    is_sent: bool


class Commands:
    """Sends commands in the order in which they were asked, from a thread of its own."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._plants = {str(plant.address): plant for plant in ports.plants}
        self._publisher: Publisher | None = None
        self._waiting = deque[_Waiting]()
        self._has_changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console-commands", daemon=True)
        self._thread.start()

    def ask(self, shown: Shown, asked: Asked, *, who: str) -> Begun:
        """Send what ``who`` asks of the alarm ``shown``; returns within seconds, sent or not.

        Raises:
            BrokerUnavailableError: Too much waits for the broker already; this was not begun.
            FusionError: The broker does not take it.
        """
        command = AlarmCommand(
            id=str(uuid.uuid4()),
            plant=shown.state.plant,
            name=shown.state.name,
            expected_revision=asked.revision,
            who=who,
            t_ns=self._ports.clock.now_ns(),
            **asked.model_dump(exclude={"revision"}),
        )
        message = Message(
            topic=self._plants[command.plant].topic("alarm-commands"),
            key=command.plant,
            value=command.model_dump_json().encode(),
            headers={"ce_id": command.id, "content-type": "application/json"},
        )
        waiting = _Waiting(command, message)
        with self._has_changed:
            if self._closing.is_set() or len(self._waiting) >= MAX_WAITING:
                raise BrokerUnavailableError(
                    f"at most {MAX_WAITING} commands may wait for the broker, and so many do, or "
                    "the console ends; nothing was sent, ask again later"
                )
            self._waiting.append(waiting)
            self._has_changed.notify()
        is_settled = waiting.is_settled.wait(PATIENCE_S)
        if waiting.failed is not None:
            raise waiting.failed
        return Begun(command, is_sent=is_settled)

    def num_waiting(self, who: str) -> int:
        """Return how many commands of ``who`` the broker is not known to have."""
        with self._has_changed:
            return sum(waiting.command.who == who for waiting in self._waiting)

    def close(self) -> None:
        """Free the broker; says what it never got."""
        with self._has_changed:
            self._closing.set()
            self._has_changed.notify()
        self._thread.join(CLOSE_TIMEOUT_S)
        for left in self._waiting:
            told = left.command
            LOG.error("never sent: %s of %s, asked by %s", told.action, told.name, told.who)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            try:
                self._publish(waiting.message)
            except FusionError as failed:
                self._drop()
                if failed.retriable:
                    LOG.warning("%d commands wait for the broker: %s", len(self._waiting), failed)
                    self._closing.wait(PAUSE_S)
                    continue
                waiting.failed = failed
            with self._has_changed:
                self._waiting.popleft()
            waiting.is_settled.set()
        self._drop()

    def _next(self) -> _Waiting | None:
        """Return what is to be sent next; None at the end."""
        with self._has_changed:
            self._has_changed.wait_for(lambda: self._waiting or self._closing.is_set())
            return None if self._closing.is_set() else self._waiting[0]

    def _publish(self, message: Message) -> None:
        if self._publisher is None:
            self._publisher = self._ports.open_publisher()
        self._publisher.publish([message])

    def _drop(self) -> None:
        if self._publisher is not None:
            with contextlib.suppress(BrokerUnavailableError):
                self._publisher.close()
            self._publisher = None
