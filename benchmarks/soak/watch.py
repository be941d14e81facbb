"""Looks at the live process from outside, as an operator's monitoring does."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

import psutil
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorNotAvailableError
from kafka.structs import TopicPartition

from benchmarks.soak.product import live_group
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import Score


class Progress:
    """What the publisher last said, read as it comes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.said: dict[str, Any] = {"t_event_ns": 0, "counts": {}}
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def last(self) -> dict[str, Any]:
        """Return the last line, after the publisher ended."""
        self._reader.join()
        return self.said

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.said = json.loads(line)


class Watch:
    """Samples memory, lag and scores of the live process of one plant."""

    def __init__(self, settings: Settings, plant: Plant, process: psutil.Process) -> None:
        self._process = process
        self._admin: Any = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
        self._reader: Any = KafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap, isolation_level="read_committed"
        )
        self._senses = [TopicPartition(topic, 0) for topic in plant.sense_topics]
        scores = TopicPartition(plant.topic("scores"), 0)
        self._reader.assign([scores])
        self._reader.seek_to_beginning(scores)
        self._group = live_group(plant)
        self._began_s = time.monotonic()
        self.num_scores = 0
        self.scored_ns = 0

    def sample(self, progress: Progress) -> dict[str, Any]:
        """Return how the process is now: MB, records behind by topic, plant time scored."""
        self._count_scores()
        lag = self.lag()
        said = progress.said
        behind_s = (said["t_event_ns"] - self.scored_ns) / NANOSECONDS if self.scored_ns else None
        cpu = self._process.cpu_times()
        return {
            "t_s": round(time.monotonic() - self._began_s, 2),
            "rss_mb": round(self._process.memory_info().rss / 1e6, 2),
            "cpu_s": round(cpu.user + cpu.system, 2),
            "lag": lag,
            "behind_s": None if behind_s is None else round(max(0.0, behind_s), 2),
            "num_scores": self.num_scores,
            "sent": said["counts"].get("records", 0),
        }

    def lag(self) -> dict[str, int]:
        """Return end offset less committed offset, by topic."""
        committed = self._committed()
        ends = self._reader.end_offsets(self._senses)
        return {part.topic: ends[part] - committed.get(part, 0) for part in self._senses}

    def on_broker(self) -> dict[str, int]:
        """Return how many records the broker holds, by topic. Senders use no transactions here."""
        ends = self._reader.end_offsets(self._senses)
        begins = self._reader.beginning_offsets(self._senses)
        return {part.topic: ends[part] - begins[part] for part in self._senses}

    def close(self) -> None:
        """Close the connections."""
        self._admin.close()
        self._reader.close(autocommit=False)

    def _committed(self) -> dict[TopicPartition, int]:
        try:
            groups = self._admin.list_group_offsets({self._group: None})
        except CoordinatorNotAvailableError:
            # The broker makes the topic of its groups when the first one asks.
            return {}
        return {part: meta.offset for part, meta in groups[self._group].items()}

    def _count_scores(self) -> None:
        while batches := self._reader.poll(timeout_ms=50):
            for records in batches.values():
                self.num_scores += len(records)
                self.scored_ns = Score.model_validate_json(records[-1].value).t_end_ns


@contextlib.contextmanager
def watching(settings: Settings, plant: Plant, process: psutil.Process) -> Iterator[Watch]:
    """Yield a watch that is closed afterwards."""
    watch = Watch(settings, plant, process)
    with contextlib.closing(watch):
        yield watch


def theil_sen(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the median of the slopes between all pairs of points: outliers do not bend it.

    Example:
        >>> theil_sen([0, 1, 2, 3], [0.0, 1.0, 90.0, 3.0])
        1.0
    """
    slopes = sorted(
        (y[j] - y[i]) / (x[j] - x[i]) for i in range(len(x)) for j in range(i + 1, len(x))
    )
    return slopes[len(slopes) // 2] if slopes else 0.0
