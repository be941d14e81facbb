"""What the client and the server do when things go wrong; all of it on the real server."""

from __future__ import annotations

import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import trustme

from connectors.triton_io import (
    Asking,
    Batching,
    ClientTls,
    ServerTls,
    TritonAccess,
    TritonInference,
    TritonServer,
    is_open_to_anyone,
    is_serving,
    unload_models,
)
from flows.export import export_to_triton, triton_names
from fusion.errors import InferenceUnavailableError, InputError, ModelBrokenError, SettingsError
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.training.package import load_golden
from tests.conftest import free_port, make_triton, write_pem

pytestmark = pytest.mark.xdist_group("triton")
SLOW = """
    _answer = execute

    def execute(self, requests):
        import time; time.sleep({s})
        return self._answer(requests)
"""


def version_of(
    model_dir: Path, folder: Path, server: TritonServer, name: str, batching: Batching | None = None
) -> dict[str, str]:
    """Return the names in the repository of a copy of the model called ``name``."""
    copy = folder / name
    shutil.copytree(model_dir, copy)
    manifest = load_manifest(copy).model_copy(update={"version": name})
    (copy / MANIFEST_FILE).write_text(manifest.model_dump_json())
    exported = export_to_triton(
        copy, server.repository, backend="python", batching=batching or Batching()
    )
    return exported.models


def spoil(server: TritonServer, name: str, code: str) -> None:
    """Let the network called ``name`` do something else when it is loaded next."""
    path = server.repository / name / "1" / "model.py"
    source = path.read_text()
    begin = source.index("    def _read(")
    path.write_text(source[:begin] + code.strip("\n") + "\n\n" + source[begin:])


@pytest.fixture
def inputs(model_dir: Path) -> dict[str, np.ndarray]:
    return load_golden(model_dir, "predictor")[0]


def test_a_slow_model_is_late_and_then_left_alone(
    triton: TritonServer,
    model_dir: Path,
    tmp_path: Path,
    inputs: dict[str, np.ndarray],
    unique: str,
) -> None:
    names = version_of(model_dir, tmp_path, triton, unique)
    spoil(triton, names["predictor"], SLOW.format(s=0.4))
    with contextlib.closing(TritonInference(triton.access, names, Asking(20))) as patient:
        patient.infer("predictor", inputs)  # (loads it)
        patient.infer("encoder", load_golden(model_dir, "encoder")[0])
    client = TritonInference(triton.access, names, Asking(deadline_s=0.1))
    for _ in range(5):
        with pytest.raises(InferenceUnavailableError, match="must answer for"):
            client.infer("predictor", inputs)
    with pytest.raises(InferenceUnavailableError, match="did not 5 times in a row; it is asked"):
        client.infer("predictor", inputs)
    client.infer("encoder", load_golden(model_dir, "encoder")[0])  # (has a breaker of its own)
    client.close()
    unload_models(triton.access, names.values())


def test_a_broken_model_is_said_to_be_broken(
    triton: TritonServer,
    model_dir: Path,
    tmp_path: Path,
    inputs: dict[str, np.ndarray],
    unique: str,
) -> None:
    names = version_of(model_dir, tmp_path, triton, unique)
    network = triton.repository / names["predictor"] / "1" / "model.onnx"
    network.write_bytes(network.read_bytes()[:-500])
    client = TritonInference(triton.access, names, Asking(deadline_s=10))
    with pytest.raises(ModelBrokenError, match=r"must be able to load .* export the model again"):
        client.infer("predictor", inputs)
    client.close()
    stranger = TritonInference(triton.access, {"predictor": "nobody"}, Asking(deadline_s=10))
    with pytest.raises(ModelBrokenError, match="must be able to load nobody"):
        stranger.infer("predictor", inputs)
    stranger.close()
    unload_models(triton.access, [*names.values(), "nobody"])
    assert is_serving(triton.access), "a try to load what is broken is undone"


def test_an_overloaded_queue_refuses_and_every_request_ends(
    triton: TritonServer,
    model_dir: Path,
    tmp_path: Path,
    inputs: dict[str, np.ndarray],
    unique: str,
) -> None:
    narrow = Batching(max_queue=2, patience_s=0.2)
    names = version_of(model_dir, tmp_path, triton, unique, narrow)
    spoil(triton, names["predictor"], SLOW.format(s=0.1))
    whole = {name: np.concatenate([array] * 10) for name, array in inputs.items()}  # (30 rows)
    with contextlib.closing(TritonInference(triton.access, names, Asking(20))) as patient:
        patient.infer("predictor", whole)  # (loads it)
    client = TritonInference(triton.access, names, Asking(deadline_s=3.0))

    def ask(_: int) -> str:
        try:
            client.infer("predictor", whole)
        except InferenceUnavailableError as refused:
            return str(refused)
        return "answered"

    with ThreadPoolExecutor(16) as threads:
        said = list(threads.map(ask, range(48)))
    client.close()
    unload_models(triton.access, names.values())
    assert "answered" in said
    assert any("queue" in each or "asked again" in each for each in said)


