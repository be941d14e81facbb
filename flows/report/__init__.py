"""The page that a demo or a replay ends with: one HTML file that works offline."""

from flows.report.inputs import (
    CountsLike,
    Detection,
    FaultTruth,
    Moment,
    ReportInputs,
    faults_from_truth,
)
from flows.report.page import write_report

__all__ = [
    "CountsLike",
    "Detection",
    "FaultTruth",
    "Moment",
    "ReportInputs",
    "faults_from_truth",
    "write_report",
]
