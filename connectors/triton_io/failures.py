"""What kind of failure an answer of the server is: its client library gives texts only."""

from __future__ import annotations

from typing import Literal

from tritonclient.utils import InferenceServerException

Failure = Literal["refused", "late", "not-loaded", "not-registered", "broken"]
_NOT_LOADED = ("unknown model", "is not ready", "has no available versions")
_NOT_REGISTERED = "shared memory region"


def failure_of(error: InferenceServerException) -> Failure:
    """Return what kind of failure ``error`` is."""
    status, text = str(error.status()), str(error.message()).lower()
    if any(words in text for words in _NOT_LOADED):
        return "not-loaded"
    if _NOT_REGISTERED in text:
        return "not-registered"
    if "DEADLINE_EXCEEDED" in status or "deadline exceeded" in text:
        return "late"
    # The queue refuses with UNAVAILABLE too: it is full, or the request waited too long in it.
    return "refused" if "UNAVAILABLE" in status or "CANCELLED" in status else "broken"


def first_line(error: InferenceServerException) -> str:
    """Return what it says first."""
    text = str(error.message()).strip() or str(error.status())
    return text.splitlines()[0][:300]
