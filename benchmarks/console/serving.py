"""The console that is measured, in a process of its own."""

from __future__ import annotations

from flows.console import serve_console
from flows.settings import Settings
from fusion.plant import Plant


def serve(plant: Plant, settings: Settings) -> None:
    """Serve until the process is ended."""
    serve_console([plant], settings, say=lambda _address, _password: None)
