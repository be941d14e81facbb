"""The fast fill of telemetry slots against a slow and obvious one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Admitted, Aligner
from fusion.plant import Plant, parse_plant
from fusion.schema import Envelope, Quality, Record, TelemetryBatch

TICK_NS = 500_000_000
START_TICK = 200
NUM_TICKS = 6
TAGS = ("level", "heat", "goal")
PLANT_TEXT = """
prefix: fill
address: {{enterprise: e, site: s, area: a, line: l, cell: c, asset: x}}
tick_s: 0.5
allowed_lateness_s: 60
streams:
  - name: process
    modality: telemetry
    rate_hz: {rate_hz}
    max_age_s: {max_age_s}
    tags:
      - {{name: level, unit: m, range: [0, 1]}}
      - {{name: heat, unit: K, range: [0, 1]}}
      - {{name: goal, unit: m, range: [0, 1], setpoint: true}}
"""


@dataclass(frozen=True)
class Cell:
    """One value of one tag, as it was sent."""

    t_ns: int
    seq: int
    row: int
    tag: int
    value: float
    quality: int


def naive_fill(
    cells: list[Cell], tick: int, *, num_slots: int, max_age_ns: int
) -> list[list[float]]:
    """Per slot and tag: of all usable values before the slot's end the newest, if young enough."""
    filled: list[list[float]] = []
    for slot in range(num_slots):
        end_ns = tick * TICK_NS + Fraction((slot + 1) * TICK_NS, num_slots)
        line: list[float] = []
        for tag in range(len(TAGS)):
            usable = [
                cell
                for cell in cells
                if cell.tag == tag
                and cell.quality <= Quality.UNCERTAIN
                and np.isfinite(cell.value)
                and cell.t_ns < end_ns
            ]
            newest = max(usable, key=lambda cell: (cell.t_ns, cell.seq, cell.row), default=None)
            is_young = newest is not None and int(end_ns) - newest.t_ns <= max_age_ns
            line.append(newest.value if newest is not None and is_young else np.nan)
        filled.append(line)
    return filled


@st.composite
def batches(draw: st.DrawFn) -> TelemetryBatch:
    tags = tuple(draw(st.lists(st.sampled_from(TAGS), min_size=1, unique=True)))
    num_rows = draw(st.integers(1, 4))
    # A coarse grid makes ties and edges of slots likely.
    grid = st.integers(0, 8 * NUM_TICKS - 1).map(lambda step: step * TICK_NS // 8)
    anywhere = st.integers(0, NUM_TICKS * TICK_NS - 1)
    offsets = draw(st.lists(grid | anywhere, min_size=num_rows, max_size=num_rows))
    t_R_ns = START_TICK * TICK_NS + np.array(offsets, np.int64)
    number = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, np.nan, np.inf])
    size = num_rows * len(tags)
    values = draw(st.lists(number, min_size=size, max_size=size))
    qualities = draw(st.lists(st.sampled_from(list(Quality)), min_size=size, max_size=size))
    cells = (num_rows, len(tags))
    return TelemetryBatch(
        "process",
        tags,
        t_R_ns,
        t_R_ns,
        t_R_ns,
        np.array(values).reshape(cells),
        np.array(qualities, np.uint8).reshape(cells),
        np.zeros(cells, np.uint32),
    )


def cells_of(sent: list[TelemetryBatch]) -> list[Cell]:
    return [
        Cell(
            t_ns=int(batch.t_source_R_ns[row]),
            seq=seq,
            row=row,
            tag=TAGS.index(tag),
            value=float(batch.values_RC[row, column]),
            quality=int(batch.quality_RC[row, column]),
        )
        for seq, batch in enumerate(sent)
        for row in range(len(batch.t_source_R_ns))
        for column, tag in enumerate(batch.tags)
    ]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(batches(), min_size=1, max_size=6),
    st.sampled_from([2, 4, 6, 8]),
    st.sampled_from([0.125, 0.3, 0.5, 1.0, 5.0]),
    st.randoms(use_true_random=False),
)
def test_every_tick_says_what_the_obvious_fill_says(
    sent: list[TelemetryBatch], rate_hz: int, max_age_s: float, random: object
) -> None:
    text = PLANT_TEXT.format(rate_hz=rate_hz, max_age_s=max_age_s)
    plant: Plant = parse_plant(text, origin="fill.yaml")
    aligner = Aligner(plant, context_ticks=NUM_TICKS)
    order = list(range(len(sent)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for offset, seq in enumerate(order):
        record = Record("t", 0, offset, "", b"", {}, 0)
        envelope = Envelope("", "", "", "x/process", "", seq, "boot")
        aligner.take(record, Admitted.of(envelope, sent[seq], plant.streams[0]))
    observations = aligner.flush()

    sent_ticks = {int(t) // TICK_NS for batch in sent for t in batch.t_source_R_ns}
    assert [o.tick for o in observations] == [*range(min(sent_ticks), max(sent_ticks) + 1)]
    cells, num_slots = cells_of(sent), rate_hz // 2
    for observation in observations:
        expected = naive_fill(
            cells, observation.tick, num_slots=num_slots, max_age_ns=round(max_age_s * 1e9)
        )
        measured = [value for line in expected for value in line[:2]]
        is_usable = np.isfinite(measured)
        assert observation.is_present("process") == is_usable.any()
        if is_usable.any():
            np.testing.assert_array_equal(
                observation.senses["process"], np.array(expected, np.float32)
            )
            assert observation.usable["process"] == is_usable.mean()
