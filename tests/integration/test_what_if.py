"""``fusion what-if`` through the real path: a simulated recording, the lake, a small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows import wiring
from flows.cli import app
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.learn import train_from_lake
from flows.replay import replay
from flows.settings import Settings
from fusion.errors import InputError
from fusion.simulation import normal_scenario, simulate
from fusion.training import recipe_named

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
RUN_S = 130.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a plant file, a lake and a trained model."""
    folder = tmp_path_factory.mktemp("what-if")
    plant_file = folder / "rig.yaml"
    plant_file.write_text(yaml.safe_dump(yaml.safe_load(RIG.read_text()) | {"prefix": "asked"}))
    settings, plant = Settings(data_dir=folder / "data"), load_plant(plant_file)
    wiring.prepare_topics(settings, plant)
    publisher = wiring.open_publisher(settings)
    payloads = simulate(normal_scenario(duration_s=RUN_S, seed=1), plant)
    replay(payloads, publisher, plant, speed=None, clock=wiring.open_clock())
    publisher.close()
    lake = wiring.open_lake(settings)
    source = wiring.open_source(settings, plant.sense_topics, "asked-ingest")
    ingest_once(source, lake, clock=wiring.open_clock())
    source.close()
    train_from_lake(lake, plant, recipe_named("quick", steps=10), settings)
    return folder


@pytest.fixture
def ask(place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FUSION_DATA_DIR", str(place / "data"))

    def invoke(*options: str) -> Result:
        return CliRunner().invoke(app, ["what-if", str(place / "rig.yaml"), *options])

    return invoke


def refusal(result: Result) -> str:
    assert isinstance(result.exception, InputError)
    return str(result.exception)


def test_plans_are_compared_from_the_newest_moment(ask: Any, place: Path) -> None:
    result = ask(
        "--json", "--search", "--set", "level_setpoint=0.6",
        "--set", "level_setpoint=0.7,temperature_setpoint=31",
        "--minimise", "motor_current", "--keep", "tank_level in 0.5..0.7",
        "--picture", str(place / "fan.png"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["is_simulated"] is True
    assert told["goal"] == ["minimise motor_current", "keep tank_level in 0.5..0.7"]
    assert told["time"] == "2026-01-01T00:02:10.000000000Z"
    names = [each["name"] for each in told["candidates"]]
    assert {"no change", "level_setpoint=0.6"} <= set(names)
    assert 3 <= len(names) <= 4
    costs = [each["cost"] for each in told["candidates"]]
    assert costs == sorted(costs)
    for each in told["candidates"]:
        assert 0.5 <= each["targets"]["level_setpoint"][0] <= 0.75
        assert sum(each["costs"].values()) == pytest.approx(each["cost"])
        level = each["tags"]["tank_level"]
        assert all(
            low <= m <= high
            for low, m, high in zip(level["low"], level["median"], level["high"], strict=True)
        )
        assert {forecast["tag"] for forecast in each["limits"]} == {
            "tank_level", "motor_temperature"
        }  # fmt: skip
    assert (place / "fan.png").read_bytes().startswith(b"\x89PNG")


def test_an_earlier_moment_is_the_state_of_then(ask: Any) -> None:
    told = json.loads(ask("--json", "--at", "2026-01-01T00:01:00Z").stdout)
    assert told["time"] == "2026-01-01T00:01:00.000000000Z"
    assert [each["name"] for each in told["candidates"]] == ["no change"]


def test_equal_questions_have_equal_answers(ask: Any) -> None:
    question = ("--json", "--search", "--keep", "tank_level near 0.55", "--seed", "3")
    assert ask(*question).stdout == ask(*question).stdout


def test_people_read_a_table_with_no_change_marked(ask: Any, capsys: Any) -> None:
    from flows.terminal import CONSOLE

    with CONSOLE.capture() as said:
        assert ask("--set", "level_setpoint=0.6", "--show", "heater_power").exit_code == 0
    text = said.get()
    assert "● no change" in text
    assert "SIMULATED" in text
    assert "heater_power in kW" in text
    assert "Advice only" in text


def test_a_picture_can_be_a_vector_drawing(ask: Any, place: Path) -> None:
    result = ask("--set", "level_setpoint=0.6", "--picture", str(place / "fan.svg"))
    assert result.exit_code == 0
    assert "simulated plant" in (place / "fan.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--search",), "a goal must say what is wanted, got nothing"),
        (("--minimise", "pump_current"), r"about tags of this plant, got 'pump_current'"),
        (("--keep", "tank_level 0.5"), "must read 'TAG in LOW..HIGH'"),
        (("--set", "level=0.6"), r"must move set-points of this plant, got 'level'"),
        (("--set", "level_setpoint"), r"must read NAME=VALUE"),
        (("--set", "level_setpoint=0.9"), r"between 0.5 and 0.75, got 0.9; .*limits"),
        (("--show", "sparkle"), r"a tag to show must be measured, got 'sparkle'"),
        (("--at", "2020-01-01T00:00Z"), r"8 ticks of 0.5 s without a gap, .* give another --at"),
        (("--picture", "fan.gif"), r"must end in .png or .svg, got 'fan.gif'"),
    ],
)
def test_a_wrong_question_says_what_to_change(
    ask: Any, options: tuple[str, ...], says: str
) -> None:
    import re

    assert re.search(says, refusal(ask(*options)))


def test_the_help_teaches_with_an_example(ask: Any) -> None:
    said = ask("--help").output
    assert "--minimise motor_current" in said
