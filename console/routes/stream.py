"""The one stream of a tab: server-sent events (HTML Living Standard, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from console.guard import COOKIE, Asker
from console.rights import Role
from console.routes.lookup import visible
from console.squeezing import HEAD, stored
from console.sync import Shared, Tab, Told, View
from fusion.errors import PeopleUnavailableError

PACE_S = 0.2
"""At most so often a tab is told something: faster nobody reads."""
BEAT_S = 2.0
"""At least so often: a tab that hears nothing for longer says that its data are stale."""
BEATS_PER_CHECK = 5
_END = b"\n\n"
_END_SQUEEZED = stored(_END)
router = APIRouter(include_in_schema=False)


@router.get("/stream")
async def stream(request: Request, session: Asker, rows: int = 0) -> StreamingResponse:
    """Tell a tab everything, then every change; ends with the session."""
    person, addresses = session.person, visible(request, session)
    may_act = frozenset(a for a in addresses if person.may(Role.OPERATOR, a))
    view = View(addresses, wants_rows=rows == 1, may_act=may_act)
    tab = Tab(person.name, view, request.app.state.wording)
    is_squeezed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"X-Accel-Buffering": "no", "Vary": "Accept-Encoding"}
    if is_squeezed:
        headers["Content-Encoding"] = "gzip"
    return StreamingResponse(
        _messages(request, tab, person.name, is_squeezed=is_squeezed),
        media_type="text/event-stream",
        headers=headers,
    )


async def _messages(
    request: Request, tab: Tab, person: str, *, is_squeezed: bool
) -> AsyncIterator[bytes]:
    """Yield what goes over the wire."""
    with request.app.state.delivery.listening():
        if is_squeezed:
            yield HEAD
        async for event, told in _told(request, tab, person):
            begin = b"event: %b\ndata: " % event + told.own
            if is_squeezed:
                yield stored(begin) + told.shared.squeezed + _END_SQUEEZED
            else:
                yield begin + told.shared.plain + _END


async def _told(request: Request, tab: Tab, person: str) -> AsyncIterator[tuple[bytes, Told]]:
    """Yield events and what they say."""
    state = request.app.state
    num_beats = 0
    while not state.is_closing:
        reader = state.reader
        told = tab.told
        message = tab.next(
            reader.picture,
            now_ns=state.ports.clock.now_ns(),
            away_since_ns=reader.away_since_ns,
            num_waiting=state.commands.num_waiting(person),
        )
        now_ns = state.ports.clock.monotonic_ns()
        since = told[1] if told[0] == reader.picture.epoch else None
        state.delivery.sent(
            len(message.own) + len(message.shared.plain),
            epoch=reader.picture.epoch,
            since=since,
            now_ns=now_ns,
        )
        yield b"picture", message
        await asyncio.sleep(_to_next_moment_s())
        if not tab.is_behind(state.reader.picture):
            await state.bell.wait(timeout_s=BEAT_S - PACE_S)
        num_beats += 1
        if num_beats % BEATS_PER_CHECK == 0 and not await _is_valid(request):
            yield b"ended", Told(b"{", Shared("}"))
            return


def _to_next_moment_s() -> float:
    """Return how long to wait: all tabs are told at the same moments, so they share the text."""
    return PACE_S - asyncio.get_running_loop().time() % PACE_S


async def _is_valid(request: Request) -> bool:
    check = partial(request.app.state.accounts.session, request.cookies.get(COOKIE, ""))
    try:
        return await asyncio.to_thread(check) is not None
    except PeopleUnavailableError:  # (it was valid a moment ago, and alarms come all the same)
        return True
