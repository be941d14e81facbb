"""Log-in through an identity provider: OpenID Connect Core 1.0, authorization code flow with PKCE.

Authlib speaks the protocol, joserfc checks signatures. What must hold of the ID token beyond its
signature is said here: issuer, audience, nonce and time (section 3.1.3.7).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import SecretStr

from fusion.errors import IdentityRefusedError, IdentityUnavailableError
from fusion.ports import Departure, Identity

TIMEOUT_S = 10.0
LEEWAY_S = 60
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Signatures with a key that only the provider has: neither ``none`` nor a shared secret."""


class OidcProvider:
    """The identity provider of ``issuer``; what it says of itself is read for every log-in."""

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        client_secret: SecretStr | None,
        scope: str = "openid profile email",
        ca_file: Path | None = None,
    ) -> None:
        self._issuer, self._client_id, self._scope = issuer.rstrip("/"), client_id, scope
        self._client_secret = client_secret
        self._verify: bool | str = True if ca_file is None else str(ca_file)

    def depart(self, back_uri: str) -> Departure:
        """Return where to send somebody who comes back to ``back_uri``; see the port."""
        nonce, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        with self._session(back_uri) as session:
            about = self._get(session, f"{self._issuer}/.well-known/openid-configuration")
            self._require_issuer(about)
            url, state = session.create_authorization_url(
                about["authorization_endpoint"], code_verifier=verifier, nonce=nonce
            )
        kept = {"state": state, "nonce": nonce, "verifier": verifier}
        return Departure(url, kept)

    def arrive(self, kept: Mapping[str, str], back_uri: str, answer: Mapping[str, str]) -> Identity:
        """Return who came back with ``answer``; see the port."""
        if not secrets.compare_digest(answer.get("state", "").encode(), kept["state"].encode()):
            raise IdentityRefusedError("the answer must belong to this log-in, and does not")
        if "error" in answer:
            raise IdentityRefusedError(f"the identity provider refused it: {answer['error'][:100]}")
        try:
            with self._session(back_uri) as session:
                about = self._get(session, f"{self._issuer}/.well-known/openid-configuration")
                self._require_issuer(about)
                token = session.fetch_token(
                    about["token_endpoint"],
                    code=answer.get("code", ""),
                    code_verifier=kept["verifier"],
                    timeout=TIMEOUT_S,
                )
                keys = self._get(session, about["jwks_uri"])
            claims = self._proven(token.get("id_token", ""), keys, kept["nonce"])
        except requests.RequestException as failed:
            raise self._unavailable(failed) from failed
        except (AuthlibBaseError, JoseError, ValueError, KeyError) as refused:
            # Its words may hold parts of the token.
            raise IdentityRefusedError(
                f"the identity provider's answer is no proof: {_code_of(refused)}"
            ) from None
        return Identity(f"{self._issuer} {claims['sub']}", dict(claims))

    def _proven(self, id_token: str, keys: Any, nonce: str) -> CodeIDToken:
        """Return the claims of ``id_token`` once everything holds that makes them a proof."""
        read = jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)
        must = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._client_id},
            "sub": {"essential": True},
            "exp": {"essential": True},
            "nonce": {"essential": True, "value": nonce},
        }
        asked = {"nonce": nonce, "client_id": self._client_id}
        claims = CodeIDToken(read.claims, read.header, must, asked)
        claims.validate(leeway=LEEWAY_S)
        return claims

    def _session(self, back_uri: str) -> Any:
        """Return a session of requests that speaks OAuth 2; its types say too little of it."""
        secret = self._client_secret
        session: Any = OAuth2Session(
            self._client_id,
            None if secret is None else secret.get_secret_value(),
            scope=self._scope,
            redirect_uri=back_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="none" if secret is None else None,
        )
        session.verify, session.trust_env = self._verify, False
        return session

    def _get(self, session: Any, url: str) -> dict[str, Any]:
        try:
            answer = session.get(url, timeout=TIMEOUT_S, withhold_token=True)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as failed:
            raise self._unavailable(failed) from failed

    def _require_issuer(self, about: Mapping[str, Any]) -> None:
        # (Discovery 1.0, section 4.3: else another one could speak for it.)
        if str(about.get("issuer", "")).rstrip("/") != self._issuer:
            raise IdentityRefusedError(
                f"the identity provider must call itself {self._issuer}, got "
                f"{about.get('issuer')!r}; mend FUSION_CONSOLE_OIDC_ISSUER"
            )

    def _unavailable(self, failed: Exception) -> IdentityUnavailableError:
        return IdentityUnavailableError(
            f"the identity provider {self._issuer} must answer, but {type(failed).__name__}; try "
            "again, or log in with a password of the console"
        )


def _code_of(refused: Exception) -> str:
    """Return what was wrong as a code, such as ``invalid_client``; never more of the answer."""
    code = getattr(refused, "error", None)
    is_code = isinstance(code, str) and code.isascii() and code.replace("_", "").isalnum()
    return code[:60] if isinstance(code, str) and is_code else type(refused).__name__
