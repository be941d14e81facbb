"""Which rules a topic finds, by MQTT's own law, and without trying all of them."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.mqtt import JsonRules
from fusion.plant.devices import MqttJsonDevice
from fusion.ports import Reading
from tests.clocks import START_NS

NUM_RULES = 10_000
MOST_CALLS = 500


def device_with(topics: list[str]) -> MqttJsonDevice:
    rules = [
        {"topic": topic, "values": [{"stream": "s", "tag": f"tag{number}", "path": ""}]}
        for number, topic in enumerate(topics)
    ]
    told = {"name": "json", "protocol": "mqtt-json", "host": "broker", "rules": rules}
    return MqttJsonDevice.model_validate(told)


def tags_found(rules: JsonRules, topic: str) -> list[str]:
    found, _ = rules.interpret(topic, b"1.5", is_retained=False, t_receive_ns=START_NS)
    assert all(isinstance(each, Reading) for each in found)
    return sorted(each.tag for each in found if isinstance(each, Reading))


def matches(topic_filter: str, topic: str) -> bool:
    """Say it slowly: MQTT 3.1.1, 4.7; a topic with $ is found by no filter that begins wild."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for index, part in enumerate(wanted):
        if part == "#":
            return True
        if index >= len(levels) or part not in {"+", levels[index]}:
            return False
    return len(wanted) == len(levels)


LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(
        st.lists(st.one_of(LEVELS, st.just("+")), min_size=0, max_size=3),
        st.sampled_from([[], ["#"]]),
    )
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


@given(st.lists(FILTERS, min_size=1, max_size=8), TOPICS)
def test_a_topic_finds_every_rule_that_it_matches_and_no_other(
    filters: list[str], topic: str
) -> None:
    wanted = [f"tag{n}" for n, each in enumerate(filters) if matches(each, topic)]
    assert tags_found(JsonRules(device_with(filters)), topic) == sorted(wanted)


@pytest.mark.parametrize("topic", ["a+/b", "a/#/b", "a#", "#/a", "+a", "##"])
def test_a_topic_that_no_broker_takes_is_explained(topic: str) -> None:
    with pytest.raises(ValidationError, match="only as a whole level"):
        device_with([topic])


def test_ten_thousand_rules_with_wildcards_are_not_tried_one_after_another() -> None:
    rules = JsonRules(device_with([f"+/line/tag{n}" for n in range(NUM_RULES)]))
    num_calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal num_calls
        num_calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = tags_found(rules, "hall/line/tag7")
    finally:
        sys.setprofile(before)
    assert found == ["tag7"]
    assert num_calls < MOST_CALLS
