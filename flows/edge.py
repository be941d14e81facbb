"""One process for each device of a plant: started, watched, and started again alone.

A crash or a hang of one (a camera's library, a driver) costs that one only.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Clock
from fusion.schema import DeviceHealth

HANG_S = 60.0
"""Longer than any single thing that a device's process waits for; then it is ended."""
FIRST_RESTART_S, MAX_RESTART_S = 1.0, 60.0
STEADY_S = 300.0
"""After so long alive, a crash counts as the first one again."""
STOP_S = 15.0
READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""Of a device with thousands of streams; what is longer is no line of ours."""

Command = Callable[[str, int], Sequence[str]]
"""What starts the process of a device, given its name and the descriptor that it beats on."""
Tell = Callable[[str, str, str], None]
"""Is told of a device, its state, and why."""
Hear = Callable[[str, DeviceHealth, int], None]
"""Hears how a device does, and how many bytes wait in its spool."""


def device_command(plant_file: Path) -> Command:
    """Return the command that reads a device of ``plant_file``."""
    return lambda device, descriptor: [
        sys.executable, "-m", "flows.edge_device", str(plant_file), device,
        "--beat-fd", str(descriptor),
    ]  # fmt: skip


@dataclass
class _Child:
    """The process of one device."""

    device: str
    process: subprocess.Popen[bytes] | None = None
    pipe: int = -1
    unread: bytes = b""
    t_beat_ns: int = 0
    t_began_ns: int = 0
    t_restart_ns: int = 0
    num_crashes: int = 0
    is_done: bool = False
    state: str = "starting"
    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


class Edge:
    """Keeps the processes of devices running.

    Args:
        plant: Whose devices.
        devices: Names of some; all of the plant's without it.
        command: Starts one of them.
        clock: For patience.
        tell: Is told what happens.
        hear: Hears how devices do.
        hang_s: A process that does not beat for so long is killed.
    """

    def __init__(
        self,
        plant: Plant,
        devices: Sequence[str],
        *,
        command: Command,
        clock: Clock,
        tell: Tell,
        hear: Hear = lambda _device, _health, _bytes: None,
        hang_s: float = HANG_S,
    ) -> None:
        known = [device.name for device in plant.devices]
        if unknown := sorted(set(devices) - set(known)):
            raise InputError(
                f"the plant file must describe the devices {unknown}, it has {known}; correct the "
                "name, or add the device under devices"
            )
        if not known:
            raise InputError(
                "the plant file must describe at least one device under devices, it has none; "
                "docs/connect-your-plant.md shows how"
            )
        self._children = [_Child(name) for name in (devices or known)]
        self._command = command
        self._clock = clock
        self._tell = tell
        self._hear = hear
        self._hang_ns = round(hang_s * NANOSECONDS)
        self._selector = selectors.DefaultSelector()

    def step(self, timeout_s: float) -> bool:
        """Start what should run, listen for ``timeout_s``; return False when all have ended."""
        now_ns = self._clock.monotonic_ns()
        for child in self._children:
            if child.process is None and not child.is_done and child.t_restart_ns <= now_ns:
                self._start(child)
        for key, _ in self._selector.select(timeout_s):
            self._listen(key.data)
        for child in self._children:
            self._look_after(child)
        return any(not child.is_done for child in self._children)

    def close(self) -> None:
        """Ask every process to end; kill what does not within ``STOP_S``."""
        running = [child for child in self._children if child.process is not None]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        t_end_ns = self._clock.monotonic_ns() + round(STOP_S * NANOSECONDS)
        for child in running:
            assert child.process is not None
            left_s = max(0.1, (t_end_ns - self._clock.monotonic_ns()) / NANOSECONDS)
            try:
                child.process.wait(left_s)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                self._tell(child.device, "killed", f"it did not end within {STOP_S:g} s")
            self._drop_pipe(child)
        self._selector.close()

    def _start(self, child: _Child) -> None:
        own_end, its_end = os.pipe()
        os.set_blocking(own_end, False)
        try:
            # Ctrl-C reaches a whole group: a process that is asked twice to stop does so at once,
            # without sending what it has read.
            child.process = subprocess.Popen(
                self._command(child.device, its_end), pass_fds=[its_end], process_group=0
            )
        finally:
            os.close(its_end)
        child.pipe, child.unread, child.state = own_end, b"", "starting"
        child.t_began_ns = child.t_beat_ns = self._clock.monotonic_ns()
        self._selector.register(own_end, selectors.EVENT_READ, child)

    def _listen(self, child: _Child) -> None:
        try:
            came = os.read(child.pipe, READ_BYTES)
        except BlockingIOError:
            return
        if not came:
            self._drop_pipe(child)
            return
        child.t_beat_ns = self._clock.monotonic_ns()
        *lines, rest = (child.unread + came).split(b"\n")
        child.unread = rest[-MAX_LINE_BYTES:]
        for line in lines:
            if line:
                self._take(child, json.loads(line))

    def _take(self, child: _Child, said: dict[str, Any]) -> None:
        if "health" in said:
            health = DeviceHealth.model_validate(said["health"])
            self._hear(child.device, health, said["spool_bytes"])
            return
        child.state = said["state"]
        self._tell(child.device, said["state"], said["why"])

    def _look_after(self, child: _Child) -> None:
        """See whether a process has ended, or hangs."""
        if child.process is None:
            return
        now_ns = self._clock.monotonic_ns()
        why = ""
        if child.process.poll() is None:
            if now_ns - child.t_beat_ns <= self._hang_ns:
                return
            child.process.kill()
            child.process.wait()
            why = f"it hung for {self._hang_ns / NANOSECONDS:g} s and was killed"
        if child.pipe >= 0:
            self._listen(child)
        self._drop_pipe(child)
        status, child.process = child.process.returncode, None
        if status == 0 and child.state == "ended":
            child.is_done = True
            return
        is_steady = now_ns - child.t_began_ns > STEADY_S * NANOSECONDS
        child.num_crashes = 1 if is_steady else child.num_crashes + 1
        restart_s = min(FIRST_RESTART_S * 2.0 ** (child.num_crashes - 1), MAX_RESTART_S)
        restart_s = MAX_RESTART_S if status == 2 else restart_s  # somebody has to mend something
        child.t_restart_ns = now_ns + round(restart_s * NANOSECONDS)
        why = why or f"its process ended with status {status}"
        self._tell(child.device, "restarting", f"{why}; starting it again in {restart_s:g} s")

    def _drop_pipe(self, child: _Child) -> None:
        if child.pipe >= 0:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = -1
