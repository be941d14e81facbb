"""Whether the brokers let this client in.

kafka-python tries again when a broker refuses it, until it says no more than that it timed out, so
that a wrong password looks like a broker that is away. One connection of our own tells them apart.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from kafka.errors import KafkaError, NoError, for_code
from kafka.net.sasl.scram import SaslMechanismScram
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from connectors.kafka_io.settings import KafkaSettings
from fusion.errors import SettingsError

PROBE_TIMEOUT_S = 5.0
DEFAULT_PORT = 9092
TLS_ALERT = b"\x15\x03"
"""How a TLS server's answer begins to one who does not speak TLS (RFC 8446, 5.1 and 6)."""
METADATA_VERSION = 5
"""Every broker since Apache Kafka 1.0 answers it, and none before it knows who asks."""


def require_access(settings: KafkaSettings) -> None:
    """Return unless a broker refuses this client; one that does not answer is no refusal.

    Raises:
        SettingsError: A broker refuses it, or cannot be trusted; trying again would not help.
    """
    context = None if settings.security == "plaintext" else settings.ssl_context()
    give_up_s = time.monotonic() + PROBE_TIMEOUT_S
    for server in settings.bootstrap_servers.split(","):
        address = urlsplit(f"//{server.strip()}")
        left_s = give_up_s - time.monotonic()
        # Brokers that are away, and such as go away while they are asked, are their client's to
        # report: it waits for them.
        with contextlib.suppress(OSError, EOFError), _explained(settings, server):
            if left_s > 0:
                place = (address.hostname or "", address.port or DEFAULT_PORT)
                _ask(settings, context, place, timeout_s=left_s)
                return


def _ask(
    settings: KafkaSettings,
    context: ssl.SSLContext | None,
    address: tuple[str, int],
    *,
    timeout_s: float,
) -> None:
    """Return when a broker has answered a question that it answers to its clients only."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(address, timeout_s))
        if context is not None:
            connection = stack.enter_context(
                context.wrap_socket(connection, server_hostname=address[0])
            )
        dialogue = _Dialogue(connection)
        if settings.security == "sasl_ssl":
            _log_in(settings, dialogue)
        dialogue.answer(MetadataRequest(version=METADATA_VERSION, topics=[]))


def _log_in(settings: KafkaSettings, dialogue: _Dialogue) -> None:
    begun = dialogue.answer(SaslHandshakeRequest(version=1, mechanism=settings.sasl_mechanism))
    if for_code(begun.error_code) is not NoError:
        raise _RefusedError(
            f"it offers {', '.join(begun.mechanisms) or 'no log-in'}, not "
            f"{settings.sasl_mechanism}; set FUSION_KAFKA_SASL_MECHANISM, or the port of "
            "SASL_SSL in FUSION_KAFKA_BOOTSTRAP"
        )
    scram = SaslMechanismScram(**settings.client_options())
    while not scram.is_done():
        said = dialogue.answer(SaslAuthenticateRequest(scram.auth_bytes(), version=0))
        if for_code(said.error_code) is not NoError:
            raise _RefusedError(
                f"user {settings.username!r} or the password is wrong ({said.error_message}); set "
                "FUSION_KAFKA_USERNAME and FUSION_KAFKA_PASSWORD or _PASSWORD_FILE"
            )
        scram.receive(said.auth_bytes)


class _Dialogue:
    """Requests and their answers, one at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._parser = KafkaProtocol(client_id="fusion")

    def answer(self, request: Any) -> Any:
        self._parser.send_request(request)
        self._connection.sendall(self._parser.send_bytes())
        received = self._connection.recv(65_536)
        # An answer begins with its length, and none is 350 MB.
        if received.startswith(TLS_ALERT):
            raise _RefusedError(
                "it speaks TLS there and this client plaintext; set FUSION_KAFKA_SECURITY"
            )
        while received:
            answers = self._parser.receive_bytes(received)
            if answers:
                return answers[0][1]
            received = self._connection.recv(65_536)
        raise EOFError


class _RefusedError(Exception):
    """What the broker has against this client, and what to change."""


@contextlib.contextmanager
def _explained(settings: KafkaSettings, server: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as untrusted:
        why = (
            f"its certificate is not to be trusted ({untrusted.verify_message}); set "
            "FUSION_KAFKA_CA_FILE to the authority that signed it, and reach it by a name in it"
        )
        refused: Exception = untrusted
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        raise  # it went away
    except ssl.SSLError as broken:
        shown = f"the certificate {settings.cert_file}" if settings.cert_file else "no certificate"
        why = (
            f"TLS with {shown} of this client fails ({broken.reason}); set FUSION_KAFKA_CERT_FILE "
            "and FUSION_KAFKA_KEY_FILE to what it wants, or FUSION_KAFKA_SECURITY to what its "
            "port speaks"
        )
        refused = broken
    except (_RefusedError, KafkaError, ValueError) as said:
        why, refused = str(said), said
    else:
        return
    raise SettingsError(f"the broker at {server} must accept this client, but {why}") from refused
