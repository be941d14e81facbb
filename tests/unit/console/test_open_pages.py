"""A page that stays open tells the truth of now: parts of it are asked for anew."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from console.rights import Role
from fusion.plant import NANOSECONDS
from fusion.schema import Message, StreamHealth
from tests.console_app import ADDRESS, PLANT, SLUG, Served, alarm_state, served, state_message

ALARM = f"/alarms/{SLUG}:rig-abnormal"
PARTS = ["/overview/plants", f"/plants/{SLUG}/standing", f"/plants/{SLUG}/forecasts"]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("open")) as running:
        running.person("ada", Role.ADMIN)
        running.person("far", Role.ENGINEER, "demo/elsewhere")
        yield running


@pytest.fixture(autouse=True)
def ada(console: Served) -> None:
    console.pass_s(3_600)
    console.log_in("ada")


def health_message(stream: str, *, newest_ns: int, is_idle: bool = False) -> Message:
    health = StreamHealth(
        plant=ADDRESS,
        stream=stream,
        t_ns=time.time_ns(),
        records=10,
        rate_hz=2.0,
        gaps=0,
        restarts=0,
        late=0,
        duplicate=0,
        offset_s=0.0,
        skew_s=0.0,
        drift_ppm=None,
        is_skewed=False,
        is_idle=is_idle,
        newest_ns=newest_ns,
    )
    return Message(PLANT.topic("stream-health"), ADDRESS, health.model_dump_json().encode())


def test_an_alarm_that_was_raised_anew_is_not_told_with_old_evidence(console: Served) -> None:
    first = alarm_state(episode="e1", raised_ns=1_767_225_600_000_000_000)
    console.publish(state_message(PLANT, first))
    page = console.until(ALARM, "/state?episode=e1")
    assert "of an earlier time" not in page
    again = alarm_state(episode="e2", raised_ns=1_767_229_200_000_000_000, revision=3)
    console.publish(state_message(PLANT, again))
    part = console.until(f"{ALARM}/state?episode=e1", "of an earlier time")
    assert "01:00:00" in part, "when it was raised"
    assert f'<a href="{ALARM}">Show the newest</a>' in part
    assert "/state?episode=e1" in part, "asked for anew, it still says so"
    assert "of an earlier time" not in console.client.get(ALARM).text


@pytest.mark.parametrize("path", PARTS)
def test_a_part_of_a_page_is_shown_to_whom_the_page_is(console: Served, path: str) -> None:
    console.publish(state_message(PLANT, alarm_state()))
    part = console.client.get(path)
    assert part.status_code == 200
    assert f'hx-get="{path}"' in part.text, "it goes on being asked for"
    console.log_in("far")
    answer = console.client.get(path)
    assert SLUG not in answer.text
    assert answer.status_code == (200 if path == "/overview/plants" else 404)
    console.client.cookies.clear()
    assert console.client.get(path, headers={"HX-Request": "true"}).status_code == 401


def test_streams_say_how_far_each_is_behind(console: Served) -> None:
    console.publish(health_message("process", newest_ns=time.time_ns() - 90 * NANOSECONDS))
    page = console.until("/streams", ">1 min 30 s<")
    assert '<th scope="col" class="n">Lag</th>' in page
    assert 'hx-get="/streams"' in page, "the page does not stand still"


def test_a_camera_that_fell_silent_says_since_when(console: Served) -> None:
    seen_ns = time.time_ns() - 600 * NANOSECONDS
    console.publish(health_message("camera", newest_ns=seen_ns, is_idle=True))
    asked = {"tag": "tank_level", "span_s": 600, "px": 100}
    deadline = time.monotonic() + 20
    while (
        "camera"
        not in (told := console.client.get(f"/plants/{SLUG}/trends", params=asked).json())[
            "cameras"
        ]
    ):
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    camera = told["cameras"]["camera"]
    assert camera["is_silent"]
    assert camera["t_s"] == pytest.approx(seen_ns / NANOSECONDS)
