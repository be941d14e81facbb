"""Who somebody is, said by another server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a browser is sent to log in, and what must be kept until it comes back."""

    url: str
    kept: Mapping[str, str]
    """Secrets that tie the answer to this browser."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom the identity provider knows."""

    subject: str
    """Issuer and subject: never given to anybody else."""
    claims: Mapping[str, object]


class IdentityProvider(Protocol):
    """Says who somebody is, by OpenID Connect. Called from threads; may take seconds."""

    def depart(self, back_uri: str) -> Departure:
        """Return where to send somebody who comes back to ``back_uri``.

        Raises:
            IdentityUnavailableError: It did not answer.
            IdentityRefusedError: It is not the one that was configured.
        """
        ...

    def arrive(self, kept: Mapping[str, str], back_uri: str, answer: Mapping[str, str]) -> Identity:
        """Return who came back with ``answer``, the parameters of the request to ``back_uri``.

        Raises:
            IdentityUnavailableError: It did not answer.
            IdentityRefusedError: The answer proves nobody: the log-in was refused, is another
                browser's, or a token is forged, old or for somebody else.
        """
        ...
