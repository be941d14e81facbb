"""Rationalised alarms (ISA-18.2, IEC 62682): what is wrong, what follows, what to do, how soon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fusion.plant.described import Described, Name

MAX_OF_N = 64
# What is not asked for leaves the plant's fingerprint as it was before it could be.
_QUIET: dict[str, Any] = {"exclude_if": lambda value: not value}


class AlarmDefinition(Described):
    """A rationalised alarm (ISA-18.2): without one of these, a finding stays an advisory."""

    name: Name
    finding: Literal["surprise", "forecast", "limit"]
    tag: str | None = Field(default=None, description="The tag, for forecast and limit.")
    priority: Literal["low", "medium", "high"] = "medium"
    cause: str
    consequence: str
    action: str
    time_to_respond_s: float = Field(gt=0)
    on_delay_s: float = Field(default=2.0, ge=0)
    off_delay_s: float = Field(default=10.0, ge=0)
    side: Literal["low", "high"] | None = Field(
        default=None, **_QUIET, description="Of a limit: the side on which it is crossed."
    )
    on_at: float | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="On-threshold. Surprise: 1 unless given; forecast: a chance, 0.5; limit: a "
        "value of the tag in its unit, the limit of that side.",
    )
    off_at: float | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Off-threshold, on the calm side of on_at: between the two nothing changes. "
        "Surprise: 0.7 of on_at; forecast: 0.6 of on_at; limit: 2 % of the tag's range away.",
    )
    m_of_n: tuple[int, int] | None = Field(
        default=None, **_QUIET, description="On when m of the last n ticks are beyond on."
    )
    latching: bool = Field(
        default=False, **_QUIET, description="Stays after it has cleared, until it is reset."
    )
    re_alarm_s: float | None = Field(
        default=None,
        gt=0,
        **_QUIET,
        description="To be acknowledged anew when it still stands so long after it was.",
    )
    suppressed_in: tuple[Name, ...] = Field(
        default=(), **_QUIET, description="Operating modes in which it means nothing."
    )
    masked_by: Name | None = Field(
        default=None, **_QUIET, description="An alarm that explains this one while it stands."
    )
    asset: Name | None = Field(
        default=None, **_QUIET, description="The equipment; without it the plant's asset."
    )

    @model_validator(mode="after")
    def _has_its_tag(self) -> Self:
        if (self.finding == "surprise") == (self.tag is not None):
            raise ValueError(
                f"an alarm on a forecast or a limit names its tag, and one on surprise names none; "
                f"got finding {self.finding!r} with tag {self.tag!r}; add or delete tag"
            )
        if (self.finding == "limit") != (self.side is not None):
            raise ValueError(
                f"an alarm on a limit says on which side, and no other does; got finding "
                f"{self.finding!r} with side {self.side!r}; write side: high or low, or delete it"
            )
        return self

    @model_validator(mode="after")
    def _counts_can_be(self) -> Self:
        if self.m_of_n is not None and not 1 <= self.m_of_n[0] <= self.m_of_n[1] <= MAX_OF_N:
            raise ValueError(
                f"m_of_n must satisfy 1 <= m <= n <= {MAX_OF_N}, got {list(self.m_of_n)} in "
                f"{self.name!r}; write for example [3, 5]"
            )
        return self


def require_hang_together(alarms: Mapping[str, AlarmDefinition], modes: set[str]) -> None:
    """Return when every mode and every parent that ``alarms`` name exists, and nobody is its own.

    Raises:
        ValueError: Names the alarm, and what it names.
    """
    for alarm in alarms.values():
        if unknown := [mode for mode in alarm.suppressed_in if mode not in modes]:
            raise ValueError(
                f"suppressed_in of alarm {alarm.name!r} must name operating modes of this plant, "
                f"got {unknown}; known modes: {sorted(modes)}"
            )
        ancestors = [alarm.name]
        parent = alarm.masked_by
        while parent is not None:
            if parent not in alarms:
                raise ValueError(
                    f"masked_by must name an alarm of this plant, got {parent!r} in "
                    f"{ancestors[-1]!r}; known alarms: {sorted(alarms)}"
                )
            if parent in ancestors:
                raise ValueError(
                    f"an alarm must not mask itself, got {' <- '.join([*ancestors, parent])}; "
                    "delete one masked_by"
                )
            ancestors.append(parent)
            parent = alarms[parent].masked_by
