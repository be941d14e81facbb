"""Metrics of every process: from its own objects, over real HTTP, in the names of the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.rights import Role
from flows.drift_journal import NewestChecks, keep_record
from flows.health import Health
from flows.metrics.console import ConsoleMetrics
from flows.metrics.edge import EdgeMetrics
from flows.metrics.ingest import IngestMetrics
from flows.metrics.live import LiveMetrics
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.errors import InferenceUnavailableError
from fusion.plant import NANOSECONDS
from fusion.rollout.metering import CALL_BOUNDS_S, Meter
from fusion.schema import AlarmEvent, DeviceHealth, TopicPartition
from fusion.stream.figures import LiveFigures, PlantFigures
from fusion.stream.progress import ProgressWatch
from tests.clocks import HandClock
from tests.console_app import ADDRESS, alarm_state, event_message, served, state_message
from tests.console_app import PLANT as RIG
from tests.models import PLANT
from tests.scraping import scraped, value
from tests.unit.retraining.test_decision import NOW_NS, record
from tests.unit.stream.test_live import Rig


def test_what_a_shard_reads_again_after_it_was_opened_anew_is_counted_once() -> None:
    part, clock = TopicPartition("p.audio", 0), HandClock()
    metrics = LiveMetrics(lambda: (True, {}), clock.now_ns)
    for scored in (100, 130, 110, 135):  # (110: opened anew, the open window is read again)
        metrics.figures(LiveFigures(0, 0, {part: Counts(scored=scored)}, {}, (), None))
    samples = scraped(Health(clock), metrics.registry)
    where = {"topic": "p.audio", "partition": "0", "outcome": "scored"}
    assert value(samples, "fusion_records_total", **where) == 35
    assert value(samples, "fusion_ledger_records", **where) == 135


def test_the_newest_check_for_drift_of_each_plant_is_shown(tmp_path: Path) -> None:
    settings, clock = Settings(data_dir=tmp_path), HandClock()
    newest = NewestChecks(settings, [PLANT])
    metrics = LiveMetrics(lambda: (True, {}), clock.now_ns, newest)
    assert not [s for s in scraped(Health(clock), metrics.registry) if "drift" in s[0]]
    keep_record(settings, PLANT, record(NOW_NS))
    keep_record(settings, PLANT, record(NOW_NS + 1, is_drift=False))
    other = record(NOW_NS + 2).model_copy(update={"plant": "another/plant"})
    keep_record(settings, PLANT, other)
    samples = scraped(Health(clock), metrics.registry)
    where = {"plant": str(PLANT.address), "version": "v1", "statistic": "embedding ear"}
    assert value(samples, "fusion_drift_found", **where) == 0
    assert value(samples, "fusion_drift_statistic", **where) == 0.5
    assert value(samples, "fusion_drift_limit", **where) == 0.02
    assert len([s for s in samples if s[0] == "fusion_drift_found"]) == 1
    keep_record(settings, PLANT, record(NOW_NS + 3))
    samples = scraped(Health(clock), metrics.registry)
    assert value(samples, "fusion_drift_found", **where) == 1
    (tmp_path / "models" / PLANT.prefix / "drift.jsonl").write_text("spoiled\n")
    samples = scraped(Health(clock), metrics.registry)
    assert value(samples, "fusion_drift_found", **where) == 1, "what was known, and the log says so"


def test_calls_of_a_network_fall_into_the_bucket_of_their_duration() -> None:
    meter = Meter(HandClock())
    for duration_s in (0.001, 0.0011, 0.3, 99.0):
        meter.called(duration_s, has_failed=duration_s > 1)
    calls = meter.calls()
    assert (sum(calls.by_duration), calls.num_failed) == (4, 1)
    assert calls.by_duration[0] == 1
    assert calls.by_duration[CALL_BOUNDS_S.index(0.5)] == 1
    assert calls.by_duration[-1] == 1


def test_a_process_whose_inference_is_away_stays_unready_though_the_loop_beats() -> None:
    """Between two tries the loop beats: that must not look like readiness."""
    rig = Rig()
    health, seen = Health(rig.clock), list[bool]()
    rig.rounds(1)
    rig.shards[0].failures = [InferenceUnavailableError("away")] * 8

    def beat(progress: ProgressWatch) -> None:
        health.beat(progress)
        seen.append(health.ready()[0])

    rig.live.on_beat = beat
    rig.rounds(40)
    assert not seen[0]
    assert seen[-1], "ready again once it scores"


def test_a_plant_whose_records_come_and_whose_ticks_do_not_close_is_not_ready() -> None:
    clock = HandClock()
    health, progress = Health(clock), ProgressWatch()
    progress.see({TopicPartition("p.audio", 0): 1}, {}, now_ns=0)
    progress.has_joined = True
    health.beat(progress)

    def tell(newest_s: int, watermark_s: int) -> bool:
        plant = PlantFigures(
            "a/b", 0, 0.5, {"ear": newest_s * NANOSECONDS}, watermark_s * NANOSECONDS, {}, 0, (), ()
        )
        at_ns = clock.monotonic_ns()
        health.figures(LiveFigures(clock.now_ns(), at_ns, {}, {}, (plant,), None))
        return health.ready()[0]

    assert tell(10, 5)
    clock.sleep(61)
    assert tell(10, 5), "silence is no standstill"
    assert not tell(40, 5)
    assert health.ready()[1]["no_tick_closes_for_s"] == {"a/b": 61.0}
    assert tell(41, 36)


def test_an_edge_tells_of_its_devices_and_is_ready_when_all_are_read() -> None:
    metrics = EdgeMetrics(["plc", "camera"], HandClock())
    metrics.tell("plc", "connected", "")
    metrics.tell("camera", "restarting", "it hung")
    metrics.hear("plc", _device_health(), 4_096)
    assert metrics.ready() == (
        False,
        {
            "devices": {"plc": "connected", "camera": "restarting"},
            "waits_for": {"camera": "restarting: it hung"},
        },
    )
    samples = scraped(metrics, metrics.registry)
    assert value(samples, "fusion_edge_spool_bytes", device="plc") == 4_096
    assert value(samples, "fusion_edge_device_restarts_total", device="camera") == 1
    assert value(samples, "fusion_edge_device_state", device="camera", state="restarting") == 1
    of_stream = {"device": "plc", "stream": "process"}
    assert value(samples, "fusion_edge_stream_gaps_total", **of_stream) == 2
    assert value(samples, "fusion_edge_clock_offset_seconds", **of_stream) == 0.25
    assert value(samples, "fusion_edge_values_refused_total", why="bad", **of_stream) == 7
    metrics.tell("camera", "connected", "")
    assert metrics.ready()[0]


def _device_health() -> DeviceHealth:
    flow = dict.fromkeys(
        ("values", "out_of_range", "held_back", "thinned", "untimed", "unusable", "clock_jumps"), 0
    )
    stream = flow | {
        "stream": "process",
        "records": 9,
        "rate_hz": 1.0,
        "bad": 7,
        "gaps": 2,
        "why_unusable": "",
        "offset_s": 0.25,
        "drift_ppm": None,
        "last_seen_ns": None,
    }
    return DeviceHealth.model_validate(
        {
            "plant": "p",
            "device": "plc",
            "protocol": "opcua",
            "t_ns": 1,
            "state": "connected",
            "why": "",
            "connects": 1,
            "failures": 3,
            "waiting_records": 5,
            "streams": [stream],
        }
    )


def test_an_ingest_is_ready_once_the_lake_is_up_to_date_and_alive_while_runs_end() -> None:
    clock = HandClock()
    metrics = IngestMetrics(clock, every_s=10, longest_run_s=60)
    assert not metrics.ready()[0]
    metrics.done(30, {"p.audio": 2})
    metrics.failed("the broker is away")
    samples = scraped(metrics, metrics.registry)
    assert value(samples, "fusion_ingest_rows_total") == 30
    assert value(samples, "fusion_ingest_lag_records", topic="p.audio") == 2
    assert value(samples, "fusion_ingest_runs_total", outcome="failed") == 1
    assert metrics.ready() == (False, {"waits_for": "the broker is away"})
    clock.sleep(189)
    assert metrics.live()[0]
    clock.sleep(2)
    assert not metrics.live()[0]


def test_a_console_counts_its_tabs_and_figures_the_alarms(tmp_path: Path) -> None:
    state = alarm_state()
    raised = AlarmEvent(id="1", transition="raised", t_ns=state.since_ns, state=state)
    with served(tmp_path) as console:
        metrics = ConsoleMetrics(console.app)
        console.person("eva", Role.VIEWER)
        console.log_in("eva")
        console.read_all()
        with console.client.stream("GET", "/stream?rows=1") as tab:
            lines = tab.iter_lines()
            assert "event: picture" in next(lines)
            console.publish(state_message(RIG, state), event_message(RIG, raised))
            assert any(state.name in line for line in lines)
            samples = scraped(metrics, metrics.registry)
        assert metrics.live()[0]
        assert metrics.ready()[0]
    assert value(samples, "fusion_console_tabs") == 1
    assert value(samples, "fusion_console_messages_total") >= 2
    assert value(samples, "fusion_console_delivery_seconds_count") >= 1
    rate = value(samples, "fusion_alarm_kpi_per_operator_hour", plant=ADDRESS)
    assert rate == pytest.approx(1 / 24)
