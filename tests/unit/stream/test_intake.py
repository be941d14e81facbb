"""The mouth of the chain: idleness goes by a clock that never jumps."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from fusion.plant import NANOSECONDS, StreamSender, parse_plant
from fusion.schema import Record, TelemetryBatch
from fusion.stream.intake import Intake
from tests.clocks import START_NS, HandClock

PLANT = parse_plant(
    """
prefix: pair
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 1
allowed_lateness_s: 1
streams:
  - name: left
    modality: telemetry
    rate_hz: 1
    max_age_s: 5
    tags: [{name: l, unit: m, range: [0, 1]}]
  - name: right
    modality: telemetry
    rate_hz: 1
    max_age_s: 5
    tags: [{name: r, unit: m, range: [0, 1]}]
""",
    origin="pair.yaml",
)


def closed_per_second(step_s: float) -> list[int]:
    """Return how many ticks were closed after each second; ``right`` falls silent at second 20.

    The wall clock is set by ``step_s`` at second 22, and back at second 36. Two seconds of event
    time come in one, so that only the silence decides when ``right`` is let go.
    """
    clock, offsets = HandClock(), count()
    intake = Intake(PLANT, clock, context_ticks=2, has_unread=lambda _: False)
    senders = {name: StreamSender(PLANT, name, source="t", epoch="1") for name in ("left", "right")}

    def said(stream: str, second: int) -> Record:
        t_ns = np.array([START_NS + second * NANOSECONDS])
        good, status = np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint32)
        batch = TelemetryBatch(
            stream, (stream[0],), t_ns, t_ns, t_ns, np.array([[0.5]]), good, status
        )
        message = senders[stream].message(batch)
        value, headers = message.value, message.headers
        return Record(message.topic, 0, next(offsets), message.key, value, headers, int(t_ns[0]))

    closed: list[int] = []
    for second in range(40):
        if second in {22, 36}:
            clock.set_s(step_s if second == 22 else -step_s)
        records = [said("left", second)]
        if second < 20:
            records.append(said("right", second))
        closed.append(len(intake.take(records).observations))
        clock.pass_s(0.5)
    return closed


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_clock_that_is_set_changes_no_stream_to_idle_or_back(step_s: float) -> None:
    closed = closed_per_second(step_s)
    assert closed == closed_per_second(0)
    assert closed[2:20] == [1] * 18, "both speak"
    silent = closed[20:]
    until_idle = next(n for n, num_ticks in enumerate(silent[1:], start=1) if num_ticks)
    assert 2 * 5 - 1 <= until_idle <= 2 * 5 + 1, "the silence is as long as its values may show"
    assert silent[until_idle] > 1
