"""Pages about all plants: overview, journal, streams, models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from console.charts import sparkline
from console.freshness import stale_since_ns
from console.guard import Asker
from console.picture import MAX_EVENTS
from console.ports import Ports
from console.rendering import page
from console.routes.lookup import picture_of, visible
from fusion.alarms.kpis import TARGETS, kpis_of
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant
from fusion.rollout.states import Entry, Rollout, replayed

router = APIRouter(include_in_schema=False)
MAX_LINES = 200
MAX_STEPS = 20
PERIODS_H = (1, 8, 24, 168, 720)


@router.get("/")
async def overview(request: Request, session: Asker) -> Response:
    """Return the plants by area, each with what needs eyes."""
    picture, addresses = picture_of(request), visible(request, session)
    now_ns = request.app.state.ports.clock.now_ns()
    areas: dict[str, list[dict[str, object]]] = {}
    for address in sorted(addresses):
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
    return page(request, "overview.html.j2", session, areas=areas)


@router.get("/journal")
async def journal(request: Request, session: Asker, text: str = "") -> Response:
    """Return what happened to alarms, the newest first."""
    addresses = visible(request, session)
    wanted = text[:100].lower()
    lines = [
        event
        for event in reversed(picture_of(request).events)
        if event.state.plant in addresses
        and (wanted in f"{event.state.plant} {event.state.name} {event.who or ''}".lower())
    ][:MAX_LINES]
    return page(request, "journal.html.j2", session, lines=lines, text=text[:100])


@router.get("/kpi")
async def kpi(request: Request, session: Asker, hours: int = 24) -> Response:
    """Return how well the alarm system serves its operators, beside what ISA-18.2 asks for."""
    picture, addresses = picture_of(request), visible(request, session)
    hours = hours if hours in PERIODS_H else 24
    events = [event for event in picture.events if event.state.plant in addresses]
    ends_ns = [s.t_end_ns for a in addresses if (s := picture.plants[a].score) is not None]
    end_ns = max([*ends_ns, *(e.t_ns for e in events)], default=0) + 1
    start_ns = end_ns - hours * 3_600 * NANOSECONDS
    return page(
        request,
        "kpi.html.j2",
        session,
        kpis=kpis_of(events, start_ns=start_ns, end_ns=end_ns),
        targets=TARGETS,
        hours=hours,
        periods=PERIODS_H,
        start_ns=start_ns,
        end_ns=end_ns,
        is_cut=len(picture.events) == MAX_EVENTS and picture.events[0].t_ns > start_ns,
    )


@router.get("/streams")
async def streams(request: Request, session: Asker) -> Response:
    """Return how every stream of every plant does."""
    picture = picture_of(request)
    plants = [picture.plants[address] for address in sorted(visible(request, session))]
    reader = request.app.state.reader
    return page(
        request, "streams.html.j2", session, plants=plants, num_unreadable=reader.num_unreadable
    )


@router.get("/models")
async def models(request: Request, session: Asker) -> Response:
    """Return the model versions of every plant, what each does, and the steps that led there."""
    picture, ports = picture_of(request), request.app.state.ports
    plants = [picture.plants[address] for address in sorted(visible(request, session))]
    cards = {
        str(each.plant.address): await asyncio.to_thread(ports.models_of, each.plant)
        for each in plants
    }
    rollouts = {
        str(each.plant.address): await asyncio.to_thread(_rollout, ports, each.plant)
        for each in plants
    }
    return page(request, "models.html.j2", session, plants=plants, cards=cards, rollouts=rollouts)


def _rollout(ports: Ports, plant: Plant) -> tuple[Rollout, Sequence[Entry], str]:
    """Return where the versions are, their newest steps, and why that cannot be told."""
    try:
        steps = ports.steps_of(plant)
        return replayed(steps), steps[: -MAX_STEPS - 1 : -1], ""
    except InputError as broken:
        return Rollout(), (), str(broken)
