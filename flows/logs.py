"""What long-running processes say on stderr: lines for people, or one JSON object a line.

A line about a record has ``plant``, ``stream``, ``topic``, ``partition`` and ``offset``, as far as
they are known.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter
from rich.markup import escape

from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.schema import Lost, Message

LOG = logging.getLogger("fusion")
HIDDEN = "**********"
MAX_REFUSED_TOLD = 5
"""Of one transaction: the topic of dead letters has them all."""
Level = Literal["info", "warning", "error"]
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_COLOURS = {"info": "", "warning": "yellow", "error": "bold red"}


def begin_service(settings: Settings, process: str) -> None:
    """Let this process log as ``settings`` say; call it once, before anything is said."""
    if settings.log_format == "text":
        return
    CONSOLE.quiet = True  # (tables and colours are for people)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(json_formatter(settings, process))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)


def json_formatter(settings: Settings, process: str) -> logging.Formatter:
    """Return what writes a JSON line of this process, without any secret of ``settings``."""
    return _WithoutSecrets(
        "{message}{levelname}{name}",
        style="{",
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields={"process": process},
        json_ensure_ascii=False,
        secrets=settings.secrets(),
    )


class _WithoutSecrets(JsonFormatter):
    """Hides secrets wherever they come from: an error of a library may quote an address."""

    def __init__(self, *words: Any, secrets: Sequence[str], **named: Any) -> None:
        super().__init__(*words, **named)
        written = {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets}
        self._secrets = sorted(written, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return line


def tell(level: Level, what: str, detail: str = "", **fields: Any) -> None:
    """Say something on stderr: in colours to people, with ``fields`` to programs."""
    text = f"{what}: {detail}" if detail else what
    if CONSOLE.quiet:
        LOG.log(_LEVELS[level], "%s", text, extra=fields)
        return
    colour = _COLOURS[level]
    head = f"[{colour}]{escape(what)}[/{colour}]" if colour else escape(what)
    CONSOLE.print(f"{head}: {escape(detail)}" if detail else head)


def tell_lost(lost: Lost) -> None:
    """Say what the broker had deleted before it was read."""
    part = lost.partition
    where = {"topic": part.topic, "partition": part.partition, "offset": lost.start}
    tell("error", "records are lost", str(lost), **where)


def tell_refused(letters: Sequence[Message]) -> None:
    """Say which records went to dead-letters, and why: to programs; people see them counted."""
    if not CONSOLE.quiet:
        return
    for letter in letters[:MAX_REFUSED_TOLD]:
        told = letter.headers
        fields = {
            "plant": letter.key,
            "stream": told.get("original-ce_subject", "").rpartition("/")[2],
            "topic": told["original-topic"],
            "partition": int(told["original-partition"]),
            "offset": int(told["original-offset"]),
            "reason": told["reason"],
        }
        tell("warning", "a record was refused", told["message"], **fields)
    if len(letters) > MAX_REFUSED_TOLD:
        tell("warning", f"{len(letters) - MAX_REFUSED_TOLD} more records were refused")
