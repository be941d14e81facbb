"""What happened before that looked like this, and what operators said of it.

An episode is remembered by its first ticks: where the fused state went, whitened by what is normal,
and which members of the score were surprised. How alike two episodes are falls from 1 to exactly 0
at a fixed distance, so what is unlike can have no influence however often it was judged.

An episode judged *nuisance* lowers what repeats it: at most by half, never to nothing, and the
sentence says by how much. One judged *useful* never lowers, and shields what resembles it. Taking a
judgement back takes back all that it did.

Shapes: T ticks, D state embedding, V numbers of a fingerprint, P members of a profile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from fusion.errors import InputError
from fusion.schema import Judgement
from fusion.scoring.calibration import Calibration
from fusion.scoring.members import STATE, accumulated, member_name

FILE = "memory.safetensors"
FIRST_TICKS = 6
"""Episodes begin alike and end in many ways; the first seconds are what an alarm can be told by."""
REACH = 1.0
"""Episodes farther apart than this have nothing in common; in deviations per number. Of 18
alarms of six simulated faults, pairs of one fault lay 0.4 apart (median), pairs of two faults in 95
of 100 cases 0.88 or more."""
PROFILE_GAIN = 8.0
"""A member at its threshold against one at rest counts like four deviations of the state."""
AT_REST = 0.5
"""A member below half of its threshold tells nothing about an episode."""
MOST_LOWERED = 0.5
MOST_DEVIATIONS = 3.0
Vector = NDArray[np.float64]
Priority = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Episode:
    """One alarm, by the id of the event that raised it."""

    id: str
    t_ns: int
    name: str
    judgement: Judgement | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Resembling:
    """A past episode, and how alike it is: 1 is the same, 0 has nothing in common."""

    episode: Episode
    similarity: float


@dataclass(frozen=True, slots=True)
class Lowered:
    """By what factor memory lowers a new alarm, and because of which episode."""

    factor: float
    because: Resembling | None

    def priority(self, priority: Priority) -> Priority:
        """Return the priority: one step lower where at least a quarter is taken off.

        Example:
            >>> Lowered(0.6, None).priority("high"), Lowered(0.9, None).priority("high")
            ('medium', 'high')
        """
        if self.factor > 1 - MOST_LOWERED / 2:
            return priority
        return "medium" if priority == "high" else "low"

    def in_words(self) -> str:
        """Return by how much it is lowered and why, as a sentence; "" where it is not."""
        if self.because is None or self.factor >= 1:
            return ""
        episode = self.because.episode
        note = f" ({episode.note})" if episode.note else ""
        return (
            f"Lowered by {1 - self.factor:.0%}: {self.because.similarity:.0%} alike to "
            f"{episode.name}, which was judged a nuisance{note}."
        )


class Memory:
    """The episodes of one plant under one model version; another model has other embeddings."""

    def __init__(self, model_version: str) -> None:
        self.model_version = model_version
        self._episodes: dict[str, Episode] = {}
        self._fingerprints: dict[str, Vector] = {}

    def episodes(self) -> list[Episode]:
        """Return what is remembered, in the order in which it came."""
        return list(self._episodes.values())

    def remember(self, episode: Episode, fingerprint_V: Vector) -> None:
        """Keep an episode, or what is new about it."""
        self._episodes[episode.id] = episode
        self._fingerprints[episode.id] = fingerprint_V

    def judge(self, episode_id: str, judgement: Judgement | None, note: str = "") -> None:
        """Keep what an operator said of an episode; None takes it back.

        Raises:
            InputError: Nothing is remembered under that id.
        """
        if episode_id not in self._episodes:
            raise InputError(
                f"an episode must be remembered to be judged, got {episode_id!r}; known are "
                f"{list(self._episodes)[-5:] or 'none'}"
            )
        known = self._episodes[episode_id]
        self._episodes[episode_id] = replace(known, judgement=judgement, note=note)

    def forget(self, episode_id: str) -> None:
        """Let an episode go, with all that was said of it."""
        self._episodes.pop(episode_id, None)
        self._fingerprints.pop(episode_id, None)

    def nearest(self, fingerprint_V: Vector, *, count: int = 3) -> list[Resembling]:
        """Return the most similar episodes, of equal ones the newest first; none without likeness.

        Example:
            >>> memory = Memory("m")
            >>> memory.remember(Episode("a", 0, "leak"), np.zeros(2))
            >>> memory.nearest(np.array([0.2, 0.0]))[0].similarity > 0.9
            True
        """
        alike = [
            Resembling(self._episodes[key], similarity(fingerprint_V, kept_V))
            for key, kept_V in self._fingerprints.items()
        ]
        alike.sort(key=lambda each: (-each.similarity, -each.episode.t_ns, each.episode.id))
        return [each for each in alike[:count] if each.similarity > 0]

    def lowers(self, fingerprint_V: Vector) -> Lowered:
        """Return what the judgements say of a new alarm: 0.5 at the least, 1 is not at all."""
        alike = self.nearest(fingerprint_V, count=len(self._episodes))
        nuisance = next((each for each in alike if each.episode.judgement == "nuisance"), None)
        if nuisance is None:
            return Lowered(1.0, None)
        useful = next((e.similarity for e in alike if e.episode.judgement == "useful"), 0.0)
        return Lowered(1 - MOST_LOWERED * max(0.0, nuisance.similarity - useful), nuisance)

    def save(self, folder: Path) -> None:
        """Write everything into one file of ``folder``."""
        said = [asdict(episode) for episode in self._episodes.values()]
        about = {"model_version": self.model_version, "episodes": json.dumps(said)}
        arrays = {key: np.ascontiguousarray(v) for key, v in self._fingerprints.items()}
        save_file(arrays, folder / FILE, metadata=about)

    @classmethod
    def load(cls, folder: Path, model_version: str) -> Memory:
        """Return what :meth:`save` wrote; an empty memory where nothing was.

        Raises:
            InputError: It was made with another model version, whose embeddings mean other things.
        """
        memory = cls(model_version)
        if not (folder / FILE).is_file():
            return memory
        with safe_open(folder / FILE, framework="numpy") as file:
            about = file.metadata()
            if about["model_version"] != model_version:
                raise InputError(
                    f"a memory must be of model {model_version}, {folder / FILE} is of "
                    f"{about['model_version']}; remember its episodes anew with this model"
                )
            for said in json.loads(about["episodes"]):
                memory.remember(Episode(**said), file.get_tensor(said["id"]))
        return memory


def similarity(first_V: Vector, second_V: Vector) -> float:
    """Return how alike two fingerprints are: 1 at no distance, 0 from ``REACH`` on.

    Example:
        >>> similarity(np.zeros(4), np.zeros(4)), similarity(np.zeros(4), np.full(4, 9.0))
        (1.0, 0.0)
    """
    distance = float(np.sqrt(np.mean((first_V - second_V) ** 2)))
    return (1 - min(1.0, distance / REACH) ** 2) ** 2


def fingerprint(
    z_TD: NDArray[np.floating], members: Sequence[Mapping[str, float]], calibration: Calibration
) -> Vector:
    """Return what an episode is told by, [D + P]: its first ticks' mean state, and its profile.

    ``members`` are the scores' of the same ticks, 1 being a member's threshold. State and profile
    have the same weight whatever their sizes; a far state counts by its direction.
    """
    member, normal = member_name("density", STATE), calibration.normal
    centred_D = z_TD[:FIRST_TICKS].mean(axis=0) - normal.centres[member]
    white_D = normal.whiteners[accumulated(member, 1.0)] @ centred_D
    far = float(np.sqrt(np.mean(white_D**2)))
    white_D = white_D * min(1.0, MOST_DEVIATIONS / max(far, 1e-12))
    names = sorted({key.rpartition("/")[0] for key in normal.whiteners})
    profile_TP = np.array([[each.get(n, 0.0) for n in names] for each in members[:FIRST_TICKS]])
    profile_P = PROFILE_GAIN * np.maximum(profile_TP.mean(axis=0) - AT_REST, 0.0)
    size = len(white_D) + len(profile_P)
    return np.concatenate([part * np.sqrt(size / (2 * len(part))) for part in (white_D, profile_P)])
