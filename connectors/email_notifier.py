"""Notifications by e-mail: one message for each notice, over SMTP with STARTTLS or TLS."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal

from fusion.errors import NotifierUnavailableError
from fusion.ports import Notice

TIMEOUT_S = 10.0
_URGENCY = {"high": "1", "medium": "3", "low": "5"}


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where the mail server is, and who writes to whom."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    security: Literal["starttls", "tls", "plain"] = "starttls"
    """Plain only where nobody listens: neither password nor alarm is hidden then."""
    username: str | None = None
    password: str | None = None
    context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"SmtpSettings({self.host}:{self.port})"


class EmailNotifier:
    """Sends to one list of people; a server that refuses one of them has refused all."""

    def __init__(self, settings: SmtpSettings) -> None:
        """Prepare; nothing is connected yet."""
        self._settings = settings

    def notify(self, notice: Notice) -> None:
        """Send ``notice``; see the port."""
        settings = self._settings
        try:
            with self._connected() as server:
                if settings.username is not None:
                    server.login(settings.username, settings.password or "")
                refused = server.send_message(_message(notice, settings))
        except (smtplib.SMTPException, OSError) as failed:
            raise self._unavailable(type(failed).__name__, failed) from None
        if refused:
            raise self._unavailable("some were refused", sorted(refused))

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        context = settings.context or ssl.create_default_context()
        if settings.security == "tls":
            return smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=TIMEOUT_S, context=context
            )
        server = smtplib.SMTP(settings.host, settings.port, timeout=TIMEOUT_S)
        if settings.security == "starttls":
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server

    def _unavailable(self, what: str, why: object) -> NotifierUnavailableError:
        settings = self._settings
        return NotifierUnavailableError(
            f"the mail server {settings.host}:{settings.port} must take a notice for every "
            f"recipient, but {what}: {why}; check address, security ({settings.security}) and user"
        )


def _message(notice: Notice, settings: SmtpSettings) -> EmailMessage:
    message = EmailMessage()
    # What came from outside must not begin a header of its own.
    message["Subject"] = " ".join(notice.subject.split())
    message["From"], message["To"] = settings.sender, ", ".join(settings.recipients)
    message["Date"] = format_datetime(datetime.fromtimestamp(notice.t_ns / 1e9, UTC))
    digest = hashlib.sha256(notice.id.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@fusion.invalid>"
    message["X-Priority"] = _URGENCY.get(notice.priority, "3")
    message.set_content(notice.text)
    return message
