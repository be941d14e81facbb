"""A live process as monitoring sees it."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flows import wiring
from flows.cli.plant import load_plant
from flows.health import Health
from flows.live import open_live, run_live
from flows.metrics.live import LiveMetrics
from flows.replay import replay
from flows.rollout_watch import Watched
from flows.settings import Settings
from flows.tracing import LiveTracer, SendTracer, open_tracer
from fusion.alignment import Outcome
from fusion.plant import StreamSender
from fusion.plant.sending import TRACE_HEADER
from fusion.schema import AlarmEvent
from fusion.simulation import normal_scenario, simulate
from tests.e2e.conftest import FAULTS, RIG, make_plant, publish
from tests.scraping import scraped, value

RIG_PLANT = load_plant(RIG)
pytestmark = pytest.mark.xdist_group("observed")


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP, as a collector does."""

    spans: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        told = ExportTraceServiceRequest.FromString(body)
        for of_resource in told.resource_spans:
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base's name
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.spans.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    server.shutdown()
    server.server_close()


def test_a_trace_goes_from_the_sender_to_the_alarm(
    collector: str, model_dir: Path, tmp_path: Path, unique: str
) -> None:
    settings = Settings(data_dir=tmp_path, traces=collector, traces_share=1.0)
    rig, clock = load_plant(make_plant(tmp_path, unique)), wiring.open_clock()
    wiring.prepare_topics(settings, rig)
    with (
        open_tracer(settings, "simulator") as sends,
        contextlib.closing(wiring.open_publisher(settings)) as publisher,
    ):
        assert sends is not None
        payloads = simulate(replace(FAULTS, duration_s=120), rig)
        replay(payloads, publisher, rig, speed=None, clock=clock, trace=SendTracer(sends))
    events: list[AlarmEvent] = []
    with open_tracer(settings, "live") as tracer:
        assert tracer is not None
        traces = LiveTracer(tracer, [rig], clock)
        with open_live([Watched(rig, model_dir)], settings, on_taken=traces.taken) as live:
            for step in run_live(live, should_stop=lambda: False, may_end=lambda: True):
                traces.step(step)
                events += step.events
    assert any(event.transition == "raised" for event in events), "the fault is noticed"
    by_id = {span.span_id: span for span in Collector.spans}
    alarm = next(span for span in Collector.spans if span.name == "alarm")
    way = [alarm]
    while way[-1].parent_span_id:
        way.append(by_id[way[-1].parent_span_id])
    assert [span.name for span in way] == ["alarm", "score", "align", "send"]
    assert len({span.trace_id for span in way}) == 1
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in way)
    told = {each.key: each.value for each in way[2].attributes}
    assert told["messaging.destination.name"].string_value in rig.sense_topics


def test_without_a_collector_no_record_says_anything_of_traces(tmp_path: Path) -> None:
    with open_tracer(Settings(data_dir=tmp_path), "live") as tracer:
        assert tracer is None
    sender = StreamSender(RIG_PLANT, "process", source="s", epoch="1")
    payload = next(p for p in simulate(FAULTS, RIG_PLANT) if p.stream == "process")
    assert TRACE_HEADER not in sender.message(payload).headers


def test_metrics_tell_of_every_record_stream_tick_and_version(
    model_dir: Path, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rates are of whole spans of the broker's time: here two, of what is sent at once each.
    monkeypatch.setattr("fusion.alignment.health.SPAN_NS", 10_000_000)
    settings, clock = Settings(data_dir=tmp_path), wiring.open_clock()
    rig = load_plant(make_plant(tmp_path, unique))
    publish(normal_scenario(duration_s=60, seed=11), rig, settings)
    publish(normal_scenario(duration_s=10, seed=12, after_s=60), rig, settings)
    health = Health(clock)
    metrics = LiveMetrics(health.ready, clock.now_ns)
    num_scores = 0
    with open_live([Watched(rig, model_dir)], settings, on_figures=metrics.figures) as live:
        for step in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            metrics.step(step)
            num_scores += len(step.scores)
        metrics.figures(live.figures())
        counts = live.counts()
    samples = scraped(health, metrics.registry)

    plant, version = str(rig.address), model_dir.name
    assert num_scores > 10
    for part, told in counts.items():
        where = {"topic": part.topic, "partition": str(part.partition)}
        for outcome in (*(each.value for each in Outcome), "lost"):
            shown = value(samples, "fusion_ledger_records", outcome=outcome, **where)
            assert shown == getattr(told, outcome), (part, outcome)
    assert sum(told.scored for told in counts.values()) > 100
    assert value(samples, "fusion_window_latency_seconds_count", plant=plant) == num_scores
    processed = next(labels for name, labels in samples if name.endswith("processing_seconds_sum"))
    assert samples["fusion_window_processing_seconds_count", processed] == num_scores
    assert samples["fusion_window_processing_seconds_sum", processed] > 0
    assert value(samples, "fusion_inference_seconds_count", version=version) >= 2 * num_scores
    assert value(samples, "fusion_model_info", plant=plant, version=version, role="champion") == 1
    assert value(samples, "fusion_watermark_delay_seconds", plant=plant) > 0
    for stream in rig.streams:
        labels = {"plant": plant, "stream": stream.name}
        assert value(samples, "fusion_stream_missing_records", **labels) == 0
        assert value(samples, "fusion_stream_rate_hertz", **labels) > 0
