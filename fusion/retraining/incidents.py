"""What was seen of a plant, divided: what a model may learn from, and what it is examined on.

An examination is frozen: written once, told by its hash, and never learned from by any later model.
Ticks are half-open ranges; times are nanoseconds UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from fusion.alignment import tick_end_ns, tick_of
from fusion.errors import RecipeError
from fusion.plant import NANOSECONDS, Plant
from fusion.schema.alarms import Judgement


class Incident(BaseModel):
    """One episode of an alarm, with what operators said of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    episode: str
    alarm: str
    onset_ns: int
    end_ns: int
    judgement: Judgement | None = Field(
        description="useful: it was real; nuisance: all was well; None: nobody has said."
    )

    @property
    def is_real(self) -> bool:
        """Whether somebody said that something was wrong."""
        return self.judgement == "useful"

    def ticks(self, plant: Plant, *, before_s: float = 0.0, after_s: float = 0.0) -> range:
        """Return its ticks, and those up to so many seconds around it."""
        first = tick_of(self.onset_ns - round(before_s * NANOSECONDS), plant)
        return range(first, tick_of(self.end_ns + round(after_s * NANOSECONDS), plant) + 1)


class Examination(BaseModel):
    """A frozen test period of a plant: the lake's version, its ticks, and real incidents.

    ``incidents`` need not lie inside the ticks: they are replayed from wherever the lake has them.
    What the frozen file says of an alarm is the word of its day: :func:`as_judged` has today's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plant: str
    plant_fingerprint: str
    data_version: str
    first_tick: int
    stop_tick: int
    """Not included."""
    incidents: tuple[Incident, ...] = ()
    # (What is not there leaves the digest as it was before it could be.)
    unjudged: tuple[Incident, ...] = Field(default=(), exclude_if=lambda each: not each)
    """Alarms in it of which nobody has said what they were worth: neither normal nor incidents. A
    model that misses a fault would else be better by the alarms that it does not raise."""

    @property
    def ticks(self) -> range:
        """The ticks on which nothing is learned."""
        return range(self.first_tick, self.stop_tick)

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def name(self) -> str:
        """What its file is called; sorts by time."""
        return f"{self.stop_tick:014d}-{self.digest[:12]}"


class PeriodRecipe(BaseModel):
    """How what was seen is divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test_share: float = Field(
        default=0.2, gt=0, lt=1, description="Of what came since the last examination was frozen."
    )
    renew_after_s: float = Field(
        default=86_400.0, gt=0, description="A new examination once so much came after the last."
    )
    margin_s: float = Field(
        default=60.0, ge=0, description="Around incidents and examinations; never learned from."
    )
    max_train_s: float = Field(
        default=30 * 86_400.0, gt=0, description="The newest ticks to learn from; none older."
    )


class Periods(NamedTuple):
    """How what was seen is divided."""

    train: tuple[range, ...]
    examination: Examination
    is_new: bool
    """Whether the examination has to be frozen now."""


