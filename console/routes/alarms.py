"""The list of alarms, the page of one, and what an operator asks of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from console.accounts import Session
from console.charts import fan_of
from console.commands import Asked, Begun
from console.gauges import gauge_of
from console.guard import Asker, accounts_of, client_of
from console.history import FOREVER_NS, Lines
from console.picture import Shown
from console.rendering import page
from console.rights import Role
from console.routes.lookup import find_alarm, picture_of, visible
from fusion.errors import BrokerUnavailableError, FusionError
from fusion.plant import VideoStream
from fusion.schema import AlarmEvent

router = APIRouter(include_in_schema=False)
MAX_SIGNALS = 8
MAX_HISTORY = 50
MAX_LINES = 200
At = Annotated[int, Query(ge=0, lt=2**63 - 1)]
"""When an episode began, in ns."""


@router.get("/alarms")
async def alarm_list(request: Request, session: Asker) -> Response:
    """Return the list of alarms, those that need eyes first; the stream keeps it true."""
    rows = request.app.state.rows
    listed = picture_of(request).alarms(visible(request, session))
    html = [rows.row(s, session.person.may(Role.OPERATOR, s.state.plant)) for s in listed]
    return page(request, "alarms.html.j2", session, rows=html, wants_rows=True)


@router.get("/alarms/{alarm_id}")
async def alarm(
    request: Request, session: Asker, alarm_id: str, event: str = "", at: At = 0
) -> Response:
    """Return everything about one alarm: of its newest episode, or of the one that is named.

    ``at`` says when that one was raised: so it is found however long ago it was.
    """
    shown = find_alarm(request, session, alarm_id)
    picture = picture_of(request)
    own = await _own(request, shown)
    raised = await _raised(request, shown, event, at)
    if raised is None and not event:
        raised = next((e for e in own.events if e.transition == "raised"), None)
    score = None if raised is None else raised.score
    shares = {} if raised is None else raised.state.shares
    of_plant = picture.plants[shown.state.plant]
    key = (shown.state.plant, shown.state.name)
    definition = picture.configs.get(key) or next(
        (a for a in of_plant.plant.alarms if a.name == shown.state.name), None
    )
    address = shown.state.plant
    return page(
        request,
        "alarm.html.j2",
        session,
        shown=shown,
        raised=raised,
        # (what nothing is kept of is not called an earlier episode)
        episode=shown.state.episode if raised is None else raised.id,
        score=score,
        plant=of_plant.plant,
        definition=definition,
        shares=sorted(shares.items(), key=lambda item: -item[1]),
        gauges=[gauge_of(s) for s in (() if score is None else score.signals)[:MAX_SIGNALS]],
        fans=[fan_of(f) for f in (() if score is None else score.forecasts)],
        history=own.events[:MAX_HISTORY],
        missing=own.missing,
        episodes=[e for e in own.events if e.transition == "raised"][:10],
        verdict_on=picture.verdict_on,
        address=address,
        may_ask=session.person.may(Role.ENGINEER, address) and bool(of_plant.plant.setpoints),
        **_rights(session, shown),
    )


@router.get("/alarms/{alarm_id}/state")
async def alarm_state(
    request: Request, session: Asker, alarm_id: str, episode: str = ""
) -> Response:
    """Return the part of the alarm's page that changes while it is open.

    ``episode`` is the one that the rest of the page tells of: one that came since is said.
    """
    shown = find_alarm(request, session, alarm_id)
    rights = _rights(session, shown)
    return page(request, "alarm_state.html.j2", session, shown=shown, episode=episode, **rights)


@router.get("/alarms/{alarm_id}/history")
async def history(request: Request, session: Asker, alarm_id: str) -> Response:
    """Return what happened to the alarm, the newest first."""
    shown = find_alarm(request, session, alarm_id)
    own = await _own(request, shown)
    return page(
        request,
        "history.html.j2",
        session,
        shown=shown,
        lines=own.events[:MAX_HISTORY],
        missing=own.missing,
    )


@router.get("/alarms/{alarm_id}/evidence")
async def evidence(
    request: Request, session: Asker, alarm_id: str, event: str = "", at: At = 0
) -> Response:
    """Return picture and sound at the alarm, or why there are none."""
    shown = find_alarm(request, session, alarm_id)
    raised = await _raised(request, shown, event, at)
    found, why = None, "The journal no longer has the moment when it was raised."
    if raised is not None:
        try:
            quiet_ns = picture_of(request).quiet_before(raised)
            found = await request.app.state.evidence.look(raised, quiet_ns=quiet_ns)
        except FusionError as absent:
            why = str(absent)
    cameras = [
        stream.name
        for stream in picture_of(request).plants[shown.state.plant].plant.streams
        if isinstance(stream, VideoStream)
    ]
    return page(
        request,
        "evidence.html.j2",
        session,
        evidence=found,
        why=why,
        cameras=cameras,
        shown=shown,
        raised=raised,
    )


@router.get("/alarms/{alarm_id}/clip/{stream}")
async def clip(  # noqa: PLR0917 a path's and a query's fields are its parameters
    request: Request, session: Asker, alarm_id: str, stream: str, event: str, at: At = 0
) -> Response:
    """Return what a camera saw shortly before and after the alarm was raised, as WebM."""
    shown = find_alarm(request, session, alarm_id)
    raised = await _raised(request, shown, event, at)
    plant = picture_of(request).plants[shown.state.plant].plant
    is_camera = any(s.name == stream and isinstance(s, VideoStream) for s in plant.streams)
    if raised is None or not is_camera:
        raise HTTPException(404, "not found")
    made = await request.app.state.evidence.run(
        partial(request.app.state.ports.witness.clip, raised, stream)
    )
    if made is None:
        raise HTTPException(404, "not found")
    return Response(made, media_type="video/webm")


@router.post("/alarms/{alarm_id}/ask")
def ask(
    request: Request, session: Asker, alarm_id: str, asked: Annotated[Asked, Form()]
) -> Response:
    """Send what is asked; the alarm itself changes when the live process has carried it out."""
    begun = send(request, session, alarm_id, asked)
    what = f"{_SENT[begun.command.action]} {begun.command.name}"
    if begun.is_sent:
        return HTMLResponse(f"{what}: sent.")
    return HTMLResponse(f"{what} waits for the broker; once that is back, it is sent.")


def send(request: Request, session: Session, alarm_id: str, asked: Asked) -> Begun:
    """Send what is asked of an alarm for somebody who may, and write it down.

    ``revision`` is what was seen: an alarm that was raised anew since stays as it is.

    Raises:
        BrokerUnavailableError: Said at once, where it is known, and nothing is sent.
    """
    shown = find_alarm(request, session, alarm_id, asked.role)
    if request.app.state.reader.away_since_ns is not None:
        raise BrokerUnavailableError("the broker is away, so nothing was sent; ask again later")
    who = session.person.name
    begun = request.app.state.commands.ask(shown, asked, who=who)
    accounts_of(request).note(
        who,
        f"{asked.action} {alarm_id} r{asked.revision}",
        "done" if begun.is_sent else "waits",
        address=client_of(request),
    )
    return begun


_SENT = {
    "acknowledge": "Acknowledgement of",
    "reset": "Reset of",
    "shelve": "Shelving of",
    "unshelve": "End of the shelf of",
    "remove-from-service": "Taking out of service of",
    "return-to-service": "Return to service of",
    "comment": "Comment on",
    "judge": "Verdict on",
}


async def _raised(
    request: Request, shown: Shown, event_id: str, at_ns: int = 0
) -> AlarmEvent | None:
    """Return the event that raised the alarm: the one named, else the newest in memory."""
    picture = picture_of(request)
    if not event_id:
        return picture.last_raised((shown.state.plant, shown.state.name))
    raised = picture.raised(event_id)
    if raised is None and at_ns:
        lines = await _own(request, shown, end_ns=at_ns + 1, most=1)
        raised = next((e for e in lines.events if e.id == event_id), None)
    is_it = raised is not None and _is_of(raised, shown) and raised.transition == "raised"
    return raised if is_it else None


async def _own(
    request: Request, shown: Shown, *, end_ns: int = FOREVER_NS, most: int = MAX_LINES
) -> Lines:
    """Return the lines of the alarm, the newest first, as far back as they are kept."""
    return await asyncio.to_thread(
        request.app.state.history.search,
        [e for e in picture_of(request).events if _is_of(e, shown)],
        (shown.state.plant,),
        end_ns=end_ns,
        is_wanted=lambda event: event.state.name == shown.state.name,
        most=most,
        name=shown.state.name,
    )


def _rights(session: Session, shown: Shown) -> dict[str, bool]:
    person, address = session.person, shown.state.plant
    return {
        "may_act": person.may(Role.OPERATOR, address),
        "may_remove": person.may(Role.ENGINEER, address),
    }


def _is_of(event: AlarmEvent, shown: Shown) -> bool:
    return (event.state.plant, event.state.name) == (shown.state.plant, shown.state.name)
