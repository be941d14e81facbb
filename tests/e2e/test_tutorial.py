"""The tutorial, word for word: every command runs, in its order, and an alarm comes of it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
STANDING = {"live plants/rig.yaml", "console plants/rig.yaml"}
"""What runs until Ctrl-C."""
PATIENCE_S = 180.0

pytestmark = pytest.mark.timeout(1500)


def commands() -> Iterator[str]:
    for block in re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            assert line.startswith("fusion "), f"the tutorial calls nothing else, but: {line}"
            yield line.removeprefix("fusion ")


@contextlib.contextmanager
def standing(command: str, folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Run a command beside the others, end it as Ctrl-C does, and see that it ends well."""
    log = folder / f"{command.split(maxsplit=1)[0]}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *shlex.split(command)],
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        yield log
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGINT)
        # 130 is what a shell says of a program that Ctrl-C ended.
        assert process.wait(PATIENCE_S) in {0, 130}, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_every_command_of_the_tutorial_runs_and_an_alarm_comes_of_it(tmp_path: Path) -> None:
    (tmp_path / "plants").symlink_to(ROOT / "plants")
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "FUSION_CONSOLE_ADDRESS": address,
        "COLUMNS": "120",
    }
    said: dict[str, str] = {}
    for command in commands():
        if command in STANDING:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *shlex.split(command)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # (tables and progress go there: stdout is for programs)
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout)
        said[command] = said.get(command, "") + done.stdout
    assert set(commands()) - STANDING == set(said)
    assert set(commands()) >= STANDING
    assert "rig-abnormal" in said["alarms list plants/rig.yaml"]
    assert "the chain is whole" in said["alarms journal plants/rig.yaml"]
    listed = said["models list plants/rig.yaml"]
    assert listed.count("-quick") == 1 + 2, listed
    live, console = sorted(STANDING, reverse=True)
    health = f"127.0.0.1:{free_port()}"
    with (
        standing(live, tmp_path, environment | {"FUSION_HEALTH_ADDRESS": health}) as live_log,
        standing(console, tmp_path, environment) as log,
    ):
        assert "password" in answer(f"http://{address}/", log).lower()
        assert "admin" in log.read_text(), "the first password is printed"
        answer(f"http://{health}/health/live", live_log)


def answer(url: str, log: Path) -> str:
    """Return what a page says, as soon as it is there."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline_s, log.read_text()
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return urllib.request.urlopen(url, timeout=10).read().decode()
        time.sleep(0.5)
