"""Plants that share partitions: what one of them waits for, another must not hold back."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from connectors.embedded_broker.publisher import partition_of
from flows import wiring
from flows.live import open_live, run_live
from flows.operate import scores
from flows.plant_files import load_plant
from flows.replay import replay
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import Message
from fusion.simulation import normal_scenario, simulate
from tests.e2e.conftest import make_plant
from tests.e2e.versions import add_version, once_each

DURATION_S = 60


def plants_of_one_partition(folder: Path, prefix: str) -> list[Plant]:
    """Return two plants whose records come into the same partition of every topic."""
    content = yaml.safe_load(make_plant(folder, prefix).read_text())
    by_partition: defaultdict[int, list[Plant]] = defaultdict(list)
    for number in range(100):
        content["address"]["asset"] = f"pump-{number}"
        path = folder / f"pump-{number}.yaml"
        path.write_text(yaml.safe_dump(content))
        plant = load_plant(path)
        together = by_partition[partition_of(str(plant.address), plant.topics.partitions)]
        together.append(plant)
        if len(together) == 2:
            return together
    raise AssertionError("two of a hundred share one of a few partitions")


@pytest.mark.timeout(300)
def test_two_plants_of_which_each_is_ahead_where_the_other_is_behind_are_both_read_to_the_end(
    model_dir: Path, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage senders catch up one after the other: a topic is in another's order."""
    monkeypatch.setattr("connectors.embedded_broker.source.MAX_POLL_RECORDS", 30)
    one, other = plants_of_one_partition(tmp_path, unique)
    settings = Settings(data_dir=tmp_path / "data")
    wiring.prepare_topics(settings, one)
    sent: dict[tuple[str, str], list[Message]] = {}

    class Kept:
        def publish(self, messages: list[Message], **_: object) -> None:
            for each in messages:
                sent.setdefault((each.key, each.topic), []).append(each)

    for plant in (one, other):
        payloads = simulate(normal_scenario(duration_s=DURATION_S, seed=3), plant)
        replay(payloads, cast("Any", Kept()), plant, speed=None, clock=wiring.open_clock())
    telemetry, others = one.topic("telemetry"), [one.topic("audio"), one.topic("video")]
    first, second = str(one.address), str(other.address)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish(sent[first, telemetry])
        for topic in others:
            publisher.publish(sent[second, topic])
            publisher.publish(sent[first, topic])
        publisher.publish(sent[second, telemetry])

    version = add_version(settings, one, "v1", model_dir)
    with open_live([Watched(one, version), Watched(other, version)], settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        total = live.total()
    assert (total.pending, total.lost, total.late) == (0, 0, 0)
    for address in (first, second):
        once_each([each.tick for each in scores(one, settings) if each.plant == address])