def divide(  # noqa: PLR0917 four facts, a recipe, a plant
    seen: range,
    frozen: Sequence[Examination],
    incidents: Sequence[Incident],
    recipe: PeriodRecipe,
    plant: Plant,
    data_version: str,
) -> Periods:
    """Return what to learn from and what to be examined on, of the ticks ``seen`` in the lake.

    The examinations of ``frozen`` are all kept out of training, and the newest is used again until
    enough has come after it. So are incidents that were real.

    Raises:
        RecipeError: Nothing is left to learn from.
    """
    # What another plant file was examined on is still not to be learned from.
    usable = [each for each in frozen if each.plant_fingerprint == plant.fingerprint()]
    newest = max(usable, key=lambda each: each.stop_tick, default=None)
    fresh = range(max([seen.start, *(each.stop_tick for each in frozen)]), seen.stop)
    is_new = newest is None or len(fresh) * plant.tick_s >= recipe.renew_after_s
    if newest is None or is_new:
        real = tuple(each for each in incidents if each.is_real)
        test = range(fresh.stop - round(len(fresh) * recipe.test_share), fresh.stop)
        newest = Examination(
            plant=str(plant.address),
            plant_fingerprint=plant.fingerprint(),
            data_version=data_version,
            first_tick=test.start,
            stop_tick=test.stop,
            incidents=real,
            unjudged=tuple(
                each
                for each in incidents
                if each.judgement is None and _meet(each.ticks(plant), test)
            ),
        )
    margin = round(recipe.margin_s / plant.tick_s)
    apart = [range(each.first_tick - margin, each.stop_tick + margin) for each in [*frozen, newest]]
    apart += [
        each.ticks(plant, before_s=recipe.margin_s, after_s=recipe.margin_s)
        for each in (*incidents, *newest.incidents)
        if each.is_real
    ]
    train = newest_ticks(minus([seen], apart), round(recipe.max_train_s / plant.tick_s))
    if not train:
        raise RecipeError(
            f"something must be left to learn from of the ticks {seen.start} to {seen.stop}, but "
            f"{len(frozen) + is_new} examinations and the incidents take all of it; ingest more, "
            "or lower test_share or margin_s"
        )
    return Periods(train, newest, is_new)


def as_judged(examination: Examination, known: Sequence[Incident], plant: Plant) -> Examination:
    """Return ``examination`` with the newest word on every alarm in it; its ticks stay.

    ``known`` are all episodes as they are judged now. One that was judged useful since is an
    incident, one that was called a nuisance is normal, and what nobody has judged is neither. It
    is for one evaluation, of which every method sees the same; the frozen one does not change.
    """
    now = {each.episode: each.judgement for each in known}
    episodes = {
        each.episode: each.model_copy(update={"judgement": now.get(each.episode, each.judgement)})
        for each in (*examination.incidents, *examination.unjudged)
    }
    # The lake's version of the examination ends with it.
    end_ns = tick_end_ns(examination.stop_tick - 1, plant)
    for each in known:
        if each.episode not in episodes and _meet(each.ticks(plant), examination.ticks):
            ended = {"end_ns": max(each.onset_ns, min(each.end_ns, end_ns))}
            episodes[each.episode] = each.model_copy(update=ended)
    in_order = sorted(episodes.values(), key=lambda each: (each.onset_ns, each.episode))
    return examination.model_copy(
        update={
            "incidents": tuple(each for each in in_order if each.is_real),
            "unjudged": tuple(each for each in in_order if each.judgement is None),
        }
    )


def unjudged_share(examination: Examination, plant: Plant) -> float:
    """Return the share of an examination's ticks that lies in alarms that nobody has judged."""
    counted = minus([examination.ticks], [each.ticks(plant) for each in examination.unjudged])
    return 1 - sum(map(len, counted)) / max(1, len(examination.ticks))


def minus(ranges: Iterable[range], cuts: Iterable[range]) -> tuple[range, ...]:
    """Return ``ranges`` without what lies in ``cuts``.

    Example:
        >>> minus([range(0, 10)], [range(2, 4), range(8, 20)])
        (range(0, 2), range(4, 8))
    """
    left = [each for each in ranges if each]
    for cut in cuts:
        if not cut:
            continue
        parts = [
            part
            for each in left
            for part in (
                range(each.start, min(each.stop, cut.start)),
                range(max(each.start, cut.stop), each.stop),
            )
        ]
        left = [part for part in parts if part]
    return tuple(left)


def newest_ticks(ranges: Sequence[range], most: int) -> tuple[range, ...]:
    """Return the newest ``most`` ticks of ascending ``ranges``.

    Example:
        >>> newest_ticks([range(0, 4), range(6, 9)], 5)
        (range(2, 4), range(6, 9))
    """
    kept: list[range] = []
    for each in reversed(ranges):
        left = most - sum(map(len, kept))
        if left <= 0:
            break
        kept.insert(0, range(max(each.start, each.stop - left), each.stop))
    return tuple(kept)


def _meet(one: range, other: range) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)
