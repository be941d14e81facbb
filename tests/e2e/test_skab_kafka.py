"""Real telemetry through a real Kafka: replay, ingest, train, live, the official metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.demo.skab import run_skab_demo

PLANS = Path(__file__).parents[2] / "plants" / "replays"


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_a_part_of_skab(
    kafka_bootstrap: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pl.read_parquet(shared_data / "skab" / "skab.parquet")
    normal = table.filter(pl.col("group") == "anomaly-free").head(1_500)
    labelled = table.filter(pl.col("group").is_in(["valve1", "valve2"]))
    names = labelled["experiment"].unique(maintain_order=True).to_list()[:2]
    part = pl.concat([normal, labelled.filter(pl.col("experiment").is_in(names))])
    (tmp_path / "data" / "skab").mkdir(parents=True)
    part.write_parquet(tmp_path / "data" / "skab" / "skab.parquet")
    monkeypatch.setenv("FUSION_BROKER", "kafka")
    monkeypatch.setenv("FUSION_KAFKA_BOOTSTRAP", kafka_bootstrap)

    report, metrics = run_skab_demo(PLANS, tmp_path / "out", tmp_path / "data", seed=0, steps=20)

    num_test_rows = sum(len(labelled.filter(pl.col("experiment") == name)) - 400 for name in names)
    assert {metric.num_rows for metric in metrics.values()} == {num_test_rows}
    always = metrics["always alarm"]
    assert always.false_alarm_rate == 1
    assert always.missed_alarm_rate == 0
    scored = metrics["surprise at its threshold, per row"]
    assert 0 <= scored.false_alarm_rate <= 1
    assert scored != always
    page = report.read_text(encoding="utf-8")
    assert "SKAB" in page
    assert "labelled interval" in page
