"""Where the product's time goes: sampled by py-spy, summed by stage and by function."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.broker import ROOT

SAMPLES_HZ = 250
TOP = 8
STAGES = (
    ("connectors/kafka_io/", "reading from the broker"),
    ("fusion/schema/codec.py", "decoding payloads"),
    ("fusion/schema/records.py", "envelopes"),
    ("fusion/alignment/admission.py", "checks at the gate"),
    ("fusion/alignment/", "aligning and accounting"),
    ("fusion/plant/", "plant description"),
    ("fusion/stream/", "the loop around them"),
)
"""A sample belongs to the innermost frame of the product on its stack."""
DECODING = "decoding payloads"
_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]+?)(?::\d+)?\)$")


def profile(command: Sequence[str]) -> dict[str, Any] | None:
    """Return the shares of CPU time by stage and by function; None where py-spy may not look."""
    py_spy = Path(sys.executable).with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        options = ["--rate", str(SAMPLES_HZ), "--format", "raw", "--output", str(stacks)]
        done = subprocess.run(
            [py_spy, "record", *options, "--", *command], cwd=ROOT, capture_output=True, check=False
        )
        if done.returncode or not stacks.is_file():
            return None
        return _summed(stacks.read_text(encoding="utf-8").splitlines())


def _summed(lines: Sequence[str]) -> dict[str, Any]:
    stages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for frames, count in _measured(lines):
        stages[_stage(frames)] += count
        function, file = frames[-1]
        functions[f"`{function}` in {short(file)}"] += count
    total = max(1, stages.total())
    return {
        "num_samples": stages.total(),
        "stages": {name: count / total for name, count in stages.most_common()},
        "functions": {name: count / total for name, count in functions.most_common(TOP)},
    }


def _measured(lines: Sequence[str]) -> Iterator[tuple[list[tuple[str, str]], int]]:
    """Yield the stacks below ``measure``: what the clock of the measurement saw."""
    for line in lines:
        stack, _, count = line.rpartition(" ")
        matches = [_FRAME.match(frame) for frame in stack.split(";")]
        frames = [(m["function"], m["file"]) for m in matches if m]
        names = [function for function, _ in frames]
        if "_one_pass" in names:
            yield frames[names.index("_one_pass") :], int(count)


def _stage(frames: Sequence[tuple[str, str]]) -> str:
    for _, file in reversed(frames):
        for part, stage in STAGES:
            if part in file:
                return stage
    return "the measurement itself"


def short(file: str) -> str:
    """Return ``file`` from its package on: where packages lie is the machine's business."""
    for root in ("site-packages/", "python3.11/"):
        _, found, rest = file.rpartition(root)
        if found:
            return rest
    return file.removeprefix(f"{ROOT}/")
