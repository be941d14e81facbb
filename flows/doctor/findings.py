"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from fusion.errors import BrokerUnavailableError, FusionError


class State(StrEnum):
    """How it stands."""

    RIGHT = "right"
    LOOK = "look"
    """It works, and somebody should know."""
    WRONG = "wrong"


MARKS = {State.RIGHT: "✓", State.LOOK: "!", State.WRONG: "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table."""

    check: str
    state: State
    seen: str
    mend: str = ""
    """What to do; empty where all is right."""

    def __post_init__(self) -> None:
        assert (self.state is State.RIGHT) == (self.mend == ""), self

    def for_json(self) -> dict[str, str]:
        """Return it for a program."""
        return asdict(self)


Check = Callable[[], Iterable[Finding]]


def right(check: str, seen: str) -> Finding:
    """Return that all is well."""
    return Finding(check, State.RIGHT, seen)


def look(check: str, seen: str, mend: str) -> Finding:
    """Return that it works, and what would be better."""
    return Finding(check, State.LOOK, seen, mend)


def wrong(check: str, seen: str, mend: str) -> Finding:
    """Return that it does not work, and what to do."""
    return Finding(check, State.WRONG, seen, mend)


def failed(check: str, error: FusionError) -> Finding:
    """Return what an error of ours says: what must hold and what came; then what to change."""
    seen, _, mend = str(error).rpartition("; ")
    return wrong(check, seen or str(error), mend if seen else "see what it says")


def examined(checks: dict[str, Check], rests_on: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what every check finds; one that cannot look says why, and the others go on.

    But for those that rest on one whose service is away: each would wait half a minute to say it
    again.
    """
    away: set[str] = set()
    for name, check in checks.items():
        if (base := rests_on.get(name)) in away:
            yield look(name, f"not looked at: the {base} is away", f"mend the {base} first")
            continue
        try:
            yield from check()
        except FusionError as error:
            if isinstance(error, BrokerUnavailableError):
                away.add(name)
            yield failed(name, error)
