"""Model versions: what each does, how it does, and, for engineers, the next step of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from console.accounts import Session
from console.guard import Asker, accounts_of, client_of, require
from console.ports import Ports, Step
from console.rendering import page
from console.rights import Role
from console.rollout_offers import offers_of, way_back
from console.routes.lookup import find_plant, picture_of, visible
from fusion.errors import FusionError, InputError
from fusion.plant import Plant
from fusion.rollout.states import Entry, Rollout, replayed

router = APIRouter(include_in_schema=False)
MAX_STEPS = 20
MAX_WHY = 500


@router.get("/models")
async def models(request: Request, session: Asker) -> Response:
    """Return the model versions of every plant, what each does, and the steps that led there."""
    return await _page(request, session, "", "")


@router.post("/models/{plant_slug}/step")
async def take_step(  # noqa: PLR0917 a form's fields are its parameters
    request: Request,
    session: Asker,
    plant_slug: str,
    revision: Annotated[int, Form(ge=0, lt=2**31)],
    why: Annotated[str, Form(min_length=3, max_length=MAX_WHY)],
    version: Annotated[str, Form(max_length=200)] = "",
    to_champion: Annotated[bool, Form()] = False,  # noqa: FBT002 a box of the form
) -> Response:
    """Take ``version`` one stage further; without one, roll back. Needs engineers of all plants.

    Versions belong to all plants of a prefix, so whoever may not act at one of them may not act.
    """
    plant = find_plant(request, session, plant_slug, Role.ENGINEER).plant
    plants = _sharing(request, plant)
    for each in plants:
        require(request, session.person, Role.ENGINEER, str(each.address))
    who, what = session.person.name, f"promote {version}" if version else "roll back"
    note = partial(accounts_of(request).note, who, f"{what} ({plant.prefix})")
    step = Step(plants, version, revision, who, why, to_champion=to_champion)
    try:
        said = await request.app.state.evidence.run(
            partial(request.app.state.ports.take_step, step)
        )
    except FusionError as refused:
        note("refused", why=str(refused), address=client_of(request))
        return await _page(request, session, "", f"Not done: {refused}")
    note("done", why=why, address=client_of(request))
    return await _page(request, session, f"{plant.prefix}: {said}.", "")


def _sharing(request: Request, plant: Plant) -> list[Plant]:
    """Return the plants that share the versions of ``plant``; it comes first."""
    others = (each.plant for each in picture_of(request).plants.values() if each.plant != plant)
    return [plant, *(each for each in others if each.prefix == plant.prefix)]


async def _page(request: Request, session: Session, said: str, why: str) -> Response:
    picture, ports = picture_of(request), request.app.state.ports
    plants = [picture.plants[address] for address in sorted(visible(request, session))]
    cards, rollouts, figures = {}, {}, {}
    for each in plants:
        address = str(each.plant.address)
        cards[address] = await asyncio.to_thread(ports.models_of, each.plant)
        rollouts[address] = await asyncio.to_thread(_rollout, ports, each.plant)
        state = rollouts[address][0]
        figures[address] = await asyncio.to_thread(ports.figures_of, each.plant, state.revision)
    may_step = {
        str(each.plant.address): all(
            session.person.may(Role.ENGINEER, str(sharing.address))
            for sharing in _sharing(request, each.plant)
        )
        for each in plants
    }
    return page(
        request,
        "models.html.j2",
        session,
        plants=plants,
        cards=cards,
        rollouts=rollouts,
        figures=figures,
        may_step=may_step,
        offers_of=offers_of,
        way_back=way_back,
        said=said,
        why=why,
    )


def _rollout(ports: Ports, plant: Plant) -> tuple[Rollout, Sequence[Entry], str]:
    """Return where the versions are, their newest steps, and why that cannot be told."""
    try:
        steps = ports.steps_of(plant)
        return replayed(steps), steps[: -MAX_STEPS - 1 : -1], ""
    except InputError as broken:
        return Rollout(), (), str(broken)
