"""The list of alarms, the page of one, and what an operator asks of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from console.accounts import Session
from console.charts import fan_of
from console.commands import Asked
from console.gauges import gauge_of
from console.guard import Asker, accounts_of, client_of
from console.picture import Shown
from console.rendering import page
from console.rights import Role
from console.routes.lookup import find_alarm, picture_of, visible
from fusion.errors import BrokerUnavailableError, FusionError
from fusion.schema import AlarmCommand, AlarmEvent

router = APIRouter(include_in_schema=False)
MAX_SIGNALS = 8
MAX_HISTORY = 50


@router.get("/alarms")
async def alarm_list(request: Request, session: Asker) -> Response:
    """Return the list of alarms, those that need eyes first; the stream keeps it true."""
    rows = request.app.state.rows
    listed = picture_of(request).alarms(visible(request, session))
    html = [rows.row(s, may_act=session.person.may(Role.OPERATOR, s.state.plant)) for s in listed]
    return page(request, "alarms.html.j2", session, rows=html, wants_rows=True)


@router.get("/alarms/{alarm_id}")
async def alarm(request: Request, session: Asker, alarm_id: str, event: str = "") -> Response:
    """Return everything about one alarm: of its newest episode, or of the one that is named."""
    shown = find_alarm(request, session, alarm_id)
    picture = picture_of(request)
    raised = _raised(request, shown, event)
    score = None if raised is None else raised.score
    shares = {} if raised is None else raised.state.shares
    of_plant = picture.plants[shown.state.plant]
    key = (shown.state.plant, shown.state.name)
    definition = picture.configs.get(key) or next(
        (a for a in of_plant.plant.alarms if a.name == shown.state.name), None
    )
    own = [e for e in reversed(picture.events) if _is_of(e, shown)]
    return page(
        request,
        "alarm.html.j2",
        session,
        shown=shown,
        raised=raised,
        score=score,
        plant=of_plant.plant,
        definition=definition,
        shares=sorted(shares.items(), key=lambda item: -item[1]),
        gauges=[gauge_of(s) for s in (() if score is None else score.signals)[:MAX_SIGNALS]],
        fans=[fan_of(f) for f in (() if score is None else score.forecasts)],
        history=own[:MAX_HISTORY],
        episodes=[e for e in own if e.transition == "raised"][:10],
        verdict_on=picture.verdict_on,
        **_rights(session, shown),
    )


@router.get("/alarms/{alarm_id}/state")
async def alarm_state(request: Request, session: Asker, alarm_id: str) -> Response:
    """Return the part of the alarm's page that changes while it is open."""
    shown = find_alarm(request, session, alarm_id)
    return page(request, "alarm_state.html.j2", session, shown=shown, **_rights(session, shown))


@router.get("/alarms/{alarm_id}/history")
async def history(request: Request, session: Asker, alarm_id: str) -> Response:
    """Return what happened to the alarm, the newest first."""
    shown = find_alarm(request, session, alarm_id)
    own = [e for e in reversed(picture_of(request).events) if _is_of(e, shown)]
    return page(request, "history.html.j2", session, shown=shown, lines=own[:MAX_HISTORY])


@router.get("/alarms/{alarm_id}/evidence")
async def evidence(request: Request, session: Asker, alarm_id: str, event: str = "") -> Response:
    """Return picture and sound at the alarm, or why there are none."""
    shown = find_alarm(request, session, alarm_id)
    raised = _raised(request, shown, event)
    found, why = None, "The journal no longer has the moment when it was raised."
    if raised is not None:
        try:
            quiet_ns = picture_of(request).quiet_before(raised)
            found = await request.app.state.evidence.look(raised, quiet_ns=quiet_ns)
        except FusionError as absent:
            why = str(absent)
    return page(request, "evidence.html.j2", session, evidence=found, why=why)


@router.post("/alarms/{alarm_id}/ask")
def ask(
    request: Request, session: Asker, alarm_id: str, asked: Annotated[Asked, Form()]
) -> Response:
    """Send what is asked; the alarm itself changes when the live process has carried it out."""
    command = send(request, session, alarm_id, asked)
    return HTMLResponse(f"{_SENT[command.action]} {command.name}: sent.")


def send(request: Request, session: Session, alarm_id: str, asked: Asked) -> AlarmCommand:
    """Send what is asked of an alarm for somebody who may, and write it down.

    ``revision`` is what was seen: an alarm that was raised anew since stays as it is.

    Raises:
        BrokerUnavailableError: Said at once, where it is known: nobody waits for a time-out.
    """
    shown = find_alarm(request, session, alarm_id, asked.role)
    if request.app.state.reader.away_since_ns is not None:
        raise BrokerUnavailableError("the broker is away, so nothing was sent; ask again later")
    who = session.person.name
    command = request.app.state.commands.ask(shown, asked, who=who)
    accounts_of(request).note(
        who, f"{asked.action} {alarm_id} r{asked.revision}", "done", address=client_of(request)
    )
    return command


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


def _raised(request: Request, shown: Shown, event_id: str) -> AlarmEvent | None:
    """Return the event that raised the alarm: the one named, else the newest."""
    picture = picture_of(request)
    if event_id:
        raised = picture.raised(event_id)
        return raised if raised is not None and _is_of(raised, shown) else None
    return picture.last_raised((shown.state.plant, shown.state.name))


def _rights(session: Session, shown: Shown) -> dict[str, bool]:
    person, address = session.person, shown.state.plant
    return {
        "may_act": person.may(Role.OPERATOR, address),
        "may_remove": person.may(Role.ENGINEER, address),
    }


def _is_of(event: AlarmEvent, shown: Shown) -> bool:
    return (event.state.plant, event.state.name) == (shown.state.plant, shown.state.name)
