"""What a figure was measured on: never the machine's name or paths, always what it can do."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("kafka-python", "numpy", "fastavro", "soundfile", "pillow", "torch", "onnxruntime")


def describe(extra: dict[str, str] | None = None) -> dict[str, Any]:
    """Return date, machine, versions and how busy it was; ``extra`` adds versions of peers."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "loop_ms": _loop_ms(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "packages": {name: version(name) for name in PACKAGES} | (extra or {}),
    }


def as_markdown(machine: dict[str, Any]) -> str:
    """Return the paragraph that a page says about its machine."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    # One kind of machine is not always as fast: without this a slow day reads like a slow product.
    speed = (
        f"A million additions in Python take {machine['loop_ms']:.0f} ms. "
        if "loop_ms" in machine
        else ""
    )
    loads = ", ".join(f"{load:g}" for load in machine["load_before"])
    return (
        f"{machine['date']}, commit {machine['commit']}. {machine['cpu']}, {machine['cores']} "
        f"cores, {machine['memory_gib']:g} GiB, {machine['kernel']}, Python {machine['python']}. "
        f"{packages}. {speed}The broker runs on the same cores. Load averages before the start: "
        f"{loads}."
    )


def peer_versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the versions of ``names`` in the environment of ``python``."""
    code = "import sys, importlib.metadata as m; print(*(m.version(n) for n in sys.argv[1:]))"
    told = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, told.stdout.split(), strict=True))


def _loop_ms() -> float:
    """Return how long a million additions take in Python, the best of five."""

    def once() -> float:
        total, began_s = 0, time.perf_counter()
        for number in range(1_000_000):
            total += number
        return time.perf_counter() - began_s

    return 1e3 * min(once() for _ in range(5))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
