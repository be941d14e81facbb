"""What every way of telling people must do, against a real HTTP and a real SMTP server."""

from __future__ import annotations

import email
import email.policy
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.email_notifier import EmailNotifier, SmtpSettings
from connectors.webhook_notifier import WebhookNotifier
from fusion.errors import NotifierUnavailableError, SettingsError
from fusion.ports import Notice, Notifier
from tests.conftest import free_port
from tests.receivers import Receiver, mail_server, receiving

SECRET = "between us"
NOTICE = Notice(
    id="e/s/a:leak:7:raised:shift:phone:0",
    subject="high alarm: leak at pump\r\nBcc: everyone@example.org",
    text="Öl läuft aus: discharge_pressure is 0.4 bar.\n\n.\nPlant e/s/a.",
    priority="high",
    plant="e/s/a",
    name="leak",
    t_ns=1_800_000_000_000_000_000,
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def mailer(port: int) -> EmailNotifier:
    return EmailNotifier(
        SmtpSettings(
            host="127.0.0.1",
            port=port,
            sender="fusion@example.org",
            recipients=("ann@example.org", "bob@example.org"),
            security="plain",
        )
    )


def until_taken(notify: Callable[[], None]) -> None:
    """Notify until the server, which is starting, takes it."""
    for _ in range(300):
        try:
            return notify()
        except NotifierUnavailableError:
            time.sleep(0.1)
    return notify()


def test_a_webhook_gets_the_notice_signed_and_named(receiver: Receiver) -> None:
    WebhookNotifier(receiver.url, secret=SECRET).notify(NOTICE)
    ((headers, body),) = receiver.posts
    assert json.loads(body)["text"] == NOTICE.text
    assert headers["Idempotency-Key"] == NOTICE.id
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Fusion-Signature"] == f"sha256={digest}"


@pytest.mark.parametrize("status", [302, 400, 500])
def test_what_is_not_taken_is_told(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(NotifierUnavailableError, match=f"it answered {status}") as told:
        WebhookNotifier(receiver.url).notify(NOTICE)
    assert "hidden" not in str(told.value)
    assert len(receiver.posts) == 1, "a redirect is not followed"


def test_mail_reaches_every_recipient_as_it_was_written(tmp_path: Path) -> None:
    with mail_server(tmp_path / "mail") as port:
        until_taken(lambda: mailer(port).notify(NOTICE))
    (kept,) = (tmp_path / "mail" / "new").iterdir()
    message = email.message_from_bytes(kept.read_bytes(), policy=email.policy.default)
    assert message["Subject"] == "high alarm: leak at pump Bcc: everyone@example.org"
    assert message["Bcc"] is None
    assert message["X-RcptTo"] == "ann@example.org, bob@example.org"
    assert message["X-Priority"] == "1"
    body = message.get_body()
    assert body is not None
    assert body.get_content().replace("\r\n", "\n").strip() == NOTICE.text


def test_mail_is_not_sent_in_the_open_when_it_must_not_be(tmp_path: Path) -> None:
    with mail_server(tmp_path / "mail") as port:
        until_taken(lambda: mailer(port).notify(NOTICE))
        safe = SmtpSettings("127.0.0.1", port, "a@example.org", ("b@example.org",))
        with pytest.raises(NotifierUnavailableError, match="starttls"):
            EmailNotifier(safe).notify(NOTICE)
    assert len(list((tmp_path / "mail" / "new").iterdir())) == 1


@pytest.mark.parametrize("kind", ["webhook", "mail"])
def test_nobody_there_is_told(kind: str) -> None:
    port = free_port()
    away: Notifier = (
        WebhookNotifier(f"http://127.0.0.1:{port}/") if kind == "webhook" else mailer(port)
    )
    with pytest.raises(NotifierUnavailableError, match="must take a notice"):
        away.notify(NOTICE)


def test_an_address_that_is_none_is_refused_and_never_shown() -> None:
    for text in (
        "file:///etc/passwd",
        "hunter2",
        "https://",
        "https://ann:hunter2@h/x",
        "http://h/hunter2 x",
    ):
        with pytest.raises(SettingsError, match="must have an address") as told:
            WebhookNotifier(text)
        assert "hunter2" not in str(told.value)