def test_what_nobody_waits_for_any_more_leaves_the_queue(
    triton: TritonServer,
    model_dir: Path,
    tmp_path: Path,
    inputs: dict[str, np.ndarray],
    unique: str,
) -> None:
    """Without a bound of the server's own: deadlines are the bound."""
    names = version_of(model_dir, tmp_path, triton, unique)
    spoil(triton, names["predictor"], SLOW.format(s=0.3))
    whole = {name: np.concatenate([array] * 10) for name, array in inputs.items()}  # (30 rows)
    patient = TritonInference(triton.access, names, Asking(deadline_s=30))
    patient.infer("predictor", whole)

    def ask(_: int) -> bool:
        # (Of its own each: a client leaves a network alone that was late five times.)
        with contextlib.closing(TritonInference(triton.access, names, Asking(0.8))) as client:
            try:
                client.infer("predictor", whole)
            except InferenceUnavailableError:
                return False
            return True

    with ThreadPoolExecutor(24) as threads:
        answered = list(threads.map(ask, range(24)))
    began_s = time.monotonic()
    patient.infer("predictor", whole)
    took_s = time.monotonic() - began_s
    patient.close()
    unload_models(triton.access, names.values())
    assert 0 < sum(answered) < 12
    assert took_s < 0.3 * (24 - sum(answered)) / 2, "it waited for those who have gone"


def test_a_killed_server_comes_back_and_the_client_finds_it(
    triton: TritonServer, model_dir: Path, inputs: dict[str, np.ndarray]
) -> None:
    export_to_triton(model_dir, triton.repository, backend="python", batching=Batching())
    names = triton_names(load_manifest(model_dir))
    clients = [
        TritonInference(triton.access, names, Asking(20, uses_shared_memory=shared))
        for shared in (False, True)
    ]
    before = [client.infer("predictor", inputs) for client in clients]
    pid = triton.status().pid
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) > 1, "its Python models run in processes of their own"
    triton.kill()
    assert psutil.wait_procs(family, timeout=10)[1] == []
    for client in clients:
        with pytest.raises(InferenceUnavailableError):
            client.infer("predictor", inputs)
    triton.start()
    for client, known in zip(clients, before, strict=True):
        np.testing.assert_array_equal(found_again(client, inputs), known["z_ahead"])
        client.close()


def found_again(client: TritonInference, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the answer of a server that is back, asked as the live process does: again and again.

    gRPC itself looks for it about once a second.
    """
    deadline = time.monotonic() + 20
    while True:
        try:
            return client.infer("predictor", inputs)["z_ahead"]
        except InferenceUnavailableError:
            assert time.monotonic() < deadline, "the client does not find the server again"
            time.sleep(0.1)


def test_a_server_that_runs_is_not_started_twice(triton: TritonServer) -> None:
    assert triton.start() == triton.status().pid
    other = TritonServer(
        home=triton.home,
        repository=triton.repository,
        run_dir=triton.run_dir.with_name("other"),
        grpc_port=triton.grpc_port,
        metrics_port=free_port(),
    )
    with pytest.raises(InputError, match="another Triton answers there"):
        other.start()
    # What runs without certificates is not passed off for a server that asks for them.
    guarded = replace(triton, tls=ServerTls(Path("s.crt"), Path("s.key"), Path("ca.pem")))
    with pytest.raises(InputError, match=r"runs already .* stop it first"):
        guarded.start()
    assert is_serving(triton.access)


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    server = make_triton(tmp_path)
    (tmp_path / "repository").write_text("no folder")
    with pytest.raises((InputError, OSError)):
        server.start()
    assert server.status().pid is None
    missing = TritonServer(tmp_path, tmp_path / "r", tmp_path / "run", free_port(), free_port())
    with pytest.raises(InputError, match=r"run deploy/triton/install\.sh"):
        missing.start()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "triton.example"])
def test_strangers_cannot_reach_a_server_without_certificates(tmp_path: Path, host: str) -> None:
    server = replace(make_triton(tmp_path), host=host)
    with pytest.raises(InputError, match="must speak mutual TLS"):
        server.start()
    assert server.status().pid is None


@pytest.mark.parametrize("name", ["two words", "a;b", "$(id)"])
def test_a_repository_that_a_shell_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    server = replace(make_triton(tmp_path), repository=tmp_path / name)
    with pytest.raises(InputError, match=r"letters, digits and .* set FUSION_TRITON_REPOSITORY"):
        server.start()
    assert server.status().pid is None
    assert not server.repository.exists()


def test_mutual_tls_lets_in_whom_the_authority_signed_and_nobody_else(
    tmp_path: Path, model_dir: Path, inputs: dict[str, np.ndarray]
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    write_pem(tmp_path / "server", authority.issue_cert("127.0.0.1"))
    write_pem(tmp_path / "client", authority.issue_cert("client.example"))
    write_pem(tmp_path / "stranger", stranger.issue_cert("client.example"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def tls(who: str) -> ClientTls:
        return ClientTls(tmp_path / "ca.pem", tmp_path / f"{who}.crt", tmp_path / f"{who}.key")

    server = make_triton(
        tmp_path,
        tls=ServerTls(tmp_path / "server.crt", tmp_path / "server.key", tmp_path / "ca.pem"),
        client_tls=tls("client"),
    )
    server.start()
    try:
        names = export_to_triton(
            model_dir, server.repository, backend="python", batching=Batching()
        ).models
        client = TritonInference(server.access, names, Asking(20))
        assert client.infer("predictor", inputs)
        client.close()
        assert not is_open_to_anyone(server.access.address)
        assert not is_serving(TritonAccess(server.access.address, tls("stranger")))
        assert not is_serving(TritonAccess(server.access.address))
        assert is_serving(server.access)
    finally:
        server.stop()
    with pytest.raises(SettingsError, match="a file of TLS must be readable"):
        TritonAccess(server.access.address, tls("nobody")).open()
