"""Commands that only read leave the cluster as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from connectors.kafka_io import KafkaSettings, present_topics
from flows.cli import app

PLANT_FILE = """
prefix: PREFIX
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
"""


@pytest.fixture(params=["kafka", "embedded"])
def bootstrap(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str | None:
    """Where Kafka is; None for an embedded broker that nobody has used yet."""
    monkeypatch.setenv("FUSION_BROKER", request.param)
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path / "data"))
    if request.param != "kafka":
        return None
    found: str = request.getfixturevalue("kafka_bootstrap")
    monkeypatch.setenv("FUSION_KAFKA_BOOTSTRAP", found)
    return found


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("dead-letters list", "there are no dead letters"),
        ("dead-letters replay --all --dry-run", "would replay 0"),
        ("alarms list", "no alarm is known yet"),
    ],
)
def test_what_only_reads_creates_nothing(
    bootstrap: str | None, command: str, says: str, unique: str, tmp_path: Path
) -> None:
    plant_file = tmp_path / "plant.yaml"
    plant_file.write_text(PLANT_FILE.replace("PREFIX", unique))
    said = CliRunner().invoke(app, [*command.split(), str(plant_file)])
    assert said.exit_code == 0, said.output
    assert says in said.output
    assert not (tmp_path / "data").exists()
    if bootstrap is not None:
        topics = present_topics(KafkaSettings(bootstrap))
        assert not [topic for topic in topics if topic.startswith(unique)]
