"""What is said of alarms: definitions, states, journal lines, commands, verdicts.

Times are nanoseconds UTC. States and words are those of ISA-18.2 / IEC 62682.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from fusion.schema.findings import Said, Score

AlarmKind = Literal["advisory", "alarm", "system"]
"""An advisory is a finding that nobody has rationalised; a system alarm is about the monitoring."""
AlarmFinding = Literal["surprise", "forecast", "limit", "skew", "input", "flood"]
Priority = Literal["low", "medium", "high"]
OverrideKind = Literal["out-of-service", "suppressed", "masked", "shelved"]
Judgement = Literal["useful", "nuisance"]
MAX_TEXT = 500
"""Characters of a reason, a comment or a note."""


class Condition(StrEnum):
    """The process part of an alarm (ISA-18.2 with delays made explicit)."""

    NORMAL = "normal"
    PENDING_ON = "pending-on"
    ACTIVE = "active"
    PENDING_OFF = "pending-off"

    @property
    def is_standing(self) -> bool:
        """Whether the alarm is on: raised, and not yet cleared."""
        return self in {Condition.ACTIVE, Condition.PENDING_OFF}


class ShownState(StrEnum):
    """What an operator sees of an alarm (ISA-18.2 state names), what hides it first."""

    OUT_OF_SERVICE = "out-of-service"
    SUPPRESSED = "suppressed"
    MASKED = "masked"
    SHELVED = "shelved"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED_UNACKNOWLEDGED = "returned-unacknowledged"
    LATCHED = "latched"
    NORMAL = "normal"


_HIDES: dict[OverrideKind, ShownState] = {
    "out-of-service": ShownState.OUT_OF_SERVICE,
    "suppressed": ShownState.SUPPRESSED,
    "masked": ShownState.MASKED,
    "shelved": ShownState.SHELVED,
}
"""In the order of precedence."""


class Override(Said):
    """Why an alarm is not shown, who decided so, and until when."""

    kind: OverrideKind
    who: str = Field(min_length=1, description="A person; or 'plant file', for what it says.")
    reason: str = Field(min_length=1)
    t_ns: int
    until_ns: int | None = Field(
        default=None, description="When it ends by itself, plant time; a person's always does."
    )
    is_one_shot: bool = Field(default=False, description="It also ends when the alarm clears.")

    @model_validator(mode="after")
    def _a_persons_ends(self) -> Self:
        if self.kind in {"shelved", "out-of-service"} and self.until_ns is None:
            raise ValueError(f"what is {self.kind} must say until when; give until_ns")
        return self


class AlarmState(Said):
    """Everything known about one alarm since it last changed; the value of its ``state:`` key."""

    plant: str
    name: str
    kind: AlarmKind
    finding: AlarmFinding
    tag: str | None
    priority: Priority
    condition: Condition
    is_acknowledged: bool
    revision: int = Field(description="Grows with every change that an operator can see")
    tick: int
    since_ns: int = Field(description="When the condition last changed, event time")
    onset_ns: int | None = Field(default=None, description="First tick of the present activation")
    sentence: str = ""
    score: float = Field(default=0.0, description="What was found at the last change")
    shares: dict[str, float] = Field(default_factory=dict[str, float])
    asset: str = Field(default="", description="The equipment that it is about")
    is_latched: bool = Field(default=False, description="Stays until it is reset.")
    overrides: tuple[Override, ...] = ()
    episode: str = Field(default="", description="The id of the event that raised it last")
    raised_ns: int | None = Field(default=None, description="When it was last raised")
    acknowledged_ns: int | None = Field(default=None, description="When it last was, plant time")
    is_first_out: bool = Field(
        default=False, description="The first of its asset in the flood that goes on now"
    )

    @property
    def is_hidden(self) -> bool:
        """Whether an override keeps it from being announced."""
        return bool(self.overrides)

    def override(self, kind: OverrideKind) -> Override | None:
        """Return the override of that kind; None without one."""
        return next((each for each in self.overrides if each.kind == kind), None)

    @property
    def shown(self) -> ShownState:
        """What an operator sees."""
        for kind, shown in _HIDES.items():
            if self.override(kind) is not None:
                return shown
        if self.condition.is_standing:
            return ShownState.ACKNOWLEDGED if self.is_acknowledged else ShownState.UNACKNOWLEDGED
        if not self.is_acknowledged:
            return ShownState.RETURNED_UNACKNOWLEDGED
        return ShownState.LATCHED if self.is_latched else ShownState.NORMAL


class AlarmConfig(Said):
    """How an alarm is defined, for those who have no plant file; its ``config:`` key's value."""

    plant: str
    name: str
    kind: AlarmKind
    finding: AlarmFinding
    tag: str | None = None
    unit: str = ""
    streams: tuple[str, ...] = Field(default=(), description="Without these it is frozen.")
    asset: str
    priority: Priority
    on: float
    off: float
    on_delay_s: float
    off_delay_s: float
    m_of_n: tuple[int, int] = (1, 1)
    is_latching: bool = False
    re_alarm_s: float | None = None
    suppressed_in: tuple[str, ...] = ()
    masked_by: str | None = None
    cause: str = ""
    consequence: str = ""
    action: str = ""
    time_to_respond_s: float | None = None
    is_retired: bool = Field(default=False, description="The plant file no longer has it.")


