"""Ctrl-C ends a command with one line, also while it is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMANDS = {
    "fusion": ["-c", "from flows.entry import main; main()"],
    "edge": ["-m", "flows.entry", "flows.edge_supervisor", "plant.yaml"],
}


def imports_numpy(process: subprocess.Popen[str]) -> bool:
    return "numpy" in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_it_is_imported_is_one_line(command: str) -> None:
    process = subprocess.Popen(
        [sys.executable, *COMMANDS[command]], stderr=subprocess.PIPE, text=True
    )
    t_end_s = time.monotonic() + 60
    while not imports_numpy(process):
        assert process.poll() is None
        assert time.monotonic() < t_end_s
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said == "stopped before it began; nothing was done\n"
    assert process.returncode == 130


def test_what_it_begins_hears_ctrl_c_itself_again(tmp_path: Path) -> None:
    (tmp_path / "begun.py").write_text(
        "import signal\n"
        "def main() -> None:\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from flows.entry import begin; "
    command = [sys.executable, "-c", f"{code} begin('begun')"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
