"""Records of many streams to ticks of one plant, by event time, with every record accounted for."""

from fusion.alignment.admission import (
    Admission,
    Admitted,
    admit,
    dead_letter,
    refused_record,
)
from fusion.alignment.aligner import Aligner
from fusion.alignment.ledger import Counts, Decisions, Outcome
from fusion.alignment.observation import Observation, rows_per_tick, tick_end_ns, tick_of

__all__ = [
    "Admission",
    "Admitted",
    "Aligner",
    "Counts",
    "Decisions",
    "Observation",
    "Outcome",
    "admit",
    "dead_letter",
    "refused_record",
    "rows_per_tick",
    "tick_end_ns",
    "tick_of",
]
