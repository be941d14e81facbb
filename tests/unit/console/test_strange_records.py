"""What lies on the topics and cannot be used harms no page: strangers publish there too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pytest

from console.rights import Role
from fusion.plant import NANOSECONDS, StreamSender
from fusion.schema import AudioChunk, Message
from tests.console_app import PLANT, SLUG, Served, alarm_state, level_message, served, state_message

YEAR_NS = 366 * 86_400 * NANOSECONDS
TAG = "tank_level"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("strange")) as running:
        running.person("ada", Role.ADMIN)
        running.log_in("ada")
        running.read_all()
        yield running


@pytest.fixture(scope="module")
def process() -> StreamSender:
    return StreamSender(PLANT, "process", source="test", epoch="e")


def sound(t_ns: int) -> Message:
    sender = StreamSender(PLANT, "microphone", source="test", epoch="e")
    samples_N = np.zeros(8_000, np.int16)
    return sender.message(AudioChunk("microphone", t_ns, 16_000, 0, 0.0, 0, samples_N))


def shown(console: Served) -> list[float]:
    asked = {"tag": TAG, "span_s": 600, "px": 600}
    answer: httpx.Response = console.client.get(f"/plants/{SLUG}/trends", params=asked)
    return [value for value in answer.json()["trends"][TAG][1] if value is not None]


def test_sound_on_the_topic_of_telemetry_does_not_stop_the_console(
    console: Served, process: StreamSender
) -> None:
    now_ns = time.time_ns()
    astray = replace(sound(now_ns), topic=PLANT.topic("telemetry"))
    subject = level_message(process, now_ns, 0.1).headers["ce_subject"]
    forged = replace(astray, headers={**astray.headers, "ce_subject": subject})
    console.publish(astray, forged, state_message(PLANT, alarm_state("after-it")))
    console.until("/alarms", "after-it")
    assert console.app.state.reader.is_running
    assert console.app.state.reader.num_unreadable >= 1, "it is counted on the page Streams"


def test_a_sample_of_next_year_does_not_empty_the_trends(
    console: Served, process: StreamSender
) -> None:
    now_ns = time.time_ns()
    console.publish(level_message(process, now_ns - 2 * NANOSECONDS, 0.5))
    console.publish(level_message(process, now_ns + YEAR_NS, 0.9))
    console.publish(level_message(process, now_ns, 0.6), state_message(PLANT, alarm_state("later")))
    console.until("/alarms", "later")
    deadline = time.monotonic() + 20
    while len(values := shown(console)) < 2:
        assert time.monotonic() < deadline, f"the samples of now are never drawn, only {values}"
        time.sleep(0.05)
    assert values == pytest.approx([0.5, 0.6])
