"""Cameras that answer an ONVIF probe become a draft plant; what else comes back does no harm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from connectors.onvif import FoundCamera, find_cameras, read_answer
from flows.cli.edge import app
from flows.discovery import draft_cameras
from fusion.plant import parse_plant
from fusion.plant.devices import CameraDevice
from tests.peers.processes import ToldProcess

pytestmark = pytest.mark.xdist_group("onvif")
NUM_CAMERAS = 3


@pytest.fixture
def cameras(tmp_path: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.peers.onvif_camera", str(NUM_CAMERAS)]
    peer = ToldProcess(command, tmp_path / "cameras.log")
    peer.start()
    yield
    peer.stop()


@pytest.mark.usefixtures("cameras")
def test_cameras_that_answer_become_a_draft_plant(tmp_path: Path) -> None:
    found = find_cameras(wait_s=3, most=64)
    assert [camera.host for camera in found] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert (found[0].name, found[0].hardware, found[0].location) == ("Hall 0", "CAM-1", "press")
    assert len(find_cameras(wait_s=3, most=2)) == 2
    text, num_cameras = draft_cameras(wait_s=3, most=64)
    assert num_cameras == NUM_CAMERAS
    assert "Hall 0, CAM-1, press; http://192.0.2.1/onvif/device_service" in text
    plant = parse_plant(text, origin="draft")
    device = plant.devices[0]
    assert isinstance(device, CameraDevice)
    assert device.url == "rtsp://192.0.2.1/TODO"
    draft = tmp_path / "cameras.yaml"
    done = CliRunner().invoke(app, ["discover", "onvif", "-o", str(draft), "--wait-s", "3"])
    assert done.exit_code == 0, done.output
    assert parse_plant(draft.read_text(), origin="draft").devices == plant.devices


@given(st.binary(max_size=2_000))
def test_other_bytes_are_no_camera(answer: bytes) -> None:
    assert read_answer(answer) == {}


@given(
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=200),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=200),
)
def test_an_answer_with_any_words_is_read_or_left(scopes: str, addresses: str) -> None:
    def escaped(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;")

    answer = (
        '<e xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"><d:ProbeMatch>'
        f"<d:Scopes>{escaped(scopes)}</d:Scopes>"
        f"<d:XAddrs>{escaped(addresses)} http://10.0.0.1/x</d:XAddrs></d:ProbeMatch></e>"
    )
    for camera in read_answer(answer.encode()).values():
        assert camera.host
        assert len(camera.service) <= 500


def test_entities_that_grow_are_refused_before_they_are_read() -> None:
    bomb = b'<!DOCTYPE e [<!ENTITY a "' + b"x" * 1_000 + b'"><!ENTITY b "&a;&a;&a;">]><e>&b;</e>'
    assert read_answer(bomb) == {}


def test_whatever_cameras_call_themselves_the_draft_is_a_plant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["x" * 200, "a\nprefix: other", "", "", "\u2028- b: [", "..%2f", "{}"]
    cameras = [
        FoundCamera(f"fd00::{n}", word, word, word, f"http://[fd00::{n}]/{word}")
        for n, word in enumerate(words)
    ]
    monkeypatch.setattr("flows.discovery.find_cameras", lambda **_: cameras)
    text, num_cameras = draft_cameras(wait_s=1, most=64)
    plant = parse_plant(text, origin="draft")
    assert num_cameras == len(plant.devices) == len(words)
    assert plant.prefix == "todo"
