"""Two versions change places on the real server while many are asking, and nobody is let down."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from connectors.triton_io import Asking, Batching, TritonInference, TritonServer, unload_models
from flows.export import export_to_triton, quantised
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.training.package import load_golden

pytestmark = pytest.mark.xdist_group("triton")
NUM_ASKING = 12
NUM_SWITCHES = 8
ANSWERS_BETWEEN = 150
SAME = 1e-4
"""Within this an answer is a version's own; the other version's is further away."""


@dataclass(frozen=True)
class Version:
    """A version on the server, and what it must answer."""

    name: str
    models: dict[str, str]
    golden: np.ndarray
    client: TritonInference


@dataclass
class Crowd:
    """Threads that ask whatever version is in service, again and again."""

    inputs: dict[str, np.ndarray]
    in_service: Version
    num_answered: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])
    has_changed: threading.Condition = field(default_factory=threading.Condition)
    is_over: bool = False

    def ask(self) -> None:
        while not self.is_over:
            version = self.in_service
            try:
                answer = version.client.infer("predictor", self.inputs)["z_ahead"]
                problem = "" if is_same(answer, version.golden) else "answered something else"
            except Exception as error:  # noqa: BLE001 whatever it is, it is a failed request
                problem = repr(error)
            with self.has_changed:
                self.num_answered[version.name] += 1
                self.failures += [f"{version.name}: {problem}"] if problem else []
                self.has_changed.notify_all()

    def wait_for_answers(self, version: Version, num: int) -> None:
        """Return when ``version`` has answered ``num`` more questions."""
        with self.has_changed:
            until = self.num_answered[version.name] + num
            assert self.has_changed.wait_for(
                lambda: self.num_answered[version.name] >= until, timeout=120
            ), f"{version.name} answers nobody"

    @contextmanager
    def asking(self) -> Iterator[None]:
        with ThreadPoolExecutor(NUM_ASKING) as threads:
            under_way = [threads.submit(self.ask) for _ in range(NUM_ASKING)]
            try:
                yield
            finally:
                self.is_over = True
        for each in under_way:
            each.result()


def is_same(answer: np.ndarray, golden: np.ndarray) -> bool:
    return answer.shape == golden.shape and bool(np.max(np.abs(answer - golden)) < SAME)


@pytest.fixture
def versions(
    triton: TritonServer, model_dir: Path, tmp_path: Path, unique: str
) -> Iterator[list[Version]]:
    """Two versions that answer differently: one, and the same in 8 bits."""
    copy = tmp_path / unique
    shutil.copytree(model_dir, copy)
    manifest = load_manifest(copy).model_copy(update={"version": unique})
    (copy / MANIFEST_FILE).write_text(manifest.model_dump_json())
    found: list[Version] = []
    for folder in (copy, quantised(copy)):
        exported = export_to_triton(
            folder, triton.repository, backend="python", batching=Batching()
        )
        client = TritonInference(triton.access, exported.models, Asking(deadline_s=30))
        golden = load_golden(folder, "predictor")[1]["z_ahead"]
        found.append(Version(folder.name, exported.models, golden, client))
    yield found
    for each in found:
        each.client.close()
        unload_models(triton.access, each.models.values())


def test_two_versions_switch_under_load_and_no_request_fails(
    triton: TritonServer, model_dir: Path, versions: list[Version]
) -> None:
    old, new = versions
    assert not is_same(old.golden, new.golden), "who answered can be told"
    inputs = load_golden(model_dir, "predictor")[0]
    old.client.infer("predictor", inputs)
    crowd = Crowd(inputs, in_service=old)
    with crowd.asking():
        crowd.wait_for_answers(old, ANSWERS_BETWEEN)
        for _ in range(NUM_SWITCHES):
            new.client.infer("predictor", inputs)  # (loads it beside the one in service)
            crowd.in_service = new
            # At once, as where another process switches first: some are still asking the old one,
            # and some will only now; these load it again.
            unload_models(triton.access, [old.models["predictor"]])
            crowd.wait_for_answers(new, ANSWERS_BETWEEN)
            old, new = new, old
    assert crowd.failures == []
    assert min(crowd.num_answered[each.name] for each in versions) >= 4 * ANSWERS_BETWEEN
