"""Event heads as folders: ``event-heads/VERSION/PLANT/NUMBER`` beside the versions of the models.

A head belongs to one version and one plant, and never changes; a newer one has a higher number. It
is written beside its place and renamed: nobody ever sees half of it. Like a version it is signed
where the settings name a key, and opened unsigned only where no trusted keys are set.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from flows.settings import Settings
from flows.trust import seal, trusted_folder
from fusion.errors import InputError, UntrustedModelError
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Clock
from fusion.scoring.events import EventHead
from fusion.scoring.foresight import HeadBasis, KnownHead
from fusion.training.package import new_folder

BASIS_FILE = "basis.json"
MAX_BASIS_BYTES = 64 * 1024
LOOK_EVERY_S = 10.0

log = logging.getLogger(__name__)


def heads_of_version(model_dir: Path) -> Path:
    """Return the folder of all heads of the version in ``model_dir``; it may not be there."""
    return model_dir.parent / "event-heads" / model_dir.name


def head_folders(model_dir: Path, plant: Plant) -> list[Path]:
    """Return the heads of a version for ``plant``, the newest first."""
    folder = heads_of_version(model_dir) / str(plant.address).replace("/", ".")
    if not folder.is_dir():
        return []
    # What is being written has a name that begins with a dot.
    numbered = {int(each.name): each for each in folder.iterdir() if each.name.isdecimal()}
    return [numbered[number] for number in sorted(numbered, reverse=True)]


def save_head(known: KnownHead, model_dir: Path, plant: Plant, settings: Settings) -> Path:
    """Return the folder of the head, written whole.

    Raises:
        InputError: There is one of this number: another fit was faster.
        SettingsError: The key that it is to be signed with cannot be read.
    """
    at = heads_of_version(model_dir) / str(plant.address).replace("/", ".")
    folder = at / str(known.basis.number)
    try:
        with new_folder(folder) as beside:
            known.head.save(beside)
            (beside / BASIS_FILE).write_text(known.basis.model_dump_json(indent=1), "utf-8")
            seal(beside, settings)
    except OSError as refused:
        raise InputError(
            f"{folder} must be new and writable, but: {refused}; another fit may have been faster, "
            "then there is nothing to do, or make room"
        ) from refused
    return folder


def load_head(folder: Path, model_dir: Path, plant: Plant, settings: Settings) -> KnownHead:
    """Return the head in ``folder``, when it was made for this version and plant.

    Raises:
        InputError: It is none, or another's.
        UntrustedModelError: Trusted keys are set, and none has signed it, or it was altered.
    """
    with trusted_folder(folder, settings) as opened:
        basis, head = _basis(opened), EventHead.load(opened)
    meant = (str(plant.address), model_dir.name, int(folder.name))
    if (basis.plant, basis.model_version, basis.number) != meant:
        raise InputError(
            f"the event head in {folder} must be number {meant[2]} of {meant[1]} for {meant[0]}, "
            f"and is number {basis.number} of {basis.model_version} for {basis.plant}; remove it"
        )
    return KnownHead(head, basis)


def newest_head(model_dir: Path, plant: Plant, settings: Settings) -> KnownHead | None:
    """Return the newest head that can be opened; None without one. Says which cannot, and why.

    Raises:
        OSError: The folder cannot be read now; it may be the next time.
    """
    for folder in head_folders(model_dir, plant):
        try:
            return load_head(folder, model_dir, plant, settings)
        except (InputError, UntrustedModelError) as refused:
            log.warning("an event head is passed over: %s", refused)
    return None


class HeadWatch:
    """The newest heads, as one live process sees them; looked for every ``LOOK_EVERY_S``."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._due_ns = 0
        self._known: dict[tuple[Path, str], tuple[Path, KnownHead | None]] = {}
        self._told = ""

    def is_due(self) -> bool:
        """Return whether it is time to look again; then it is not for a while."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + round(LOOK_EVERY_S * NANOSECONDS)
        return True

    def newest(self, model_dir: Path, plant: Plant) -> KnownHead | None:
        """Return the newest head of a version for ``plant``; the one before while none is read.

        Whatever is wrong with a head, or with its folder, scoring goes on without it.
        """
        key = (model_dir, str(plant.address))
        seen, known = self._known.get(key, (None, None))
        try:
            folders = head_folders(model_dir, plant)
            if not folders:
                return None
            if folders[0] != seen:
                known = newest_head(model_dir, plant, self._settings)
                self._known[key] = (folders[0], known)
        except OSError as away:
            if str(away) != self._told:
                self._told = str(away)
                log.warning("event heads cannot be read, the known ones stay: %s", away)
        return known


def _basis(folder: Path) -> HeadBasis:
    path = folder / BASIS_FILE
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BASIS_BYTES + 1)
        if len(text) > MAX_BASIS_BYTES:
            raise InputError(f"{path} may have {MAX_BASIS_BYTES} bytes, and has more; fit it again")
        return HeadBasis.model_validate_json(text)
    except (FileNotFoundError, ValidationError) as broken:
        raise InputError(
            f"{path} must say what the head rests on, but: {broken}; fit it again"
        ) from broken
