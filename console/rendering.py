"""Templates, and the words and numbers in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from console.accounts import Session
from console.rights import Role
from console.slugs import slug
from console.sync import alarm_id
from fusion import wording
from fusion.schema import ShownState

FOLDER = Path(__file__).parent / "templates"
STATES = {
    ShownState.OUT_OF_SERVICE: "Out of service",
    ShownState.SUPPRESSED: "Suppressed by design",
    ShownState.MASKED: "Masked by another",
    ShownState.SHELVED: "Shelved",
    ShownState.UNACKNOWLEDGED: "Unacknowledged",
    ShownState.ACKNOWLEDGED: "Acknowledged",
    ShownState.RETURNED_UNACKNOWLEDGED: "Returned, unacknowledged",
    ShownState.LATCHED: "Latched, to be reset",
    ShownState.NORMAL: "Normal",
}


def make_environment() -> Environment:
    """Return the templates; whatever comes from outside is escaped, and no name may be missing."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": wording.clock,
        "date_and_clock": wording.date_and_clock,
        "duration": wording.duration,
        "figure": wording.figure,
        "count": wording.count,
        "percent": wording.percent,
        "chance": wording.chance,
        "unit": wording.unit,
        "slug": slug,
        "asset": lambda address: address.rpartition("/")[2],
        "area": lambda address: " / ".join(address.split("/")[1:3]),
        "alarm_id": alarm_id,
        "state_words": lambda shown: STATES[shown],
    }
    environment.globals |= {"Role": Role}
    return environment


def page(
    request: Request, name: str, session: Session | None, *, status_code: int = 200, **said: Any
) -> HTMLResponse:
    """Return the template ``name`` with everything that each page needs."""
    environment: Environment = request.app.state.environment
    text = environment.get_template(name).render(
        session=session,
        person=None if session is None else session.person,
        path=request.url.path,
        assets=request.app.state.assets,
        has_sign_on=request.app.state.ports.sign_on is not None,
        **said,
    )
    return HTMLResponse(text, status_code=status_code)
