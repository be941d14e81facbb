"""CPU time and memory of processes with everything below them, looked at from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group of processes has used up to now."""

    cpu_s: float
    memory_mb: float
    """Proportional set size: what several processes share, is counted once."""
    num_processes: int

    @classmethod
    def of(cls, roots: Iterable[int]) -> Usage:
        """Return the usage of the processes ``roots`` and all that they started."""
        cpu_s = memory_mb = 0.0
        found = {process.pid: process for root in roots for process in tree(root)}
        for process in found.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                cpu_s += times.user + times.system
                memory_mb += process.memory_full_info().pss / 1e6
        return cls(cpu_s, memory_mb, len(found))


def tree(root: int) -> list[psutil.Process]:
    """Return a process and all below it; nothing where it has ended."""
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(pid: int) -> float:
    """Return the CPU time that the process ``pid`` has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def device_pids(root: int) -> list[int]:
    """Return the processes below ``fusion edge run`` that read a device each."""
    found: list[int] = []
    for process in tree(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "flows.edge_device" in process.cmdline():
                found.append(process.pid)
    return found
