"""Notifications by HTTP: one POST of JSON for each notice, signed where a secret is given.

The signature is HMAC-SHA256 of the body, in ``X-Fusion-Signature: sha256=<hex>``; the id of the
notice is in ``Idempotency-Key``, so that a receiver can drop repeats.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict

from fusion.errors import NotifierUnavailableError, SettingsError
from fusion.ports import Notice

TIMEOUT_S = 10.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A notice goes where it was told to go, and nowhere else."""

    def redirect_request(self, *_args: object, **_options: object) -> None:
        """Follow none."""
        return


class WebhookNotifier:
    """Posts to one address; what was not answered with 2xx was not taken."""

    def __init__(
        self, url: str, *, secret: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        """Prepare for ``url``; ``context`` says which authorities are trusted.

        Raises:
            SettingsError: It is no address of http or https.
        """
        parts = urllib.parse.urlsplit(url)
        is_plain = url.isprintable() and " " not in url and "@" not in parts.netloc
        if parts.scheme not in {"http", "https"} or not parts.hostname or not is_plain:
            raise SettingsError(
                "a webhook must have an address like https://host/path, and what came (it is not "
                "shown: it may hold a secret) is none; mend it"
            )
        self._url, self._host = url, parts.hostname
        self._secret = secret
        handlers = [_NoRedirects(), urllib.request.ProxyHandler({})]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def notify(self, notice: Notice) -> None:
        """Post ``notice``; see the port."""
        body = json.dumps(asdict(notice), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": _ascii(notice.id)}
        if self._secret is not None:
            digest = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Fusion-Signature"] = f"sha256={digest}"
        request = urllib.request.Request(  # noqa: S310 the scheme was checked
            self._url, data=body, headers=headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S):
                pass
        except urllib.error.HTTPError as refused:
            refused.close()
            raise self._unavailable(f"it answered {refused.code}") from None
        except OSError as failed:
            raise self._unavailable(f"{type(failed).__name__}: {failed}") from failed
        except http.client.HTTPException as failed:  # its words may show the address
            raise self._unavailable(type(failed).__name__) from None

    def _unavailable(self, why: str) -> NotifierUnavailableError:
        return NotifierUnavailableError(
            f"the webhook at {self._host} must take a notice with 2xx, but {why}; check that it "
            "runs and is reached from here"
        )


def _ascii(text: str) -> str:
    return urllib.parse.quote(text, safe=":/-_.")
