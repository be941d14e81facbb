"""Pages about all plants: overview, journal, figures, streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from console.accounts import Session
from console.charts import sparkline
from console.freshness import stale_since_ns
from console.guard import Asker
from console.history import FOREVER_NS, MAX_COUNTED, History, Lines
from console.rendering import page
from console.rights import Role
from console.routes.lookup import picture_of, visible
from fusion.alarms.kpis import TARGETS, Kpis, kpis_of
from fusion.plant import NANOSECONDS
from fusion.schema import AlarmEvent

router = APIRouter(include_in_schema=False)
MAX_LINES = 200
LEAD_NS = 30 * 86_400 * NANOSECONDS
"""What stands may have been raised so long before."""
PERIODS_H = (1, 8, 24, 168, 720)


@router.get("/")
async def overview(request: Request, session: Asker) -> Response:
    """Return what waits for somebody, and the plants by area."""
    rows = [
        request.app.state.rows.row(each, session.person.may(Role.OPERATOR, each.state.plant))
        for each in picture_of(request).alarms(visible(request, session))
    ]
    areas = _areas(request, session)
    return page(request, "overview.html.j2", session, areas=areas, rows=rows, wants_rows=True)


@router.get("/overview/plants")
async def plants(request: Request, session: Asker) -> Response:
    """Return the part of the overview that is asked for anew while it is open."""
    return page(request, "plants.html.j2", session, areas=_areas(request, session))


def _areas(request: Request, session: Session) -> dict[str, list[dict[str, object]]]:
    """Return the plants by area, each with what needs eyes."""
    picture, now_ns = picture_of(request), request.app.state.ports.clock.now_ns()
    areas: dict[str, list[dict[str, object]]] = {}
    for address in sorted(visible(request, session)):
        of_plant = picture.plants[address]
        areas.setdefault(" / ".join(address.split("/")[1:3]), []).append(
            {
                "address": address,
                "plant": of_plant.plant,
                "score": of_plant.score,
                "counts": picture.counts(frozenset({address})),
                "stale_since_ns": stale_since_ns(of_plant, now_ns=now_ns),
                "sparkline": sparkline([value for _, value in list(of_plant.surprises)[-240:]]),
            }
        )
    return areas


@router.get("/journal")
async def journal(
    request: Request,
    session: Asker,
    text: str = "",
    before: Annotated[int, Query(ge=0, lt=2**63)] = FOREVER_NS,
) -> Response:
    """Return what happened to alarms, the newest first, as far back as it is kept."""
    addresses = visible(request, session)
    wanted = text[:100].lower()
    lines = await asyncio.to_thread(
        request.app.state.history.search,
        [e for e in picture_of(request).events if e.state.plant in addresses],
        addresses,
        end_ns=before,
        is_wanted=lambda e: (
            wanted in f"{e.state.plant} {e.state.name} {e.who or ''} {e.transition}".lower()
        ),
        most=MAX_LINES,
    )
    return page(
        request,
        "journal.html.j2",
        session,
        lines=lines,
        text=text[:100],
        is_newest=before == FOREVER_NS,
    )


@router.get("/kpi")
async def kpi(request: Request, session: Asker, hours: int = 24) -> Response:
    """Return how well the alarm system serves its operators, beside what ISA-18.2 asks for."""
    picture, addresses = picture_of(request), visible(request, session)
    hours = hours if hours in PERIODS_H else 24
    kept = [event for event in picture.events if event.state.plant in addresses]
    ends_ns = [s.t_end_ns for a in addresses if (s := picture.plants[a].score) is not None]
    end_ns = max([*ends_ns, *(e.t_ns for e in kept)], default=0) + 1
    start_ns = end_ns - hours * 3_600 * NANOSECONDS
    counted = partial(_kpis, request.app.state.history, kept, addresses, start_ns, end_ns)
    kpis, lines = await asyncio.to_thread(counted)
    is_cut = lines.older_ns is not None and lines.older_ns > start_ns
    oldest_ns = min((e.t_ns for e in kept), default=end_ns)
    return page(
        request,
        "kpi.html.j2",
        session,
        kpis=kpis,
        targets=TARGETS,
        hours=hours,
        periods=PERIODS_H,
        start_ns=start_ns,
        end_ns=end_ns,
        since_ns=lines.older_ns if is_cut else oldest_ns,
        missing=f"at most {MAX_COUNTED} lines of each plant are counted"
        if is_cut
        else lines.missing,
    )


def _kpis(
    history: History,
    kept: Sequence[AlarmEvent],
    addresses: frozenset[str],
    start_ns: int,
    end_ns: int,
) -> tuple[Kpis, Lines]:
    """Return the figures, and what they are made of: also what was raised before and stands."""
    lines = history.period(kept, addresses, start_ns=max(0, start_ns - LEAD_NS), end_ns=end_ns)
    return kpis_of(lines.events, start_ns=start_ns, end_ns=end_ns), lines


@router.get("/streams")
async def streams(request: Request, session: Asker) -> Response:
    """Return how every stream of every plant does."""
    picture = picture_of(request)
    plants = [picture.plants[address] for address in sorted(visible(request, session))]
    reader = request.app.state.reader
    return page(
        request, "streams.html.j2", session, plants=plants, num_unreadable=reader.num_unreadable
    )
