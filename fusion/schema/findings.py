"""What the product says: scores, forecasts, health. JSON on the broker, frozen in Python.

A higher score is always more anomalous. Shares are parts of 1. Times are nanoseconds UTC.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Said(BaseModel):
    """Frozen, and a field that is not in the schema is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TagForecast(Said):
    """The future of one tag, decoded from predicted embeddings, in the tag's unit."""

    tag: str
    unit: str
    now: float | None
    horizons_s: tuple[float, ...]
    low: tuple[float, ...] = Field(description="5 % quantile at each horizon")
    median: tuple[float, ...]
    high: tuple[float, ...] = Field(description="95 % quantile at each horizon")
    limit: float | None = Field(default=None, description="The limit nearest to being crossed.")
    limit_side: Literal["low", "high"] | None = None
    p_cross: float = Field(
        default=0.0, description="P(beyond the limit at the last horizon or before)"
    )
    t_cross_s: tuple[float | None, float | None, float | None] = Field(
        default=(None, None, None),
        description="Time to the limit: early (10 %), median, late (90 %); None = not foreseen.",
    )


class SignalEvidence(Said):
    """One tag beside what the model expected of it, in the tag's unit."""

    tag: str
    unit: str
    stream: str
    actual: float
    expected: float
    band: tuple[float, float]
    deviation: float = Field(description="Calibrated, in robust standard deviations, signed")


class EventChance(Said):
    """How likely it is that the event comes within a time."""

    within_s: float
    chance: float = Field(ge=0, le=1)


class EventChances(Said):
    """How likely an alarm like those that operators judged useful is, and what that rests on."""

    within: tuple[EventChance, ...] = Field(description="The longer the time, the likelier.")
    head: int = Field(description="Which head of the model version says so; the newest is highest.")
    num_useful: int = Field(description="Alarms judged useful that it was fitted on")
    num_nuisance: int = Field(description="Alarms judged a nuisance, for it normal running")
    error: float | None = Field(
        description="Mean distance of said chance and what happened, in the stretches that were "
        "held back; None where that is not known"
    )


class Score(Said):
    """How far one tick lies from what was expected, and why."""

    plant: str
    tick: int
    t_end_ns: int
    model_version: str
    mode: str | None
    surprise: float = Field(description="Combined, calibrated: 1 is the alarm threshold.")
    members: dict[str, float] = Field(description="Each member, calibrated: 1 is its threshold.")
    shares: dict[str, float] = Field(description="Share of each stream in the surprise; sums to 1.")
    present: dict[str, bool]
    signals: tuple[SignalEvidence, ...] = Field(description="The most deviating tags, worst first.")
    forecasts: tuple[TagForecast, ...]
    caveats: tuple[str, ...] = ()
    values: dict[str, float] = Field(
        default_factory=dict[str, float],
        description="Mean over the tick of every tag that a limit alarm watches, in the tag's "
        "unit; absent where nothing usable came.",
    )
    event_chances: EventChances | None = Field(
        default=None,
        # Without one a score is what it was before there were heads: older readers know it.
        exclude_if=lambda said: said is None,
        description="Only where a head was fitted on verdicts, and while surprise is below 1",
    )


class StreamHealth(Said):
    """How one stream does at event time ``t_ns``, from its records alone; on ``stream-health``.

    Counts run from the first record that was read. What is not known yet is None.
    """

    plant: str
    stream: str
    t_ns: int
    records: int = Field(description="Read and decoded; dead letters are not of a stream.")
    rate_hz: float = Field(description="Records a second, over about the last minute")
    gaps: int = Field(description="Sequence numbers that are missing inside an epoch")
    restarts: int = Field(description="How often the sender began a new epoch")
    late: int
    duplicate: int
    offset_s: float | None = Field(
        description="How far the clock lags its receiver, by the payload where it says when it was "
        "received, else the broker; the fastest way of a record is included."
    )
    skew_s: float | None = Field(
        description="The offset against the median of the plant's streams: positive is behind."
    )
    drift_ppm: float | None = Field(description="How fast the offset grows; positive runs slow.")
    is_skewed: bool = Field(description="The skew is larger than the plant's max_skew_s.")
    is_idle: bool
    newest_ns: int | None = Field(description="Newest event time")
    sound_drift_ppm: float | None = Field(
        default=None, description="How slow the sound card samples against the chunks' own times"
    )
    clock_jumps: int = Field(default=0, description="How often the offset changed at once.")


class StreamFlow(Said):
    """What an edge process did with one stream since it started."""

    stream: str
    records: int = Field(description="Given to the broker, or to its spool")
    values: int = Field(description="Cells, samples or frames in them")
    rate_hz: float = Field(description="Records a second since the last report")
    bad: int = Field(description="Values that the device calls bad or stale, or that are no number")
    out_of_range: int = Field(description="Values outside the tag's range; UNCERTAIN")
    held_back: int = Field(description="Values inside the deadband, not sent")
    thinned: int = Field(description="Values that came faster than the stream may send")
    withheld: int = Field(
        default=0, description="Samples in which somebody spoke, not recorded (speech_filter)"
    )
    untimed: int = Field(description="Values whose source time cannot be; UNCERTAIN")
    gaps: int = Field(description="Silences longer than the stream's max_age_s")
    unusable: int = Field(description="What came and could not be read, or is too large to send")
    why_unusable: str = Field(description="The last reason")
    offset_s: float | None = Field(description="How far the source's clock lags this machine's")
    drift_ppm: float | None
    clock_jumps: int
    last_seen_ns: int | None = Field(description="When the newest record came, by this machine")


class DeviceHealth(Said):
    """How one device does, from the process that reads it; on ``stream-health``."""

    plant: str
    device: str
    protocol: str
    t_ns: int
    state: Literal["connecting", "connected", "refused", "waiting", "ended"] = Field(
        description="waiting: the broker is away, its spool is full, and nothing is read"
    )
    why: str = Field(description="What failed last; empty while all is well")
    connects: int = Field(description="How often a connection was made")
    failures: int = Field(description="How often one was lost, or not made")
    waiting_records: int = Field(description="What waits on disk for the broker")
    streams: tuple[StreamFlow, ...]
