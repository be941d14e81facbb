"""One device read for ever: what comes is sent once and in order, whatever fails around it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from fusion.edge import DeviceRun
from fusion.errors import (
    BrokerUnavailableError,
    DeviceRefusedError,
    DeviceUnavailableError,
    FusionError,
    InputError,
    SpoolFullError,
)
from fusion.plant import NANOSECONDS
from fusion.ports import Observed, Reading, Unusable
from fusion.schema import (
    AudioChunk,
    DeviceHealth,
    Envelope,
    Message,
    Quality,
    TelemetryBatch,
    VideoFrame,
)
from fusion.schema.codec import decode_payload
from tests.clocks import HandClock
from tests.peers.peer import CAMERA, MICROPHONE, TELEMETRY, plant_with

COLUMN = {"stream": "process", "tag": "level", "column": "level"}
TABLE = {
    "name": "table",
    "protocol": "table-files",
    "folder": "/nowhere",
    "patterns": ["*.csv"],
    "time_column": "time",
    "columns": [COLUMN],
    "silence_s": 5,
}
PLANT = plant_with(TELEMETRY, [TABLE])


class Script:
    """Sessions that do what a test wrote: each item is what one read returns or raises."""

    def __init__(self, clock: HandClock, *sessions: Sequence[object]) -> None:
        self.clock = clock
        self.sessions = list(sessions)
        self.opened_at: list[str | None] = []
        self.num_open = 0
        self.num_read = 0
        self.units: Mapping[str, str] = {}
        self.read_s: float | None = None

    def open(self, position: str | None) -> ScriptedSession:
        self.opened_at.append(position)
        steps: list[object] = list(self.sessions.pop(0)) if self.sessions else ["ended"]
        if steps and isinstance(steps[0], Exception):
            raise steps[0]
        self.num_open += 1
        return ScriptedSession(self, steps)


class ScriptedSession:
    def __init__(self, script: Script, steps: list[object]) -> None:
        self._script = script
        self._read_s = script.read_s
        self._steps = steps
        self.units = script.units
        self.is_ended = False
        self.holds_until_ns: int | None = None

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        self._script.clock.pass_s(timeout_s if self._read_s is None else self._read_s)
        step = self._steps.pop(0) if self._steps else []
        if isinstance(step, Exception):
            raise step
        if step == "ended":
            self.is_ended = True
            return []
        self._script.num_read += 1
        return step  # type: ignore[return-value]

    def position(self) -> str:
        return str(self._script.num_read)

    def close(self) -> None:
        self._script.num_open -= 1


class Broker:
    """Takes messages, except when a test says why not."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.failures: list[Exception] = []

    def publish(self, messages: Sequence[Message], *, commit: object = None) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.messages += messages

    def close(self) -> None:
        pass

    def values(self) -> list[float]:
        found: list[float] = []
        for message in self.messages:
            if message.topic == "edge.telemetry":
                batch = decode_payload(Envelope.from_headers(message.headers), message.value)
                assert isinstance(batch, TelemetryBatch)
                found += batch.values_RC[:, 0].tolist()
        return found

    def health(self) -> list[DeviceHealth]:
        return [
            DeviceHealth.model_validate_json(message.value)
            for message in self.messages
            if message.topic == "edge.stream-health"
        ]


class Kept:
    def __init__(self, position: str | None = None) -> None:
        self.position = position

    def load(self) -> str | None:
        return self.position

    def save(self, position: str) -> None:
        self.position = position


class Bench:
    def __init__(
        self, *sessions: Sequence[object], plant: object = PLANT, kept: Kept | None = None
    ) -> None:
        self.clock = HandClock()
        self.script = Script(self.clock, *sessions)
        self.broker = Broker()
        self.kept = kept or Kept()
        self.states: list[str] = []
        self.whys: list[str] = []
        self.run = DeviceRun(
            plant,  # type: ignore[arg-type]
            plant.devices[0],  # type: ignore[attr-defined]
            open_session=self.script.open,
            publisher=self.broker,
            positions=self.kept,
            clock=self.clock,
            on_state=self._note_state,
        )

    def _note_state(self, state: str, why: str) -> None:
        self.states.append(state)
        self.whys.append(why)

    def to_end(self, most: int = 2_000) -> None:
        for _ in range(most):
            if not self.run.step():
                return
        raise AssertionError("it did not end")


