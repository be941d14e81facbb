"""Quix Streams: tumbling windows of one tick by event time, the newest value of every tag.

Two ways of writing it, chosen by the second argument:

``rows``     as its documentation teaches: one event for each row, ``Latest`` for each tag;
``batches``  tuned for batches: numpy reduces a batch to one event for each tick that it touches,
             and the window merges these events. What an engineer who knows both would write.

Both unpack the product's Avro batches with a deserialiser of their own. Runs in the peers'
environment.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from quixstreams import Application
from quixstreams.dataframe.windows import Latest, Reduce
from quixstreams.models import Deserializer

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.stream.jobs import Answer, Job, peak_rss_mb

LAST_USABLE_QUALITY = 1
TIMES = ("t_source", "t_server", "t_receive")
SINGLE_OBJECT_HEADER_BYTES = 10
"""Avro's mark and the fingerprint of the writer's schema; this reader knows its one schema."""
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "fusion.telemetry.v1",
        "fields": [
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "num_rows", "type": "int"},
            *({"name": name, "type": "bytes"} for name in TIMES),
            {"name": "values", "type": "bytes"},
            {"name": "quality", "type": "bytes"},
            {"name": "status", "type": "bytes"},
        ],
    }
)


class Batches(Deserializer):
    """Unpacks one Avro batch into events, each with its time in milliseconds."""

    split_values = True

    def __init__(self, mode: str, tick_ms: int) -> None:
        self._events = self._rows if mode == "rows" else self._ticks
        self._tick_ms = tick_ms
        self.num_bytes = 0

    def __call__(self, value: bytes, ctx: Any) -> list[dict[str, Any]]:
        """Return the events of one record."""
        self.num_bytes += len(value)
        body = io.BytesIO(value[SINGLE_OBJECT_HEADER_BYTES:])
        content: Any = fastavro.schemaless_reader(body, SCHEMA, None)
        cells = (content["num_rows"], len(content["tags"]))
        t_R_ms = np.frombuffer(content["t_source"], "<i8") // 1_000_000
        values_RC = np.frombuffer(content["values"], "<f8").reshape(cells)
        quality_RC = np.frombuffer(content["quality"], "u1").reshape(cells)
        is_usable_RC = (quality_RC <= LAST_USABLE_QUALITY) & np.isfinite(values_RC)
        return list(self._events(content["tags"], t_R_ms, values_RC, is_usable_RC))

    @staticmethod
    def _rows(tags: list[str], t_R_ms: Any, values_RC: Any, usable_RC: Any) -> Iterator[Any]:
        is_whole_R = usable_RC.all(axis=1).tolist()
        for row, (t_ms, values) in enumerate(zip(t_R_ms.tolist(), values_RC.tolist(), strict=True)):
            event: dict[str, Any] = dict(zip(tags, values, strict=True))
            if not is_whole_R[row]:
                event = {
                    tag: event[tag]
                    for tag, usable in zip(tags, usable_RC[row], strict=True)
                    if usable
                }
            event["t_ms"] = t_ms
            yield event

    def _ticks(self, tags: list[str], t_R_ms: Any, values_RC: Any, usable_RC: Any) -> Iterator[Any]:
        tick_R = t_R_ms // self._tick_ms
        for tick in np.unique(tick_R):
            rows_R = np.flatnonzero(tick_R == tick)
            usable_KC = usable_RC[rows_R]
            last_C = rows_R[len(rows_R) - 1 - usable_KC[::-1].argmax(axis=0)]
            values_C = values_RC[last_C, np.arange(len(tags))].tolist()
            event: dict[str, Any] = dict(zip(tags, values_C, strict=True))
            if not usable_KC.any(axis=0).all():
                has_C = usable_KC.any(axis=0)
                event = {tag: event[tag] for tag, has in zip(tags, has_C, strict=True) if has}
            event["t_ms"] = int(t_R_ms[rows_R[-1]])
            yield event


def main() -> None:
    """Run the job of the command line."""
    job, mode = Job.from_command_line(), sys.argv[2]
    plant = json.loads(job.plants[0])
    tags = [tag["name"] for tag in plant["streams"][0]["tags"]]
    tick_ms = round(plant["tick_s"] * 1000)
    aggregations: dict[str, Any] = (
        {tag: Latest(tag) for tag in tags}
        if mode == "rows"
        else {"newest": Reduce(lambda old, new: {**old, **new}, initializer=lambda new: new)}
    )
    began: list[tuple[float, float]] = []
    ended: list[tuple[float, float]] = []
    num_read = num_closed = 0

    def on_message_processed(_topic: str, _partition: int, _offset: int) -> None:
        nonlocal num_read
        if not began:
            began.append((time.perf_counter(), time.process_time()))
            deserializer.num_bytes = 0
            return
        num_read += 1
        if num_read == job.num_records - 1:
            ended.append((time.perf_counter(), time.process_time()))
            app.stop()

    def count(_window: Any) -> None:
        nonlocal num_closed
        num_closed += 1

    with tempfile.TemporaryDirectory() as state_dir:
        app = Application(
            broker_address=job.bootstrap,
            consumer_group=job.group,
            auto_offset_reset="earliest",
            state_dir=state_dir,
            # Tuned in its favour: no log lines, no copy of the state on the broker, and the
            # consumer's fetches as large as the product's.
            loglevel=None,
            use_changelog_topics=False,
            on_message_processed=on_message_processed,
            consumer_extra_config={
                "fetch.max.bytes": 16 * 1024 * 1024,
                "max.partition.fetch.bytes": 4 * 1024 * 1024 + 64 * 1024,
            },
        )
        deserializer = Batches(mode, tick_ms)
        topic = app.topic(
            job.topics[0],
            value_deserializer=deserializer,
            timestamp_extractor=lambda value, *_: value["t_ms"],
        )
        app.dataframe(topic).tumbling_window(
            duration_ms=tick_ms, grace_ms=round(plant["allowed_lateness_s"] * 1000)
        ).agg(**aggregations).final().update(count)
        app.run()
    (began_s, began_cpu_s), (ended_s, ended_cpu_s) = began[0], ended[0]
    Answer(
        num_records=num_read,
        num_bytes=deserializer.num_bytes,
        seconds=ended_s - began_s,
        cpu_seconds=ended_cpu_s - began_cpu_s,
        peak_rss_mb=peak_rss_mb(),
        num_closed=num_closed,
    ).tell()


if __name__ == "__main__":
    main()
