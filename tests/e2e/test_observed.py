"""A live process as monitoring sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import wiring
from flows.cli.plant import load_plant
from flows.health import Health
from flows.live import open_live, run_live
from flows.metrics.live import LiveMetrics
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.alignment import Outcome
from fusion.simulation import normal_scenario
from tests.e2e.conftest import make_plant, publish
from tests.scraping import scraped, value

pytestmark = pytest.mark.xdist_group("observed")


def test_metrics_tell_of_every_record_stream_tick_and_version(
    model_dir: Path, tmp_path: Path, unique: str
) -> None:
    settings, clock = Settings(data_dir=tmp_path), wiring.open_clock()
    rig = load_plant(make_plant(tmp_path, unique))
    publish(normal_scenario(duration_s=60, seed=11), rig, settings)
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
