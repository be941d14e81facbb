"""Threads of networks do not spin against other processes of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("theirs", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")],
)
def test_torch_is_loaded_with_few_spins_unless_somebody_says_otherwise(
    theirs: dict[str, str], spins: str
) -> None:
    names = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", "import flows.live"],
        env=inherited | theirs | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
