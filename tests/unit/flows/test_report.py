"""The report: complete without the network, honest about what was missed, safe with any text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from flows.report.evidence import spectrogram_db
from flows.report.foresight import foresights
from flows.report.heat import HeatMap
from flows.report.inputs import (
    Detection,
    FaultTruth,
    Moment,
    ReportInputs,
    faults_from_truth,
)
from flows.report.page import render, write_report
from flows.report.time_axis import TimeAxis
from flows.report.verdicts import judge
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, parse_plant
from fusion.schema import (
    AlarmEvent,
    AlarmState,
    Condition,
    Score,
    SignalEvidence,
    TagForecast,
)
from fusion.scoring.leave_one_out import LeftOut

T0_NS = 1_767_225_600 * NANOSECONDS
HOSTILE = '<script>alert("x")</script><img src=http://evil.example/a.png onerror=alert(1)>'
PLANT = parse_plant(
    """
prefix: rig
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: pump-1}
is_simulated: true
tick_s: 1.0
streams:
  - name: process
    modality: telemetry
    rate_hz: 10
    tags:
      - {name: level, unit: m, range: [0, 2], limits: {high: 1.5}}
      - {name: flow, unit: l/min, range: [0, 100]}
  - {name: microphone, modality: audio, sample_rate_hz: 16000}
  - {name: camera, modality: video, rate_hz: 2, width_px: 64, height_px: 48}
""",
    origin="test",
)
FAULTS = (
    FaultTruth("leak", "Leak at the flange", T0_NS + 100 * NANOSECONDS, T0_NS + 160 * NANOSECONDS),
    FaultTruth("cavitation", "Cavitation", T0_NS + 300 * NANOSECONDS, T0_NS + 360 * NANOSECONDS),
)


@dataclass(frozen=True)
class _Counts:
    read: int = 10
    scored: int = 7
    late: int = 1
    duplicate: int = 1
    dead_lettered: int = 1
    pending: int = 0


def at_ns(seconds: float) -> int:
    return T0_NS + round(seconds * NANOSECONDS)


def level_m(seconds: float) -> float:
    return 1.0 + 0.01 * max(0.0, seconds - 300)


def score(second: int) -> Score:
    now = level_m(second)
    return Score(
        plant="rig",
        tick=second,
        t_end_ns=at_ns(second),
        model_version="m-1",
        mode=None,
        surprise=2.0 if 104 <= second < 160 else 0.4,
        members={},
        shares={"process": 0.5, "microphone": 0.3, "camera": 0.2},
        present={"process": True, "microphone": second < 50, "camera": True},
        signals=(
            SignalEvidence(
                tag="level", unit="m", stream="process", actual=now, expected=1.0, band=(0.9, 1.1),
                deviation=3.0,
            ),
        ),
        forecasts=(
            TagForecast(
                tag="level", unit="m", now=now, horizons_s=(5.0, 20.0), low=(now - 0.1,) * 2,
                median=(now,) * 2, high=(now + 0.1,) * 2, limit=1.5, limit_side="high",
            ),
        ),
    )  # fmt: skip


def event(
    second: float,
    transition: Literal["raised", "cleared"] = "raised",
    *,
    name: str = "disturbed",
    tag: str | None = None,
    sentence: str = "Telemetry deviates first.",
) -> AlarmEvent:
    state = AlarmState(
        plant="rig",
        name=name,
        kind="advisory",
        finding="surprise" if tag is None else "forecast",
        tag=tag,
        priority="medium",
        condition=Condition.ACTIVE,
        is_acknowledged=False,
        revision=1,
        tick=int(second),
        since_ns=at_ns(second),
        sentence=sentence,
        shares={"process": 0.5, "microphone": 0.3, "camera": 0.2},
    )
    return AlarmEvent(
        id=f"{name}-{second}-{transition}",
        transition=transition,
        t_ns=at_ns(second),
        state=state,
        score=score(int(second)),
    )


def make_inputs() -> ReportInputs:
    rng = np.random.default_rng(3)
    seconds_N = np.arange(1, 601)
    sound_N = (3000 * rng.standard_normal(16_000)).astype(np.int16)
    frame_HW3 = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    alarm = event(106, sentence=HOSTILE)
    return ReportInputs(
        plant=PLANT,
        model_version="m-1",
        is_simulated=True,
        title="Rig & friends",
        scores=[score(int(second)) for second in seconds_N],
        events=[alarm, event(170, "cleared"), event(500), event(505, "cleared")],
        faults=FAULTS,
        detections=[Detection("PCA T²/SPE", {"leak": 12.0, "cavitation": None}, 0.5)],
        tags={"level": (T0_NS + seconds_N * NANOSECONDS, np.vectorize(level_m)(seconds_N))},
        moments=[Moment(alarm, frame_HW3, frame_HW3, sound_N, sound_N)],
        gauges=[{"step": 0, "sigreg": 9.0}, {"step": 10, "sigreg": 1.1, "skill_h1": 0.4}],
        counts={"rig.telemetry/0": _Counts()},
        read_by_offsets={"rig.telemetry/0": 10},
        seeds={"plant": 7},
        machine={"processor": "2 cores"},
        duration_s={"train": 60.0},
    )


class _Page(HTMLParser):
    """Collects tags, addresses and pictures without words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.images_without_alt = 0
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in {"src", "href", "srcset", "action"}]
        self.images_without_alt += tag == "img" and not dict(attrs).get("alt")
        self.handlers += [key for key, _ in attrs if key.startswith("on")]


