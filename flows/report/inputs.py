"""What the report is made from. Frozen: the page only shows, it decides nothing.

Shapes: H x W pixels of a frame, N samples of sound. Times are nanoseconds UTC, event time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flows.report.heat import HeatMap
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.schema import AlarmEvent, Score
from fusion.scoring.leave_one_out import LeftOut


@dataclass(frozen=True, slots=True)
class FaultTruth:
    """One interval in which the plant is known to be abnormal: injected, or labelled."""

    name: str
    title: str
    onset_ns: int
    end_ns: int
    first_stream: str | None = None
    """The stream in which it can be sensed first, where that is known."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """How one other method did on the same run, at the same false-alarm budget."""

    method: str
    detected: Mapping[str, float | None]
    """Delay in seconds by fault name; None = missed."""
    false_alarms_per_hour: float | None
    note: str = ""

    @property
    def num_detected(self) -> int:
        """How many faults the method detected."""
        return sum(delay_s is not None for delay_s in self.detected.values())

    @property
    def recall(self) -> float | None:
        """Detected faults as a part of all; None where there was no fault."""
        return self.num_detected / len(self.detected) if self.detected else None


@dataclass(frozen=True, slots=True)
class Moment:
    """What could be seen and heard when an alarm was raised, each beside a normal example."""

    event: AlarmEvent
    frame_HW3: NDArray[np.uint8] | None = None
    normal_frame_HW3: NDArray[np.uint8] | None = None
    sound_N: NDArray[np.int16] | None = None
    normal_sound_N: NDArray[np.int16] | None = None
    sample_rate_hz: int = 16_000
    frame_map: HeatMap | None = None
    """Where ``frame_HW3`` is not as normal ones are."""
    sound_map: HeatMap | None = None
    """When, and in which mel band, ``sound_N`` is not; over all of it."""
    left_out: Sequence[LeftOut] = ()
    """What becomes of the surprise without each stream, and without tags; the best cure first."""


class CountsLike(Protocol):
    """What became of the records of one partition."""

    @property
    def read(self) -> int: ...  # noqa: D102
    @property
    def scored(self) -> int: ...  # noqa: D102
    @property
    def late(self) -> int: ...  # noqa: D102
    @property
    def duplicate(self) -> int: ...  # noqa: D102
    @property
    def dead_lettered(self) -> int: ...  # noqa: D102
    @property
    def pending(self) -> int: ...  # noqa: D102


TagSeries = tuple[NDArray[np.int64], NDArray[np.floating]]
"""Times (end of tick, ns) and values (mean in the tick, in the tag's unit; NaN where absent)."""


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """Everything that the page shows. Whatever is empty is said to be absent, never invented."""

    plant: Plant
    model_version: str
    is_simulated: bool
    title: str
    scores: Sequence[Score] = ()
    events: Sequence[AlarmEvent] = ()
    faults: Sequence[FaultTruth] = ()
    detections: Sequence[Detection] = ()
    """The methods to compare with. The product's own row is made from ``events``."""
    tags: Mapping[str, TagSeries] = field(default_factory=dict[str, TagSeries])
    moments: Sequence[Moment] = ()
    gauges: Sequence[Mapping[str, float]] = ()
    """One mapping for each measurement during training: ``step`` and the gauges by name."""
    counts: Mapping[str, CountsLike] = field(default_factory=dict[str, CountsLike])
    """By partition, for example ``rig.audio/0``."""
    read_by_offsets: Mapping[str, int] = field(default_factory=dict[str, int])
    """By partition: last minus first offset read, told by the broker, to check ``counts``."""
    seeds: Mapping[str, int] = field(default_factory=dict[str, int])
    machine: Mapping[str, str] = field(default_factory=dict[str, str])
    duration_s: Mapping[str, float] = field(default_factory=dict[str, float])
    """Wall-clock seconds of each step, in order."""
    tolerance_s: float = 5.0
    """An alarm raised this long after the end of a fault still counts as its detection."""
    grace_s: float = 60.0
    """After the end of a fault the plant settles; alarms in that time count neither way."""


def faults_from_truth(truth: Mapping[str, Any]) -> tuple[FaultTruth, ...]:
    """Return the faults of a truth file (the simulator's ``truth.json``), by onset.

    Raises:
        InputError: The file has no list ``faults``, or a fault has other fields.

    Example:
        >>> faults_from_truth({"faults": []})
        ()
    """
    try:
        faults = [FaultTruth(**fault) for fault in truth["faults"]]
    except (KeyError, TypeError) as wrong:
        raise InputError(
            f"a truth file must list faults, each with {list(FaultTruth.__slots__)}; it says "
            f"otherwise ({wrong}); write it with fusion.simulation.truth"
        ) from wrong
    return tuple(sorted(faults, key=lambda fault: fault.onset_ns))
