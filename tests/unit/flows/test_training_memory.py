"""What a training takes of memory is said before it takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import training_memory
from flows.training_memory import GIB, available_bytes, bytes_per_tick, memory_finding
from fusion.plant import parse_plant
from tests.unit.training.tiny import PLANT

TAGS = ", ".join(f"{{name: t{n}, unit: K, range: [0, 1]}}" for n in range(16))
PUMP = parse_plant(
    f"""
prefix: pump
address: {{enterprise: e, site: s, area: a, line: l, cell: c, asset: x}}
tick_s: 0.5
streams:
  - {{name: process, modality: telemetry, rate_hz: 10, tags: [{TAGS}]}}
""",
    origin="pump.yaml",
)


def test_the_estimate_is_what_was_measured() -> None:
    assert bytes_per_tick(PUMP) == pytest.approx(7.0 * 1024, rel=0.05), "docs/benchmarks/flows.md"


def test_what_does_not_fit_is_refused_with_what_to_set() -> None:
    month = round(30 * 86_400 / PUMP.tick_s)
    found = memory_finding(PUMP, month, at_once=2, available=8 * GIB)
    assert not found.is_met
    assert "in 2 processes, and 8.0 GiB are free" in found.sentence
    fits_s = int(found.sentence.partition("of its policy) to ")[2].split()[0])
    fits = round(fits_s / PUMP.tick_s)
    assert memory_finding(PUMP, fits, at_once=2, available=8 * GIB).is_met
    assert not memory_finding(PUMP, fits + 4, at_once=2, available=8 * GIB).is_met


def test_a_container_has_no_more_than_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(training_memory, "LIMITS", ((limit, used),))
    machine = available_bytes()
    assert machine > 0
    limit.write_text("max\n")
    used.write_text("5000\n")
    assert available_bytes() > 10_000
    limit.write_text("12000\n")
    assert available_bytes() == 7_000
    assert not memory_finding(PLANT, 1_000, at_once=1).is_met
