"""What the compacted topics of alarms hold, by key, and what of it is a plant's.

``alarms``: ``config:`` how an alarm is defined, ``state:`` how it is. ``feedback``: ``episode:``
what an alarm looked like, ``verdict:`` what an operator thought of it. Keys go on with the plant's
address. A state carries its overrides: a reader never has to join two records of two moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fusion.schema import AlarmConfig, AlarmState, RememberedEpisode, Verdict

VERDICT = "verdict:"
_Kept = TypeVar("_Kept", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class KeptAlarms:
    """What the topics hold of one plant."""

    states: dict[str, AlarmState] = field(default_factory=dict[str, AlarmState])
    configs: dict[str, AlarmConfig] = field(default_factory=dict[str, AlarmConfig])
    episodes: dict[str, RememberedEpisode] = field(default_factory=dict[str, RememberedEpisode])
    """In the order in which they were said."""
    verdicts: dict[str, Verdict] = field(default_factory=dict[str, Verdict])


def state_key(state: AlarmState) -> str:
    """Return the key of an alarm's state."""
    return f"state:{state.plant}:{state.name}"


def config_key(config: AlarmConfig) -> str:
    """Return the key of an alarm's definition."""
    return f"config:{config.plant}:{config.name}"


def episode_key(episode: RememberedEpisode) -> str:
    """Return the key of what an alarm looked like."""
    return f"episode:{episode.plant}:{episode.id}"


def verdict_key(verdict: Verdict) -> str:
    """Return the key of what an operator thought of an alarm: the newest counts."""
    return f"{VERDICT}{verdict.plant}:{verdict.episode}"


def kept_of(address: str, newest: Mapping[str, bytes]) -> KeptAlarms:
    """Return what ``newest`` values by key, in their order, say of the plant at ``address``.

    What another release wrote and this one cannot read is passed over, as a checkpoint would be.
    """
    kept = KeptAlarms()
    for key, value in newest.items():
        kind, _, rest = key.partition(":")
        # (Earlier releases did not say the plant in the key of a state.)
        if kind != "state" and not rest.startswith(f"{address}:"):
            continue
        if kind == "state":
            state = _readable(AlarmState, value)
            if state is not None and state.plant == address:
                kept.states[state.name] = state
        elif kind == "config" and (config := _readable(AlarmConfig, value)) is not None:
            kept.configs[config.name] = config
        elif kind == "episode" and (episode := _readable(RememberedEpisode, value)) is not None:
            kept.episodes[episode.id] = episode
        elif kind == "verdict" and (verdict := _readable(Verdict, value)) is not None:
            kept.verdicts[verdict.episode] = verdict
    return kept


def _readable(kind: type[_Kept], value: bytes) -> _Kept | None:
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        return None
