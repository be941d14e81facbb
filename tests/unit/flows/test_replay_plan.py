"""Replay plans: what they refuse, where they put rows in time, and the shipped ones."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from flows.replay_payloads import Segment, load_replay, place, sent_ns
from flows.replay_plan import TableRecording, load_plan
from fusion.errors import InputError
from fusion.schema import AudioChunk, TelemetryBatch

REPOSITORY = Path(__file__).parents[3]
PLANS = REPOSITORY / "plants" / "replays"
SECOND = 1_000_000_000

PLANT = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: rig, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [0, 9]}, {name: flow, unit: l/s, range: [0, 9]}]}
  - {name: sound, modality: audio, sample_rate_hz: 8000}
"""
PLAN = """
plant: plant.yaml
recordings: .
start: 2026-01-01T00:00:00Z
streams:
  - {kind: table, stream: rig, file: rig.csv, columns: {flow: Flow 1}}
  - {kind: sound, stream: sound, files: [s.wav]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plant.yaml").write_text(PLANT)
    pl.DataFrame(
        {
            "time": pl.Series(["2020-01-01T00:00:00", "2020-01-01T00:00:01"] * 2 + [None]),
            "run": ["one", "one", "two", "two", "three"],
            "level": [1.0, 2.0, 3.0, 4.0, 5.0],
            "Flow 1": [0.1, 0.2, None, 0.4, 0.5],
            "is_leaking": [0, 0, 1, 1, 1],
        }
    ).write_csv(tmp_path / "rig.csv")
    soundfile.write(tmp_path / "s.wav", np.zeros(8_000, np.int16), 8_000)
    return tmp_path


def _plan(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in PLAN
    path = folder / "plan.yaml"
    path.write_text(PLAN.replace(old, new, 1) if old else PLAN)
    return path


def test_columns_become_tags_in_the_order_of_the_plant(folder: Path) -> None:
    batches = [p for p in load_replay(_plan(folder)).payloads() if isinstance(p, TelemetryBatch)]
    assert {batch.tags for batch in batches} == {("level", "flow")}
    values_RC = np.vstack([batch.values_RC for batch in batches])
    np.testing.assert_array_equal(
        values_RC, [[1.0, 0.1], [2.0, 0.2], [3.0, np.nan], [4.0, 0.4], [5.0, 0.5]]
    )


def test_rows_without_times_are_spaced_from_the_start(folder: Path) -> None:
    payloads = list(load_replay(_plan(folder)).payloads())
    start_ns = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * SECOND
    times = [t for p in payloads if isinstance(p, TelemetryBatch) for t in p.t_source_R_ns.tolist()]
    assert times == [start_ns + n * SECOND // 4 for n in range(5)]
    assert [p.t_start_ns for p in payloads if isinstance(p, AudioChunk)] == [
        start_ns,
        start_ns + SECOND // 2,
    ]


def test_payloads_come_when_they_are_complete(folder: Path) -> None:
    payloads = list(load_replay(_plan(folder)).payloads())
    sent = [sent_ns(payload) for payload in payloads]
    assert sent == sorted(sent)
    assert Counter(p.stream for p in payloads) == {"rig": 3, "sound": 2}


def test_segments_with_own_times_follow_one_another(folder: Path) -> None:
    plan = _plan(
        folder,
        "file: rig.csv,",
        "file: rig.csv, time_column: time, segment_by: run, gap_s: 60, where: {run: [one, two]}, "
        "labels: [is_leaking],",
    )
    truth = load_replay(plan).truth()
    start_ns = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * SECOND
    assert truth.rows() == [
        ("rig", "one", 0, start_ns, 0),
        ("rig", "one", 1, start_ns + SECOND, 0),
        ("rig", "two", 0, start_ns + 61 * SECOND, 1),
        ("rig", "two", 1, start_ns + 62 * SECOND, 1),
    ]


def test_start_can_be_moved_and_the_end_cut(folder: Path) -> None:
    plan = _plan(folder, "recordings: .", "recordings: .\nduration_s: 0.5")
    start = datetime(2021, 1, 1, tzinfo=UTC)
    payloads = list(load_replay(plan, start=start).payloads())
    first_ns = round(start.timestamp()) * SECOND
    assert all(first_ns <= sent_ns(p) <= first_ns + SECOND for p in payloads)
    assert len(payloads) == 3


def test_repeat_plays_again(folder: Path) -> None:
    plan = _plan(folder, "file: rig.csv,", "file: rig.csv, repeat: 3, gap_s: 1,")
    truth = load_replay(plan).truth()
    assert truth.height == 15
    assert np.all(np.diff(truth["t_event_ns"].to_numpy()) > 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stream: rig", "stream: pump", r"must name a stream of the plant, got 'pump'"),
        ("stream: rig", "stream: sound", r"kind 'table' must feed a telemetry stream"),
        ("{flow:", "{flux:", r"columns must map tags of 'rig', got \['flux'\]"),
        ("Flow 1", "Flow 2", r"must have the columns \['Flow 2'\]"),
        ("rig.csv", "none.csv", r"none.csv must be a file"),
        ("kind: sound", "kind: noise", r"streams.1: Input tag 'noise'"),
        ("recordings: .", "recordings: .\nspeed: 2", r"speed: Extra inputs are not permitted"),
        ("start: 2026-01-01T00:00:00Z", "", r"must give start"),
        ("rig.csv,", "rig.csv, time_column: time,", r"must give every row a time, 1 lack it"),
        ("rig.csv,", "rig.csv, time_column: run,", r"'run' must hold times"),
        ("{flow: Flow 1}", "{flow: run}", r"must hold numbers in \['level', 'run'\]"),
        ("plant.yaml", "planet.yaml", r"planet.yaml must be a readable file"),
        ("streams:", "streams: [", r"plan.yaml must be YAML"),
    ],
)
def test_says_what_is_wrong_with_a_plan(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(load_replay(_plan(folder, old, new)).payloads())


def test_asks_for_the_folder_of_recordings(folder: Path) -> None:
    with pytest.raises(InputError, match="--data or FUSION_SHARED_DATA"):
        load_replay(_plan(folder, "recordings: .\n", ""))


@given(
    st.lists(st.tuples(st.integers(0, 100), st.lists(st.integers(0, 9), min_size=1)), min_size=1)
)
def test_placed_runs_never_overlap_and_keep_their_shape(drawn: list[tuple[int, list[int]]]) -> None:
    recording = TableRecording(kind="table", stream="rig", file="f.csv", gap_s=2e-9)
    runs = [
        Segment(str(n), recording, pl.DataFrame(), start + np.sort(np.array(steps, np.int64)))
        for n, (start, steps) in enumerate(drawn)
    ]
    placed = place(runs)
    shapes = {run.name: np.diff(run.t_R_ns).tolist() for run in runs}
    assert {run.name: np.diff(run.t_R_ns).tolist() for run in placed} == shapes
    for before, after in pairwise(placed):
        assert before.t_R_ns[-1] < after.t_R_ns[0]
    assert placed[0].t_R_ns[0] == min(run.t_R_ns[0] for run in runs)


@pytest.mark.parametrize("plan", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_plans_fit_their_plants(plan: Path) -> None:
    load_plan(plan)


@pytest.mark.parametrize("name", ["cnc_mill-unworn", "cnc_mill-worn"])
def test_the_shipped_recording_plays_without_other_data(name: str) -> None:
    replay = load_replay(PLANS / f"{name}.yaml")
    num_rows = sum(len(p.t_source_R_ns) for p in replay.payloads() if isinstance(p, TelemetryBatch))
    assert num_rows == replay.truth().height > 10_000


def test_skab_keeps_its_own_times_and_its_split(shared_data: Path) -> None:
    test = load_replay(PLANS / "skab-test.yaml", data=shared_data)
    truth, file = test.truth(), pl.read_parquet(shared_data / "skab" / "skab.parquet")
    labelled = file.filter(pl.col("group") != "anomaly-free")
    assert truth.height == labelled.height
    assert truth["anomaly"].sum() == labelled["anomaly"].sum()
    sizes = dict(truth.group_by("segment").len().rows())
    assert sizes == dict(labelled.group_by("experiment").len().rows())
    first = labelled.filter(pl.col("experiment") == truth["segment"][0])["datetime"]
    own_ns = first.dt.timestamp("ns").to_list()
    assert truth.head(len(own_ns))["t_event_ns"].to_list() == own_ns
    times = [p.t_source_R_ns[0] for p in test.payloads() if isinstance(p, TelemetryBatch)]
    assert np.all(np.diff(times) > 0)
    train = load_replay(PLANS / "skab-train.yaml", data=shared_data).truth()
    per_segment = dict(train.group_by("segment").len().rows())
    assert set(per_segment) == set(sizes)
    assert set(per_segment.values()) == {400}


@pytest.mark.parametrize("name", ["sidebyside-normal", "sidebyside-abnormal"])
def test_three_real_recordings_play_side_by_side(name: str, shared_data: Path) -> None:
    payloads = list(load_replay(PLANS / f"{name}.yaml", data=shared_data).payloads())
    counts = Counter(payload.stream for payload in payloads)
    assert counts.keys() == {"mill", "fan-sound", "motor-thermal"}
    assert min(counts.values()) > 100
