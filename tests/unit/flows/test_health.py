"""What a supervisor hears from the live process, over real HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from flows.health import MAX_SILENCE_S, Health, serve_health
from fusion.errors import SettingsError
from fusion.schema import TopicPartition
from fusion.stream.progress import PATIENCE_S, ProgressWatch
from tests.clocks import HandClock

AUDIO, VIDEO = TopicPartition("rig.audio", 2), TopicPartition("rig.video", 2)


class Probe:
    """A health endpoint, the loop that it tells of, and a client."""

    def __init__(self, health: Health, clock: HandClock, address: str) -> None:
        self.health, self.clock, self.address = health, clock, address
        self.progress = ProgressWatch()

    def see(self, **read_and_end: tuple[int, int]) -> None:
        parts = {"audio": AUDIO, "video": VIDEO}
        read = {parts[name]: read for name, (read, _) in read_and_end.items()}
        ends = {parts[name]: end for name, (_, end) in read_and_end.items()}
        self.progress.see(read, ends, now_ns=self.clock.monotonic_ns())
        self.progress.has_joined = True
        self.health.beat(self.progress)

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(body) if is_json else {}


@pytest.fixture
def probe() -> Iterator[Probe]:
    clock = HandClock()
    health = Health(clock)
    with serve_health(health, "127.0.0.1:0") as address:
        assert address is not None
        yield Probe(health, clock, address)


def test_a_process_that_reads_is_alive_and_ready_and_says_how_far_behind_it_is(
    probe: Probe,
) -> None:
    assert probe.ask("/health/live")[0] == 200
    status, said = probe.ask("/health/ready")
    assert (status, said["waits_for"]) == (503, "not started")
    probe.progress.lost = {AUDIO: 3}
    probe.see(audio=(7, 9), video=(3, 3))
    assert probe.ask("/health/live")[0] == 200
    assert probe.ask("/health/ready") == (
        200,
        {
            "ok": True,
            "waits_for": None,
            "lag": {"rig.audio/2": 2, "rig.video/2": 0},
            "lost": {"rig.audio/2": 3},
            "no_tick_closes_for_s": {},
        },
    )


def test_a_partition_that_has_records_and_is_not_read_fails_liveness_though_the_loop_goes_round(
    probe: Probe,
) -> None:
    probe.see(audio=(7, 9), video=(3, 3))
    probe.clock.sleep(PATIENCE_S)
    probe.see(audio=(7, 12), video=(3, 3))
    assert probe.ask("/health/live")[0] == 200
    probe.clock.sleep(1)
    probe.see(audio=(7, 12), video=(3, 3))
    status, said = probe.ask("/health/live")
    assert status == 503
    assert said["stuck"] == {"rig.audio/2": {"lag": 5, "still_for_s": PATIENCE_S + 1}}
    probe.see(audio=(8, 12), video=(3, 3))
    assert probe.ask("/health/live")[0] == 200


def test_a_loop_that_stands_still_fails_liveness(probe: Probe) -> None:
    probe.see(audio=(9, 9))
    probe.clock.sleep(MAX_SILENCE_S)
    assert probe.ask("/health/live")[0] == 200
    probe.clock.sleep(1)
    assert probe.ask("/health/live")[0] == 503


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_clock_that_is_set_changes_nothing(probe: Probe, step_s: float) -> None:
    probe.see(audio=(7, 9))
    probe.clock.set_s(step_s)
    assert probe.ask("/health/live") == (200, {"ok": True, "silent_for_s": 0, "stuck": {}})
    probe.see(audio=(7, 9))
    assert probe.ask("/health/live")[0] == 200
    probe.clock.sleep(PATIENCE_S + 1)
    probe.clock.set_s(-step_s)
    probe.see(audio=(7, 9))
    stuck = {"rig.audio/2": {"lag": 2, "still_for_s": PATIENCE_S + 1}}
    assert probe.ask("/health/live") == (503, {"ok": False, "silent_for_s": 0, "stuck": stuck})


def test_a_broker_that_is_away_makes_it_unready_but_is_no_reason_to_restart(probe: Probe) -> None:
    probe.see(audio=(7, 9))
    for _ in range(10):
        probe.clock.sleep(MAX_SILENCE_S / 2)
        probe.health.away("Kafka does not answer")
    assert probe.ask("/health/live")[0] == 200
    status, said = probe.ask("/health/ready")
    assert (status, said["waits_for"], said["lag"]) == (503, "Kafka does not answer", {})


def test_who_waits_for_inference_is_unready_and_nothing_in_it_is_stuck(probe: Probe) -> None:
    probe.progress.waits_for = "Triton does not answer"
    for _ in range(5):
        probe.see(audio=(7, 9))
        assert probe.ask("/health/live")[0] == 200
        assert probe.ask("/health/ready")[0] == 503
        probe.clock.sleep(PATIENCE_S)
    probe.progress.waits_for = None
    probe.see(audio=(7, 9))
    assert probe.ask("/health/live")[0] == 503, "it does not wait, and does not read"


def test_a_member_of_the_group_that_no_partition_is_left_for_is_ready(probe: Probe) -> None:
    probe.health.beat(probe.progress)
    assert probe.ask("/health/ready")[0] == 503, "it has not joined"
    probe.see()
    assert probe.ask("/health/ready")[0] == 200


def test_anything_else_is_not_found(probe: Probe) -> None:
    assert probe.ask("/")[0] == 404


def test_a_port_that_is_taken_is_said_in_words(probe: Probe) -> None:
    with (
        pytest.raises(SettingsError, match="FUSION_HEALTH_ADDRESS must be free"),
        serve_health(probe.health, probe.address),
    ):
        pass


def test_no_address_no_server() -> None:
    with serve_health(Health(HandClock()), "") as address:
        assert address is None
