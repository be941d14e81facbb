"""The doctor on a real Kafka and a real Triton."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from connectors.triton_io import TritonServer
from flows import wiring
from flows.doctor.examination import examine
from flows.doctor.findings import Finding, State
from flows.export import triton_names
from flows.serving import open_serving
from flows.settings import Settings
from fusion.manifest import load_manifest
from fusion.plant import Plant
from tests.models import PLANT, golden

pytestmark = pytest.mark.xdist_group("triton")


def test_kafka_answers_and_writes_that_would_be_refused_are_found(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    plant = Plant.model_validate({**PLANT.model_dump(), "prefix": unique})
    settings = Settings(broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=tmp_path)
    admin: Any = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    with contextlib.closing(admin):
        configs = {"min.insync.replicas": "2", "message.timestamp.type": "LogAppendTime"}
        admin.create_topics([NewTopic(plant.topic("audio"), 1, 1, topic_configs=configs)])
        admin.wait_for_topics([plant.topic("audio")])
    seen = _found(plant, settings)
    assert seen["broker"].state is State.RIGHT, seen["broker"]
    assert seen["clock of the broker"].state is State.RIGHT
    assert seen["copies"].state is State.WRONG
    assert f"{plant.topic('audio')}: 1 in sync, 2 needed" in seen["copies"].seen


def test_triton_has_the_version_in_service_or_not(
    triton: TritonServer, model_dir: Path, tmp_path: Path
) -> None:
    settings = Settings(
        data_dir=tmp_path,
        inference="triton",
        triton_address=triton.access.address,
        triton_repository=triton.repository,
    )
    folder = settings.models_dir / PLANT.prefix / model_dir.name
    shutil.copytree(model_dir, folder)
    wiring.unload_from_triton(settings, triton_names(load_manifest(folder)).values())
    before = _found(PLANT, settings)["Triton"]
    assert (before.state, "has not loaded" in before.seen) == (State.LOOK, True), before
    batch = golden()
    inputs = {name: array[:, 0].numpy() for name, array in batch.inputs.items()}
    with contextlib.closing(open_serving(folder, settings)) as inference:
        inference.infer("encoder", inputs | {"presence": batch.presence_BLM[:, 0].numpy()})
        seen = _found(PLANT, settings)["Triton"]
        assert seen.seen.endswith(f"has not loaded {_predictor(folder)}"), "the other is there"


def _predictor(folder: Path) -> str:
    return triton_names(load_manifest(folder))["predictor"]


def _found(plant: Plant, settings: Settings) -> dict[str, Finding]:
    return {each.check: each for each in examine(plant, settings, wiring.open_clock(), {})}
