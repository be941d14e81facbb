"""One connection to an MQTT broker; what its messages mean is an interpreter's.

The session at the broker is persistent and the subscriptions have QoS 1: what is published while
this process is away, the broker keeps as long as its own limits allow. A message is acknowledged
when :meth:`MqttSession.read` gives it out, not when it arrives: what nobody has taken, the broker
sends again, and it sends no more than its own limit of what is under way (mosquitto: 20).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiomqtt
import paho.mqtt.client as paho
from pydantic import SecretStr

from fusion.errors import DeviceRefusedError, DeviceUnavailableError, InputError
from fusion.plant.devices import MqttDevice
from fusion.ports import Clock, Observed, Unusable

MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
MAX_PER_READ = 20_000
MAX_WAITING = 100_000
"""More than any broker has under way without an acknowledgement (a 16-bit count). Nothing arrives
while nobody reads; should more come at once without one (QoS 0), the client drops it."""
CLOSE_S, SETTLE_S = 2.0, 0.05
_REFUSALS = {4, 5, 128, 129, 132, 133, 134, 135, 138, 140}
"""Return codes of MQTT 3.1.1 and reason codes of MQTT 5 that say: not you, not so."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Something to tell others through the broker."""

    topic: str
    payload: bytes
    is_retained: bool = False


class Interpreter(Protocol):
    """What the messages of one way to use MQTT mean."""

    @property
    def filters(self) -> Sequence[str]:
        """What to subscribe to."""
        ...

    def on_connect(self) -> Sequence[Publication]:
        """Return what to say first."""
        ...

    def interpret(
        self, topic: str, payload: bytes, *, is_retained: bool, t_receive_ns: int
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        """Return what a message says, and what to answer. Takes any bytes."""
        ...

    def holds_until_ns(self, now_ns: int) -> int | None:
        """Return until when what was said holds, while the connection lives."""
        ...


class MqttSession:
    """Implements :class:`fusion.ports.DeviceSession` for what comes through an MQTT broker.

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
        will: Publication | None = None,
    ) -> None:
        self._device = device
        self._interpreter = interpreter
        self._clock = clock
        self._runner = asyncio.Runner()
        self._client: aiomqtt.Client | None = None
        self._next: asyncio.Future[aiomqtt.Message] | None = None
        self._broken: Exception | None = None
        try:
            self._runner.run(self._open(password, will))
        except BaseException as failed:
            self.close()
            if isinstance(failed, aiomqtt.MqttError | OSError | TimeoutError):
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

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return what the messages say that came, about ``MAX_PER_READ`` readings at most."""
        found: list[Observed] = []
        try:
            if self._broken is not None:
                raise self._broken
            self._runner.run(self._read(timeout_s, found))
        except (aiomqtt.MqttError, OSError) as lost:
            if not found:
                raise self._lost(lost) from lost
            self._broken = lost  # What came before is acknowledged: it goes first.
        return found

    def position(self) -> str:
        """Return nothing: how far this client has come, the broker knows."""
        return ""

    def close(self) -> None:
        """Say goodbye, or give up after two seconds."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(aiomqtt.MqttError, OSError, TimeoutError):
                self._runner.run(asyncio.wait_for(self._part(client), CLOSE_S))
        self._runner.close()

    async def _part(self, client: aiomqtt.Client) -> None:
        if self._next is not None:
            self._next.cancel()  # Nobody would ask any more how it went.
        # A socket that is closed over bytes that came meanwhile is reset, and the broker then does
        # not see the last acknowledgements: it would send all these again.
        await asyncio.sleep(SETTLE_S)
        await client.__aexit__(None, None, None)

    async def _open(self, password: SecretStr | None, will: Publication | None) -> None:
        device = self._device
        client = aiomqtt.Client(
            device.host,
            device.port,
            username=None if device.login is None else device.login.username,
            password=None if password is None else password.get_secret_value(),
            identifier=device.client_id or f"fusion-edge-{device.name}",
            clean_session=False,
            keepalive=round(device.keepalive_s),
            timeout=device.timeout_s,
            max_queued_incoming_messages=MAX_WAITING,
            tls_context=_tls(device),
            will=None
            if will is None
            else aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.is_retained),
        )
        self._protocol(client).manual_ack_set(on=True)
        await client.__aenter__()
        self._client = client
        for topic_filter in self._interpreter.filters:
            granted = await client.subscribe(topic_filter, qos=1)
            if any(code == 128 for code in granted):
                raise DeviceRefusedError(
                    f"{self._device.name} must be allowed to subscribe to {topic_filter!r}, and "
                    "the broker refuses it; give this user the right to read it"
                )
        await self._publish(self._interpreter.on_connect())

    async def _read(self, timeout_s: float, found: list[Observed]) -> None:
        assert self._client is not None
        messages = self._client.messages
        if self._next is None:
            self._next = asyncio.ensure_future(anext(messages))
        # Waited for across reads and never cancelled: that could lose what comes at that moment.
        await asyncio.wait({self._next}, timeout=timeout_s)
        if not self._next.done():
            return
        first, self._next = self._next, None
        await self._take(first.result(), found)
        while len(messages) and len(found) < MAX_PER_READ:
            await self._take(await anext(messages), found)

    @staticmethod
    def _protocol(client: aiomqtt.Client) -> paho.Client:
        """Return what speaks MQTT below ``client``, which itself knows no acknowledging by hand."""
        return client._client  # noqa: SLF001

    async def _take(self, message: aiomqtt.Message, found: list[Observed]) -> None:
        assert self._client is not None
        await self._interpret(message, found)
        self._protocol(self._client).ack(message.mid, message.qos)

    async def _interpret(self, message: aiomqtt.Message, found: list[Observed]) -> None:
        payload = message.payload if isinstance(message.payload, bytes) else b""
        topic = str(message.topic)
        if len(payload) > MAX_PAYLOAD_BYTES:
            why = f"{topic}: {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}"
            found.append(Unusable(self._device.streams[0], why))
            return
        said, answers = self._interpreter.interpret(
            topic, payload, is_retained=message.retain, t_receive_ns=self._clock.now_ns()
        )
        found += said
        await self._publish(answers)

    async def _publish(self, publications: Sequence[Publication]) -> None:
        assert self._client is not None
        for each in publications:
            await self._client.publish(each.topic, each.payload, qos=0, retain=each.is_retained)

    def _lost(self, failed: BaseException) -> DeviceUnavailableError:
        code = getattr(failed, "rc", None)
        number = getattr(code, "value", code)
        where = f"{self._device.name} must be reached at {self._device.host}:{self._device.port}"
        if number in _REFUSALS:
            return DeviceRefusedError(
                f"{where}, and the broker refuses: {failed}; check username, password and rights"
            )
        if isinstance(failed.__cause__ or failed, ssl.SSLCertVerificationError):
            return DeviceRefusedError(f"{where}, and its certificate is not trusted: {failed}")
        why = str(failed) or type(failed).__name__
        return DeviceUnavailableError(f"{where}, but {why}; check the broker and the network")


def _tls(device: MqttDevice) -> ssl.SSLContext | None:
    if device.tls is None:
        return None
    try:
        context = ssl.create_default_context(
            cafile=None if device.tls.ca_file is None else str(device.tls.ca_file)
        )
        if device.tls.certificate_file is not None:
            context.load_cert_chain(device.tls.certificate_file, device.tls.key_file)
    except (OSError, ssl.SSLError) as wrong:
        raise InputError(
            f"tls of {device.name!r} must name readable PEM files, but: {wrong}; correct the paths"
        ) from wrong
    return context
