"""Arrays through shared memory: nothing is left behind, and nobody waits past a deadline."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from connectors.triton_io import Asking, Batching, TritonInference, TritonServer
from flows.export import export_to_triton, triton_names
from fusion.errors import InferenceUnavailableError
from fusion.manifest import load_manifest
from fusion.training.package import load_golden
from tests.conftest import IS_CI

pytestmark = pytest.mark.xdist_group("triton")
SHARED_MEMORY = Path("/dev/shm")
SHARED = Asking(deadline_s=20, uses_shared_memory=True)
DEADLINE_S = 0.5
KILLED = """
import os, signal, sys
from pathlib import Path
from connectors.triton_io import Asking, TritonAccess, TritonInference
from fusion.training.package import load_golden
address, name, model_dir = sys.argv[1:]
asking = Asking(deadline_s=20, uses_shared_memory=True)
client = TritonInference(TritonAccess(address), {"predictor": name}, asking)
client.infer("predictor", load_golden(Path(model_dir), "predictor")[0])
os.killpg(0, signal.SIGKILL)
"""
ASKS_WITHOUT_ROOM = """
import sys
from pathlib import Path
import numpy as np
from connectors.triton_io import Asking, TritonAccess, TritonInference
from fusion.training.package import load_golden
address, name, model_dir = sys.argv[1:]
asking = Asking(deadline_s=20, uses_shared_memory=True)
rows = np.zeros(32, np.int64)
inputs = {k: v[rows] for k, v in load_golden(Path(model_dir), "predictor")[0].items()}
try:
    client = TritonInference(TritonAccess(address), {"predictor": name}, asking)
    client.infer("predictor", inputs)
except Exception as error:
    print(type(error).__name__, error)
"""
ASKS = (
    "get_model_metadata",
    "infer",
    "register_system_shared_memory",
    "unregister_system_shared_memory",
)


@pytest.fixture
def names(triton: TritonServer, model_dir: Path) -> dict[str, str]:
    export_to_triton(model_dir, triton.repository, backend="python", batching=Batching())
    return triton_names(load_manifest(model_dir))


@pytest.fixture
def inputs(model_dir: Path) -> dict[str, np.ndarray]:
    return load_golden(model_dir, "predictor")[0]


def there(regions: set[str]) -> set[str]:
    """Return which of ``regions``, and of the files that say whose they are, are there."""
    owners = {f"{name.rpartition('-')[0]}.owner" for name in regions}
    return {name for name in regions | owners if (SHARED_MEMORY / name).exists()}


def known_to(triton: TritonServer) -> set[str]:
    """Return the regions that the server maps."""
    with contextlib.closing(triton.access.open()) as client:
        found: Any = client.get_system_shared_memory_status(client_timeout=20)
        return set(found.regions)


def test_what_a_killed_process_left_the_next_one_removes_here_and_on_the_server(
    triton: TritonServer, names: dict[str, str], model_dir: Path, inputs: dict[str, np.ndarray]
) -> None:
    others = known_to(triton)  # (what a server that hung was not told to forget)
    with contextlib.closing(TritonInference(triton.access, names, SHARED)) as living:
        known = living.infer("predictor", inputs)
        own = known_to(triton) - others
        # With all of its group: a process of Python's own would clear up for one that dies alone.
        subprocess.run(
            [sys.executable, "-c", KILLED, triton.access.address, names["predictor"], model_dir],
            check=False,
            start_new_session=True,
            timeout=120,
        )
        left = known_to(triton) - own - others
        assert (len(left), len(there(left))) == (2, 3)
        with contextlib.closing(TritonInference(triton.access, names, SHARED)) as following:
            following.infer("predictor", inputs)
            assert there(left) == set()
            assert not left & known_to(triton)
        again = living.infer("predictor", inputs)
        np.testing.assert_array_equal(again["z_ahead"], known["z_ahead"])
        assert (len(own), len(there(own)), known_to(triton) - others) == (2, 3, own)
    assert there(own) == set()
    assert known_to(triton) <= others


def test_a_larger_call_and_a_smaller_one_get_their_own_rows(
    triton: TritonServer, names: dict[str, str], model_dir: Path, inputs: dict[str, np.ndarray]
) -> None:
    golden = load_golden(model_dir, "predictor")[1]["z_ahead"]
    others = known_to(triton)
    with contextlib.closing(TritonInference(triton.access, names, SHARED)) as client:
        for num_rows in (1, 3, 30, 2):
            rows = np.arange(num_rows) % len(golden)
            answer = client.infer("predictor", {k: v[rows] for k, v in inputs.items()})
            np.testing.assert_allclose(answer["z_ahead"], golden[rows], atol=1e-4)
            assert len(known_to(triton) - others) == 2, "what has become too small is let go"


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ("size=4k", r"^InferenceUnavailableError \d+ bytes of /dev/shm must be free .* No space"),
        ("ro", r"^SettingsError FUSION_TRITON_SHARED_MEMORY needs /dev/shm.* Read-only"),
    ],
    ids=["full", "closed"],
)
def test_memory_that_cannot_be_had_ends_no_process(
    triton: TritonServer, names: dict[str, str], model_dir: Path, memory: str, said: str
) -> None:
    # A /dev/shm of its own, which nobody else sees.
    own = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {memory} tmpfs /dev/shm && "$@"']
    if not IS_CI and subprocess.run([*own, "sh", "true"], check=False).returncode:
        pytest.skip("memory that can be full needs the right to mount some")
    asks = [sys.executable, "-c", ASKS_WITHOUT_ROOM, triton.access.address, names["predictor"]]
    ended = subprocess.run(
        [*own, "sh", *asks, model_dir], check=False, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended
    assert re.search(said, ended.stdout), ended


@pytest.fixture
def hung(triton: TritonServer) -> Iterator[Callable[[], None]]:
    """Return what lets the server hang; afterwards it goes on."""
    pid = triton.status().pid
    assert pid is not None
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of how long each question to the server may last."""
    told: list[float] = []

    def telling(real: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **options: Any) -> Any:
            told.append(options["client_timeout"])
            return real(*args, **options)

        return ask

    for name in ASKS:
        real = getattr(triton_grpc.InferenceServerClient, name)
        monkeypatch.setattr(triton_grpc.InferenceServerClient, name, telling(real))
    return told


@pytest.mark.parametrize("has_asked", [True, False])
def test_a_server_that_hangs_is_not_waited_for_past_the_deadline(
    triton: TritonServer,
    names: dict[str, str],
    inputs: dict[str, np.ndarray],
    patience: list[float],
    hung: Callable[[], None],
    *,
    has_asked: bool,
) -> None:
    with contextlib.closing(TritonInference(triton.access, names, SHARED)) as loads:
        loads.infer("predictor", inputs)
    asking = Asking(DEADLINE_S, uses_shared_memory=True)
    with contextlib.closing(TritonInference(triton.access, names, asking)) as client:
        if has_asked:
            client.infer("predictor", inputs)
        hung()
        larger = {name: np.concatenate([array] * 2) for name, array in inputs.items()}
        for asked in (inputs, larger):
            patience.clear()
            with pytest.raises(InferenceUnavailableError):
                client.infer("predictor", asked)
            assert patience
            assert sum(patience) <= DEADLINE_S + 0.01, patience