@pytest.fixture(scope="module")
def page() -> str:
    return render(make_inputs())


def test_page_needs_nothing_from_outside(page: str) -> None:
    seen = _Page(page)
    assert seen.addresses
    assert all(address.startswith("data:") for address in seen.addresses)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_hostile_text_stays_text(page: str) -> None:
    seen = _Page(page)
    assert "script" not in seen.tags
    assert not seen.handlers
    assert "&lt;script&gt;" in page
    assert "Rig &amp; friends" in page


def test_every_picture_has_words(page: str) -> None:
    assert _Page(page).images_without_alt == 0


def test_every_fault_is_named_as_detected_or_missed(page: str) -> None:
    for fault in FAULTS:
        assert fault.title in page
    assert "<strong>6.0\N{NO-BREAK SPACE}s</strong>" in page
    assert "✕ MISSED" in page
    assert "1 of 2 injected faults were detected" in page
    assert "SIMULATED" in page


def test_false_alarms_count_healthy_time_only() -> None:
    verdicts = judge(make_inputs())
    assert [alarm.t_ns for alarm in verdicts.false_alarms] == [at_ns(500)]
    healthy_s = 600 - 2 * 121
    assert verdicts.healthy_h == pytest.approx(healthy_s / 3600)
    assert verdicts.false_alarms_per_hour == pytest.approx(3600 / healthy_s)


@pytest.mark.parametrize(
    ("raised_s", "becomes"),
    [
        (99.0, "false"),
        (100.0, "detected"),
        (160.0, "detected"),
        (164.0, "detected"),
        (166.0, "settling"),
        (220.0, "settling"),
        (221.0, "false"),
    ],
)
def test_alarm_is_a_detection_settling_or_false(raised_s: float, becomes: str) -> None:
    verdicts = judge(replace(make_inputs(), events=[event(raised_s)]))
    counted = {
        "detected": verdicts.num_detected,
        "settling": len(verdicts.settling),
        "false": len(verdicts.false_alarms),
    }
    assert counted == {"detected": 0, "settling": 0, "false": 0} | {becomes: 1}


def test_standing_alarm_does_not_detect_but_is_named() -> None:
    verdicts = judge(replace(make_inputs(), events=[event(90)]))
    assert verdicts.num_detected == 0
    standing = verdicts.faults[0].standing
    assert standing is not None
    assert standing.t_ns == at_ns(90)


def test_repeated_events_count_once() -> None:
    inputs = make_inputs()
    twice = replace(inputs, events=[*inputs.events, *inputs.events])
    assert judge(twice) == judge(inputs)


