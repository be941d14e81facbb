"""A plant file that breaks a rule is refused with what must hold, what came, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import PlantError
from fusion.plant import Plant, parse_plant

PLANT_FILES = sorted((Path(__file__).parents[3] / "plants").glob("*.yaml"))


def good() -> dict[str, Any]:
    return {
        "prefix": "p",
        "address": dict.fromkeys(("enterprise", "site", "area", "line", "cell", "asset"), "x"),
        "streams": [
            {
                "name": "process",
                "modality": "telemetry",
                "rate_hz": 10,
                "tags": [
                    {"name": "level", "unit": "m", "range": [0, 1], "limits": {"high": 0.9}},
                    {"name": "flow", "unit": "l/min", "range": [0, 9]},
                ],
            },
            {"name": "ear", "modality": "audio", "sample_rate_hz": 16_000},
        ],
    }


def alarm(**changes: Any) -> dict[str, Any]:
    words = {"cause": "c", "consequence": "c", "action": "a", "time_to_respond_s": 60}
    return {"name": "high-level", "finding": "forecast", "tag": "level", **words, **changes}


def parse(content: Any) -> Plant:
    return parse_plant(yaml.safe_dump(content), origin="my.yaml")


def refusal(content: Any) -> str:
    with pytest.raises(PlantError) as caught:
        parse(content)
    assert str(caught.value).startswith("my.yaml ")
    return str(caught.value)


@pytest.mark.parametrize("path", PLANT_FILES, ids=lambda path: path.name)
def test_every_shipped_plant_is_a_plant(path: Path) -> None:
    plant = parse_plant(path.read_text(encoding="utf-8"), origin=path.name)
    assert plant.streams
    assert plant == parse_plant(path.read_text(encoding="utf-8"), origin="other")


def test_there_are_shipped_plants() -> None:
    assert "rig.yaml" in [path.name for path in PLANT_FILES]


def test_the_plant_of_these_tests_is_good() -> None:
    plant = parse(good() | {"alarms": [alarm()], "modes": []})
    assert [tag.name for tag in plant.measured] == ["level", "flow"]


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment\n", "null"])
def test_an_empty_file_says_what_a_plant_needs(text: str) -> None:
    with pytest.raises(PlantError, match=r"my.yaml is empty; .* needs at least prefix, address"):
        parse_plant(text, origin="my.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\t- x", "!!python/object:os.x {}"])
def test_what_is_not_yaml_says_so(text: str) -> None:
    with pytest.raises(PlantError, match=r"my.yaml must be YAML; "):
        parse_plant(text, origin="my.yaml")


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    with pytest.raises(PlantError, match="must be smaller than 4194304 bytes, got 4194305"):
        parse_plant("#" * (4 * 1024 * 1024 + 1), origin="my.yaml")


@given(st.text(max_size=60))
def test_any_text_is_a_plant_or_a_plant_error(text: str) -> None:
    with pytest.raises(PlantError):
        parse_plant(text, origin="my.yaml")


def test_an_unknown_field_is_named_with_its_place() -> None:
    message = refusal(good() | {"tik_s": 0.5})
    assert "tik_s: this field is not known here; check its spelling" in message
    content = good()
    content["streams"][0]["tags"][1]["colour"] = "red"
    assert "tags.1.colour: this field is not known here" in refusal(content)


def test_every_mistake_is_told_at_once() -> None:
    content = good() | {"prefix": "Not Lower", "tick_s": -1}
    del content["address"]["site"]
    message = refusal(content)
    assert "breaks 3 rule(s)" in message
    assert "address.site: this field is required; add it" in message
    assert "(got 'Not Lower')" in message


def test_an_alarm_on_a_tag_that_is_missing_lists_the_tags() -> None:
    message = refusal(good() | {"alarms": [alarm(tag="levle")]})
    assert "alarm 'high-level' must name a tag of this plant, got 'levle'" in message
    assert "known tags: ['level', 'flow']" in message


def test_an_alarm_on_a_tag_without_limits_asks_for_them() -> None:
    message = refusal(good() | {"alarms": [alarm(tag="flow")]})
    assert "needs limits on its tag, and 'flow' has none; add limits" in message


@pytest.mark.parametrize("changes", [{"tag": None}, {"finding": "surprise"}])
def test_an_alarm_names_a_tag_exactly_when_it_forecasts(changes: dict[str, Any]) -> None:
    assert "names its tag, and one on surprise names none" in refusal(
        good() | {"alarms": [alarm(**changes)]}
    )


def test_a_mode_on_a_tag_that_is_missing_lists_the_tags() -> None:
    message = refusal(good() | {"modes": [{"name": "idle", "tag": "speed", "between": [0, 1]}]})
    assert "mode 'idle' must name a tag of this plant, got 'speed'" in message
    assert "known tags: ['level', 'flow']" in message


def test_streams_have_different_names() -> None:
    content = good()
    content["streams"][1]["name"] = "process"
    assert "streams must have different names, got ['process'] twice" in refusal(content)


def test_tags_have_different_names_in_the_whole_plant() -> None:
    content = good()
    content["streams"].append({**content["streams"][0], "name": "second"})
    assert "tags must have different names, got ['flow', 'level'] twice" in refusal(content)


@pytest.mark.parametrize(
    ("what", "repeated"),
    [("alarms", alarm()), ("modes", {"name": "idle", "tag": "flow", "between": [0, 1]})],
)
def test_alarms_and_modes_have_different_names(what: str, repeated: dict[str, Any]) -> None:
    message = refusal(good() | {what: [repeated, repeated]})
    assert f"{what} must have different names" in message


@pytest.mark.parametrize("bad", [[1, 0], [1, 1]])
def test_a_range_goes_upwards(bad: list[float]) -> None:
    content = good()
    content["streams"][0]["tags"][1]["range"] = bad
    assert f"range must satisfy low < high, got 1 and {bad[1]}; swap them" in refusal(content)


@pytest.mark.parametrize(
    ("limits", "law"),
    [
        ({}, "limits must give low, high or both"),
        ({"low": 2, "high": 1}, "limits must satisfy low < high, got 2 and 1"),
    ],
)
def test_limits_give_a_side_and_go_upwards(limits: dict[str, float], law: str) -> None:
    content = good()
    content["streams"][0]["tags"][0]["limits"] = limits
    assert law in refusal(content)


def test_a_tick_holds_whole_audio_samples() -> None:
    message = refusal(good() | {"tick_s": 0.50003})
    assert "a tick must hold a whole number of audio samples" in message
    assert "of 'ear' are 8000.48; change tick_s" in message


@pytest.mark.parametrize("number", [".nan", ".inf", "-1"])
def test_a_tick_is_a_finite_positive_time(number: str) -> None:
    text = yaml.safe_dump(good()) + f"tick_s: {number}\n"
    with pytest.raises(PlantError, match="tick_s: "):
        parse_plant(text, origin="my.yaml")


@pytest.mark.parametrize("content", [[1, 2], "words", 7, True])
def test_a_file_that_is_no_mapping_is_refused(content: Any) -> None:
    assert "breaks 1 rule(s)" in refusal(content)


def test_equal_plants_have_equal_fingerprints_and_others_do_not() -> None:
    assert parse(good()).fingerprint() == parse(good()).fingerprint()
    assert parse(good()).fingerprint() != parse(good() | {"tick_s": 1}).fingerprint()


def test_a_stream_may_have_a_lateness_and_a_clock_offset_of_its_own() -> None:
    content: dict[str, Any] = good() | {"allowed_lateness_s": 2}
    content["streams"][0] |= {"allowed_lateness_s": 0.25, "clock_offset_s": -1.5}
    process, ear = (plant := parse(content)).streams
    assert plant.lateness_ns(process) == 250_000_000
    assert plant.lateness_ns(ear) == 2_000_000_000
    assert (process.clock_offset_ns, ear.clock_offset_ns) == (-1_500_000_000, 0)
    assert plant.max_skew_s == 1.0


@pytest.mark.parametrize(
    ("stream", "change"),
    [
        (0, {"allowed_lateness_s": -1}),
        (0, {"clock_offset_s": 4e9}),
        (1, {"clock_offset_s": float("nan")}),
    ],
)
def test_times_that_cannot_be_are_refused(stream: int, change: dict[str, Any]) -> None:
    content = good()
    content["streams"][stream] |= change
    assert next(iter(change)) in refusal(content)


@pytest.mark.parametrize("max_skew_s", [0, -1])
def test_some_skew_must_be_allowed(max_skew_s: float) -> None:
    assert "max_skew_s" in refusal(good() | {"max_skew_s": max_skew_s})


def test_only_telemetry_passes_a_server() -> None:
    content = good()
    content["streams"][1]["clock"] = "server"
    assert "clock of 'ear' must be source or receive, got 'server'" in refusal(content)
    content["streams"][1]["clock"] = "receive"
    assert parse(content).streams[1].clock == "receive"


def setpoint(**changes: Any) -> dict[str, Any]:
    content = good()
    knob = {"name": "goal", "unit": "m", "range": [0, 1], "setpoint": True}
    content["streams"][0]["tags"].append(knob | changes)
    return content


def test_a_set_point_may_say_where_and_how_fast_it_may_be_moved() -> None:
    tag = parse(setpoint(limits={"low": 0.2}, rate_limit_per_s=0.05)).setpoints[0]
    assert tag.bounds == (0.2, 1.0)
    assert tag.rate_limit_per_s == 0.05
    assert parse(setpoint()).setpoints[0].bounds == (0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate_limit_per_s": 0}, "rate_limit_per_s: input should be greater than 0"),
        ({"limits": {"low": 1.5}}, "limits of set-point 'goal' must leave some of its range"),
        ({"setpoint": False, "rate_limit_per_s": 1}, "but 'goal' is measured; delete it"),
    ],
)
def test_limits_of_set_points_that_make_no_sense_are_refused(
    changes: dict[str, Any], says: str
) -> None:
    assert says in refusal(setpoint(**changes))


def test_how_fast_a_knob_may_be_turned_is_no_part_of_what_the_plant_is() -> None:
    slow, fast = parse(setpoint(rate_limit_per_s=1)), parse(setpoint(rate_limit_per_s=2))
    assert slow.fingerprint() == fast.fingerprint() == parse(setpoint()).fingerprint()
    assert slow.fingerprint() != parse(setpoint(limits={"low": 0.2})).fingerprint()


def test_a_resolution_is_kept_with_the_model_and_is_no_part_of_what_the_plant_is() -> None:
    coarse = parse(setpoint(setpoint=False, resolution=0.1))
    assert coarse.measured[-1].resolution == 0.1
    assert coarse.fingerprint() == parse(setpoint(setpoint=False)).fingerprint()
    assert "resolution: input should be greater than 0" in refusal(setpoint(resolution=0))
