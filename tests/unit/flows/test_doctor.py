"""What the doctor finds where something is not in place; each check meets what makes it fail."""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from flows import wiring
from flows.cli import app
from flows.doctor.examination import examine
from flows.doctor.findings import Finding, State
from flows.doctor.machine import OLD_S, contradictions
from flows.settings import Settings
from fusion.plant import Plant, TopicSpec
from fusion.schema import Message, StreamHealth
from tests.clocks import HandClock
from tests.conftest import free_port
from tests.models import PLANT

NOBODY = Plant.model_validate({**PLANT.model_dump(), "prefix": "nobody"})


def found(
    settings: Settings,
    plant: Plant | None = PLANT,
    clock: object = None,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Finding]:
    """Return what is found, by check; of several with one name what is worst."""
    order = list(State)
    said = examine(plant, settings, clock or wiring.open_clock(), variables or {})  # pyright: ignore[reportArgumentType]
    return {each.check: each for each in sorted(said, key=lambda f: order.index(f.state))}


def put_model(model_dir: Path, settings: Settings, plant: Plant) -> None:
    target = settings.models_dir / plant.prefix / model_dir.name
    target.parent.mkdir(parents=True)
    shutil.copytree(model_dir, target)


def test_a_plant_that_has_all_it_needs(model_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    wiring.prepare_topics(settings, PLANT)
    put_model(model_dir, settings, PLANT)
    seen = found(settings)
    assert [each for each in seen.values() if each.state is State.WRONG] == []
    for check in ("settings", "broker", "clock of the broker", "topics", "model"):
        assert seen[check].state is State.RIGHT, seen[check]


def test_a_broker_that_is_away_is_said_and_the_rest_goes_on() -> None:
    settings = Settings(broker="kafka", kafka_bootstrap=f"127.0.0.1:{free_port()}")
    seen = found(settings)
    assert seen["broker"].state is State.WRONG
    assert "FUSION_KAFKA_BOOTSTRAP" in seen["broker"].mend
    # What would ask it, too, says so without waiting for it again.
    for check in ("topics", "copies", "clocks of streams"):
        assert (seen[check].state, seen[check].seen) == (
            State.LOOK,
            "not looked at: the broker is away",
        )
    assert seen["model"].state is State.LOOK


def test_a_clock_that_is_an_hour_off_is_found(tmp_path: Path) -> None:
    clock = wiring.open_clock()
    off = HandClock(clock.now_ns() - 3_600_000_000_000)
    seen = found(Settings(data_dir=tmp_path), clock=off)["clock of the broker"]
    assert seen.state is State.WRONG
    assert "3600" in seen.seen or "3599" in seen.seen
    assert "ahead of" in seen.seen


def test_streams_whose_clocks_are_apart_are_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    wiring.prepare_topics(settings, PLANT)
    health = StreamHealth(
        plant=str(PLANT.address), stream="ear", t_ns=1, records=1, rate_hz=1, gaps=0, restarts=0,
        late=0, duplicate=0, offset_s=9, skew_s=8.5, drift_ppm=None, is_skewed=True, is_idle=False,
        newest_ns=1,
    )  # fmt: skip
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        body = health.model_dump_json().encode()
        publisher.publish([Message(PLANT.topic("stream-health"), "p", body, {})])
    seen = found(settings)["clocks of streams"]
    assert (seen.state, "ear +8.50 s" in seen.seen) == (State.WRONG, True)


def test_topics_that_differ_are_named_with_both_values(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    wiring.create_topics(settings, {PLANT.topic("audio"): TopicSpec(7, retention_ms=1)})
    seen = found(settings)["topics"]
    assert seen.state is State.WRONG
    assert f"partitions must be {PLANT.topics.partitions}, it has 7" in seen.seen
    assert found(settings, NOBODY)["topics"].state is State.LOOK


def test_a_model_of_another_plant_is_found(model_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    put_model(model_dir, settings, PLANT)
    other = Plant.model_validate({**PLANT.model_dump(), "tick_s": 1.0})
    seen = found(settings, other)["model"]
    assert seen.state is State.WRONG
    assert "tick_s differs" in seen.seen


def test_a_full_disk_is_found(small_disk: Path) -> None:
    seen = found(Settings(data_dir=small_disk), None)
    assert seen["disk of the data"].state is State.WRONG
    assert "FUSION_DATA_DIR" in seen["disk of the data"].mend


def test_what_waits_too_long_and_too_much_is_found(tmp_path: Path) -> None:
    settings = Settings(
        broker="kafka",
        kafka_bootstrap=f"127.0.0.1:{free_port()}",
        data_dir=tmp_path,
        spool_max_mb=1,
    )
    with contextlib.closing(wiring.open_spool(settings, "duo-edge")) as sender:
        sender.publish([Message("duo.audio", "p", bytes(1_000), {})])
    later = HandClock(wiring.open_clock().now_ns() + round((OLD_S + 1) * 1e9))
    assert found(settings, None)["spool of duo-edge"].state is State.RIGHT
    assert found(settings, None, later)["spool of duo-edge"].state is State.LOOK
    with contextlib.closing(wiring.open_spool(settings, "duo-edge")) as sender:
        for _ in range(9):
            sender.publish([Message("duo.audio", "p", bytes(100_000), {})])
    assert found(settings, None)["spool of duo-edge"].state is State.WRONG


def test_certificates_that_expire_are_found(tmp_path: Path) -> None:
    authority, path = trustme.CA(), tmp_path / "client.pem"
    now = datetime.datetime.now(datetime.UTC)

    def seen(left: datetime.timedelta) -> State:
        issued = authority.issue_cert("a.example", not_after=now + left)
        path.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        settings = Settings(console_cert_file=path, console_key_file=path)
        return found(settings, None)["certificate client.pem"].state

    assert seen(datetime.timedelta(days=300)) is State.RIGHT
    assert seen(datetime.timedelta(days=9)) is State.LOOK
    assert seen(datetime.timedelta(hours=-1)) is State.WRONG
    path.write_text("no certificate")
    settings = Settings(console_cert_file=path, console_key_file=path)
    assert found(settings, None)["certificate client.pem"].state is State.WRONG


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kafka_username": None, "kafka_bootstrap": "k:9092"}, "FUSION_KAFKA_BOOTSTRAP"),
        ({"triton_address": "t:8001"}, "do nothing with FUSION_INFERENCE=local"),
        ({"objects_region": "eu"}, "FUSION_OBJECTS_REGION"),
        ({"console_address": "0.0.0.0:8800"}, "without TLS"),
        ({"broker": "kafka", "kafka_bootstrap": "k:9092"}, "another machine"),
    ],
)
def test_settings_that_do_not_go_together_are_named(given: dict[str, object], told: str) -> None:
    seen = list(contradictions(Settings.model_validate(given)))
    assert told in seen[0].seen
    assert seen[0].state is State.LOOK


@pytest.mark.parametrize(
    "given",
    [
        {"health_address": "127.0.0.1:8800"},
        {"inference": "triton", "triton_address": "t:8001", "triton_shared_memory": True},
    ],
)
def test_settings_that_cannot_work_are_wrong(given: dict[str, object]) -> None:
    assert State.WRONG in [f.state for f in contradictions(Settings.model_validate(given))]


def test_servers_that_are_set_and_away_are_found_and_no_password_is_shown(tmp_path: Path) -> None:
    secret = "hunter2"
    settings = Settings(
        data_dir=tmp_path,
        mlflow_uri=f"http://eva:{secret}@127.0.0.1:{free_port()}",
        inference="triton",
        triton_address=f"127.0.0.1:{free_port()}",
        alarm_history_url=f"postgresql://eva:{secret}@127.0.0.1:{free_port()}/x",  # pyright: ignore[reportArgumentType]
    )
    seen = found(settings, variables={"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"})
    for check in ("MLflow", "Prefect", "Triton", "alarm history"):
        assert seen[check].state is State.WRONG, seen[check]
    assert secret not in str(seen)


def test_the_command_says_it_to_programs_and_by_its_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    answer = CliRunner().invoke(app, ["doctor", "--json"])
    said = json.loads(answer.stdout)
    assert answer.exit_code == 0, said
    assert {each["check"] for each in said} >= {"settings", "disk of the data"}
    monkeypatch.setenv("FUSION_HEALTH_ADDRESS", "127.0.0.1:8800")
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 2
    monkeypatch.setenv("FUSION_KAFKA_BOTSTRAP", "x")
    answer = CliRunner().invoke(app, ["doctor", "--json"])
    assert answer.exit_code == 2
    assert "did you mean FUSION_KAFKA_BOOTSTRAP" in json.loads(answer.stdout)[0]["mend"]
