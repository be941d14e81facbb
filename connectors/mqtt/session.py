"""One connection to an MQTT broker; what its messages mean is an interpreter's.

The session at the broker is persistent where the interpreter wants it, and the subscriptions have
QoS 1: what is published while this process is away, the broker keeps as long as its own limits
allow. A message is acknowledged by :meth:`MqttSession.receipt`, when what it says is with the
product's broker or on disk: whatever is lost before, the MQTT broker sends again.

paho is driven by hand, in the caller's thread: where each tag has a message of its own, a thread or
an event loop between the socket and :meth:`MqttSession.read` costs more than the message.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import time
from collections import deque
from collections.abc import Sequence

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import SecretStr

from connectors.mqtt.client import MAX_PACKET_BYTES, BoundedClient, Came, call, new_client
from connectors.mqtt.interpreter import Interpreter, Publication
from connectors.mqtt.under_way import UnderWay
from fusion.errors import DeviceRefusedError, DeviceUnavailableError
from fusion.plant.devices import MqttDevice
from fusion.ports import Clock, Observed, Unusable

MAX_PER_READ = 20_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of messages that come before the broker has granted every subscription; the rest of the grants
is then awaited while they are read."""
MESSAGE_BYTES = 500
"""Of memory, without its topic and payload."""
SETTLE_S = 0.05
GOODBYE_S = 0.5
"""How long the broker has to take our last words."""
_REFUSALS = {4, 5, 128, 129, 132, 133, 134, 135, 138, 140}
"""Return codes of MQTT 3.1.1 and reason codes of MQTT 5 that say: not you, not so."""
_OTHER_VERSION = 132


class _LostError(Exception):
    """The connection is gone, or was never there; ``code`` is the broker's reason, if it said."""

    def __init__(self, why: str, code: int | None = None) -> None:
        super().__init__(why)
        self.code = code


class _LateError(_LostError):
    """The broker may be there, but did not answer in time."""


def _memory_of(came: Came) -> int:
    return MESSAGE_BYTES + len(came.topic) + len(came.payload)


def _hung_up(failed: Exception) -> bool:
    """Whether the connection went without a word."""
    if isinstance(failed, _LostError):
        return failed.code is None and not isinstance(failed, _LateError)
    return isinstance(failed, ConnectionResetError | BrokenPipeError)


def _is_pending(socket: object) -> bool:
    """Whether TLS has decoded more already: of that the socket does not tell."""
    return isinstance(socket, ssl.SSLSocket) and socket.pending() > 0


