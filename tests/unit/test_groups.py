"""Tests of one group run on one worker: their services are started once, not once for each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import os
import pytest

@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(8))
def test_where(number, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp().parent
    (folder / f"{number}.seen").write_text(os.environ["PYTEST_XDIST_WORKER"])

@pytest.mark.parametrize("number", range(8))
def test_another(number):
    pass
"""


def test_a_group_stays_on_one_worker(tmp_path: Path) -> None:
    """(A release of pytest with which it did not was in use for weeks, and nothing said so.)"""
    (tmp_path / "test_grouped.py").write_text(TESTS)
    base = tmp_path / "base"
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup"),
            *("-p", "no:randomly", "-p", "no:cacheprovider", f"--basetemp={base}"),
            *(f"--rootdir={tmp_path}", str(tmp_path)),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    seen = {file.read_text() for file in base.glob("*.seen")}
    assert len(seen) == 1
    assert len(list(base.glob("*.seen"))) == 8
