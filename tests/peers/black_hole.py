"""A network that swallows what goes to and from a port: no answer, no refusal, as a dead switch."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import IS_CI


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Drop every packet of ``port`` on the loopback."""
    require_iptables()
    rules = [["INPUT", "-i", "lo", "-p", "tcp", side, str(port), "-j", "DROP"] for side in SIDES]
    try:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-I", *rule], check=True)
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=False)


SIDES = ("--dport", "--sport")


def require_iptables() -> None:
    """Skip without the right to change the machine's network; in CI it must be there."""
    tool = shutil.which("iptables")
    listed = tool and subprocess.run([tool, "-w", "-L"], capture_output=True, check=False)
    if not listed or listed.returncode != 0:
        assert not IS_CI, (
            "CI must have iptables and the right to use it; deploy/prepare-tests.sh installs it"
        )
        pytest.skip("dropping packets needs iptables and the right to use it")
