"""The page of one asset: what it streams, live."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from console.charts import Fan, fan_of
from console.freshness import PATIENCE_S, PATIENCE_TICKS
from console.guard import Asker
from console.picture import PlantPicture
from console.rendering import page
from console.rights import Role
from console.routes.lookup import find_plant, picture_of
from fusion.errors import FusionError, InputError
from fusion.plant import NANOSECONDS, Plant, TelemetryStream, VideoStream

router = APIRouter(include_in_schema=False)
MAX_TAGS = 24


@router.get("/plants/{plant_slug}")
async def asset(request: Request, session: Asker, plant_slug: str, first: int = 0) -> Response:
    """Return the asset with its trends, pictures and forecasts."""
    of_plant = find_plant(request, session, plant_slug)
    plant = of_plant.plant
    tags = [(s, t) for s in plant.telemetry_streams for t in s.tags]
    first = max(0, min(first, len(tags) - 1)) if tags else 0
    return page(
        request,
        "asset.html.j2",
        session,
        plant=plant,
        address=str(plant.address),
        tags=tags[first : first + MAX_TAGS],
        num_tags=len(tags),
        first=first,
        patience_s={s.name: _patience_s(plant, s) for s in plant.telemetry_streams},
        page_size=MAX_TAGS,
        cameras=[s for s in plant.streams if isinstance(s, VideoStream)],
        fans=_fans(of_plant),
        score=of_plant.score,
        may_ask=session.person.may(Role.ENGINEER, str(plant.address)),
        alarms=picture_of(request).alarms(frozenset({str(plant.address)})),
    )


def _patience_s(plant: Plant, stream: TelemetryStream) -> float:
    """Return after how long without news the newest value of ``stream`` is old."""
    of_plant_s = max(PATIENCE_S, PATIENCE_TICKS * plant.tick_s)
    return max(of_plant_s, stream.max_age_s, 2 / stream.rate_hz)


@router.get("/plants/{plant_slug}/standing")
async def standing(request: Request, session: Asker, plant_slug: str) -> Response:
    """Return the alarms of the asset, for its page while that is open."""
    address = str(find_plant(request, session, plant_slug).plant.address)
    alarms = picture_of(request).alarms(frozenset({address}))
    return page(request, "standing.html.j2", session, address=address, alarms=alarms)


@router.get("/plants/{plant_slug}/forecasts")
async def forecasts(request: Request, session: Asker, plant_slug: str) -> Response:
    """Return the newest forecasts and chances of the asset, for its page while that is open."""
    of_plant = find_plant(request, session, plant_slug)
    address = str(of_plant.plant.address)
    return page(
        request,
        "forecasts.html.j2",
        session,
        address=address,
        fans=_fans(of_plant),
        score=of_plant.score,
    )


def _fans(of_plant: PlantPicture) -> list[Fan]:
    score = of_plant.score
    return [fan_of(each) for each in (() if score is None else score.forecasts)]


@router.get("/plants/{plant_slug}/trends")
async def trends(  # noqa: PLR0917 a query's fields are its parameters
    request: Request,
    session: Asker,
    plant_slug: str,
    tag: Annotated[list[str], Query(max_length=MAX_TAGS)],
    span_s: Annotated[float, Query(gt=0, le=172_800)] = 600.0,
    px: Annotated[int, Query(ge=10, le=4_000)] = 400,
) -> dict[str, Any]:
    """Return the newest ``span_s`` seconds of each tag, at most one point per pixel.

    Beside them plant time (None before any score), and of each camera when it sent its newest
    picture: what is old can be told from what is new.
    """
    of_plant = find_plant(request, session, plant_slug)
    found: dict[str, Any] = {}
    for name in tag:
        try:
            trend = of_plant.trends.trend(name, span_s=span_s, num_points=px)
        except KeyError:
            raise HTTPException(404, "not found") from None
        found[name] = [trend.t_s, trend.low, trend.high]
    cameras = {
        each.name: {"t_s": _seconds(health.newest_ns), "is_silent": health.is_idle}
        for each in of_plant.plant.streams
        if isinstance(each, VideoStream) and (health := of_plant.health.get(each.name)) is not None
    }
    now_ns = None if of_plant.score is None else of_plant.score.t_end_ns
    return {"now_s": _seconds(now_ns), "trends": found, "cameras": cameras}


def _seconds(t_ns: int | None) -> float | None:
    return None if t_ns is None else t_ns / NANOSECONDS


@router.get("/plants/{plant_slug}/frame/{stream}")
async def frame(request: Request, session: Asker, plant_slug: str, stream: str) -> Response:
    """Return the newest picture of a camera."""
    plant = find_plant(request, session, plant_slug).plant
    if not any(s.name == stream and isinstance(s, VideoStream) for s in plant.streams):
        raise HTTPException(404, "not found")
    jpeg = await asyncio.to_thread(request.app.state.ports.witness.newest_frame, plant, stream)
    if jpeg is None:
        raise HTTPException(404, "not found")
    return Response(jpeg, media_type="image/jpeg")


@router.post("/plants/{plant_slug}/what-if")
async def what_if(request: Request, session: Asker, plant_slug: str) -> Response:
    """Return what the set-points of the form would lead to, beside no change. Nothing is written.

    The form's fields are the plant's set-points; those left empty stay as they are.
    """
    plant = find_plant(request, session, plant_slug, Role.ENGINEER).plant
    compared, why = None, ""
    try:
        moved = _moved(plant, await request.form())
        compared = await request.app.state.evidence.run(
            partial(request.app.state.ports.what_if, plant, moved)
        )
    except FusionError as absent:
        why = str(absent)
    return page(request, "what_if.html.j2", session, compared=compared, why=why)


def _moved(plant: Plant, form: FormData) -> dict[str, float]:
    """Return the set-points that are moved, and to what.

    Raises:
        InputError: None is, or one is no number inside its bounds.
    """
    moved: dict[str, float] = {}
    for tag in plant.setpoints:
        text = form.get(tag.name, "")
        if not isinstance(text, str) or not text.strip():
            continue
        low, high = tag.bounds
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise InputError(
                f"{tag.name} must be a number from {low:g} to {high:g} {tag.unit}, "
                f"got {text[:40]!r}; mend it"
            )
        moved[tag.name] = value
    if not moved:
        raise InputError("a what-if must move a set-point, and every field is empty; fill one in")
    return moved
