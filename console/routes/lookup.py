"""From parts of paths to what they name, for somebody who may look at it."""

from __future__ import annotations

from typing import NoReturn

from fastapi import HTTPException, Request

from console.accounts import Session
from console.guard import Asker, require
from console.picture import Picture, PlantPicture, Shown
from console.rights import Role
from console.slugs import unslug
from fusion.errors import BrokerUnavailableError


def picture_of(request: Request) -> Picture:
    """Return the picture as it is now."""
    return request.app.state.reader.picture


def require_complete(request: Request, _: Asker) -> None:
    """Refuse a machine while the topics are still being read: an empty list would be a lie.

    Pages are shown meanwhile, and say so.

    Raises:
        BrokerUnavailableError: Not everything has been read yet.
    """
    if not picture_of(request).is_complete:
        raise BrokerUnavailableError("the console still reads the alarms; ask again in a moment")


def visible(request: Request, session: Session) -> frozenset[str]:
    """Return the addresses of the plants that whoever asks may look at."""
    return session.person.visible(list(picture_of(request).plants))


def find_plant(
    request: Request, session: Session, plant_slug: str, role: Role = Role.VIEWER
) -> PlantPicture:
    """Return the plant that ``plant_slug`` names, for somebody who has ``role`` there.

    Raises:
        HTTPException: 404 where there is none or they may not look at it; 403 without the role.
    """
    address = unslug(plant_slug)
    if address not in picture_of(request).plants:
        _not_found()
    require(request, session.person, role, address)
    return picture_of(request).plants[address]


def find_alarm(
    request: Request, session: Session, alarm_id: str, role: Role = Role.VIEWER
) -> Shown:
    """Return the alarm of ``alarm_id``, as :func:`find_plant` does the plant."""
    plant_slug, _, name = alarm_id.partition(":")
    find_plant(request, session, plant_slug, role)
    shown = picture_of(request).alarm((unslug(plant_slug), name))
    return _not_found() if shown is None else shown


def _not_found() -> NoReturn:
    raise HTTPException(404, "not found")
