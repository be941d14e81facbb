"""The broker: does it answer, is its clock right, are the topics what the plant needs."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from pydantic import ValidationError

from flows import wiring
from flows.doctor.findings import Finding, look, right, wrong
from flows.settings import Settings
from fusion.errors import BrokerUnavailableError
from fusion.plant import NANOSECONDS, Plant, TopicSpec, differences, topics_of
from fusion.ports import Clock
from fusion.schema import Message, StreamHealth

PATIENCE_S = 15.0
SLOW_S = 1.0
MAX_SKEW_S = 0.5
"""Of the broker's clock: latencies are reckoned between the two."""
HOUR_MS = 3_600_000


def round_trip(plant: Plant, settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Send a record to a topic of the doctor's own, read it, and compare the clocks.

    Raises:
        BrokerUnavailableError: It did not come back.
    """
    topic, told = plant.topic("doctor"), secrets.token_hex(8)
    wiring.create_topics(settings, {topic: TopicSpec(1, retention_ms=HOUR_MS)})
    with (
        contextlib.closing(wiring.open_source(settings, [topic], "doctor")) as source,
        contextlib.closing(wiring.open_publisher(settings)) as publisher,
    ):
        source.seek(source.end_offsets())
        began_ns, sent_ns = clock.monotonic_ns(), clock.now_ns()
        publisher.publish([Message(topic, "doctor", told.encode(), {})])
        while True:
            stamps = [r.t_broker_ns for r in source.poll(timeout_s=0.2) if r.value == told.encode()]
            trip_s = (clock.monotonic_ns() - began_ns) / NANOSECONDS
            if stamps:
                break
            if trip_s > PATIENCE_S:
                raise BrokerUnavailableError(
                    f"a record must come back within {PATIENCE_S:g} s, and did not; look at the "
                    f"leader of {topic} and at the load of the broker"
                )
    where = settings.kafka_bootstrap if settings.broker == "kafka" else str(settings.broker_path)
    if trip_s > SLOW_S:
        slow = f"{where} took {trip_s:.2f} s for one record there and back"
        yield look("broker", slow, "look at the load of the broker and of the network")
    else:
        yield right("broker", f"{where}: one record there and back in {trip_s * 1e3:.0f} ms")
    yield _skew((stamps[0] - sent_ns) / NANOSECONDS, trip_s)


def _skew(ahead_s: float, trip_s: float) -> Finding:
    """Return how the broker's clock stands; its stamp was set at some time of the trip."""
    beyond_s = max(-ahead_s, ahead_s - trip_s, 0.0)
    if beyond_s > MAX_SKEW_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        return wrong(
            "clock of the broker",
            f"it is at least {beyond_s:.1f} s {way} this machine's",
            "let both machines follow one time server (chrony)",
        )
    return right("clock of the broker", f"within {MAX_SKEW_S:g} s of this machine's")


def stream_clocks(plant: Plant, settings: Settings) -> Iterator[Finding]:
    """Compare the sources' clocks with their receivers', as the live process last saw them."""
    newest: dict[str, StreamHealth] = {}
    for record in wiring.read_topic(settings, plant, "stream-health"):
        with contextlib.suppress(ValidationError):  # (devices tell of themselves there, too)
            health = StreamHealth.model_validate_json(record.value)
            if health.plant == str(plant.address):
                newest[health.stream] = health
    off = {n: h.skew_s for n, h in newest.items() if h.is_skewed and h.skew_s is not None}
    if not newest:
        yield look("clocks of streams", "nobody has told of them yet", "start `fusion live`")
    elif off:
        told = ", ".join(f"{name} {skew_s:+.2f} s" for name, skew_s in off.items())
        yield wrong(
            "clocks of streams",
            f"against the others of the plant: {told}; at most {plant.max_skew_s:g} s may be",
            "set the clock of what sends them, or clock: receive in the plant file",
        )
    else:
        yield right("clocks of streams", f"{len(newest)} streams within {plant.max_skew_s:g} s")


def topics(plant: Plant, settings: Settings) -> Iterator[Finding]:
    """Hold every topic to what the plant needs: partitions, clean-up, retention, sizes."""
    wanted, found = topics_of(plant), wiring.found_topics(settings, plant)
    missing = [topic for topic in wanted if topic not in found]
    differing = [
        f"{topic}: {each}"
        for topic, spec in wanted.items()
        if topic in found
        for each in differences(spec, found[topic])
    ]
    if differing:
        mend = f"fusion topics show PLANT; then mend the plant file or the topics of {plant.prefix}"
        yield wrong("topics", "; ".join(differing), mend)
    elif missing:
        seen = f"{len(missing)} of {len(wanted)} do not exist yet: {', '.join(missing)}"
        yield look("topics", seen, "fusion topics apply PLANT (whoever sends first does it too)")
    else:
        yield right("topics", f"{len(wanted)} as the plant file says")


def copies(plant: Plant, settings: Settings) -> Iterator[Finding]:
    """See how often Kafka stores every topic, and whether writes are taken now."""
    found = wiring.topic_copies(settings, topics_of(plant))
    if not found:
        return
    refused = [
        f"{topic}: {each.num_in_sync} in sync, {each.min_in_sync} needed"
        for topic, each in found.items()
        if each.num_in_sync < each.min_in_sync
    ]
    fewest = min(each.num_replicas for each in found.values())
    careless = sorted(
        topic for topic, each in found.items() if each.min_in_sync < 2 <= each.num_replicas
    )
    if refused:
        mend = "bring the brokers back, or lower min.insync.replicas of these topics"
        yield wrong("copies", f"writes are refused: {'; '.join(refused)}", mend)
    elif fewest < 2:
        mend = "three brokers and FUSION_KAFKA_REPLICATION=3 before anybody relies on it"
        yield look("copies", "one copy: a broken disk loses what it held", mend)
    elif careless:
        seen = f"a write may be on one broker only: {', '.join(careless)}"
        yield look("copies", seen, "set min.insync.replicas of these topics to 2")
    else:
        yield right("copies", f"{fewest} of each topic, writes wait for at least 2")
