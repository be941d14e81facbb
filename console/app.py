"""The web application: what belongs together, from ports to routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from console.accounts import Accounts
from console.assets import FOLDER, load_assets
from console.bell import Bell
from console.commands import Commands
from console.delivery import Delivery
from console.evidence import EvidenceCache
from console.guard import Harden, NotLoggedInError
from console.history import History
from console.limiter import FailureLimit
from console.ports import Ports
from console.reader import Reader
from console.rendering import make_environment, page
from console.routes import (
    access,
    account,
    alarms,
    api,
    login,
    models,
    pages,
    plants,
    sign_on,
    stream,
)
from console.rows import RowCache
from console.sync import Wording
from fusion.errors import FusionError, InputError

ROUTES = (login, sign_on, pages, models, alarms, plants, access, account, stream, api)
MAX_HASHES_AT_ONCE = 2
"""A log-in costs 64 MiB and a tenth of a second of a core: nobody shall get more of them."""


def create_app(ports: Ports, accounts: Accounts, *, is_https: bool = False) -> FastAPI:
    """Return the console over ``ports``; it reads the broker from start-up to shutdown.

    With ``is_https`` cookies are sent over TLS only.
    """

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        bell = Bell()
        app.state.bell = bell
        app.state.reader = Reader(ports, bell, app.state.delivery)
        app.state.hashing = ThreadPoolExecutor(MAX_HASHES_AT_ONCE, "console-hash")
        app.state.evidence = EvidenceCache(ports.witness)
        app.state.commands = Commands(ports)
        app.state.history = History(ports.open_alarm_log)
        app.state.reader.start()
        try:
            yield
        finally:
            app.state.is_closing = True
            bell.ring()
            await app.state.reader.close()
            app.state.evidence.close()
            app.state.commands.close()
            await asyncio.to_thread(app.state.history.close)
            app.state.hashing.shutdown()

    app = FastAPI(
        title="Fusion console",
        description="Alarms of plants: read them, acknowledge them. Send a token as Bearer.",
        version="1",
        lifespan=running,
        docs_url=None,  # they would load their pages from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.ports, app.state.accounts = ports, accounts
    app.state.is_https, app.state.is_closing = is_https, False
    app.state.delivery = Delivery()
    app.state.assets, app.state.environment = load_assets(), make_environment()
    app.state.rows = RowCache(app.state.environment)
    app.state.wording = Wording(app.state.rows.row)
    app.state.failures_of_name = FailureLimit(ports.clock)
    app.state.failures_of_address = FailureLimit(ports.clock, most=20)
    app.add_middleware(Harden)
    app.mount("/static", StaticFiles(directory=FOLDER), name="static")
    for routes in ROUTES:
        app.include_router(routes.router)
    app.add_exception_handler(NotLoggedInError, _not_logged_in)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(FusionError, _failed)
    return app


def _wants_page(request: Request) -> bool:
    is_fragment = "hx-request" in request.headers
    return not (request.url.path.startswith("/api/") or request.url.path == "/stream") and (
        not is_fragment
    )


async def _not_logged_in(request: Request, _: Exception) -> Response:
    if _wants_page(request) and request.method == "GET":
        return RedirectResponse("/login", status_code=303)
    return JSONResponse({"detail": "log in, or send a token"}, status_code=401)


async def _refused(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, HTTPException), "registered for nothing else"
    if _wants_page(request):
        return page(
            request, "refused.html.j2", None, status_code=refused.status_code, why=refused.detail
        )
    return JSONResponse(
        {"detail": refused.detail}, status_code=refused.status_code, headers=refused.headers
    )


async def _failed(request: Request, failed: Exception) -> Response:
    assert isinstance(failed, FusionError), "registered for nothing else"
    code = 503 if failed.retriable else 422 if isinstance(failed, InputError) else 500
    if _wants_page(request):
        return page(request, "refused.html.j2", None, status_code=code, why=str(failed))
    return JSONResponse({"detail": str(failed)}, status_code=code)
