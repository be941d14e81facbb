"""A manifest lets a model serve the plant it learned, and says what differs otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fusion.errors import InputError, ManifestMismatchError
from fusion.manifest import MANIFEST_FILE, Manifest, load_manifest, trained_streams
from fusion.plant import Plant, parse_plant

TEXT = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [0, 1]},
      {name: wanted, unit: m, range: [0, 1], setpoint: true}]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
  - {name: eye, modality: video, rate_hz: 2, width_px: 32, height_px: 24}
"""


def plant(text: str = TEXT) -> Plant:
    return parse_plant(text, origin="p.yaml")


def manifest() -> Manifest:
    described = plant()
    return Manifest(
        name="p",
        version="1",
        plant_address=str(described.address),
        plant_fingerprint=described.fingerprint(),
        tick_s=described.tick_s,
        streams=trained_streams(described),
        window_ticks=8,
        horizons_ticks=(1, 4),
        layout={},
        recipe={},
        data_version="d",
        code_version="c",
        num_parameters=1,
        num_train_ticks=2,
        num_calibration_ticks=3,
        gauges=({"step": 0.0, "rankme": 9.5},),
    )


def test_it_fits_its_own_plant() -> None:
    manifest().require_fits(plant())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("range: [0, 1]},", "range: [0, 1], limits: {high: 0.9}},"),
        ("tick_s: 0.5", "tick_s: 0.5\nscoring: {false_alarms_per_day: 3}"),
        ("asset: x", "asset: y"),
    ],
)
def test_what_the_network_does_not_read_may_change(old: str, new: str) -> None:
    assert old in TEXT
    manifest().require_fits(plant(TEXT.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("tick_s: 0.5", "tick_s: 1.0", "tick_s"),
        ("unit: m", "unit: cm", "units of stream 'process'"),
        ("name: level", "name: height", "tags of stream 'process'"),
        ("name: wanted", "name: asked", "setpoints of stream 'process'"),
        (
            "name: wanted, unit: m, range: [0, 1]",
            "name: wanted, unit: m, range: [0, 2]",
            "setpoint_ranges of stream 'process'",
        ),
        ("name: wanted, unit: m", "name: wanted, unit: cm", "setpoint_units of stream 'process'"),
        ("rate_hz: 4", "rate_hz: 8", "rate_hz of stream 'process'"),
        ("sample_rate_hz: 4000", "sample_rate_hz: 8000", "rate_hz of stream 'ear'"),
        ("width_px: 32", "width_px: 64", "size_px of stream 'eye'"),
        ("name: eye", "name: lens", "the order of streams"),
    ],
)
def test_what_the_network_reads_may_not_and_is_named(old: str, new: str, named: str) -> None:
    assert old in TEXT
    with pytest.raises(ManifestMismatchError, match=re.escape(named)):
        manifest().require_fits(plant(TEXT.replace(old, new, 1)))


def test_a_model_of_before_set_points_were_kept_still_fits() -> None:
    (first, *others) = manifest().streams
    bare = first.model_copy(update={"setpoint_units": None, "setpoint_ranges": None})
    old = manifest().model_copy(update={"streams": (bare, *others)})
    old.require_fits(
        plant(TEXT.replace("wanted, unit: m, range: [0, 1]", "wanted, unit: m, range: [0, 2]"))
    )


def test_it_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = manifest()
    (tmp_path / MANIFEST_FILE).write_text(written.model_dump_json(), encoding="utf-8")
    assert load_manifest(tmp_path) == written


def test_a_folder_without_manifest_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold manifest\.json"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"name": 3}', "[1, 2"])
def test_a_broken_manifest_is_explained(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="must be a manifest"):
        load_manifest(tmp_path)
