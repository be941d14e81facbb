"""Processes are small and soon there: what only others need is not even imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "torchaudio", "scipy", "matplotlib", "av", "polars", "sklearn", "onnxruntime"]
FOR_TRAINING = ["torch._dynamo", "scipy.signal", "scipy.stats", "sklearn", "pandas", "matplotlib"]


def loaded_by(code: str, heavy: list[str] = HEAVY) -> set[str]:
    """Return which of ``heavy`` libraries a fresh process has once it ran ``code``."""
    told = f"{code}\nimport json, sys\nprint(json.dumps([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ["console.app", "flows.console", "flows.cli.console"])
def test_the_console_does_not_load_what_models_need(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


@pytest.mark.parametrize("command", ["console", "alarms", "edge", "spool", "plant"])
def test_a_command_loads_what_it_needs_itself_only(command: str) -> None:
    assert loaded_by(f"from flows.cli import Commands\nCommands()[{command!r}]") == set()


@pytest.mark.parametrize("module", ["flows.live", "flows.backfill", "flows.learn"])
def test_a_process_of_the_chain_loads_no_compiler_and_no_statistics(module: str) -> None:
    """(They took half of the CPU seconds that a live process needs to start.)"""
    assert loaded_by(f"import {module}", FOR_TRAINING) == set()


def test_what_needs_a_model_loads_it_then() -> None:
    """The list of heavy names is one that an import can be seen by."""
    assert "torch" in loaded_by("import flows.second_sight")
