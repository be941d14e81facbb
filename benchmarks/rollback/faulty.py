"""Networks in Triton's repository that misbehave when told to: later than any test before service.

They answer their golden windows first, so nothing but their behaviour gives them away.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from connectors.triton_io import PYTHON_MODEL

Fault = Literal["drift", "errors", "slow", "nan"]
FAULTS = "faults"
"""Lies beside the repository: an exported network that holds another file is refused."""
SLOW_S = 0.4
"""Answers, but late; a challenger is waited for half a second."""
DRIFT = 0.005
"""Above what a golden window may differ by, and too little to raise an alarm."""

_CODE = f"""

_well_execute, _well_write = TritonPythonModel.execute, TritonPythonModel._write


def _fault() -> str:
    told = Path(__file__).parents[3] / {FAULTS!r} / Path(__file__).parents[1].name
    return told.read_text() if told.exists() else ""


def _execute(self, requests):
    import time

    if _fault() == "errors":
        raise RuntimeError("made to fail")
    if _fault().startswith("slow"):
        time.sleep(float(_fault().split()[1]))
    return _well_execute(self, requests)


def _write(self, arrays):
    if _fault() == "nan":
        arrays = tuple(np.full_like(array, np.nan) for array in arrays)
    if _fault() == "drift":
        arrays = tuple(array + np.float32({DRIFT}) for array in arrays)
    return _well_write(self, arrays)


TritonPythonModel.execute, TritonPythonModel._write = _execute, _write
"""


def faulty_code(folder: Path) -> Path:
    """Return a file of what an export puts beside a network, which obeys :func:`set_fault`.

    It takes the place of ``flows.wiring.PYTHON_MODEL`` before the export: an export that is changed
    afterwards is refused.
    """
    path = folder / "faulty_model.py"
    path.write_text(PYTHON_MODEL.read_text(encoding="utf-8") + _CODE, encoding="utf-8")
    return path


def set_fault(
    repository: Path, models: Iterable[str], fault: Fault | None, *, slow_s: float = SLOW_S
) -> None:
    """Let each of ``models`` misbehave from its next request on; with None, behave again."""
    told = "" if fault is None else f"slow {slow_s}" if fault == "slow" else fault
    folder = repository.parent / FAULTS
    folder.mkdir(exist_ok=True)
    for model in models:
        (folder / model).write_text(told, encoding="utf-8")
