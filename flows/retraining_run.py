"""One retraining on disk: what was asked, and a file for each step that is done.

A step's result is written beside its place, synced and renamed: it is there whole, or the step is
still to be done. Whoever finds a run that did not end goes on with it.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.retraining.gate import GateRecipe
from fusion.retraining.incidents import Examination, PeriodRecipe
from fusion.retraining.quality import QualityRecipe
from fusion.training import Recipe

ASKED_FILE, END_FILE = "asked.json", "end.json"
DIRTY = "-dirty"
"""What git says behind the commit of a checkout that has changes."""
RESUME_WITHIN_S = 86_400.0
"""A run that was cut off longer ago is about another plant than today's: it is given up."""
_Kept = TypeVar("_Kept", bound=BaseModel)


class Policy(BaseModel):
    """How a plant's models are made anew: how data is divided, what is fit, what may go on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    periods: PeriodRecipe = PeriodRecipe()
    quality: QualityRecipe = QualityRecipe()
    gate: GateRecipe = GateRecipe()


class Asked(BaseModel):
    """What a retraining was asked to do; nothing of it changes while it goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plant_file: str
    plant_text: str
    """As it was when the run began: what the run goes on with."""
    reason: str
    recipe: Recipe
    policy: Policy
    processes: int = Field(ge=1)
    code_version: str
    version: str
    """What the model will be called."""
    t_begun_ns: int

    @property
    def plant(self) -> Plant:
        """The plant, as it was described when the run began."""
        return parse_plant(self.plant_text, origin=Path(self.plant_file).name)

    def is_same_work(self, other: Asked) -> bool:
        """Whether ``other`` would come to the same model: only why and when may differ.

        Of the code the commit counts. That a checkout has changes comes and goes with a file that
        somebody edits, and says nothing of what the steps that are done were made with.
        """
        mine, theirs = (
            each.model_dump(exclude={"reason", "version", "t_begun_ns", "plant_file"})
            | {"code_version": each.code_version.removesuffix(DIRTY)}
            for each in (self, other)
        )
        return mine == theirs


class Outcome(StrEnum):
    """How a retraining ended."""

    IN_SERVICE = "in service"
    """The version is in shadow, or the champion where there was none."""
    REFUSED = "refused"
    GIVEN_UP = "given up"


class Ended(BaseModel):
    """The end of a retraining."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome
    step: str
    """After which it ended."""
    why: str
    t_ns: int


class RunFolder:
    """The results of one retraining in ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.path.name

    def asked(self) -> Asked:
        """Return what the run was asked to do."""
        asked = self.kept("asked", Asked)
        assert asked is not None, "a folder becomes a run's by what was asked"
        return asked

    def end(self) -> Ended | None:
        """Return how it ended; None while it has not."""
        return self.kept("end", Ended)

    def kept(self, step: str, kind: type[_Kept]) -> _Kept | None:
        """Return what ``step`` came to; None where it is not done.

        Raises:
            InputError: The file is not what this version of the product writes.
        """
        path = self.path / f"{step}.json"
        if not path.is_file():
            return None
        try:
            return kind.model_validate_json(path.read_bytes())
        except ValidationError as invalid:
            raise InputError(
                f"{path} must hold what a step came to, but: {invalid}; remove the folder to begin "
                "that retraining anew"
            ) from invalid

    def keep(self, step: str, result: BaseModel) -> None:
        """Make ``result`` durable: the step is done, and is never done again in this run."""
        write_durably(self.path / f"{step}.json", result.model_dump_json(indent=1).encode())


def runs_of(settings: Settings, plant: Plant) -> list[RunFolder]:
    """Return the retrainings of ``plant``, oldest first."""
    folder = _folder(settings, plant) / "runs"
    return sorted(
        (RunFolder(path.parent) for path in folder.glob(f"*/{ASKED_FILE}")), key=lambda r: r.name
    )


def examinations_of(settings: Settings, plant: Plant) -> list[Examination]:
    """Return every examination that was ever frozen for ``plant``, oldest first.

    Raises:
        InputError: One was changed after it was written.
    """
    found: list[Examination] = []
    for path in sorted((_folder(settings, plant) / "examinations").glob("*.json")):
        try:
            each = Examination.model_validate_json(path.read_bytes())
        except ValidationError as invalid:
            raise InputError(f"{path} must be an examination, but: {invalid}") from invalid
        if each.name != path.stem:
            raise InputError(
                f"{path} must hold what its name's hash says, and its content is {each.name}: an "
                "examination never changes; restore it from a backup"
            )
        found.append(each)
    return found


def freeze(settings: Settings, plant: Plant, examination: Examination) -> Path:
    """Write ``examination`` down, once, and return where."""
    path = _folder(settings, plant) / "examinations" / f"{examination.name}.json"
    if not path.exists():
        write_durably(path, examination.model_dump_json(indent=1).encode())
    return path


@contextlib.contextmanager
def one_at_a_time(settings: Settings, plant: Plant) -> Iterator[None]:
    """Let no second retraining of ``plant`` run here. The lock goes with the process.

    Raises:
        InputError: One does.
    """
    folder = _folder(settings, plant)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"only one retraining of {plant.prefix} may run at a time, and one does; wait for "
                "it (`fusion flows status`), or stop it"
            ) from None
        yield


def begin(
    settings: Settings,
    asked: Asked,
    *,
    outdated: Callable[[RunFolder], str | None] = lambda _: None,
) -> RunFolder:
    """Return the run to go on with: one that was cut off and does the same work, else a new one.

    What was cut off and asked something else is given up; so is what ``outdated`` has a reason
    against.
    """
    plant = asked.plant
    for run in runs_of(settings, plant):
        if run.end() is not None:
            continue
        before = run.asked()
        age_s = (asked.t_begun_ns - before.t_begun_ns) / NANOSECONDS
        why = "it was asked otherwise, or cut off long ago"
        if before.is_same_work(asked) and age_s < RESUME_WITHIN_S:
            stale = outdated(run)
            if stale is None:
                return run
            why = stale
        why = f"{asked.version} took its place: {why}"
        run.keep(
            "end",
            Ended(outcome=Outcome.GIVEN_UP, step="cut off", why=why, t_ns=asked.t_begun_ns),
        )
    run = RunFolder(_unused(_folder(settings, plant) / "runs" / asked.version))
    run.keep("asked", asked.model_copy(update={"version": run.name}))
    return run


def _unused(path: Path) -> Path:
    """Return ``path``, or one beside it when there is one of that name: begun in one second."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def version_name(recipe: Recipe, t_ns: int) -> str:
    """Return what a model that begins to be made now is called; sorts by time.

    Example:
        >>> version_name(Recipe(name="standard"), 1_700_000_000_000_000_000)
        '20231114T221320-standard'
    """
    moment = datetime.datetime.fromtimestamp(t_ns // NANOSECONDS, datetime.UTC)
    return f"{moment.strftime('%Y%m%dT%H%M%S')}-{recipe.name}"


def write_durably(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``: a crash leaves what was there, or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def text_hash(text: str) -> str:
    """Return the SHA-256 (hex) of a text, of which people compare the first letters."""
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(settings: Settings, plant: Plant) -> Path:
    return settings.retraining_dir / plant.prefix
