"""One device, read for ever: connect, read, check, send, say how it does, connect again.

::

    open ──▶ read ──▶ rows ──▶ rules ──▶ messages ──▶ publisher (spool) ──▶ broker
      ▲        │ lost, refused, silent                    │ full or away
      └─ wait ◀┘ longer each time                         └─ read no more until it takes them
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from fusion.edge.checking import require_units
from fusion.edge.flow import StreamOutflow
from fusion.errors import (
    BrokerUnavailableError,
    DeviceRefusedError,
    DeviceUnavailableError,
    FusionError,
    InputError,
    ObjectStoreUnavailableError,
)
from fusion.plant import NANOSECONDS, Plant, TelemetryStream
from fusion.plant.devices import Device
from fusion.plant.sending import Trace
from fusion.ports import (
    Clock,
    DeviceSession,
    Observed,
    Publisher,
    Reading,
    TakesReceipts,
    Unusable,
    Withheld,
)
from fusion.schema import DeviceHealth, Message
from fusion.schema.records import rfc3339

READ_S = 0.1
"""Of one read: also the longest that a reading waits to be sent."""
SAY_HEALTH_S = 10.0
SAVE_POSITION_S = 1.0
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
BROKER_PAUSE_S = 0.5

State = Literal["connecting", "connected", "refused", "waiting", "ended"]


class Positions(Protocol):
    """Remembers how far a device was read, across processes."""

    def load(self) -> str | None:
        """Return what was saved last; None when nothing was."""
        ...

    def save(self, position: str) -> None:
        """Keep ``position``; everything up to it is with the broker or its spool."""
        ...


class DeviceRun:
    """Reads one device and sends what it says. Every wait is a step, so a caller can stop it.

    Args:
        plant: The plant that ``device`` is part of.
        device: What to read.
        open_session: Connects, and goes on from a position.
        publisher: Where to; a spool for Kafka.
        positions: Where the device's position is kept.
        clock: For stamps of health, waits and the epoch.
        forward: Lets a spool send what waits; called while the device has nothing to say.
        num_waiting: How many records wait in the spool.
        on_state: Is told when the state changes, with the reason.
        on_health: Is told how the device does, every ten seconds.
        trace: Gives the trace of a message, where it is traced.
    """

    def __init__(
        self,
        plant: Plant,
        device: Device,
        *,
        open_session: Callable[[str | None], DeviceSession],
        publisher: Publisher,
        positions: Positions,
        clock: Clock,
        forward: Callable[[], None] = lambda: None,
        num_waiting: Callable[[], int] = lambda: 0,
        on_state: Callable[[State, str], None] = lambda _state, _why: None,
        on_health: Callable[[DeviceHealth], None] = lambda _: None,
        trace: Trace | None = None,
    ) -> None:
        self._plant = plant
        self._device = device
        self._open_session = open_session
        self._publisher = publisher
        self._positions = positions
        self._clock = clock
        self._forward = forward
        self._num_waiting = num_waiting
        self._on_state = on_state
        self._on_health = on_health
        epoch = f"edge-{device.name}-{clock.now_ns()}"
        self._flows = {
            name: StreamOutflow(plant, device, name, epoch=epoch, clock=clock, trace=trace)
            for name in device.streams
        }
        self._session: DeviceSession | None = None
        self._receipts: TakesReceipts | None = None
        self._owed: TakesReceipts | None = None
        self._position = positions.load()
        self._unsent: list[Message] = []
        self._unsaved: str | None = None
        self._state: State = "connecting"
        self._why = ""
        self._num_connects = self._num_failures = self._num_in_a_row = 0
        now_ns = clock.monotonic_ns()
        self._t_next_try_ns = self._t_heard_ns = self._t_saved_ns = now_ns
        self._t_said_ns = self._t_flushed_ns = now_ns

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    def step(self) -> bool:
        """Do the next thing, for about ``READ_S``; return False when there is nothing more to do.

        Raises:
            InputError: The plant file asks for what the device does not have.
        """
        if self._unsent:
            self._send([])
        if self._unsent:
            self._clock.sleep(BROKER_PAUSE_S)
        elif self._session is None and self._state == "ended":
            self._say_health(is_due=True)
            return False
        elif self._session is None:
            self._connect_when_due()
        else:
            self._read(self._session)
        self._say_health(is_due=False)
        return True

    def close(self) -> None:
        """Send what is gathered, say a last time how it does, and free the device."""
        self._end_session(flushes=True)
        self._say_health(is_due=True)

    def _connect_when_due(self) -> None:
        wait_s = (self._t_next_try_ns - self._clock.monotonic_ns()) / NANOSECONDS
        if wait_s > 0:
            self._clock.sleep(min(wait_s, READ_S))
            self._send([])
            return
        try:
            session = self._open_session(self._position)
        except DeviceUnavailableError as failed:
            self._back_off(failed)
            return
        try:
            self._check_units(session)
        except InputError:
            session.close()
            raise
        self._session = session
        self._receipts = session if isinstance(session, TakesReceipts) else None
        self._num_connects += 1
        self._t_heard_ns = self._clock.monotonic_ns()
        self._set_state("connected", "")

    def _read(self, session: DeviceSession) -> None:
        self._owed = None  # What is read now is not sent yet: the next receipt is for both.
        try:
            observed = session.read(timeout_s=READ_S)
            self._gather(observed)
        except DeviceUnavailableError as lost:
            self._end_session(flushes=True)
            self._back_off(lost)
            return
        except BaseException:
            # Its position may be behind what was not gathered, and must not be kept.
            self._end_session()
            raise
        now_ns = self._clock.monotonic_ns()
        if observed:
            self._t_heard_ns, self._num_in_a_row = now_ns, 0
        elif now_ns - self._t_heard_ns > self._device.silence_s * NANOSECONDS:
            self._end_session(flushes=True)
            self._back_off(
                DeviceUnavailableError(
                    f"{self._device.name} must say something every {self._device.silence_s:g} s, "
                    "and was silent for longer; look at the device, or raise silence_s"
                )
            )
        if self._session is session:
            self._repeat(session.holds_until_ns)
            is_ended = session.is_ended
            is_due = now_ns - self._t_flushed_ns >= READ_S * NANOSECONDS
            is_due = is_due or (self._receipts is not None and self._receipts.awaits_receipt)
            if is_due or is_ended or any(flow.is_full for flow in self._flows.values()):
                self._flush(position=session.position())
            if is_ended:
                self._end_session()
                self._set_state("ended", "")
                self._save_position()

    def _gather(self, observed: Sequence[Observed]) -> None:
        readings: defaultdict[str, list[Reading]] = defaultdict(list)
        for each in observed:
            if isinstance(each, Reading):
                readings[each.stream].append(each)
            elif isinstance(each, Unusable):
                self._flows[each.stream].refuse(each.why)
            elif isinstance(each, Withheld):
                self._flows[each.stream].withhold(each.num_values)
            else:
                self._flows[each.stream].add(each)
        for stream, some in readings.items():
            self._flows[stream].add_readings(some)

    def _repeat(self, holds_until_ns: int | None) -> None:
        """Say again what a device that tells changes only has not changed."""
        if holds_until_ns is not None:
            for flow in self._flows.values():
                flow.repeat(holds_until_ns)

    def _flush(self, *, position: str | None = None) -> None:
        self._t_flushed_ns = self._clock.monotonic_ns()
        messages = [message for flow in self._flows.values() for message in flow.take()]
        if position is not None and position != self._position:
            self._position = self._unsaved = position
        self._owed = self._receipts
        self._send(messages)

    def _send(self, messages: Sequence[Message]) -> None:
        """Publish ``messages`` behind what could not be; what cannot be now stays, in order."""
        self._unsent.extend(messages)
        try:
            if self._unsent:
                self._publisher.publish(self._unsent)
            else:
                self._forward()
        except (BrokerUnavailableError, ObjectStoreUnavailableError) as away:
            self._set_state("waiting", str(away))
            return
        except InputError:
            raise
        except FusionError as failed:
            # The publisher's promise: what came waits on disk; somebody has to mend something.
            self._note_sending(str(failed))
        else:
            self._note_sending("")
        self._unsent = []
        if self._owed is not None:
            self._owed.receipt()
            self._owed = None
        self._save_position()

    def _note_sending(self, why: str) -> None:
        """Say why the broker does not take what is sent; without a device, that comes first."""
        if self._session is not None:
            self._set_state("connected", why)
        elif self._state == "waiting":
            self._set_state("connecting", why)

    def _save_position(self) -> None:
        now_ns = self._clock.monotonic_ns()
        is_due = now_ns - self._t_saved_ns >= SAVE_POSITION_S * NANOSECONDS
        if self._unsaved is not None and (is_due or self._session is None):
            self._positions.save(self._unsaved)
            self._unsaved, self._t_saved_ns = None, now_ns

    def _check_units(self, session: DeviceSession) -> None:
        units = {
            tag.name: tag.unit
            for stream in self._plant.streams
            if isinstance(stream, TelemetryStream)
            for tag in stream.tags
        }
        require_units(session.units, self._device.tag_sources, units)

    def _end_session(self, *, flushes: bool = False) -> None:
        """Free the device; with ``flushes``, after what was read of it was sent."""
        session, self._session = self._session, None
        for flow in self._flows.values():
            flow.forget()
        try:
            if flushes:
                # With its position: the next session must not give the same again.
                self._flush(position=None if session is None else session.position())
        finally:
            self._receipts = self._owed = None
            if session is not None:
                session.close()

    def _back_off(self, failed: DeviceUnavailableError) -> None:
        """Wait longer after every failure in a row; after a refusal at once as long as ever."""
        is_refused = isinstance(failed, DeviceRefusedError)
        backoff_s = min(FIRST_BACKOFF_S * 2.0**self._num_in_a_row, MAX_BACKOFF_S)
        backoff_s = MAX_BACKOFF_S if is_refused else backoff_s
        backoff_s *= random.uniform(0.5, 1.0)  # noqa: S311 spreads senders, protects nothing
        self._t_next_try_ns = self._clock.monotonic_ns() + round(backoff_s * NANOSECONDS)
        self._num_failures += 1
        self._num_in_a_row = min(self._num_in_a_row + 1, 10)
        self._set_state("refused" if is_refused else "connecting", str(failed))

    def _set_state(self, state: State, why: str) -> None:
        if (state, why) != (self._state, self._why):
            self._state, self._why = state, why
            self._on_state(state, why)

    def _say_health(self, *, is_due: bool) -> None:
        now_ns = self._clock.monotonic_ns()
        if not is_due and now_ns - self._t_said_ns < SAY_HEALTH_S * NANOSECONDS:
            return
        self._t_said_ns = now_ns
        health = self._health()
        self._on_health(health)
        if not self._unsent:
            self._send([self._health_message(health)])

    def _health(self) -> DeviceHealth:
        return DeviceHealth(
            plant=str(self._plant.address),
            device=self._device.name,
            protocol=self._device.protocol,
            t_ns=self._clock.now_ns(),
            state=self._state,
            why=self._why,
            connects=self._num_connects,
            failures=self._num_failures,
            waiting_records=self._num_waiting(),
            streams=tuple(flow.health() for flow in self._flows.values()),
        )

    def _health_message(self, health: DeviceHealth) -> Message:
        plant = health.plant
        headers = {
            "ce_specversion": "1.0",
            "ce_id": f"{plant}/{self._device.name}:{health.t_ns}",
            "ce_source": f"edge-{self._device.name}",
            "ce_type": "fusion.device-health",
            "ce_subject": plant,
            "ce_time": rfc3339(health.t_ns),
            "content-type": "application/json",
        }
        topic = self._plant.topic("stream-health")
        return Message(topic, plant, health.model_dump_json().encode(), headers)
