"""The console: pages for the operator, server-rendered; one script draws."""

from __future__ import annotations

import threading
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles

from workers import serving
from workers.console import api, oidc
from workers.console.actions import Actions
from workers.console.frame import HERE, Frame, Page
from workers.console.look import ConsoleStores, Ports
from workers.console.pages import Pages
from workers.console.sign_in import SignIn


def serve(stores: ConsoleStores, stop: threading.Event, ports: Ports) -> None:
    """Serves until `stop` is set. Raises SettingError when the address cannot be bound."""
    listener = serving.bind(stores.settings.console_addr, "PUSHFLEET_CONSOLE_ADDR")
    serving.serve(make_app(stores, ports), listener, stop)


def make_app(stores: ConsoleStores, ports: Ports) -> Starlette:
    frame = Frame(stores)
    shows, sign_in = Pages(frame, stores, ports), SignIn(frame, stores)
    actions = Actions(frame, stores, ports, shows)
    pages = {
        "/": shows.overview,
        "/messages": shows.messages,
        "/lanes": shows.lanes,
        "/people": shows.people,
        "/dead-letters": shows.letters,
        "/credentials": shows.credentials,
        "/credentials/form": shows.account_page,
        "/audit": shows.audit,
    }
    open_to_all: dict[str, Page] = {"/login": sign_in.login_page}
    if frame.oidc is not None:
        open_to_all |= {oidc.START: sign_in.oidc_start, oidc.BACK: sign_in.oidc_back}
    forms = {
        "/logout": sign_in.log_out,
        "/lanes/pause": actions.pause,
        "/lanes/resume": actions.resume,
        "/people/device": actions.set_device,
        "/people/push": actions.push,
        "/credentials/check": actions.check_account,
        "/credentials/store": actions.store_account,
        "/dead-letters/replay": actions.replay,
        "/dead-letters/all": actions.whole_group,
    }
    routes = [Route(path, frame.shown(page), methods=["GET"]) for path, page in pages.items()]
    routes += [
        Route(path, frame.shown(page, open_to_all=True), methods=["GET"])
        for path, page in open_to_all.items()
    ]
    routes.append(Route("/login", frame.posted(sign_in.log_in, is_login=True), methods=["POST"]))
    routes += [Route(path, frame.posted(form), methods=["POST"]) for path, form in forms.items()]
    routes += [
        Route("/charts.json", frame.shown(shows.charts)),
        Route("/healthz", _healthz),
        Route("/metrics/targets", shows.targets),
    ]
    routes += api.Api(stores, ports).routes()
    static: Any = Mount("/static", StaticFiles(directory=HERE / "static"))

    async def astray(request: Request, error: Exception) -> Response:
        path = request.url.path.rstrip("/")
        there = {**request.scope, "path": path}
        if path != request.url.path and any(
            route.matches(there)[0] is Match.FULL for route in routes
        ):
            return frame.without_slash(request)
        if isinstance(error, HTTPException) and request.url.path.startswith(f"{api.ROOT}/"):
            return api.astray(error.status_code, error.headers)
        if request.method == "GET" and request.url.path in forms:
            return frame.page_of_form(request)
        if isinstance(error, HTTPException) and error.status_code == 405:
            return PlainTextResponse(error.detail, 405, error.headers)
        return await frame.not_found(request, error)

    app = Starlette(routes=[*routes, static], exception_handlers={404: astray, 405: astray})
    # its redirects name scheme and host, which behind a proxy are others than the browser's
    app.router.redirect_slashes = False
    return app


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"name": "console", "ok": True})
