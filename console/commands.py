"""What people ask of alarms, as records on ``alarm-commands``; the live process carries it out."""

from __future__ import annotations

import contextlib
import threading
import uuid

from pydantic import BaseModel, ConfigDict, Field

from console.picture import Shown
from console.ports import Ports
from console.rights import Role
from fusion.errors import BrokerUnavailableError
from fusion.ports import Publisher
from fusion.schema import AlarmCommand, Judgement, Message
from fusion.schema.alarms import MAX_TEXT, Action

ENGINEERS = {"remove-from-service", "return-to-service"}
"""All else an operator may ask for."""
MAX_DURATION_S = 366 * 86_400.0
"""No more can be asked for; the live process allows much less, and says so."""


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


class Commands:
    """Sends commands; one at a time, from any thread."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._plants = {str(plant.address): plant for plant in ports.plants}
        self._publisher: Publisher | None = None
        self._lock = threading.Lock()

    def ask(self, shown: Shown, asked: Asked, *, who: str) -> AlarmCommand:
        """Send what ``who`` asks of the alarm ``shown``, and return it.

        Raises:
            BrokerUnavailableError: Not known to be sent; ask again.
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
        with self._lock:
            self._publish(message)
        return command

    def close(self) -> None:
        """Free the broker."""
        with self._lock:
            self._drop()

    def _publish(self, message: Message) -> None:
        try:
            if self._publisher is None:
                self._publisher = self._ports.open_publisher()
            self._publisher.publish([message])
        except BrokerUnavailableError:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._publisher is not None:
            with contextlib.suppress(BrokerUnavailableError):
                self._publisher.close()
            self._publisher = None
