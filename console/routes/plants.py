"""The page of one asset: what it streams, live."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from console.charts import fan_of
from console.guard import Asker
from console.rendering import page
from console.rights import Role
from console.routes.lookup import find_plant, picture_of
from fusion.errors import FusionError, InputError
from fusion.plant import Plant, VideoStream

router = APIRouter(include_in_schema=False)
MAX_TAGS = 24


@router.get("/plants/{plant_slug}")
async def asset(request: Request, session: Asker, plant_slug: str, first: int = 0) -> Response:
    """Return the asset with its trends, pictures and forecasts."""
    of_plant = find_plant(request, session, plant_slug)
    plant, score = of_plant.plant, of_plant.score
    tags = [(s, t) for s in plant.telemetry_streams for t in s.tags]
    first = max(0, min(first, len(tags) - 1)) if tags else 0
    return page(
        request,
        "asset.html.j2",
        session,
        plant=plant,
        address=str(plant.address),
        score=score,
        tags=tags[first : first + MAX_TAGS],
        num_tags=len(tags),
        first=first,
        page_size=MAX_TAGS,
        cameras=[s for s in plant.streams if isinstance(s, VideoStream)],
        fans=[fan_of(f) for f in (() if score is None else score.forecasts)],
        may_ask=session.person.may(Role.ENGINEER, str(plant.address)),
        alarms=picture_of(request).alarms(frozenset({str(plant.address)})),
    )


@router.get("/plants/{plant_slug}/trends")
async def trends(  # noqa: PLR0917 a query's fields are its parameters
    request: Request,
    session: Asker,
    plant_slug: str,
    tag: Annotated[list[str], Query(max_length=MAX_TAGS)],
    span_s: Annotated[float, Query(gt=0, le=172_800)] = 600.0,
    px: Annotated[int, Query(ge=10, le=4_000)] = 400,
) -> dict[str, Any]:
    """Return the newest ``span_s`` seconds of each tag, at most one point per pixel."""
    of_plant = find_plant(request, session, plant_slug)
    found: dict[str, Any] = {}
    for name in tag:
        try:
            trend = of_plant.trends.trend(name, span_s=span_s, num_points=px)
        except KeyError:
            raise HTTPException(404, "not found") from None
        found[name] = [trend.t_s, trend.low, trend.high]
    return found


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
