"""``fusion lake`` as a person runs it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from flows import wiring
from flows.cli import main
from flows.cli.plant import load_plant
from flows.lake import model_data_versions, named_versions, parse_moment
from flows.learn import train_from_lake
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.errors import InputError, RecipeError
from fusion.manifest import Manifest
from fusion.schema import Record
from fusion.training import recipe_named
from tests.contract.lake_past import HOUR_NS, age

RIG = Path(__file__).parents[3] / "plants" / "rig.yaml"
TOPIC = "rig.audio"


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: object
    said: str


Run = Callable[..., Ended]


@pytest.fixture
def where(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``fusion lake`` in a data folder of the test's own."""
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(CONSOLE, "width", 200)

    def run(*command: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fusion", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code, capsys.readouterr().err)

    return run


@pytest.fixture
def filled(where: Settings) -> None:
    """Ten appends of two records, an hour apart, the last one an hour ago; offset 3 is missing."""
    now_ns = wiring.open_clock().now_ns()
    for number in range(10):
        records = [
            Record(
                TOPIC,
                0,
                offset,
                "k",
                b"x" * 100,
                {"ce_subject": "a/b/microphone"},
                now_ns - (10 - number) * HOUR_NS,
            )
            for offset in (2 * number, 2 * number + 1)
            if offset != 3
        ]
        wiring.open_lake(where).append(records)


def add_model(where: Settings, data_version: str) -> Path:
    folder = where.models_dir / "rig" / "20261125T100000-rig"
    folder.mkdir(parents=True)
    manifest = Manifest(
        name="rig",
        version=folder.name,
        plant_address="a/b",
        plant_fingerprint="0",
        tick_s=0.5,
        streams=(),
        window_ticks=1,
        horizons_ticks=(),
        layout={},
        recipe={},
        data_version=data_version,
        code_version="0",
        num_parameters=0,
        num_train_ticks=0,
        num_calibration_ticks=0,
        gauges=(),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def test_an_empty_lake_says_what_fills_it(run: Run) -> None:
    shown = run("lake", "show")
    assert shown.code == 0
    assert "`fusion ingest` fills it" in shown.said


@pytest.mark.usefixtures("filled")
def test_what_is_there_is_shown_by_topic_by_partition_and_by_stream(run: Run) -> None:
    shown = run("lake", "show")
    assert shown.code == 0
    row = next(line for line in shown.said.splitlines() if "│ rig.audio" in line)
    records, _, files, missing = row.replace("│", " ").split()[1:5]
    assert (records, files, missing) == ("19", "10", "1")
    assert "as a data version: rig.audio@10" in shown.said
    detail = run("lake", "show", TOPIC)
    assert "│ 0    │" in detail.said
    assert "0 to 19" in detail.said
    assert "streams of rig.audio: microphone 19" in detail.said


@pytest.mark.usefixtures("filled")
def test_unknown_topics_and_unclear_orders_end_with_2(run: Run) -> None:
    refused = run("lake", "show", "rig.odour")
    assert refused.code == 2
    assert "it has rig.audio" in refused.said.replace("\n", " ")
    for command in (("expire",), ("expire", "--all", TOPIC)):
        refused = run("lake", *command, "--older-than-hours", "1")
        assert refused.code == 2
        assert "topics or --all" in refused.said
    assert run("lake", "compact", "--target-mb", "0").code == 2
    assert run("lake", "vacuum", "--keep", "rig.audio").code == 2
    assert run("lake", "vacuum", "--keep", f"{TOPIC}@1,{TOPIC}@2").code == 2


@pytest.mark.usefixtures("filled")
def test_the_whole_upkeep(run: Run, where: Settings) -> None:
    add_model(where, f"{TOPIC}@4,rig.video@none")
    seen = wiring.open_lake(where).read([TOPIC], version=f"{TOPIC}@4")
    assert "10 files would be joined to 1" in run("lake", "compact", "--dry-run").said
    assert "10 files joined to 1" in run("lake", "compact").said
    assert "nothing to join" in run("lake", "compact").said

    order = ("lake", "expire", TOPIC, "--older-than-hours", "5.5")
    tried = run(*order, "--dry-run")
    assert "9 records from before" in tried.said
    assert "10 younger ones stay" in tried.said
    assert len(wiring.open_lake(where).read([TOPIC])) == 19
    assert "removed 9 records" in run(*order, "--yes").said
    assert len(wiring.open_lake(where).read([TOPIC])) == 10

    told = run("lake", "versions", TOPIC)
    assert "9 records from before" in told.said
    assert "partition 0: 10 files joined to 1" in told.said
    assert run("lake", "versions", TOPIC, "--last", "1").said.count("rig.audio@") == 1

    age(Path(where.lake_uri) / TOPIC, hours=300)
    keep = [part for number in (2, 99) for part in ("--keep", f"{TOPIC}@{number}")]
    order = ("lake", "vacuum", "--keep-hours", "24", *keep)
    tried = run(*order, "--dry-run")
    assert "kept: rig.audio@2, --keep" in tried.said
    assert "kept: rig.audio@4, model rig/20261125T100000-rig" in tried.said
    assert "not known: rig.audio@99, --keep; this lake never had it" in tried.said
    assert "removed 7 files" in run(*order, "--yes").said
    assert wiring.open_lake(where).read([TOPIC], version=f"{TOPIC}@4") == seen
    told = run("lake", "versions", TOPIC)
    row = next(line for line in told.said.splitlines() if "rig.audio@4 " in line)
    assert "model rig/20261125T100000-rig" in row
    assert told.said.count("cannot be read any more") == 8
    assert "0 files, 0.0 MB, that nothing needs" in run(*order).said


@pytest.mark.usefixtures("filled")
def test_nothing_goes_before_somebody_has_said_yes(
    run: Run, where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert run("lake", "expire", "--all", "--older-than-hours", "1").code == 1
    assert len(wiring.open_lake(where).read([TOPIC])) == 19


@pytest.mark.usefixtures("filled")
def test_a_model_that_cannot_be_read_stops_a_vacuum(run: Run, where: Settings) -> None:
    folder = add_model(where, f"{TOPIC}@4")
    (folder / "manifest.json").write_text(json.dumps({"name": "half"}))
    refused = run("lake", "vacuum", "--yes")
    assert refused.code == 2
    assert "must be a manifest" in refused.said


def test_who_names_which_version(where: Settings) -> None:
    add_model(where, f"{TOPIC}@4,rig.video@none")
    assert model_data_versions(where) == {"rig/20261125T100000-rig": f"{TOPIC}@4,rig.video@none"}
    assert named_versions(where, [f"{TOPIC}@4,x@1"]) == {
        TOPIC: {4: ["model rig/20261125T100000-rig", "--keep"]},
        "x": {1: ["--keep"]},
    }


@pytest.mark.parametrize("text", ["yesterday", "2026-11-25", "2026-11-25T10:00"])
def test_a_time_without_its_zone_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="must say its zone"):
        parse_moment(text)


@pytest.mark.usefixtures("filled")
def test_training_reads_the_version_that_it_is_told(where: Settings) -> None:
    plant, recipe = load_plant(RIG), recipe_named("quick")
    lake = wiring.open_lake(where)
    empty = lake.version(plant.sense_topics, at_ns=0)
    assert empty == "rig.telemetry@none,rig.audio@0,rig.video@none"
    with pytest.raises(RecipeError, match="it holds none"):
        train_from_lake(lake, plant, recipe, where, data_version=empty)
    with pytest.raises(InputError, match=r"must hold rig.audio@77"):
        train_from_lake(
            lake, plant, recipe, where, data_version=empty.replace("audio@0", "audio@77")
        )


def test_training_takes_one_of_the_two_ways_to_name_data(run: Run) -> None:
    refused = run("train", str(RIG), "--data-version", "x@1", "--data-as-of", "2026-11-25T10:00Z")
    assert refused.code == 2
    assert "--data-version or --data-as-of" in refused.said
