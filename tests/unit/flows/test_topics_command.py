"""``fusion topics`` as a person runs it, on the embedded broker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from flows.cli import main
from flows.terminal import CONSOLE

RIG = yaml.safe_load((Path(__file__).parents[3] / "plants" / "rig.yaml").read_text("utf-8"))
NUM_TOPICS = 13


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: object
    said: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``fusion topics`` for the rig with other topics, in a data folder of the test's own."""
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(CONSOLE, "width", 200)

    def run(*command: str, **topics: Any) -> Ended:
        plant_file = tmp_path / "plant.yaml"
        plant_file.write_text(yaml.safe_dump(RIG | {"topics": topics}), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["fusion", "topics", *command, str(plant_file)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code, capsys.readouterr().err)

    return run


def test_topics_are_shown_tried_created_and_verified(run: Run) -> None:
    tried = run("apply", "--dry-run", partitions=2)
    assert tried.code == 0
    assert "rig.audio would be created: 2 partition(s), delete, 168 h" in tried.said
    shown = run("show", partitions=2)
    assert shown.code == 0
    assert shown.said.count("missing") == NUM_TOPICS
    assert run("apply", partitions=2).said.count("created") == NUM_TOPICS
    again = run("show", partitions=2)
    assert again.code == 0
    assert again.said.count("right") == NUM_TOPICS


def test_a_difference_ends_with_2_until_it_is_mended(run: Run) -> None:
    run("apply")
    longer = {"retention_h": {"video": 336}}
    for command in (["show"], ["apply"], ["apply", "--dry-run"]):
        refused = run(*command, **longer)
        assert refused.code == 2
        assert "rig.video: retention must be 336 h, it has 168 h" in refused.said
        assert "--update" in refused.said
    assert "would be altered" in run("apply", "--update", "--dry-run", **longer).said
    assert run("show", **longer).code == 2
    altered = run("apply", "--update", **longer)
    assert altered.code == 0
    assert "rig.video altered: retention 336 h" in altered.said
    assert "every topic is right" in run("apply", **longer).said


def test_partitions_are_never_changed(run: Run) -> None:
    run("apply", partitions=2)
    refused = run("apply", "--update", partitions=4)
    assert refused.code == 2
    assert "rig.telemetry: partitions must be 4, it has 2" in refused.said
    assert "Set topics.partitions in the plant file" in refused.said