def test_forecast_coverage_and_warning() -> None:
    inputs = replace(make_inputs(), events=[event(330, name="forecast-level", tag="level")])
    (foresight,) = foresights(inputs)
    near, far = foresight.held
    assert near.inside_healthy is not None
    assert near.inside_healthy > 0.9
    assert far.num == 580
    (crossing,) = foresight.crossings
    assert crossing.side == "high"
    assert crossing.warned_s == pytest.approx(21.0)


def test_an_alarm_shows_where_it_is_and_what_cures_it() -> None:
    inputs = make_inputs()
    rarity_HW = np.zeros((6, 8), np.float32)
    rarity_HW[:2, :2] = 9.0
    left_out = (
        LeftOut("camera", None, 2.0, 0.4, "sensor"),
        LeftOut("process", None, 2.0, 2.0, "process"),
    )
    moment = replace(
        inputs.moments[0],
        frame_map=HeatMap(rarity_HW, 1.3),
        sound_map=HeatMap(np.full((40, 30), 9.0, np.float32), 1.3),
        left_out=left_out,
    )
    page = render(replace(inputs, moments=[moment]))
    assert "most of it at the top left" in page
    assert "what is rare in normal running is coloured" in page
    assert "Cured by leaving out camera (surprise 2.0 → 0.4)" in page
    assert page != render(inputs)


def test_unbalanced_ledger_is_shown() -> None:
    page = render(replace(make_inputs(), moments=(), read_by_offsets={"rig.telemetry/0": 12}))
    assert "2 of 12 records have no fate" in page


def test_empty_run_is_a_page() -> None:
    page = render(ReportInputs(plant=PLANT, model_version="m", is_simulated=False, title="None"))
    assert "No fault is known in this run" in page
    assert "SIMULATED" not in page


@pytest.mark.parametrize(
    "missing",
    [
        {"events": [], "moments": []},
        {"faults": [], "detections": []},
        {"tags": {}},
        {"counts": {}, "gauges": [], "duration_s": {}, "machine": {}, "seeds": {}},
        {"moments": [Moment(event(106))]},
        {"moments": [Moment(event(106), sound_N=np.zeros(16_000, np.int16))]},
        {"moments": [Moment(event(106).model_copy(update={"score": None}))]},
        {"scores": [score(1)]},
        {"gauges": [{"step": 0, "loss": float("nan")}]},
    ],
    ids="+".join,
)
def test_page_without_some_inputs(missing: dict[str, object]) -> None:
    assert "</html>" in render(replace(make_inputs(), **({"moments": ()} | missing)))


def test_write_leaves_one_complete_file(tmp_path: Path) -> None:
    path = write_report(make_inputs(), tmp_path / "out" / "report.html")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_size < 12e6


def test_equal_inputs_give_equal_pages(page: str) -> None:
    assert render(make_inputs()) == page


def test_long_silences_are_folded() -> None:
    day_ns = 86_400 * NANOSECONDS
    times_ns = np.concatenate(
        [at_ns(0) + np.arange(600) * NANOSECONDS + d * day_ns for d in (0, 1)]
    )
    axis = TimeAxis(times_ns, tick_ns=NANOSECONDS)
    assert len(axis.folds_min) == 1
    assert 20 <= axis.end_min < 21
    assert np.all(np.diff(axis.place_all(times_ns)) > 0)


def test_full_scale_sine_is_0_db() -> None:
    sine_N = (32767 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.int16)
    assert spectrogram_db(sine_N, 16_000).max() == pytest.approx(0.0, abs=0.1)


def test_truth_file_is_read_by_onset_and_explained() -> None:
    late, early = (
        {"name": n, "title": n, "onset_ns": t, "end_ns": t + 1, "first_stream": None, "note": ""}
        for n, t in (("b", 5), ("a", 1))
    )
    assert [fault.name for fault in faults_from_truth({"faults": [late, early]})] == ["a", "b"]
    with pytest.raises(InputError, match="must list faults"):
        faults_from_truth({"intervals": []})