class Resembled(Said):
    """A past episode that a new alarm resembles: 1 is the same, 0 has nothing in common."""

    episode: str
    name: str
    t_ns: int
    similarity: float
    judgement: Judgement | None = None
    note: str = ""


Transition = Literal[
    "raised",
    "cleared",
    "acknowledged",
    "re-alarmed",
    "reset",
    "shelved",
    "unshelved",
    "suppressed",
    "unsuppressed",
    "masked",
    "unmasked",
    "out-of-service",
    "in-service",
    "commented",
    "judged",
    "refused",
    "retired",
]


class AlarmEvent(Said):
    """One transition of one alarm; the journal's line on ``alarm-events``."""

    id: str = Field(description="The same transition always has the same id: sinks drop repeats.")
    transition: Transition
    t_ns: int
    state: AlarmState = Field(description="After the transition")
    score: Score | None = Field(default=None, description="The evidence at the moment of raising")
    who: str | None = None
    command: str | None = Field(default=None, description="The id of the command it answers")
    note: str = Field(default="", description="A reason, a comment, or why it was refused")
    nearest: tuple[Resembled, ...] = Field(default=(), description="Past episodes, nearest first")
    judgement: Judgement | None = None


Action = Literal[
    "acknowledge",
    "reset",
    "shelve",
    "unshelve",
    "remove-from-service",
    "return-to-service",
    "comment",
    "judge",
]


class AlarmCommand(Said):
    """What an operator asks of an alarm; the value on ``alarm-commands``."""

    id: str = Field(max_length=64, description="A repeat of it is done once.")
    plant: str
    name: str
    action: Action
    expected_revision: int = Field(description="What the operator saw; unused by words alone.")
    who: str = Field(min_length=1, max_length=100)
    t_ns: int
    duration_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Of what hides an alarm"
    )
    is_one_shot: bool = False
    note: str = Field(default="", max_length=MAX_TEXT, description="The reason, or the comment")
    episode: str | None = Field(default=None, max_length=MAX_TEXT, description="What is judged")
    judgement: Judgement | None = Field(default=None, description="None takes one back.")


class Verdict(Said):
    """What an operator said of one alarm afterwards; the newest of an episode counts."""

    id: str
    plant: str
    episode: str = Field(description="The id of the event that raised the alarm")
    judgement: Judgement | None = Field(description="None takes an earlier one back.")
    note: str = ""
    who: str
    t_ns: int


class RememberedEpisode(Said):
    """How a past alarm looked to the model, so that what repeats it is recognised."""

    plant: str
    model_version: str
    id: str
    name: str
    t_ns: int
    fingerprint: tuple[float, ...]
