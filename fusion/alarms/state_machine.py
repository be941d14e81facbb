"""The condition of one alarm: a pure function of its state, the value, and the time (ISA-18.2).

::

    NORMAL ──on──▶ PENDING_ON ──on for on_delay──▶ ACTIVE ──off──▶ PENDING_OFF
    PENDING_ON ──not on──▶ NORMAL
    PENDING_OFF ──on──▶ ACTIVE, ──not on for off_delay──▶ NORMAL
"""

from __future__ import annotations

from dataclasses import dataclass

from fusion.schema import Condition


@dataclass(frozen=True, slots=True)
class Reading:
    """What the condition of one tick depends on."""

    is_on: bool
    """At or above the on-threshold."""
    is_off: bool
    """Below the off-threshold; between the two (the deadband) neither holds."""
    t_ns: int


@dataclass(frozen=True, slots=True)
class Delays:
    """How long a condition must last, in nanoseconds of event time."""

    on_ns: int
    off_ns: int


def next_condition(  # noqa: PLR0911 one return for each arrow of the picture
    condition: Condition, since_ns: int, reading: Reading, delays: Delays
) -> Condition:
    """Return the condition after ``reading``; ``since_ns`` is when the present one began.

    Example:
        >>> on = Reading(is_on=True, is_off=False, t_ns=5)
        >>> next_condition(Condition.NORMAL, 0, on, Delays(on_ns=0, off_ns=0)).value
        'active'
    """
    if condition is Condition.NORMAL:
        if not reading.is_on:
            return condition
        return Condition.ACTIVE if delays.on_ns == 0 else Condition.PENDING_ON
    if condition is Condition.PENDING_ON:
        if not reading.is_on:
            return Condition.NORMAL
        return Condition.ACTIVE if reading.t_ns - since_ns >= delays.on_ns else condition
    if condition is Condition.ACTIVE:
        if not reading.is_off:
            return condition
        return Condition.NORMAL if delays.off_ns == 0 else Condition.PENDING_OFF
    if reading.is_on:
        return Condition.ACTIVE
    return Condition.NORMAL if reading.t_ns - since_ns >= delays.off_ns else condition