def reading(clock_s: float, value: float) -> Reading:
    t_ns = HandClock().t_ns + round(clock_s * NANOSECONDS)
    return Reading("process", "level", value, Quality.GOOD, t_ns, t_ns, t_ns)


def test_what_comes_is_sent_once_and_in_order_across_lost_connections() -> None:
    lost = DeviceUnavailableError("gone")
    bench = Bench(
        [[reading(0, 1)], [reading(1, 2)], lost],
        [DeviceUnavailableError("still gone")],
        [[reading(2, 3)], "ended"],
    )
    bench.to_end()
    assert bench.broker.values() == [1, 2, 3]
    assert bench.script.num_open == 0
    assert bench.script.opened_at == [None, "2", "2"]
    assert bench.kept.position == "3"
    assert bench.broker.health()[-1].state == "ended"
    assert bench.broker.health()[-1].failures == 2


def test_what_came_between_two_sendings_is_not_read_again_after_a_loss() -> None:
    bench = Bench(
        [[reading(0, 1)], [reading(1, 2)], DeviceUnavailableError("gone")],
        [[reading(2, 3)], "ended"],
    )
    bench.script.read_s = 0.01
    bench.to_end()
    assert bench.broker.values() == [1, 2, 3]
    assert bench.script.opened_at == [None, "2"]


def test_a_stop_keeps_how_far_it_has_sent() -> None:
    bench = Bench([[reading(0, 1)], [reading(1, 2)], [reading(2, 3)]])
    bench.script.read_s = 0.01
    for _ in range(3):
        bench.run.step()
    bench.run.close()
    assert bench.kept.position == str(len(bench.broker.values())) == "2"


def test_a_stop_while_nothing_can_be_sent_keeps_no_position() -> None:
    bench = Bench([[reading(0, 1)], [reading(1, 2)]])
    bench.broker.failures = [BrokerUnavailableError("away")] * 9
    for _ in range(4):
        bench.run.step()
    bench.run.close()
    assert bench.kept.position is None


def test_what_the_plant_file_does_not_allow_is_not_counted_as_read() -> None:
    wrong_rate = AudioChunk("microphone", 1, 8_000, 0, 0.0, 0, np.zeros(10, np.int16), 1)
    sound = {
        "name": "sound",
        "protocol": "sound-files",
        "folder": "/nowhere",
        "patterns": ["*.wav"],
        "stream": "microphone",
        "start": "2026-01-01T00:00:00Z",
    }
    bench = Bench([[], [wrong_rate]], plant=plant_with(MICROPHONE, [sound]))
    bench.run.step()
    bench.run.step()
    with pytest.raises(InputError, match="16000 Hz"):
        bench.run.step()
    bench.run.close()
    assert (bench.kept.position, bench.script.num_open) == ("1", 0)


def test_it_goes_on_from_the_position_that_was_kept() -> None:
    bench = Bench(["ended"], kept=Kept("far"))
    bench.to_end()
    assert bench.script.opened_at == ["far"]


@pytest.mark.parametrize("failure", [SpoolFullError("full"), BrokerUnavailableError("away")])
def test_while_nothing_can_be_sent_nothing_is_read_and_nothing_lost(failure: FusionError) -> None:
    bench = Bench([[reading(n, n)] for n in range(5)] + ["ended"])
    bench.broker.failures = [failure] * 3
    bench.to_end()
    assert bench.broker.values() == [0, 1, 2, 3, 4]
    assert "waiting" in bench.states


def test_a_position_is_never_kept_before_its_records_are() -> None:
    bench = Bench([[reading(0, 1)], *[[]] * 30, "ended"])
    bench.broker.failures = [BrokerUnavailableError("away")] * 5
    while bench.broker.failures:
        bench.run.step()
        assert bench.kept.position is None or bench.broker.values() == [1]
    bench.to_end()
    assert bench.broker.values() == [1]


