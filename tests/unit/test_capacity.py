"""A plan grows with the fleet, and agrees with what was measured."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.stream.workloads import make_plant, mixed
from flows.cli import app
from flows.plant_files import load_plant
from fusion.capacity import UNIT_COSTS, Sizing, load_of, plan_capacity
from fusion.capacity.costs import cost
from fusion.capacity.load import stream_load
from fusion.capacity.plan import _replicas
from fusion.errors import InputError
from fusion.plant import Plant

ROOT = Path(__file__).parents[2]
RIG = load_plant(ROOT / "plants" / "rig.yaml")
SOAK = load_plant(ROOT / "benchmarks" / "soak" / "plant.yaml")
MEASURED = ROOT / "docs" / "benchmarks"


def kept(name: str) -> dict:
    return json.loads((MEASURED / name).read_text())


def amounts(plant: Plant, sizing: Sizing) -> dict[str, float]:
    return {row.what: row.amount for row in plan_capacity(plant, sizing).rows}


@given(
    fleet=st.lists(st.integers(1, 20_000), min_size=2, max_size=5),
    uses_triton=st.booleans(),
    headroom=st.floats(0, 0.8),
)
def test_more_plants_never_need_less(fleet: list[int], uses_triton: bool, headroom: float) -> None:
    sizings = [
        Sizing(num, headroom=headroom, uses_triton=uses_triton, lake_days=30)
        for num in sorted(fleet)
    ]
    for fewer, more in pairwise(amounts(RIG, each) for each in sizings):
        assert all(fewer[what] <= more[what] for what in fewer), (fewer, more)


@given(num=st.integers(1, 3_000), less=st.floats(0, 0.6), more=st.floats(0, 0.25))
def test_more_headroom_never_needs_less(num: int, less: float, more: float) -> None:
    tight = amounts(RIG, Sizing(num, headroom=less))
    roomy = amounts(RIG, Sizing(num, headroom=less + more))
    growing = ("prefixes", "brokers", "broker disk", "lake", "consoles")
    assert all(tight[what] <= roomy[what] for what in growing)


@given(num=st.integers(1, 1_000), fits=st.floats(1, 100))
def test_replicas_hold_their_plants(num: int, fits: float) -> None:
    replicas = _replicas(num, fits)
    assert 1 <= replicas <= num
    assert num / replicas <= fits


def test_aligning_costs_what_plants_in_one_process_took() -> None:
    """Told by the single workloads, held against another measurement: many mixed plants at once."""
    plant = mixed()
    us = sum(each.records_per_s * each.align_us for each in map(stream_load, plant.streams))
    for measured in kept("stream.json")["scaling"]:
        assert us * plant.tick_s / 1e3 == pytest.approx(measured["cpu_ms_per_tick"], rel=0.2)


def test_a_live_process_takes_what_the_soak_test_took() -> None:
    soak = kept("soak.json")
    samples = [each for each in soak["samples"] if each["is_sending"]]
    took = samples[-1]["cpu_s"] - samples[0]["cpu_s"]
    plant_s = (samples[-1]["t_s"] - samples[0]["t_s"]) * soak["speed"]
    assert load_of(SOAK).live_cpu_s == pytest.approx(took / plant_s, rel=0.2)


def test_the_table_is_what_the_kept_measurements_say() -> None:
    race = {row["workload"]: row for row in kept("stream.json")["results"]}
    stored = {row["workload"]: row for row in kept("storage.json")["rows"]}
    plants = {
        "telemetry-small": make_plant("p", tags=16),
        "audio-flac": make_plant("p", microphone=True),
        "video-160x120": make_plant("p", camera=(160, 120)),
        "video-640x480": make_plant("p", camera=(640, 480)),
    }
    for workload, plant in plants.items():
        told = stream_load(plant.streams[0])
        runs = race[workload]["answers"]["product"]
        cpu_us = sorted(run["cpu_seconds"] / run["num_records"] * 1e6 for run in runs)
        assert told.align_us == pytest.approx(cpu_us[len(cpu_us) // 2], rel=0.1), workload
        assert told.stored_bytes == pytest.approx(stored[workload]["broker_bytes"], rel=0.05)
    for row in stored.values():
        told_us = cost("broker_record_us") + row["broker_bytes"] * cost("broker_byte_us")
        assert told_us == pytest.approx(row["broker_cpu_us"], rel=0.75), row["workload"]


def test_triton_scores_what_its_benchmark_says() -> None:
    rows = kept("inference.json")["rows"]
    (busiest,) = (r for r in rows if (r["contestant"], r["concurrency"]) == ("Triton", 32))
    assert cost("triton_windows_per_s") == pytest.approx(busiest["windows_per_s"], rel=0.1)


def test_every_cost_names_a_page_that_is_there() -> None:
    for name, each in UNIT_COSTS.items():
        assert each.value > 0, name
        assert (MEASURED / each.source).is_file(), name


def test_what_was_never_measured_is_said() -> None:
    assert len(plan_capacity(RIG, Sizing(1, replication=1)).warnings) == 1
    wide = make_plant("p", tags=500, camera=(1920, 1080), frame_rate_hz=2)
    said = " ".join(plan_capacity(wide, Sizing(500, uses_triton=True)).warnings)
    for word in ("process: its records", "camera: its records", "GPU", "Kafka", "prefixes"):
        assert word.replace("process: its records", "process") in said


def test_a_plant_that_no_process_can_hold_is_refused() -> None:
    fast = make_plant("p", tags=16, tick_s=0.01)
    with pytest.raises(InputError, match="lengthen tick_s"):
        plan_capacity(fast, Sizing(1))
    for wrong in (Sizing(0), Sizing(1, replication=0), Sizing(1, headroom=1)):
        with pytest.raises(InputError):
            plan_capacity(RIG, wrong)


def test_the_command_prints_the_plan() -> None:
    asked = ["plan", str(ROOT / "plants" / "rig.yaml"), "--plants", "10000", "--json"]
    made = json.loads(CliRunner().invoke(app, asked, catch_exceptions=False).stdout)
    assert {row["what"]: row["amount"] for row in made["rows"]} == amounts(RIG, Sizing(10_000))
    assert made["warnings"]
