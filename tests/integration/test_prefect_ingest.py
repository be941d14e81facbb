"""The ingest flow on Prefect's own ephemeral server, from the embedded broker into Delta tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Failed
from prefect.testing.utilities import prefect_test_harness

from flows import wiring
from flows.prefect_ingest import ingest, is_retriable
from flows.replay import replay
from flows.replay_payloads import load_replay
from flows.settings import Settings
from fusion.errors import InputError, LakeUnavailableError

PLANTS = Path(__file__).parents[2] / "plants"


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def test_the_flow_copies_a_replayed_recording_once(settings: Settings) -> None:
    played = load_replay(PLANTS / "replays" / "cnc_mill-unworn.yaml")
    wiring.prepare_topics(settings, played.plant)
    publisher = wiring.open_publisher(settings)
    sent = replay(played.payloads(), publisher, played.plant, speed=None, clock=wiring.open_clock())
    publisher.close()
    num_sent = sum(sent.num_messages.values())

    plant_file = str(PLANTS / "cnc_mill.yaml")
    assert ingest(plant_file, settings=settings, max_records=1_000) == num_sent > 2_000
    assert ingest(plant_file, settings=settings) == 0
    stored = wiring.open_lake(settings).read(played.plant.sense_topics)
    assert len({record.headers["ce_id"] for record in stored}) == len(stored) == num_sent


@pytest.mark.parametrize(
    ("error", "expected"),
    [(LakeUnavailableError("busy"), True), (InputError("wrong"), False), (OSError("odd"), False)],
)
def test_only_what_can_pass_is_tried_again(error: Exception, expected: bool) -> None:
    state: State[object] = Failed(data=error)
    assert is_retriable(None, None, state) is expected  # pyright: ignore[reportArgumentType]