class MqttSession:
    """Implements :class:`fusion.ports.DeviceSession` for what comes through an MQTT broker.

    And :class:`fusion.ports.TakesReceipts`: what has no receipt, the broker sends again.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: No connection.
    """

    def __init__(
        self,
        device: MqttDevice,
        interpreter: Interpreter,
        *,
        clock: Clock,
        password: SecretStr | None = None,
    ) -> None:
        self._device = device
        self._stream = device.streams[0]  # (Found by going through all tags: not for each message.)
        self._interpreter = interpreter
        self._clock = clock
        self._came: deque[Came] = deque()
        self._waiting_bytes = 0
        self._under_way = UnderWay()
        self._asked: dict[int, str] = {}
        self._refused_filter: str | None = None
        self._answer: ReasonCode | None = None
        self._parting: ReasonCode | None = None
        self._broken: Exception | None = None
        self._is_open = False
        self._t_read_s = self._t_caught_up_s = time.monotonic()
        self._grants_left_s = device.timeout_s
        self._client = self._new_client(MQTTProtocolVersion.MQTTv5, password)
        try:
            self._open(password)
        except BaseException as failed:
            self.close()
            if isinstance(failed, _LostError | OSError):
                raise self._lost(failed) from failed
            raise

    @property
    def units(self) -> dict[str, str]:
        """MQTT states none."""
        return {}

    @property
    def is_ended(self) -> bool:
        """A broker never ends."""
        return False

    @property
    def holds_until_ns(self) -> int | None:
        """Until when what was said holds, by the interpreter."""
        return self._interpreter.holds_until_ns(self._clock.now_ns())

    @property
    def awaits_receipt(self) -> bool:
        """Whether the broker seems to say no more before it has a :meth:`receipt`."""
        return self._under_way.is_full

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return what the messages say that came, about ``MAX_PER_READ`` readings at most."""
        found: list[Observed] = []
        try:
            if self._broken is not None:
                raise self._broken
            self._note_pause()
            self._require_grants()
            self._read(timeout_s, found)
        except (_LostError, OSError) as lost:
            if not found:
                raise self._lost(lost) from lost
            self._broken = lost  # What came before goes first.
        self._t_read_s = time.monotonic()
        return found

    def receipt(self) -> None:
        """Acknowledge all that was given out: the broker need not keep it any longer."""
        try:
            for number in self._under_way.settle():
                self._require(self._client.ack(number, qos=1))
        except (_LostError, OSError) as lost:
            self._broken = self._broken or lost

    def position(self) -> str:
        """Return nothing: how far this client has come, the broker knows."""
        return ""

    def close(self) -> None:
        """Say goodbye, if there is still somebody to say it to."""
        socket = self._client.socket()
        self._client.take = None  # (What still comes is not acknowledged: it comes again.)
        with contextlib.suppress(_LostError, OSError):
            self._say_goodbye()
            self._client.disconnect()
        if socket is not None:
            socket.close()

    def _say_goodbye(self) -> None:
        last_words = self._interpreter.on_close() if self._is_open else ()
        self._is_open = False
        sent = [self._publish(each) for each in last_words]
        t_end_s = time.monotonic() + GOODBYE_S
        while not all(each.is_published() for each in sent) and time.monotonic() < t_end_s:
            self._turn(max(0.0, t_end_s - time.monotonic()))
        # A socket that is closed over bytes that came meanwhile is reset, and the broker then
        # does not see the last acknowledgements: it would send all these again.
        t_end_s = time.monotonic() + SETTLE_S
        while (left_s := t_end_s - time.monotonic()) > 0:
            self._turn(left_s)

    def _new_client(
        self, version: MQTTProtocolVersion, password: SecretStr | None
    ) -> BoundedClient:
        client = new_client(
            self._device,
            version=version,
            keeps_session=self._interpreter.keeps_session,
            password=password,
        )
        if (will := self._interpreter.will) is not None:
            client.will_set(will.topic, will.payload, qos=will.qos, retain=will.is_retained)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.take = self._on_message
        return client

    def _on_connect(
        self, _client: object, _data: object, _flags: object, code: ReasonCode, *_: object
    ) -> None:
        self._answer = code

    def _on_disconnect(
        self,
        _client: object,
        _data: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        *_: object,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._parting = code

    def _on_subscribe(
        self, _client: object, _data: object, number: int, codes: Sequence[ReasonCode], *_: object
    ) -> None:
        topic_filter = self._asked.pop(number, None)
        self._grants_left_s = self._device.timeout_s  # Each grant is a sign of life.
        if topic_filter is not None and any(code.is_failure for code in codes):
            self._refused_filter = topic_filter

    def _on_message(self, came: Came) -> None:
        self._came.append(came)
        self._waiting_bytes += _memory_of(came)

    def _open(self, password: SecretStr | None) -> None:
        try:
            self._connect(MQTTProtocolVersion.MQTTv5)
        except _LateError:
            raise
        except _LostError as lost:
            if lost.code not in {None, _OTHER_VERSION}:
                raise
            # A broker that knows no MQTT 5 says so, or says nothing and hangs up.
            if (socket := self._client.socket()) is not None:
                socket.close()
            self._answer = self._parting = None
            self._client = self._new_client(MQTTProtocolVersion.MQTTv311, password)
            self._connect(MQTTProtocolVersion.MQTTv311)
        self._subscribe()
        for each in self._interpreter.on_connect():
            self._publish(each)
        self._is_open = True

    def _connect(self, version: MQTTProtocolVersion) -> None:
        keeps_session = self._interpreter.keeps_session
        call(self._client, self._device, version=version, keeps_session=keeps_session)
        t_end_s = time.monotonic() + self._device.timeout_s
        while self._answer is None:
            if (left_s := t_end_s - time.monotonic()) <= 0:
                raise self._late("answer")
            self._turn(left_s)
        self._require(MQTTErrorCode.MQTT_ERR_SUCCESS)

    def _subscribe(self) -> None:
        """Ask for every topic, and wait until all are granted, or much or for long other comes."""
        # All are asked for before the first answer is awaited: there may be thousands.
        for topic_filter in self._interpreter.filters:
            code, number = self._client.subscribe(topic_filter, qos=1)
            self._require(code)
            assert number is not None, "asked for"
            self._asked[number] = topic_filter
        self._grants_left_s = self._device.timeout_s
        while self._asked and self._waiting_bytes <= MAX_WAITING_BYTES and self._grants_left_s > 0:
            self._turn(self._grants_left_s)
        self._require_grants()
        self._grants_left_s = self._device.timeout_s  # What came is read meanwhile.

    def _late(self, what: str) -> _LateError:
        return _LateError(f"it did not {what} within {self._device.timeout_s:g} s")

    def _require_grants(self) -> None:
        """Raise where a subscription is refused, or not answered although all else is read."""
        if self._refused_filter is not None:
            raise DeviceRefusedError(
                f"{self._device.name} must be allowed to subscribe to {self._refused_filter!r}, "
                "and the broker refuses it; give this user the right to read it"
            )
        is_late = self._asked and self._grants_left_s <= 0 and not self._came
        if is_late and not self._is_unread():
            raise self._late("grant the subscriptions")

    def _is_unread(self) -> bool:
        if (socket := self._client.socket()) is None:
            return False
        return _is_pending(socket) or bool(select.select([socket], [], [], 0.0)[0])

    def _note_pause(self) -> None:
        """After a pause, let paho not judge by what lies unread: its ping was answered, perhaps."""
        now_s, keepalive_s = time.monotonic(), self._client.keepalive
        if now_s - self._t_read_s > keepalive_s / 2:
            self._t_caught_up_s = now_s + keepalive_s / 2

    def _turn(self, timeout_s: float) -> None:
        """Wait for the socket, and do with it what is to be done: one packet at most."""
        socket = self._client.socket()
        if socket is None:
            self._require(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        assert socket is not None
        is_pending = _is_pending(socket)
        writes = [socket] if self._client.want_write() else []
        t_wait_s = time.monotonic()  # (Its grants may lie behind what is unread: nobody waits.)
        ready, free, _ = select.select([socket], writes, [], 0.0 if is_pending else timeout_s)
        self._grants_left_s -= time.monotonic() - t_wait_s
        if free:
            self._require(self._client.loop_write())
        if ready or is_pending:
            self._require(self._client.loop_read())
        if not (ready or is_pending) or time.monotonic() >= self._t_caught_up_s:
            self._require(self._client.loop_misc())

    def _require(self, code: MQTTErrorCode) -> None:
        for said in (self._answer, self._parting):
            if said is not None and said.is_failure:
                raise _LostError(str(said), said.value)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            broken = self._client.broken
            if isinstance(broken, ssl.SSLError):
                raise broken
            raise _LostError(paho.error_string(code) if broken is None else str(broken))

    def _read(self, timeout_s: float, found: list[Observed]) -> None:
        """Take what comes in ``timeout_s``; after the first, only what is there already."""
        t_end_s = time.monotonic() + timeout_s
        num_taken = 0
        while True:
            while self._came:
                self._take(self._came.popleft(), found)
                num_taken += 1
                if len(found) >= MAX_PER_READ or time.monotonic() >= t_end_s:
                    return  # (Where something always comes, the first must not wait for the last.)
                # Straight on, as long as each look at the socket brings a whole message.
                if not self._came:
                    self._require(self._client.loop_read())
            left_s = t_end_s - time.monotonic()
            if found or left_s <= 0:
                break
            self._turn(left_s)
        if not num_taken and timeout_s >= SETTLE_S:
            self._under_way.note_silence()

    def _take(self, came: Came, found: list[Observed]) -> None:
        self._waiting_bytes -= _memory_of(came)
        self._interpret(came, found)
        if came.qos:
            self._under_way.add(came.number)

    def _interpret(self, came: Came, found: list[Observed]) -> None:
        try:
            topic = came.topic.decode()
        except UnicodeDecodeError:
            found.append(Unusable(self._stream, "a topic must be UTF-8, and one is not"))
            return
        if came.num_bytes > MAX_PACKET_BYTES:
            why = f"{topic}: {came.num_bytes} bytes, more than {MAX_PACKET_BYTES}"
            found.append(Unusable(self._stream, why))
            return
        said, answers = self._interpreter.interpret(
            topic,
            came.payload,
            is_retained=came.is_retained,
            t_receive_ns=self._clock.now_ns(),
        )
        found += said
        for each in answers:
            self._publish(each)

    def _publish(self, said: Publication) -> paho.MQTTMessageInfo:
        sent = self._client.publish(said.topic, said.payload, said.qos, said.is_retained)
        self._require(sent.rc)
        return sent

    def _lost(self, failed: Exception) -> DeviceUnavailableError:
        where = f"{self._device.name} must be reached at {self._device.host}:{self._device.port}"
        if isinstance(failed, _LostError) and failed.code in _REFUSALS:
            return DeviceRefusedError(
                f"{where}, and the broker refuses: {failed}; check username, password and rights"
            )
        if isinstance(failed, ssl.SSLCertVerificationError):
            return DeviceRefusedError(f"{where}, and its certificate is not trusted: {failed}")
        if isinstance(failed, ssl.SSLError) and "alert" in str(failed).lower():
            return DeviceRefusedError(
                f"{where}, and the broker refuses our side of TLS: {failed}; "
                "check certificate_file and key_file of tls, and whom the broker trusts"
            )
        why = str(failed) or type(failed).__name__
        if self._device.tls is not None and not self._is_open and _hung_up(failed):
            # That a certificate is refused is told after the handshake, if it comes at all.
            return DeviceUnavailableError(
                f"{where}, but it hung up before it answered; check the broker and the network, "
                "certificate_file and key_file of tls, and whom the broker trusts"
            )
        return DeviceUnavailableError(f"{where}, but {why}; check the broker and the network")
