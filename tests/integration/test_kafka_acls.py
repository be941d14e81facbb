"""Least privilege on a real broker: each part of the product can do its work, and nothing else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from connectors.kafka_io import KafkaPublisher, apply_grants, found_grants
from console.topics import topics_of as console_topics
from deploy.compose.make_secrets import KAFKA_USERS
from flows import wiring
from flows.alarm_history import record_journal
from flows.cli.acls import DEFAULT_POLICY
from flows.cli.plant import load_plant
from flows.dead_letters import replay_dead_letters
from flows.doctor.examination import examine
from flows.doctor.findings import State
from flows.ingest import ingest_once
from flows.live import read_alarm_topics, read_checkpoints
from flows.operate import alarm_states, ask
from flows.schemas import SchemaTopic, publish_schemas
from flows.settings import Settings
from fusion.errors import BrokerUnavailableError, SettingsError
from fusion.plant import Grant, Plant, grants_of, parse_policy, topics_of
from fusion.schema import AlarmCommand, Message, TopicPartition
from fusion.stream.spool import SpoolingPublisher
from tests.composed_kafka import ComposedKafka, composed_kafka
from tests.conftest import KAFKA_SCRIPT, ROOT, free_port, run_kafka

pytestmark = pytest.mark.xdist_group("composed_kafka")
RIG = ROOT / "plants" / "rig.yaml"
POLICY = parse_policy((ROOT / DEFAULT_POLICY).read_text(), origin="acls.yaml")
SAYS = (
    "scores", "alarms", "alarm-events", "feedback", "checkpoints", "dead-letters", "stream-health",
)  # fmt: skip
SENSES = ("telemetry", "audio", "video")


def make_plant(folder: Path, prefix: str) -> Plant:
    path = folder / f"{prefix}.yaml"
    content = yaml.safe_load(RIG.read_text()) | {"prefix": prefix, "topics": {"partitions": 2}}
    path.write_text(yaml.safe_dump(content))
    return load_plant(path)


class Site:
    """Two plants on one broker; only the first one's parts have users."""

    def __init__(self, broker: ComposedKafka, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.plant, self.other = make_plant(folder, "mill"), make_plant(folder, "neighbour")
        self.admin = broker.settings("admin", folder)
        self.grants = grants_of(POLICY, [self.plant])

    def settings(self, user: str) -> Settings:
        return self.broker.settings(user, self.folder / user)

    def kinds(self) -> list[str]:
        return [topic.removeprefix(self.plant.topic("")) for topic in topics_of(self.plant)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    run_kafka(KAFKA_SCRIPT, "install", environment={})
    folder = tmp_path_factory.mktemp("acls")
    with composed_kafka(folder, free_port) as broker:
        site = Site(broker, folder)
        assert wiring.apply_grants(site.admin, site.grants, prune=False) == (site.grants, [])
        wiring.prepare_topics(site.settings("topics"), site.plant)
        wiring.prepare_topics(site.admin, site.other)
        yield site


def publish(site: Site, user: str, topic: str) -> None:
    with contextlib.closing(wiring.open_publisher(site.settings(user))) as publisher:
        publisher.publish([Message(topic, "k", b"{}")])


def read(
    site: Site, user: str, topics: Sequence[str], group: str, *, refusal_within_s: float = 0
) -> int:
    """Return how many records there are; a refusal comes with the answer to a question for them.

    That of an empty topic may come after its end is known to be reached: who expects one waits.
    """
    with contextlib.closing(wiring.open_source(site.settings(user), topics, group)) as source:
        ends, num_read = source.end_offsets(), 0
        deadline = time.monotonic() + refusal_within_s
        while True:
            num_read += len(source.poll(timeout_s=0.5))
            is_read = all(source.positions()[part] >= end for part, end in ends.items())
            if is_read and time.monotonic() > deadline:
                return num_read


def edge_sends(site: Site) -> None:
    settings = site.settings("edge")
    sender = wiring.open_sender(settings, site.plant, source="edge-plc")
    with contextlib.closing(sender):
        publish_schemas(site.plant, sender)
        sender.publish([Message(site.plant.topic(kind), "k", b"1") for kind in SENSES])
        assert isinstance(sender, SpoolingPublisher)
        while sender.waiting_records:
            sender.flush(10)
            assert sender.last_error is None


def flows_ingest(site: Site) -> None:
    settings, topics = site.settings("flows"), site.plant.sense_topics
    with contextlib.closing(wiring.open_source(settings, topics, "ingest")) as source:
        report = ingest_once(source, wiring.open_lake(settings), clock=wiring.open_clock())
    assert report.num_stored >= len(SENSES)


def live_transacts(site: Site) -> None:
    settings, plant = site.settings("live"), site.plant
    wiring.prepare_topics(settings, plant)
    group = f"live-{plant.prefix}"
    topics = (*plant.sense_topics, plant.topic("alarm-commands"))
    with contextlib.ExitStack() as stack:
        source = wiring.open_member(settings, topics, group)
        stack.callback(source.close)
        while not source.assigned():
            source.poll(timeout_s=0.2)
        for number in range(plant.topics.partitions):
            writer = wiring.open_publisher(settings, group=group, writer=f"live-{number}")
            stack.callback(writer.close)
            assert isinstance(writer, KafkaPublisher)
            # Everything that it says, in a transaction that nobody will see.
            writer._producer.begin_transaction()
            writer._send([Message(plant.topic(kind), "k", b"{}") for kind in SAYS])
            writer._producer.abort_transaction()
            part = TopicPartition(plant.topic("telemetry"), number)
            writer.publish([Message(plant.topic("checkpoints"), "k", b"{}")], commit={part: 0})
        assert "k" in read_checkpoints(plant, settings)
        assert read_alarm_topics(plant, settings) == {}
        list(wiring.read_topic(settings, plant, "feedback"))
        looked_up = SchemaTopic(plant, settings, wiring.open_clock())
        stack.callback(looked_up.close)
        looked_up.look_up("0" * 16)


def console_shows_and_asks(site: Site) -> None:
    read(site, "console", console_topics([site.plant]), "console")
    read(site, "console", site.plant.sense_topics, "console-evidence")
    publish(site, "console", site.plant.topic("alarm-commands"))


def operator_lists_and_asks(site: Site) -> None:
    settings, plant = site.settings("operator"), site.plant
    assert alarm_states(plant, settings) == {}
    list(wiring.read_topic(settings, plant, "dead-letters"))
    asked = AlarmCommand(
        id="1", plant=str(plant.address), name="a", action="comment", expected_revision=0,
        who="ann", t_ns=1,
    )  # fmt: skip
    assert ask(plant, settings, asked, patience_s=1) is None, "nobody is there to answer"


def notifier_listens(site: Site) -> None:
    settings, plant = site.settings("notifier"), site.plant
    wiring.prepare_topics(settings, plant)
    read(site, "notifier", [plant.topic("alarm-events")], f"alarm-notify-{plant.prefix}")


def historian_records(site: Site) -> None:
    settings, plant = site.settings("historian"), site.plant
    list(record_journal(plant, settings, should_stop=lambda: False, follow=False))


def repairer_replays(site: Site) -> None:
    assert replay_dead_letters(site.plant, site.settings("repairer"), []) == 0
    publish(site, "repairer", site.plant.topic("telemetry"))


def doctor_examines(site: Site) -> None:
    found = list(examine(site.plant, site.settings("doctor"), wiring.open_clock(), {}))
    states = {each.check: each.state for each in found}
    assert (states["broker"], states["topics"]) == (State.RIGHT, State.RIGHT), found
    assert states["clocks of streams"] is State.LOOK, "nobody has told of them yet"


WORK: dict[str, Callable[[Site], None]] = {
    "edge": edge_sends,
    "flows": flows_ingest,
    "live": live_transacts,
    "console": console_shows_and_asks,
    "operator": operator_lists_and_asks,
    "notifier": notifier_listens,
    "historian": historian_records,
    "repairer": repairer_replays,
    "doctor": doctor_examines,
}
READS_NOT = {
    "edge": "telemetry", "flows": "alarm-commands", "live": "scores", "console": "checkpoints",
    "operator": "telemetry", "notifier": "alarms", "historian": "scores", "repairer": "scores",
    "topics": "alarm-events", "doctor": "scores",
}  # fmt: skip


@pytest.mark.parametrize("user", WORK)
def test_each_part_of_the_product_can_do_its_work(site: Site, user: str) -> None:
    if user == "flows":
        edge_sends(site)
    WORK[user](site)


@pytest.mark.parametrize("user", [user for user in POLICY.principals if user in KAFKA_USERS])
def test_no_part_writes_what_is_not_its_own_to_say(site: Site, user: str) -> None:
    may = {g.name for g in site.grants if (g.principal, g.operation) == (user, "write")}
    refused = [site.plant.topic(k) for k in site.kinds() if site.plant.topic(k) not in may]
    # One that an intruder would like most, one of the neighbour's, and any other.
    for topic in {refused[0], refused[-1], site.other.topic("telemetry")}:
        with pytest.raises(SettingsError, match=f"{user} must be allowed"):
            publish(site, user, topic)


@pytest.mark.parametrize("user", READS_NOT)
def test_no_part_reads_what_it_does_not_need(site: Site, user: str) -> None:
    group = next((g.name for g in site.grants if (g.principal, g.resource) == (user, "group")), "g")
    with pytest.raises(SettingsError, match=f"{user} must be allowed"):
        read(site, user, [site.plant.topic(READS_NOT[user])], group, refusal_within_s=60)
    # The neighbour's topics are not even seen.
    with pytest.raises(BrokerUnavailableError, match="must exist to be read"):
        read(site, user, [site.other.topic(READS_NOT[user])], group)


def test_nobody_takes_the_place_of_the_live_process(site: Site) -> None:
    """Neither in its group, nor by its transactional id, which would shut it out."""
    group = f"live-{site.plant.prefix}"
    for user in ("edge", "flows", "console", "operator", "repairer"):
        with pytest.raises(SettingsError, match="TransactionalId"):
            wiring.open_publisher(site.settings(user), group=group, writer="live-0")


def test_a_grant_that_is_too_much_is_told_and_taken_away(site: Site) -> None:
    admin = wiring.kafka_settings(site.admin)
    extra = Grant("edge", "topic", site.plant.topic("alarms"), False, "write")
    apply_grants(admin, [*site.grants, extra], prune=False)
    assert apply_grants(admin, site.grants, prune=False) == ([], [extra])
    assert extra in found_grants(admin, ["edge"])
    assert apply_grants(admin, site.grants, prune=True) == ([], [extra])
    assert found_grants(admin, POLICY.principals) == set(site.grants)


def test_only_a_super_user_says_who_may_do_what(site: Site) -> None:
    with pytest.raises(SettingsError, match="live must be allowed"):
        wiring.apply_grants(site.settings("live"), site.grants, prune=False)
