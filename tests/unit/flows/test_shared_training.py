"""Processes that train together do not outlive whoever started them."""

from __future__ import annotations

import signal
import subprocess
import sys

PATIENCE_S = 30.0
WORKER = """
import os, sys, time
from flows.shared_training import end_with
end_with(int(sys.argv[1]), os.getppid())
print("works", flush=True)
time.sleep(60)
"""
# As torchrun does: the worker has a session of its own, so that no signal to a group reaches it.
AGENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {WORKER!r}, sys.argv[1]], start_new_session=True)
"""
STARTER = f"""
import os, subprocess, sys
agent = subprocess.Popen([sys.executable, "-c", {AGENT!r}, str(os.getpid())])
print(agent.pid, flush=True)
agent.wait()
"""


def test_killing_the_retraining_ends_its_workers_and_torchrun() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    said = {starter.stdout.readline().strip(), starter.stdout.readline().strip()}
    assert "works" in said
    starter.send_signal(signal.SIGKILL)
    # The pipe is at its end when the last of the three, who all hold it, has ended.
    assert starter.communicate(timeout=PATIENCE_S)[0] == ""


def test_killing_torchrun_alone_ends_its_workers() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    said = {starter.stdout.readline().strip(), starter.stdout.readline().strip()}
    (agent,) = said - {"works"}
    subprocess.run(["kill", "-KILL", agent], check=True)
    assert starter.communicate(timeout=PATIENCE_S)[0] == ""
