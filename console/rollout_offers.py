"""The steps that a version can take now, in words for whoever has to decide."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.rollout.states import Action, Rollout


@dataclass(frozen=True, slots=True)
class Offer:
    """One step: what the button says, and what it will do."""

    words: str
    told: str
    to_champion: bool = False


def offers_of(state: Rollout, version: str) -> tuple[Offer, ...]:
    """Return how ``version`` can go on from ``state``; nothing where another one is under test.

    Example:
        >>> [o.words for o in offers_of(Rollout(champion="1"), "2")]
        ['Try in shadow']
        >>> [o.words for o in offers_of(Rollout(champion="1"), "1")]
        []
    """
    if version == state.champion or state.challenger not in {None, version}:
        return ()
    if state.champion is None:
        return (
            Offer(
                "Put into service",
                "It is tried on its golden windows, then scores: there is no champion yet.",
            ),
        )
    if state.stage is Action.SHADOW:
        return (
            Offer("Try on some assets", "Its alarms are shown, of a tenth of the assets."),
            Offer(
                "Put into service",
                f"Its alarms are shown, of all assets; {state.champion} stands by.",
                to_champion=True,
            ),
        )
    if state.stage is Action.CANARY:
        return (
            Offer(
                "Put into service",
                f"Its alarms are shown, of all assets; {state.champion} stands by.",
                to_champion=True,
            ),
        )
    return (
        Offer(
            "Try in shadow",
            f"It is tried on its golden windows, then scores beside {state.champion}; nobody is "
            "shown its alarms.",
        ),
    )


def way_back(state: Rollout) -> Offer | None:
    """Return what a rollback would do; None where there is nothing to go back to."""
    if state.challenger is not None:
        return Offer(
            f"Take {state.challenger} back", f"{state.champion or 'Nobody'} goes on alone."
        )
    if state.standby is not None:
        return Offer(f"Go back to {state.standby}", f"{state.champion} leaves service at once.")
    return None
