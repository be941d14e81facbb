"""What a device's process spends its time on: py-spy's samples, by the innermost frame of ours."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.stream.profile import short

SAMPLES_HZ = 200
TOP = 8
_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]+?)(?::\d+)?\)$")
OWN = ("connectors/", "fusion/", "flows/")


def profile(pid: int, *, seconds: int) -> dict[str, float] | None:
    """Return shares of the busy time of ``pid`` by function; None where py-spy may not look.

    A sample counts for the innermost function of the product on its stack, and for the library's
    module that this function was in.
    """
    py_spy = Path(sys.executable).with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        command = [str(py_spy), "record", "--pid", str(pid), "--duration", str(seconds)]
        command += ["--rate", str(SAMPLES_HZ), "--format", "raw", "--output", str(stacks)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode or not stacks.is_file():
            return None
        return summed(stacks.read_text(encoding="utf-8").splitlines())


def summed(lines: list[str]) -> dict[str, float]:
    """Return the shares of py-spy's raw stacks."""
    shares: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        matches = [_FRAME.match(frame) for frame in stack.split(";")]
        frames = [(m["function"], short(m["file"])) for m in matches if m]
        if not frames:
            continue
        own = [(f, file) for f, file in frames if file.startswith(OWN)]
        function, file = own[-1] if own else frames[0]
        inner = frames[-1][1]
        library = "" if inner == file else f", in {inner.split('/')[0].removesuffix('.py')}"
        shares[f"`{function}` of {file}{library}"] += int(count)
    total = max(1, shares.total())
    return {name: count / total for name, count in shares.most_common(TOP)}
