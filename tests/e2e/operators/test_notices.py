"""People away from the screen are told of what the real stack raises, and none in vain."""

from __future__ import annotations

import contextlib
import email
import email.policy
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.operate import ask, command
from fusion.schema import AlarmEvent
from tests.conftest import ROOT
from tests.e2e.operators.rig import PERIOD_S
from tests.e2e.operators.stack import VALVE_AT, Stack
from tests.receivers import Receiver, mail_server, receiving

pytestmark = [pytest.mark.xdist_group("operators"), pytest.mark.timeout(1_500)]
REPEAT_S, ESCALATE_S = 10, 12
SECRET = "between us"
ALARM = "rig-abnormal"


def routes(mail_port: int) -> dict[str, Any]:
    mail = {"kind": "email", "host": "127.0.0.1", "port": mail_port, "security": "plain"}
    return {
        "channels": {
            "phone": {"kind": "webhook", "url_from": "PHONE_URL", "secret_from": "PHONE_SECRET"},
            "board": {"kind": "webhook", "url_from": "BOARD_URL"},
            "chief": mail | {"sender": "fusion@example.org", "recipients": ["chief@example.org"]},
        },
        "routes": [
            {
                "name": "urgent",
                "channel": "phone",
                "priorities": ["high"],
                "repeat_s": REPEAT_S,
                "escalate_after_s": ESCALATE_S,
                "escalate_to": "chief",
            },
            {"name": "rest", "channel": "board", "priorities": ["low"], "under": "demo/lab"},
        ],
    }


@contextlib.contextmanager
def notifying(stack: Stack, file: Path, said: Path, **secrets: str) -> Iterator[None]:
    """Run ``fusion alarms notify`` as people start it."""
    command = [sys.executable, "-m", "flows.cli", "alarms", "notify", str(stack.plant_file)]
    with said.open("w") as log:
        process = subprocess.Popen(
            [*command, "--routes", str(file)],
            env=os.environ | stack.environment | secrets,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(30) == 0, said.read_text()


def posted(receiver: Receiver, event: AlarmEvent | None = None) -> list[str]:
    """Return the ids of what was posted, of one event where one is named."""
    ids = [json.loads(body)["id"] for _, body in list(receiver.posts)]
    return [each for each in ids if event is None or each.startswith(f"{event.id}:")]


def mailed(folder: Path) -> list[Any]:
    paths = [path for path in folder.glob("new/*") if path.is_file()]
    return [email.message_from_bytes(p.read_bytes(), policy=email.policy.default) for p in paths]


def next_raise(stack: Stack, known: Sequence[AlarmEvent]) -> AlarmEvent:
    """Wait until the model raises its alarm once more."""
    found: list[AlarmEvent] = []
    old = {event.id for event in known}

    def has_come() -> bool:
        found[:] = [e for e in raises(stack) if e.id not in old]
        return bool(found)

    stack.until("the camera is knocked once more", has_come, patience_s=2 * PERIOD_S + 60)
    return found[-1]


def raises(stack: Stack) -> list[AlarmEvent]:
    return [e for e in stack.events() if e.transition == "raised" and e.state.name == ALARM]


def acknowledge(stack: Stack, who: str) -> None:
    asked = command(stack.plant, stack.settings, name=ALARM, action="acknowledge", who=who)
    answer = ask(stack.plant, stack.settings, asked)
    assert answer is not None
    assert answer.is_accepted, answer.why


def test_people_are_told_again_then_others_and_no_more_once_somebody_answers(
    stack: Stack, tmp_path: Path
) -> None:
    mails, said, file = tmp_path / "mail", tmp_path / "said.log", tmp_path / "notify.yaml"
    with contextlib.ExitStack() as open_now:
        board = open_now.enter_context(receiving())
        mail_port = open_now.enter_context(mail_server(mails))
        file.write_text(yaml.safe_dump(routes(mail_port)))
        with receiving() as phone:
            open_now.enter_context(
                notifying(
                    stack,
                    file,
                    said,
                    PHONE_URL=phone.url,
                    PHONE_SECRET=SECRET,
                    BOARD_URL=board.url,
                )
            )
            stack.until("the board hears of a valve", lambda: bool(posted(board)))
            repeated_while_the_broker_is_away(stack, phone, mails)
            silent_once_it_is_answered(stack, phone, mails)
            port = phone.server_address[1]
        told_when_the_phone_is_back(stack, port, mails, said)
        names = {json.loads(body)["name"] for _, body in board.posts}
        assert names <= {f"valve-beyond-{at}" for at in VALVE_AT}, "each route has its alarms"
        assert max(Counter(posted(board)).values()) == 1, "each once"
    assert SECRET not in said.read_text()
    assert "token=hidden" not in said.read_text()


def repeated_while_the_broker_is_away(stack: Stack, phone: Receiver, mails: Path) -> None:
    event = next_raise(stack, raises(stack))
    stack.until("the phone rings", lambda: bool(posted(phone, event)), patience_s=10)
    stack.kafka.kill()
    try:
        stack.until("it rings again", lambda: len(posted(phone, event)) >= 2, patience_s=30)
        stack.until("the chief hears of it", lambda: bool(mailed(mails)), patience_s=30)
    finally:
        stack.kafka.start()
    for headers, body in phone.posts:
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Fusion-Signature"] == f"sha256={digest}"
        assert json.loads(body)["priority"] == "high"
    (mail,) = mailed(mails)[:1]
    assert mail["To"] == "chief@example.org"
    assert f"high alarm: {ALARM}" in mail["Subject"]
    assert event.state.sentence.split(" (")[0] in " ".join(mail.get_content().split())
    assert max(Counter(posted(phone)).values()) == 1, "each notice once"


def silent_once_it_is_answered(stack: Stack, phone: Receiver, mails: Path) -> None:
    event = next_raise(stack, raises(stack))
    stack.until("the phone rings", lambda: bool(posted(phone, event)), patience_s=10)
    num_mails = len(mailed(mails))
    acknowledge(stack, "olga")
    time.sleep(ESCALATE_S + 3)
    assert len(posted(phone, event)) == 1
    assert len(mailed(mails)) == num_mails


def told_when_the_phone_is_back(stack: Stack, port: int, mails: Path, said: Path) -> None:
    num_mails = len(mailed(mails))
    event = next_raise(stack, raises(stack))
    stack.until("it is said", lambda: "phone again in 5 s" in said.read_text(), patience_s=15)
    with receiving(port) as phone:
        stack.until("the phone rings after all", lambda: bool(posted(phone, event)), patience_s=15)
        stack.until("the chief too", lambda: len(mailed(mails)) > num_mails, patience_s=20)
        assert max(Counter(posted(phone)).values()) == 1, "each notice once"
        acknowledge(stack, "olga")
