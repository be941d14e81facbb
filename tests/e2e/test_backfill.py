"""Live over real brokers, then the lake: a backfill says the same, byte for byte."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from pathlib import Path

import pytest

from flows import wiring
from flows.backfill import BackfillReport, Pending, Wanted, backfill
from flows.backfill_shard import ShardDone, ShardJob, compute_shard
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.live import open_live, run_live
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant, StreamSender
from fusion.ports import Finding
from fusion.schema import Message, Payload
from fusion.simulation import Scenario, simulate
from fusion.stream.reading import read_to_end
from tests.e2e.conftest import FAULTS, Rig, make_plant
from tests.faults.poisons import ON_THE_WAY, modality_of

PAUSES_S = ((100, 101.5), (140, 165))
"""The whole plant is silent: for less than a window, and for much longer."""


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "embedded":
        return Settings(data_dir=tmp_path)
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    return Settings(broker="kafka", kafka_bootstrap=bootstrap, data_dir=tmp_path)


def messages(plant: Plant, scenario: Scenario) -> list[Message]:
    """Return what the rig says, with pauses, late, repeated and poisoned records."""
    rng = random.Random(3)
    senders = {
        s.name: StreamSender(plant, s.name, source="test", epoch="boot") for s in plant.streams
    }
    arrivals: list[tuple[float, Message]] = []
    for number, payload in enumerate(simulate(scenario, plant)):
        message = senders[payload.stream].message(payload)
        t_s = number / 4  # (four records a second)
        if any(begin <= t_s < end for begin, end in PAUSES_S):
            continue
        arrival = number + rng.uniform(0, 3)
        fate = rng.random()
        if fate < 0.03:
            message = spoilt(message, payload, rng)
        elif fate < 0.05:
            arrival += 60
        arrivals.append((arrival, message))
        if rng.random() < 0.05:
            arrivals.append((arrival + rng.uniform(0, 30), message))
    return [message for _, message in sorted(arrivals, key=lambda each: each[0])]


def spoilt(message: Message, payload: Payload, rng: random.Random) -> Message:
    """Return ``message``, poisoned in one of the ways that its kind can be."""
    ways = [each for each in ON_THE_WAY.values() if each.modality in {None, modality_of(payload)}]
    poisoned = rng.choice(ways).spoil(message, payload, rng)
    # The embedded broker's keys are text.
    return poisoned if poisoned.key.isprintable() else message


@pytest.fixture
def rig(settings: Settings, model_dir: Path, unique: str, tmp_path: Path) -> Rig:
    """A rig whose records are on the broker, scored live, and in the lake."""
    plant_file = make_plant(tmp_path, unique)
    plant = load_plant(plant_file)
    wiring.prepare_topics(settings, plant)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        sent = messages(plant, FAULTS)
        for begin in range(0, len(sent), 50):
            publisher.publish(sent[begin : begin + 50])
    with open_live([Watched(plant, model_dir)], settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        total = live.total()
    assert min(total.late, total.duplicate, total.dead_lettered) > 10
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    return Rig(plant, plant_file, model_dir, settings)


def published(rig: Rig, kind: str) -> list[bytes]:
    source = wiring.open_source(rig.settings, (rig.plant.topic(kind),), "reads")
    with contextlib.closing(source):
        return [record.value for record in read_to_end(source)]


@dataclasses.dataclass(frozen=True)
class Done:
    """A shard that was worked on at once."""

    done: ShardDone

    def result(self) -> ShardDone:
        return self.done


def at_once(job: ShardJob) -> Pending:
    return Done(compute_shard(job))


def found(rig: Rig, report: BackfillReport, kind: str) -> list[bytes]:
    table = wiring.open_findings(rig.settings, rig.plant)
    plant = str(rig.plant.address)
    findings = table.read(plant=plant, model_version=report.model_version)
    return [finding.body for finding in findings if finding.kind == kind]


def test_a_backfill_says_what_live_said(rig: Rig) -> None:
    scores, events = published(rig, "scores"), published(rig, "alarm-events")
    assert len(scores) > 500
    assert b'"transition":"raised"' in b"".join(events)
    for num_shards in (1, 2, 7):
        wanted = Wanted(rig.model_dir, num_shards=num_shards, with_open_ticks=True)
        report = backfill(wanted, rig.plant, rig.settings, submit=at_once)
        assert abs(report.num_shards - num_shards) <= 1
        assert report.num_windows == len(scores)
        assert found(rig, report, "score") == scores
        assert found(rig, report, "alarm-event") == events
    hourly = Wanted(rig.model_dir, shard_hours=0.01, with_open_ticks=True)
    report = backfill(hourly, rig.plant, rig.settings, submit=at_once)
    assert report.num_shards >= 8
    assert found(rig, report, "score") == scores


class StoppedError(Exception):
    """Somebody pressed Ctrl-C."""


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_a_stopped_backfill_goes_on_with_what_is_not_finished(rig: Rig) -> None:
    wanted = Wanted(rig.model_dir, num_shards=5)
    computed: list[str] = []

    def counted(job: ShardJob) -> Pending:
        if len(computed) == 2:
            raise StoppedError
        computed.append(job.evidence_dir.name)
        return at_once(job)

    with pytest.raises(StoppedError):
        backfill(wanted, rig.plant, rig.settings, submit=counted)
    left = next(iter(rig.settings.backfill_dir.rglob("00000.parquet"))).parent
    (left.parent / ".00002.7.part").mkdir()
    stamp = left.stat().st_mtime_ns

    def watching(job: ShardJob) -> Pending:
        if job.evidence_dir == left:
            assert left.stat().st_mtime_ns == stamp
        assert not list(left.parent.glob(".*.part")), "what was half written is gone"
        return at_once(job)

    report = backfill(wanted, rig.plant, rig.settings, submit=watching)
    assert report.num_reused == 2
    scores = published(rig, "scores")
    # What a live process would still hold open is not scored.
    assert found(rig, report, "score") == scores[: report.num_windows]
    assert 0 < len(scores) - report.num_windows < 20
    afresh = dataclasses.replace(wanted, is_afresh=True)
    again = backfill(afresh, rig.plant, rig.settings, submit=at_once)
    assert again.num_reused == 0
    assert found(rig, again, "score") == scores[: again.num_windows]


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_a_part_is_replaced_and_everything_else_stays(rig: Rig) -> None:
    whole = Wanted(rig.model_dir, with_open_ticks=True)
    report = backfill(whole, rig.plant, rig.settings, submit=at_once)
    table = wiring.open_findings(rig.settings, rig.plant)

    def kept() -> list[Finding]:
        told = {"plant": str(rig.plant.address), "model_version": report.model_version}
        return [each for each in table.read(**told) if each.kind == "score"]

    before = kept()
    from_ns, until_ns = before[300].t_ns - rig.plant.tick_ns, before[400].t_ns - rig.plant.tick_ns
    part = Wanted(rig.model_dir, from_ns=from_ns, until_ns=until_ns, num_shards=3)
    made = backfill(part, rig.plant, rig.settings, submit=at_once)
    after = kept()
    assert made.num_windows == 100
    assert [each.id for each in after] == [each.id for each in before]
    assert after[:300] == before[:300]
    assert after[400:] == before[400:]
    # The averages begin anew with the part, and come near to those of the whole.
    assert after[300].body != before[300].body
    assert after[399].surprise == pytest.approx(before[399].surprise, rel=0.05)
    alone = dataclasses.replace(part, num_shards=1, is_afresh=True)
    backfill(alone, rig.plant, rig.settings, submit=at_once)
    assert kept() == after

    nothing = dataclasses.replace(part, from_ns=0, until_ns=rig.plant.tick_ns)
    with pytest.raises(InputError, match="widen --from"):
        backfill(nothing, rig.plant, rig.settings, submit=at_once)
