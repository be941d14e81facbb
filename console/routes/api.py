"""The API for machines, version 1; its description is ``/api/v1/openapi.json``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from console.commands import Asked
from console.freshness import stale_since_ns
from console.guard import Asker
from console.picture import Counts
from console.routes.alarms import send
from console.routes.lookup import find_alarm, find_plant, picture_of, require_complete, visible
from console.slugs import slug
from console.sync import alarm_id
from fusion.schema import AlarmEvent, AlarmState, StreamHealth


class Said(BaseModel):
    """Why a request was refused."""

    detail: Any


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Said, "description": "No valid token or session."},
    403: {"model": Said, "description": "The role is not enough."},
    404: {"model": Said, "description": "There is none, or not for you."},
    503: {"model": Said, "description": "The broker is away, or not read to its end yet."},
}
router = APIRouter(
    prefix="/api/v1",
    responses=REFUSALS,
    tags=["alarms"],
    dependencies=[Depends(require_complete)],
)
Slug = Annotated[str, Path(max_length=500, description="The plant's address with dots for /")]
AlarmId = Annotated[str, Path(max_length=600, description="Slug of the plant, ':', alarm name")]


class PlantSaid(BaseModel):
    """One plant."""

    slug: str
    address: str
    surprise: float | None = Field(description="1 is the alarm threshold.")
    stale_since_ns: int | None = Field(description="Set while nothing new is known.")
    counts: Counts


class AlarmSaid(BaseModel):
    """One alarm."""

    id: str
    shown: str
    state: AlarmState


class Sent(BaseModel):
    """A command is on its way to the live process."""

    id: str
    is_sent: bool = Field(description="Otherwise it waits, and is sent when the broker is back.")


@router.get("/plants")
async def plants(request: Request, session: Asker) -> list[PlantSaid]:
    """Return the plants that you may look at."""
    picture, now_ns = picture_of(request), request.app.state.ports.clock.now_ns()
    return [
        PlantSaid(
            slug=slug(address),
            address=address,
            surprise=None if (score := picture.plants[address].score) is None else score.surprise,
            stale_since_ns=stale_since_ns(picture.plants[address], now_ns=now_ns),
            counts=picture.counts(frozenset({address})),
        )
        for address in sorted(visible(request, session))
    ]


@router.get("/alarms")
async def alarms(request: Request, session: Asker) -> list[AlarmSaid]:
    """Return the alarms that stand or wait for an acknowledgement, urgent ones first."""
    listed = picture_of(request).alarms(visible(request, session))
    return [AlarmSaid(id=alarm_id(s), shown=s.state.shown.value, state=s.state) for s in listed]


@router.get("/alarms/{alarm}")
async def alarm(request: Request, session: Asker, alarm: AlarmId) -> AlarmSaid:
    """Return one alarm."""
    shown = find_alarm(request, session, alarm)
    return AlarmSaid(id=alarm_id(shown), shown=shown.state.shown.value, state=shown.state)


@router.post("/alarms/{alarm}/commands", status_code=202)
def ask(request: Request, session: Asker, alarm: AlarmId, asked: Asked) -> Sent:
    """Ask something of an alarm; the journal says what became of it, with the id of the command."""
    begun = send(request, session, alarm, asked)
    return Sent(id=begun.command.id, is_sent=begun.is_sent)


@router.get("/journal")
async def journal(
    request: Request, session: Asker, most: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> list[AlarmEvent]:
    """Return what happened to alarms, the newest first."""
    addresses = visible(request, session)
    events = (e for e in reversed(picture_of(request).events) if e.state.plant in addresses)
    return [event for event, _ in zip(events, range(most), strict=False)]


@router.get("/plants/{plant}/streams")
async def streams(request: Request, session: Asker, plant: Slug) -> list[StreamHealth]:
    """Return how the plant's streams do."""
    return list(find_plant(request, session, plant).health.values())
