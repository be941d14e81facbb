"""A version that is refused leaves nothing behind on the server, which is ready as before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from connectors.triton_io import (
    PYTHON_MODEL,
    TritonServer,
    is_serving,
    ready_models,
    unload_models,
)
from flows.export import triton_names
from flows.rollout import promote, rollback
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.errors import InferenceUnavailableError, InputError
from fusion.manifest import load_manifest
from fusion.rollout.states import Action
from tests.models import PLANT, make_model

pytestmark = pytest.mark.xdist_group("triton")
CANNOT_LOAD = """
TritonPythonModel.initialize = lambda self, args: 1 / 0
"""
NO_NUMBERS = """
_well = TritonPythonModel._write
TritonPythonModel._write = lambda self, arrays: _well(
    self, tuple(np.full_like(array, np.nan) for array in arrays)
)
"""
HANGS = """
_answer = TritonPythonModel.execute

def _hang(self, requests):
    import time
    time.sleep(3)
    return _answer(self, requests)

TritonPythonModel.execute = _hang
"""
LOADS_LONG = """
_load = TritonPythonModel.initialize

def _load_long(self, args):
    import time
    time.sleep(3)
    _load(self, args)

TritonPythonModel.initialize = _load_long
"""


@dataclass(frozen=True)
class Site:
    """A plant with one version, and a server that is to serve it."""

    settings: Settings
    triton: TritonServer
    version: str

    def promote(self) -> None:
        promote(self.settings, [PLANT], self.version, who="anna", why="it is time")

    def last_step(self) -> Action:
        return journal_of(self.settings, PLANT).entries()[-1].action

    def names(self) -> dict[str, str]:
        """Return the name of each of the version's networks in the repository."""
        folder = self.settings.models_dir / PLANT.prefix / self.version
        return triton_names(load_manifest(folder))

    def unload(self) -> None:
        unload_models(self.triton.access, self.names().values())

    def loaded(self) -> set[str]:
        """Return which of the version's networks the server has."""
        names = self.names()
        ready = ready_models(self.triton.access, names.values())
        return {network for network, name in names.items() if ready[name]}


@pytest.fixture
def site(triton: TritonServer, tmp_path: Path, unique: str) -> Site:
    settings = Settings(
        data_dir=tmp_path / "data",
        inference="triton",
        triton_address=triton.access.address,
        triton_repository=triton.repository,
        triton_deadline_s=1.0,
    )
    make_model(settings.models_dir / PLANT.prefix / unique)
    # Without a champion live processes ask the newest, which is this one.
    make_model(settings.models_dir / PLANT.prefix / f"{unique}-newer")
    assert is_serving(triton.access)
    return Site(settings, triton, unique)


@pytest.fixture
def behaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """What the network does on the server, and nowhere else."""
    code = tmp_path / "model.py"
    code.write_text(PYTHON_MODEL.read_text() + request.param)
    monkeypatch.setattr("flows.wiring.PYTHON_MODEL", code)
    return request.param


@pytest.mark.parametrize(
    "behaves", [CANNOT_LOAD, NO_NUMBERS], indirect=True, ids=["cannot be loaded", "answers NaN"]
)
def test_what_is_refused_is_unloaded_and_the_server_is_ready(site: Site, behaves: str) -> None:
    with pytest.raises(InputError):
        site.promote()
    assert site.last_step() is Action.REFUSED
    assert site.loaded() == set()
    assert is_serving(site.triton.access)


@pytest.mark.parametrize("behaves", [HANGS], indirect=True, ids=["hangs"])
def test_what_was_never_proved_and_is_taken_back_is_unloaded(site: Site, behaves: str) -> None:
    with pytest.raises(InferenceUnavailableError):
        site.promote()
    assert site.last_step() is Action.LOADED
    assert site.loaded()
    rollback(site.settings, PLANT, who="anna", why="it hangs")
    assert site.last_step() is Action.REFUSED
    assert site.loaded() == set()
    assert is_serving(site.triton.access)


@pytest.mark.parametrize("behaves", [NO_NUMBERS, HANGS], indirect=True, ids=["NaN", "hangs"])
def test_what_live_serves_unproved_is_not_unloaded(
    site: Site, behaves: str, request: pytest.FixtureRequest
) -> None:
    newest = replace(site, version=f"{site.version}-newer")
    request.addfinalizer(newest.unload)
    with pytest.raises((InputError, InferenceUnavailableError)):
        newest.promote()
    if newest.last_step() is Action.LOADED:
        rollback(site.settings, PLANT, who="anna", why="it hangs")
    assert newest.last_step() is Action.REFUSED
    assert newest.loaded()


@pytest.mark.parametrize("behaves", [LOADS_LONG], indirect=True, ids=["loads long"])
def test_loading_may_take_longer_than_an_answer(site: Site, behaves: str) -> None:
    site.promote()
    assert site.last_step() is Action.CHAMPION
    assert site.loaded() == {"encoder", "predictor"}