def test_what_the_spool_took_is_not_sent_again_when_somebody_must_mend_the_broker() -> None:
    bench = Bench([[reading(0, 1)], [reading(1, 2)], "ended"])
    bench.broker.failures = [FusionError("a wrong password; what came waits on disk")]
    bench.to_end()
    assert bench.broker.values() == [2]
    told = [why for why in bench.whys if "wrong password" in why]
    assert len(told) == 1, "a person has to know"
    assert bench.whys[-1] == ""


def test_waits_grow_after_each_failure_and_a_refusal_waits_longest() -> None:
    refused = DeviceRefusedError("wrong password")
    bench = Bench(*[[DeviceUnavailableError("away")] for _ in range(8)], [refused], ["ended"])
    opened: list[float] = []
    bench.script.open, inner = (
        lambda position: (opened.append(bench.clock.monotonic_ns() / 1e9), inner(position))[1],
        bench.script.open,
    )
    bench.run._open_session = bench.script.open
    bench.to_end(10_000)
    waits = np.diff(opened)
    assert waits[0] <= 0.7
    assert waits[:8].max() <= 30.2
    assert waits[-1] >= 15
    assert "refused" in bench.states


def test_silence_ends_the_connection() -> None:
    bench = Bench([[reading(0, 1)], *[[]] * 60], ["ended"])
    bench.to_end()
    assert len(bench.script.opened_at) == 2
    assert bench.broker.health()[-1].failures == 1


def test_another_unit_ends_the_run_with_advice() -> None:
    bench = Bench([[]])
    bench.script.units = {"level": "psi"}
    with pytest.raises(InputError, match="the device states 'psi'"):
        bench.run.step()
    assert bench.script.num_open == 0


def test_what_cannot_be_used_is_counted_with_the_reason() -> None:
    bench = Bench([[Unusable("process", "no JSON")], [reading(0, 1)], "ended"])
    bench.to_end()
    (flow,) = bench.broker.health()[-1].streams
    assert (flow.unusable, flow.why_unusable, flow.records) == (1, "no JSON", 1)


def test_health_is_said_every_ten_seconds_and_counts_gaps() -> None:
    bench = Bench(
        [[reading(0, 1)], *[[]] * 40, *[[reading(4 + n, n)] for n in range(150)], "ended"]
    )
    bench.to_end()
    health = bench.broker.health()
    assert len(health) >= 2
    assert health[-1].streams[0].gaps == 1
    assert json.loads(bench.broker.messages[-1].value)["device"] == "table"


def test_a_flood_is_thinned_to_ten_rows_a_period() -> None:
    flood = [reading(n / 10_000, n / 100) for n in range(10_000)]
    bench = Bench([flood, "ended"])
    bench.to_end()
    assert len(bench.broker.values()) == 100
    assert bench.broker.health()[-1].streams[0].thinned == 9_900


def _frame(t_s: float) -> VideoFrame:
    pixels_HW3 = np.full((48, 64, 3), 200, np.uint8)
    return VideoFrame("camera", HandClock().t_ns + round(t_s * NANOSECONDS), pixels_HW3)


def test_frames_come_at_the_streams_rate_without_what_is_masked() -> None:
    film = {
        "name": "film",
        "protocol": "film-files",
        "folder": "/nowhere",
        "patterns": ["*.mp4"],
        "stream": "camera",
        "start": "2026-01-01T00:00:00Z",
        "masks": [{"corners": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}],
    }
    plant = plant_with(CAMERA, [film])
    # 20 Hz with jitter, of which the stream wants 5.
    frames = [[_frame(n / 20 + 0.004 * (-1) ** n)] for n in range(40)]
    bench = Bench([*frames, "ended"], plant=plant)
    bench.to_end()
    sent = [message for message in bench.broker.messages if message.topic == "edge.video"]
    assert len(sent) in {10, 11}
    decoded = decode_payload(Envelope.from_headers(sent[0].headers), sent[0].value)
    assert isinstance(decoded, VideoFrame)
    assert decoded.pixels_HW3[:, :30].max() < 20
    assert decoded.pixels_HW3[:, 36:].min() > 180
