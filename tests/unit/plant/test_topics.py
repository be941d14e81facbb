"""Which topics a plant has, and when the broker's are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import PlantError, TopicMismatchError
from fusion.plant import Plant, TopicSpec, differences, parse_plant, plan_topics, topics_of

RIG = (Path(__file__).parents[3] / "plants" / "rig.yaml").read_text(encoding="utf-8")
HOUR_MS = 3_600_000

specs = st.builds(
    TopicSpec,
    partitions=st.integers(1, 3),
    is_compacted=st.booleans(),
    retention_ms=st.sampled_from([-1, HOUR_MS, 2 * HOUR_MS]),
    max_message_bytes=st.sampled_from([1_000, 2_000]),
)
many_specs = st.dictionaries(st.sampled_from("abc"), specs)


def rig(**topics: Any) -> Plant:
    return parse_plant(yaml.safe_dump(yaml.safe_load(RIG) | {"topics": topics}), origin="rig.yaml")


def test_the_rig_has_these_topics() -> None:
    found = topics_of(rig(partitions=6, retention_h={"video": 24, "scores": 2_160}))
    shown = {
        topic: (spec.partitions, spec.is_compacted, (spec.retention_ms or 0) / HOUR_MS)
        for topic, spec in found.items()
    }
    assert shown == {
        "rig.telemetry": (6, False, 168),
        "rig.audio": (6, False, 168),
        "rig.video": (6, False, 24),
        "rig.alarm-commands": (6, False, 168),
        "rig.scores": (1, False, 2_160),
        "rig.alarm-events": (1, False, 720),
        "rig.dead-letters": (1, False, 720),
        "rig.dead-letter-replays": (1, True, 0),
        "rig.stream-health": (1, False, 168),
        "rig.alarms": (6, True, 0),
        "rig.feedback": (6, True, 0),
        "rig.checkpoints": (6, True, 0),
        "rig.schemas": (1, True, 0),
    }


def test_a_plant_without_sound_has_no_topic_of_sound() -> None:
    content = yaml.safe_load(RIG)
    content["streams"] = [s for s in content["streams"] if s["modality"] != "audio"]
    found = topics_of(parse_plant(yaml.safe_dump(content), origin="deaf.yaml"))
    assert set(topics_of(rig())) - set(found) == {"rig.audio"}


@given(st.integers(1, 1_000))
def test_commands_meet_the_senses_of_their_asset(partitions: int) -> None:
    plant = rig(partitions=partitions)
    found = topics_of(plant)
    kinds = ("alarm-commands", "alarms", "checkpoints", "feedback")
    together = {*plant.sense_topics, *map(plant.topic, kinds)}
    assert {found[topic].partitions for topic in together} == {partitions}
    assert {spec.partitions for topic, spec in found.items() if topic not in together} == {1}


def test_how_records_are_kept_is_not_what_the_plant_is() -> None:
    plant = rig()
    changed = rig(partitions=7, retention_h={"telemetry": 1, "stream_health": 0.5})
    assert topics_of(changed) != topics_of(plant)
    assert changed.fingerprint() == plant.fingerprint()
    # Plants described before topics, devices, rate limits and resolutions could be keep theirs.
    before = plant.model_dump(mode="json", exclude={"topics", "devices"})
    for stream in before["streams"]:
        for tag in stream.get("tags", ()):
            del tag["rate_limit_per_s"], tag["resolution"]
    told = json.dumps(before, separators=(",", ":"), ensure_ascii=False)
    assert plant.fingerprint() == hashlib.sha256(told.encode()).hexdigest()


@pytest.mark.parametrize(
    "topics",
    [
        {"partitions": 0},
        {"retention_h": {"audio": 0}},
        {"retention_h": {"sound": 1}},
        {"retention_h": {"audio": 1e9}},
    ],
)
def test_topics_that_cannot_be_are_refused(topics: dict[str, Any]) -> None:
    with pytest.raises(PlantError, match=r"rig\.yaml breaks 1 rule"):
        rig(**topics)


@given(many_specs, many_specs, st.booleans())
def test_after_a_plan_nothing_differs_and_what_must_stay_stayed(
    wanted: dict[str, TopicSpec], found: dict[str, TopicSpec], update_configs: bool
) -> None:
    differing = {t: differences(wanted[t], found[t]) for t in wanted.keys() & found.keys()}
    is_fatal = any(not each.is_alterable for listed in differing.values() for each in listed)
    if is_fatal or (any(differing.values()) and not update_configs):
        with pytest.raises(TopicMismatchError) as refused:
            plan_topics(wanted, found, update_configs=update_configs)
        for topic, listed in differing.items():
            for each in listed:
                assert f"{topic}: {each}" in str(refused.value)
        assert ("--update" in str(refused.value)) != is_fatal
        return
    plan = plan_topics(wanted, found, update_configs=update_configs)
    after = found | dict(plan.missing) | dict(plan.altered)
    assert all(not differences(spec, after[topic]) for topic, spec in wanted.items())
    assert set(plan.missing) == set(wanted) - set(found)
    for topic in plan.altered:
        assert update_configs
        assert after[topic].partitions == found[topic].partitions
        assert after[topic].is_compacted == found[topic].is_compacted


@given(specs)
def test_a_topic_does_not_differ_from_itself(spec: TopicSpec) -> None:
    assert differences(spec, spec) == ()


def test_a_topic_that_forgets_the_newest_of_a_key_is_not_compacted_rightly() -> None:
    (difference,) = differences(
        TopicSpec(1, is_compacted=True), TopicSpec(1, is_compacted=True, retention_ms=HOUR_MS)
    )
    assert str(difference) == "clean-up must be compact, it has compact,delete"
    assert not difference.is_alterable
