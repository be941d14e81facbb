"""What a logger warned of: pytest's own capture is off here (pyproject.toml says why)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def warnings_of(name: str) -> Iterator[list[str]]:
    """Yield the messages of the logger ``name`` from now on, as they come."""
    ear, logger = _Ear(), logging.getLogger(name)
    logger.addHandler(ear)
    try:
        yield ear.messages
    finally:
        logger.removeHandler(ear)
