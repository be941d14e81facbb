"""What the tests of the compose file and of the manifests ask alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer.main

from flows.cli import app
from flows.settings import Settings

ROOT = Path(__file__).parents[1]
SETTINGS = {f"FUSION_{name}".upper() for name in Settings.model_fields}
PINNED = re.compile(
    r"^[a-z0-9./-]+:v?\d+(\.\d+)+[\w.-]*$|^nvcr\.io/nvidia/tritonserver:\d\d\.\d\d-py3$"
)
OWN_IMAGE = "industrial-fusion:0.1.0"
HEALTH_PATHS = {"/health/live", "/health/ready"}
FOREIGN_HEALTH_PATHS = {
    "/v2/health/ready", "/v2/health/live",     # Triton (KServe)
    "/-/ready",                                # Prometheus
    "/api/health",                             # Grafana; Prefect's server
    "/health",                                 # MLflow; Prefect's worker
}  # fmt: skip


def require_command(words: Sequence[str]) -> None:
    """Assert that ``fusion words...`` is a command with these options and enough arguments."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest, f"{words} stops before the command"
        assert rest[0] in command.commands, f"fusion has no {rest[0]!r}: {words}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    asked = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert asked <= known, f"{words}: {asked - known} is no option"
    positional = [word for word in rest if not word.startswith("-")]
    required = [p for p in command.params if p.param_type_name == "argument" and p.required]
    assert len(positional) >= len(required), f"{words} misses {[p.name for p in required]}"
