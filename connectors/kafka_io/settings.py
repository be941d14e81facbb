"""How the cluster is reached, and by whom."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from fusion.errors import SettingsError

Security = Literal["plaintext", "ssl", "sasl_ssl"]
MAX_RECONNECT_PAUSE_MS = 1_000
"""As Kafka's own clients have it. kafka-python waits up to half a minute, so that a broker which
was away for a few seconds would be found again long after it is back."""
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the cluster, who asks, and how often new topics are stored there."""

    bootstrap_servers: str
    security: Security = "plaintext"
    ca_file: Path | None = None
    """PEM of the authority that signed the brokers' certificates; without it, the system's."""
    cert_file: Path | None = None
    """PEM of this client's certificate (mutual TLS), with ``key_file``."""
    key_file: Path | None = None
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    replication: int = -1
    """Copies of each new topic; -1 leaves it to the brokers."""

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments with which kafka-python's clients reach the cluster.

        The names of files, not what is in them: a renewed certificate counts from the next
        connection on.

        Raises:
            SettingsError: A certificate or key cannot be used.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security.upper(),
            "reconnect_backoff_max_ms": MAX_RECONNECT_PAUSE_MS,
        }
        if self.security != "plaintext":
            self.ssl_context()
            options |= {
                f"ssl_{name}": None if path is None else str(path)
                for name, path in (
                    ("cafile", self.ca_file),
                    ("certfile", self.cert_file),
                    ("keyfile", self.key_file),
                )
            }
        if self.security == "sasl_ssl":
            assert self.password is not None, "settings with SASL have a password"
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": _Unprinted(self.password.get_secret_value()),
            }
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Return what TLS connections need: whom to trust, what to show, names are checked.

        Raises:
            SettingsError: A certificate or key cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.ca_file is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.ca_file)
            if self.cert_file is not None:
                # Without a password of its own OpenSSL would ask the terminal for one, and wait.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (OSError, ValueError) as unusable:
            raise SettingsError(
                "certificates and keys must be readable PEM files, a key without a passphrase "
                f"that fits its certificate, but: {unusable}; check FUSION_KAFKA_CA_FILE "
                f"({self.ca_file}), FUSION_KAFKA_CERT_FILE ({self.cert_file}) and "
                f"FUSION_KAFKA_KEY_FILE ({self.key_file})"
            ) from unusable
        return context


class _Unprinted(str):
    """A password that keeps out of the client's debug log, which prints its configuration."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"
