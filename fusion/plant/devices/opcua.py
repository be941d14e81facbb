"""OPC UA servers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from fusion.plant.described import Described
from fusion.plant.devices.described import DescribedDevice, Login, TagSource


class NodeSource(TagSource):
    """One variable of an OPC UA server."""

    node: str = Field(
        pattern=r"^(nsu=[^;]+;|ns=\d+;)?[isgb]=.+$",
        description="Node id; 'nsu=' (the namespace's URI) stays right when a server numbers its "
        "namespaces anew, 'ns=' does not.",
    )


class OpcUaSecurity(Described):
    """How the channel is secured. Files are PEM or DER; keys have no passphrase."""

    policy: Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate_file: Path = Field(description="Of this process; the server has to trust it.")
    key_file: Path
    server_certificate_file: Path = Field(
        description="Of the server: it is trusted because it is this one."
    )


class UserCertificate(Described):
    """A certificate as the user, PEM or DER, in place of name and password."""

    certificate_file: Path
    key_file: Path = Field(description="Without a passphrase.")


class OpcUaDevice(DescribedDevice):
    """An OPC UA server: subscriptions, and history for what was missed."""

    protocol: Literal["opcua"]
    endpoint: str = Field(pattern=r"^opc\.tcp://[^/\s@]+(:\d+)?(/\S*)?$")
    security: OpcUaSecurity | None = None
    login: Login | None = None
    user_certificate: UserCertificate | None = Field(
        default=None, description="Who logs in, where the server knows users by certificates."
    )
    nodes: tuple[NodeSource, ...] = Field(min_length=1, max_length=10_000)
    publishing_s: float = Field(default=0.1, ge=0.01, le=60, description="How often it may tell.")
    sampling_s: float = Field(default=0.0, ge=0, le=3_600, description="0: as fast as it can.")
    queue_size: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Values of a node that the server keeps between two publications, or while "
        "this process cannot send; then it drops the oldest.",
    )
    watchdog_s: float = Field(
        default=5.0,
        ge=1,
        le=600,
        description="The server's clock must be heard, and go on, at least so often.",
    )
    timeout_s: float = Field(default=4.0, ge=0.5, le=30, description="Of each request.")
    history: bool = Field(
        default=False, description="Ask the server's history for what was missed in an outage."
    )
    max_history_s: float = Field(
        default=86_400, gt=0, le=31_536_000, description="How far back at most."
    )

    @property
    def tag_sources(self) -> tuple[TagSource, ...]:
        """The nodes."""
        return self.nodes

    @model_validator(mode="after")
    def _user_is_one_and_secret(self) -> Self:
        if self.login is not None and self.user_certificate is not None:
            raise ValueError(
                f"device {self.name!r} must have login or user_certificate, it has both; delete "
                "the one that the server does not ask for"
            )
        if self.user_certificate is not None and self.security is None:
            raise ValueError(
                f"device {self.name!r} has a user_certificate, so it must have security too: the "
                "server asks for a signature over its own certificate; add security"
            )
        if self.login is not None and self.security is None:
            raise ValueError(
                f"device {self.name!r} has a login, so it must have security too: without it the "
                "password may cross the network in the clear; add security"
            )
        return self
