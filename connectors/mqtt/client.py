"""paho's client as this product uses it: which MQTT it speaks, and how much it may keep.

MQTT 5 first. Its *Receive Maximum* lets the broker have thousands of messages under way that are
not acknowledged yet; by MQTT 3.1.1 its own limit stands (mosquitto: 20). MQTT 5's *Maximum Packet
Size* is not used: a broker drops what is larger without a word, and nobody would know.
"""

# pyright: reportPrivateUsage=false
# (paho tells nobody how long a packet will be, and has no bound of its own. For a message of MQTT 5
# without properties it takes more than ten times as long as for one of MQTT 3.1.1.)

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import SecretStr

from fusion.errors import InputError
from fusion.plant.devices import MqttDevice

MAX_PACKET_BYTES = 4 * 1024 * 1024
MAX_UNDER_WAY = 20_000
"""Messages that the broker may send before the first is acknowledged: a second of the fastest
plant that was measured, twice."""
FOR_EVER_S = 0xFFFFFFFF
"""How long the broker is to keep the session (MQTT 5, 3.1.2.11.2): as MQTT 3.1.1 does."""
_CHUNK_BYTES = 128 * 1024
"""Of what is thrown away at once; more than the head of any message."""
_PUBLISH = 0x30


class Came(NamedTuple):
    """A message."""

    topic: bytes
    payload: bytes
    """Nothing where the packet is too long."""
    qos: int
    number: int
    """Its packet's, to acknowledge; 0 where nobody wants that."""
    is_retained: bool
    num_bytes: int
    """Of the packet, as it was announced."""


class BoundedClient(paho.Client):
    """A client that never keeps a packet of more than ``MAX_PACKET_BYTES``.

    Of a message that is announced as larger only its topic and number are kept: it is given to
    ``take``, to be acknowledged and told, and what follows comes as if nothing had been.
    """

    take: Callable[[Came], None] | None = None
    """Is given every message, in place of paho's ``on_message``."""
    broken: OSError | None = None
    """What the socket said at last; paho tells only that the connection is lost."""

    def _sock_recv(self, bufsize: int) -> bytes:
        coming = self._in_packet
        try:
            if coming["have_remaining"] and coming["remaining_length"] > MAX_PACKET_BYTES:
                self._keep_the_head()
                bufsize = min(bufsize, _CHUNK_BYTES)
            return super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as broken:
            self.broken = broken
            raise

    def _keep_the_head(self) -> None:
        command, packet = self._in_packet["command"], self._in_packet["packet"]
        if command & 0xF0 != _PUBLISH:
            raise ConnectionError(
                f"a packet of kind {command >> 4} must have at most {MAX_PACKET_BYTES} bytes, the "
                f"broker's has {self._in_packet['remaining_length']}"
            )
        if len(packet) < 2:
            return
        num_bytes = 2 + int.from_bytes(packet[:2]) + (2 if _qos(command) else 0)
        if len(packet) > num_bytes:
            # (In MQTT 5 properties follow: none.)
            packet[num_bytes:] = b"\0" if self._protocol == MQTTProtocolVersion.MQTTv5 else b""

    def _handle_publish(self) -> MQTTErrorCode:
        came = self._decoded()
        if came is None:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if self.take is not None:
            self.take(came)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _decoded(self) -> Came | None:
        """Return the message in the packet that has come whole (MQTT 5, 3.3); None if it is none.

        QoS 2, which nobody asked for, is none.
        """
        command, packet = self._in_packet["command"], self._in_packet["packet"]
        qos, number = _qos(command), 0
        at = 2 + int.from_bytes(packet[:2])
        topic = bytes(packet[2:at])
        if qos:
            number = int.from_bytes(packet[at : at + 2])
            at += 2
        if self._protocol == MQTTProtocolVersion.MQTTv5:
            at = _behind_properties(packet, at)
        if qos > 1 or not topic or at > len(packet) or (qos == 1) != (number > 0):
            return None
        num_bytes = self._in_packet["remaining_length"]
        payload = bytes(packet[at:]) if num_bytes <= MAX_PACKET_BYTES else b""
        return Came(topic, payload, qos, number, bool(command & 1), num_bytes)


def _qos(command: int) -> int:
    return command >> 1 & 0b11


def _behind_properties(packet: bytearray, at: int) -> int:
    """Return where the payload begins; nobody reads the properties (MQTT 5, 1.5.5 and 2.2.2)."""
    num_bytes = 0
    for index in range(4):
        if at + index >= len(packet):
            break
        byte = packet[at + index]
        num_bytes |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return at + index + 1 + num_bytes
    return len(packet) + 1


def new_client(
    device: MqttDevice,
    *,
    version: MQTTProtocolVersion,
    keeps_session: bool,
    password: SecretStr | None,
) -> BoundedClient:
    """Return a client for ``device`` that is not connected yet.

    Raises:
        InputError: A file of ``tls`` cannot be used.
    """
    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=device.client_id or f"fusion-edge-{device.name}",
        clean_session=None if version == MQTTProtocolVersion.MQTTv5 else not keeps_session,
        protocol=version,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = device.timeout_s
    if device.login is not None:
        secret = None if password is None else password.get_secret_value()
        client.username_pw_set(device.login.username, secret)
    if (context := _tls(device)) is not None:
        client.tls_set_context(context)
    return client


def call(
    client: BoundedClient,
    device: MqttDevice,
    *,
    version: MQTTProtocolVersion,
    keeps_session: bool,
) -> None:
    """Open the socket and ask to be let in; the broker's answer comes later.

    Raises:
        OSError: Nobody is there.
    """
    keepalive_s = round(device.keepalive_s)
    if version != MQTTProtocolVersion.MQTTv5:
        client.connect(device.host, device.port, keepalive=keepalive_s)
        return
    asked = Properties(PacketTypes.CONNECT)
    asked.ReceiveMaximum = MAX_UNDER_WAY
    asked.SessionExpiryInterval = FOR_EVER_S if keeps_session else 0
    client.connect(
        device.host,
        device.port,
        keepalive=keepalive_s,
        clean_start=not keeps_session,
        properties=asked,
    )


class _ClosingSocket(ssl.SSLSocket):
    """A socket that closes where the handshake fails: paho forgets it then."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 it is Python's
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls(device: MqttDevice) -> ssl.SSLContext | None:
    if device.tls is None:
        return None
    try:
        context = ssl.create_default_context(
            cafile=None if device.tls.ca_file is None else str(device.tls.ca_file)
        )
        context.sslsocket_class = _ClosingSocket
        if device.tls.certificate_file is not None:
            context.load_cert_chain(device.tls.certificate_file, device.tls.key_file)
    except (OSError, ssl.SSLError) as wrong:
        raise InputError(
            f"tls of {device.name!r} must name readable PEM files, but: {wrong}; correct the paths"
        ) from wrong
    return context
