"""The records of the soak test, with some that must not be scored: repeated, late, broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.soak.signals import soak_payloads
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.schema import Message, TelemetryBatch, VideoFrame
from fusion.simulation import Scenario

REPEAT_EVERY = 401
"""Every so many records one is sent twice."""
BREAK_EVERY = 997
"""After every so many records one comes that nobody can read."""
DELAY_EVERY = 907
"""Every so many frames one is held back ..."""
DELAY_S = 10
"""... for this much event time, far longer than the plant allows."""


class Traffic:
    """Makes the messages of a run and counts, per kind, what was sent."""

    def __init__(self, plant: Plant, scenario: Scenario, *, epoch: str) -> None:
        self._plant = plant
        self._scenario = scenario
        self._senders = {
            stream.name: StreamSender(plant, stream.name, source="soak", epoch=epoch)
            for stream in plant.streams
        }
        self.counts: Counter[str] = Counter()
        self._delayed: list[tuple[int, Message]] = []

    def messages(self) -> Iterator[tuple[int, Message]]:
        """Yield when each message is due (ns of event time), and the message."""
        num_frames = 0
        for number, (due_ns, payload) in enumerate(soak_payloads(self._scenario, self._plant)):
            message = self._senders[payload.stream].message(payload)
            self.counts["records"] += 1
            self.counts[payload.stream] += 1
            if isinstance(payload, TelemetryBatch):
                self.counts["samples"] += payload.values_RC.size
            if isinstance(payload, VideoFrame):
                num_frames += 1
                if num_frames % DELAY_EVERY == 0:
                    self._delayed.append((due_ns + DELAY_S * NANOSECONDS, message))
                    continue
            yield due_ns, message
            yield from self._spoiled(number, due_ns, message)
        # What is still held back would come after everything else: the last frames would not be
        # late, so they are not sent.
        for _, message in self._delayed:
            self.counts["records"] -= 1
            self.counts[message.headers["ce_subject"].rpartition("/")[2]] -= 1

    def _spoiled(self, number: int, due_ns: int, message: Message) -> Iterator[tuple[int, Message]]:
        if number % REPEAT_EVERY == REPEAT_EVERY - 1:
            self.counts["records"] += 1
            self.counts["repeated"] += 1
            yield due_ns, message
        if number % BREAK_EVERY == BREAK_EVERY - 1:
            self.counts["records"] += 1
            self.counts["broken"] += 1
            yield due_ns, Message(message.topic, message.key, b"\xff", message.headers)
        while self._delayed and self._delayed[0][0] <= due_ns:
            self.counts["delayed"] += 1
            yield due_ns, self._delayed.pop(0)[1]
