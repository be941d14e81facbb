"""One connection to an MQTT broker; what its messages mean is an interpreter's.

The session at the broker is persistent and the subscriptions have QoS 1: what is published while
this process is away, the broker keeps as long as its own limits allow.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiomqtt
from pydantic import SecretStr

from fusion.errors import DeviceRefusedError, DeviceUnavailableError, InputError
from fusion.plant.devices import MqttDevice
from fusion.ports import Clock, Observed, Unusable

MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
MAX_PER_READ = 20_000
MAX_WAITING = 100_000
"""Messages that came while one read ran; more are dropped by the client, which is noticed."""
CLOSE_S = 2.0
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
        """Return what the messages say that came, at most ``MAX_PER_READ``."""
        try:
            return self._runner.run(self._read(timeout_s))
        except (aiomqtt.MqttError, OSError) as lost:
            raise self._lost(lost) from lost

    def position(self) -> str:
        """Return nothing: how far this client has come, the broker knows."""
        return ""

    def close(self) -> None:
        """Say goodbye, or give up after two seconds."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(aiomqtt.MqttError, OSError, TimeoutError):
                self._runner.run(asyncio.wait_for(client.__aexit__(None, None, None), CLOSE_S))
        self._runner.close()

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

    async def _read(self, timeout_s: float) -> list[Observed]:
        assert self._client is not None
        messages = self._client.messages
        found: list[Observed] = []
        try:
            first = await asyncio.wait_for(anext(messages), timeout_s)
        except TimeoutError:
            return found
        await self._take(first, found)
        while len(messages) and len(found) < MAX_PER_READ:
            await self._take(await anext(messages), found)
        return found

    async def _take(self, message: aiomqtt.Message, found: list[Observed]) -> None:
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
