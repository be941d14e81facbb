"""The measuring itself: a harness that always passes measures nothing."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest

from benchmarks.soak import page as soak_page
from benchmarks.soak.traffic import Traffic
from benchmarks.soak.watch import theil_sen
from benchmarks.stream import chain
from benchmarks.stream.latency import WARM_UP_S, Heard, _summary
from benchmarks.stream.page import ratio
from benchmarks.stream.profile import _summed
from benchmarks.stream.workloads import Workload, messages, mixed, retarget
from fusion.alignment import admit
from fusion.plant import NANOSECONDS, parse_plant
from fusion.schema import Record, TelemetryBatch
from fusion.simulation import EPOCH_NS, normal_scenario
from fusion.stream import live
from tests.conftest import ROOT

TOTALS = {"pending": 0, "scored": 90, "late": 2, "duplicate": 5, "dead_lettered": 3, "read": 100}
SOAKED: dict[str, Any] = {
    "plant_minutes": 60,
    "speed": 10.0,
    "machine": {
        "date": "today",
        "commit": "c",
        "cpu": "x",
        "cores": 2,
        "memory_gib": 8,
        "kernel": "Linux",
        "python": "3.11",
        "load_before": [0.0],
        "packages": {},
    },
    "samples": [
        {"t_s": 2.0 * n, "rss_mb": 500.0, "cpu_s": n, "lag": {"t": 4}, "behind_s": 1.0}
        | {"num_scores": n, "sent": n, "is_sending": True}
        for n in range(40)
    ],
    "sent": {"records": 100, "repeated": 5, "delayed": 2, "broken": 3, "samples": 1}
    | {"camera": 1, "microphone": 1},
    "on_broker": {"t": 100},
    "outcomes": {"t": TOTALS},
    "live_exit_status": 0,
}


def test_a_soak_where_everything_agrees_passes() -> None:
    text, is_passed = soak_page.page(SOAKED)
    assert is_passed, text


@pytest.mark.parametrize(
    "what", ["scored", "late", "duplicate", "dead_lettered", "read", "pending"]
)
def test_a_record_that_is_not_accounted_for_fails_the_soak(what: str) -> None:
    spoilt = copy.deepcopy(SOAKED)
    spoilt["outcomes"]["t"][what] += 1
    assert not soak_page.page(spoilt)[1]


@pytest.mark.parametrize(("field", "step"), [("rss_mb", 2.0), ("behind_s", 1.0)])
def test_growing_memory_and_growing_delay_fail_the_soak(field: str, step: float) -> None:
    spoilt = copy.deepcopy(SOAKED)
    for number, sample in enumerate(spoilt["samples"]):
        sample[field] += step * number
    assert not soak_page.page(spoilt)[1]


def test_an_outlier_does_not_bend_the_slope() -> None:
    assert theil_sen([0, 1, 2, 3, 4], [0.0, 1.0, 90.0, 3.0, 4.0]) == 1.0


def test_soak_traffic_is_what_it_counts() -> None:
    plant = parse_plant((ROOT / "benchmarks/soak/plant.yaml").read_text(), origin="plant.yaml")
    traffic = Traffic(plant, normal_scenario(duration_s=60, seed=1), epoch="e")
    sent = [message for _, message in traffic.messages()]
    assert traffic.counts["records"] == len(sent)
    assert traffic.counts["samples"] == 60 * 10 * 140
    assert traffic.counts["camera"] == 60 * 6
    ids = [message.headers["ce_id"] for message in sent if message.value != b"\xff"]
    assert len(ids) - len(set(ids)) == traffic.counts["repeated"] > 0


def test_a_record_for_another_asset_is_admitted_there() -> None:
    one, other = mixed("p", "one"), mixed("p", "other")
    for _, message in itertools.islice(messages(Workload("w", "", one, 5.0)), 40):
        sent = retarget(message, other)
        record = Record(sent.topic, 0, 0, sent.key, sent.value, sent.headers, EPOCH_NS * 2)
        assert admit(record, other)[0].subject.startswith(str(other.address))


def test_a_workload_holds_the_rows_that_it_says() -> None:
    plant = mixed()
    workload = Workload("w", "", plant, 3.0, rows_per_batch=5)
    for _, message in messages(workload):
        record = Record(message.topic, 0, 0, message.key, message.value, message.headers, EPOCH_NS)
        payload = admit(record, plant)[1]
        if isinstance(payload, TelemetryBatch):
            assert payload.values_RC.shape == (5, 16)


def test_latency_counts_from_the_last_stream_that_held_the_tick() -> None:
    plant = mixed()
    start_ns = 1_000 * NANOSECONDS
    heard = [
        Heard(str(plant.address), stream, start_ns + at_ns, start_ns + at_ns + delay_ns)
        for at_ns in range(0, 20 * NANOSECONDS, plant.tick_ns)
        for stream, delay_ns in (("a", 1_000_000), ("b", 7_000_000))
    ]
    lateness_ns = round(plant.allowed_lateness_s * NANOSECONDS)
    in_hand_ns = {
        (str(plant.address), tick): (tick + 1) * plant.tick_ns + lateness_ns + 10_000_000
        for tick in range(2_000, 2_036)
    }
    summary = _summary([plant], heard, in_hand_ns)
    assert summary["num_ticks"] == 36 - round((WARM_UP_S - plant.allowed_lateness_s) / 0.5) + 1
    assert summary["p50_ms"] == summary["max_ms"] == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["POLL_TIMEOUT_S", "SAY_EVERY_S", "LOOK_EVERY_S"])
def test_the_measured_chain_keeps_the_pace_of_the_live_loop(name: str) -> None:
    assert getattr(chain, name) == getattr(live, name)


def test_ratios_pair_the_turns() -> None:
    def turns(*rates: float) -> list[dict[str, float]]:
        return [{"num_records": rate, "seconds": 1.0} for rate in rates]

    result = {"answers": {"product": turns(10, 30, 20), "bare": turns(20, 20, 40)}}
    assert ratio(result, "bare") == (0.5, 0.5, 1.5)


def test_a_sample_belongs_to_the_innermost_frame_of_the_product() -> None:
    stacks = [
        "main (x.py:1);_one_pass (j.py:1);take (fusion/alignment/aligner.py:3);sum (numpy/f.py) 3",
        "main (x.py:1);_one_pass (j.py:1);poll (connectors/kafka_io/source.py:3) 1",
        "main (x.py:1);start (fusion/schema/codec.py:1) 50",
    ]
    summed = _summed(stacks)
    assert summed["stages"] == {"aligning and accounting": 0.75, "reading from the broker": 0.25}
    assert json.dumps(summed)
