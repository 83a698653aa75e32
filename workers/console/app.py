"""Pages for the operator: what flows, what became of a message, lanes, accounts, people.
Server-rendered; one script draws.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import anyio
import anyio.to_thread
import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from common.clock import now_ms
from common.config import host_port, is_loopback
from common.model import Decision, Vendor
from common.storage.audit import SHOWN_MAX as SHOWN_LINES
from common.storage.audit import person_mark
from common.storage.users import OPERATORS, ROLES
from workers import serving
from workers.console import oidc
from workers.console.accounts import FIELDS, FILE_BYTES_MAX, given
from workers.console.api import Api, ApiRefusal, cursor_text, read_cursor
from workers.console.charts import SPANS, flows, series
from workers.console.look import (
    ConsoleStores,
    Dashboard,
    Ports,
    age_of,
    happened,
    since_ms,
    time_of,
)
from workers.console.peers import Peers, forwarded
from workers.console.sessions import COOKIE, LIFE_S, PURPOSE, ConsoleSession, Signer
from workers.console.words import (
    LANGUAGES,
    WORDS,
    audit_words,
    check_words,
    decision_words,
    language,
    note_words,
    word,
)

log = logging.getLogger(__name__)

HERE: Final = Path(__file__).parent
FORM_BYTES_MAX: Final = 16_384
#: An account's files and secrets.
UPLOAD_BYTES_MAX: Final = 256 * 1024
#: Seconds that a page waits for the counts of a message's rows; later ones appear on reload.
COUNTS_S = 0.15
#: Recipients that a message's page shows at once; the counts are of all.
SHOWN_MAX: Final = 100
LETTERS_MAX: Final = 200
#: Wrong logins of one address in a minute.
LOGINS_MAX: Final = 10
#: Failed logins of one person in a minute, from all addresses: more than from one address, so that
#: one attacker locks nobody out.
ACCOUNT_LOGINS_MAX: Final = 30
LANG_COOKIE: Final = "lang"
OIDC_COOKIE: Final = "pushfleet-oidc"
VISIT_COOKIE: Final = "pushfleet-visit"
FORM_S_MAX: Final = 10.0
#: Longest wait for a page, seconds; then it reports that a server is away.
PAGE_S_MAX: Final = 15.0
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src "  # noqa: E501
    "'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Visitor:
    """The visitor. name None: the open mode, or not logged in.

    cookie: the session's, to which form tokens are bound.
    """

    name: str | None
    role: str | None
    lang: str
    cookie: str = ""
    #: A random value for the login form of a visitor who is not logged in.
    visit: str = ""

    @property
    def may_act(self) -> bool:
        return self.role in OPERATORS and self.name is not None

    @property
    def may_admin(self) -> bool:
        return self.role == "admin" and self.name is not None


class FormFields(dict[str, str]):
    """A form's fields, the first of each name. files: what was uploaded."""

    def __init__(self, fields: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        super().__init__(fields)
        self.files = files


class SentForm(Exception):  # noqa: N818 - an answer that ends the handling, not a fault
    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def serve(world: ConsoleStores, stop: threading.Event, ports: Ports) -> None:
    """Until `stop` is set. SettingError when the address can't be bound."""
    listener = serving.bind(world.settings.console_addr, "PUSHFLEET_CONSOLE_ADDR")
    serving.serve(make_app(world, ports), listener, stop)


def make_app(world: ConsoleStores, ports: Ports) -> Starlette:
    console = Console(world, ports)
    pages = {
        "/": console.overview,
        "/messages": console.messages,
        "/lanes": console.lanes,
        "/people": console.people,
        "/dead-letters": console.letters,
        "/credentials": console.credentials,
        "/credentials/form": console.account_page,
        "/audit": console.audit,
        "/login": console.login_page,
    }
    if console.oidc is not None:
        pages |= {oidc.START: console.oidc_start, oidc.BACK: console.oidc_back}
    forms = {
        "/login": console.log_in,
        "/logout": console.log_out,
        "/lanes/pause": console.pause,
        "/lanes/resume": console.resume,
        "/people/device": console.set_device,
        "/people/push": console.push,
        "/credentials/check": console.check_account,
        "/credentials/store": console.store_account,
        "/dead-letters/replay": console.replay,
        "/dead-letters/all": console.whole_group,
    }
    routes = [Route(path, console.shown(page), methods=["GET"]) for path, page in pages.items()]
    routes += [Route(path, console.posted(form), methods=["POST"]) for path, form in forms.items()]
    routes += [
        Route("/charts.json", console.shown(console.charts)),
        Route("/healthz", _healthz),
        Route("/metrics/targets", console.targets),
    ]
    routes += Api(world, ports).routes()
    static: Any = Mount("/static", StaticFiles(directory=HERE / "static"))
    return Starlette(routes=[*routes, static], exception_handlers={404: console.not_found})


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"name": "console", "ok": True})


class Console:
    def __init__(self, world: ConsoleStores, ports: Ports) -> None:
        self._world = world
        self._ports = ports
        self._look = Dashboard(world, ports)
        self._signer = Signer(world.vault.derived(PURPOSE))
        self._peers = Peers(world.settings.trusted_proxies)
        self.oidc = oidc.Provider(world.settings) if world.settings.oidc_issuer else None
        self._loopback = is_loopback(host_port(world.settings.console_addr)[0])
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
        )
        # a browser that keeps the last version's styles would show this one's pages without theirs
        files = sorted(path for path in (HERE / "static").rglob("*") if path.is_file())
        css_version = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
        self._templates.globals.update(
            age_of=age_of,
            time_of=time_of,
            now_ms=now_ms,
            since_ms=since_ms,
            css_version=css_version,
        )

    # ------------------------------------------------------------ what every page has

    def shown(
        self, page: Callable[[Request, Visitor], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for visitors with the right to read; the stores are asked in a thread."""

        def handle(request: Request) -> Response:
            return self._guarded(
                request,
                lambda visitor: page(request, visitor),
                open_to_all=page in (self.login_page, self.oidc_start, self.oidc_back),
            )

        async def endpoint(request: Request) -> Response:
            return await self._in_time(request, lambda: handle(request))

        return endpoint

    async def _in_time(self, request: Request, work: Callable[[], Response]) -> Response:
        """A server that hangs must not make the page hang; the thread that waits for it ends when
        it answers.
        """
        try:
            with anyio.fail_after(PAGE_S_MAX):
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except TimeoutError:
            return self._plain_refusal(request, "server_away", 503, name="Redis, PostgreSQL")

    def posted(
        self, form: Callable[[Request, Visitor, FormFields], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A form's target: ours by its token, but for the login, which has no session yet."""
        is_login = form == self.log_in

        def handle(request: Request, fields: FormFields) -> Response:
            def act(visitor: Visitor) -> Response:
                ours = self._signer.form_token_valid(
                    visitor.cookie or request.cookies.get(VISIT_COOKIE, ""), fields.get("token", "")
                )
                if not (ours or is_login) or not self._same_site(request, ours):
                    return self._refusal(visitor, "not_ours", 403)
                return form(request, visitor, fields)

            return self._guarded(request, act, open_to_all=is_login)

        async def endpoint(request: Request) -> Response:
            try:
                with anyio.fail_after(FORM_S_MAX):
                    fields = await _read_form(request)
            except TimeoutError:
                return Response(status_code=408)
            except ClientDisconnect:
                return Response(status_code=400)
            except MultiPartException:
                return Response(status_code=400)
            if fields is None:
                return Response(status_code=413)
            return await self._in_time(request, lambda: handle(request, fields))

        return endpoint

    def _guarded(
        self, request: Request, act: Callable[[Visitor], Response], *, open_to_all: bool
    ) -> Response:
        lang = language(
            request.query_params.get("lang"),
            request.cookies.get(LANG_COOKIE),
            request.headers.get("accept-language", ""),
        )
        visitor = Visitor(None, None, lang)
        try:
            visitor = self._visitor(request, lang)
            if visitor.role is None and not open_to_all:
                response: Response = RedirectResponse("/login", 303)
            else:
                response = act(visitor)
        except SentForm as sent:
            response = sent.response
        except (RedisError, SQLAlchemyError, OSError) as error:
            log.warning(
                "a page can't be shown: a store is away", extra={"reason": type(error).__name__}
            )
            name = "Redis" if isinstance(error, RedisError) else "PostgreSQL"
            response = self._refusal(visitor, "server_away", 503, name=name)
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie(LANG_COOKIE, lang, max_age=365 * 86_400, samesite="lax")
        for header, value in HEADERS.items():
            response.headers[header] = value
        return response

    def _visitor(self, request: Request, lang: str) -> Visitor:
        """The visitor by session; without users and only on this machine, any visitor may read."""
        cookie = request.cookies.get(COOKIE, "")
        session = self._signer.read(cookie, now_ms())
        if session and session.role:
            known = self.oidc is not None and session.role in ROLES
            return (
                Visitor(session.name, session.role, lang, cookie)
                if known
                else Visitor(None, None, lang)
            )
        user = self._world.users.get(session.name) if session else None
        if session and user and user.mark == session.mark:
            return Visitor(user.name, user.role, lang, cookie)
        if self._loopback and self.oidc is None and not self._world.users.any():
            if forwarded(request.headers, request.scope.get("http_version", "1.1")):
                raise SentForm(
                    Response(
                        "open on this machine only, not through a proxy: pushfleet user add "
                        "NAME --role operator\n",
                        403,
                    )
                )
            # another site's page could give its own name this machine's address and read along
            if not is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or ""):
                raise SentForm(Response("open for loopback names only\n", 403))
            return Visitor(None, "viewer", lang)
        return Visitor(None, None, lang)

    def _page(
        self, request: Request, visitor: Visitor, name: str, status: int = 200, **values: Any
    ) -> Response:
        done = request.query_params.get("done", "")
        asked = [
            (key, value)
            for key, value in request.query_params.multi_items()
            if key not in ("lang", "done")
        ]
        path, done = request.url.path, done if done in DONE else ""
        return self._render(visitor, name, status, path=path, done=done, asked_for=asked, **values)

    def _refusal(self, visitor: Visitor, said: str, status: int, **values: Any) -> Response:
        return self._render(
            visitor,
            "said",
            status,
            path="",
            done="",
            asked_for=[],
            said=word(said, visitor.lang, **values),
        )

    def _render(
        self,
        visitor: Visitor,
        name: str,
        status: int,
        asked_for: Sequence[tuple[str, str]],
        **values: Any,
    ) -> Response:
        def t(key: str, **more: Any) -> str:
            return word(key, visitor.lang, **more)

        def means(decision: str) -> str:
            return decision_words(decision, visitor.lang)

        def check(name: str) -> str:
            return check_words(name, visitor.lang)

        def noted(said: str) -> str:
            return audit_words(said, visitor.lang)

        def called(said: str) -> str:
            return note_words(said, visitor.lang)

        def stage(said: str) -> str:
            return t(f"stage_{said}") if f"stage_{said}" in WORDS else said

        other = "?" + urlencode([*asked_for, ("lang", "en" if visitor.lang == "zh" else "zh")])
        token = (
            self._signer.form_token(visitor.cookie or visitor.visit)
            if visitor.cookie or visitor.visit
            else ""
        )
        html = self._templates.get_template(f"{name}.html").render(
            t=t,
            means=means,
            check=check,
            noted=noted,
            stage=stage,
            called=called,
            happened=happened,
            visitor=visitor,
            token=token,
            other_language=other,
            **values,
        )
        return HTMLResponse(html, status)

    async def not_found(self, request: Request, _error: Exception) -> Response:
        return self._plain_refusal(request, "not_found", 404)

    def _plain_refusal(self, request: Request, said: str, status: int, **values: Any) -> Response:
        """A refusal before the visitor is identified."""
        lang = language(
            request.query_params.get("lang"),
            request.cookies.get(LANG_COOKIE),
            request.headers.get("accept-language", ""),
        )
        response = self._refusal(Visitor(None, None, lang), said, status, **values)
        for header, value in HEADERS.items():
            response.headers[header] = value
        return response

    # ------------------------------------------------------------ pages

    def overview(self, request: Request, visitor: Visitor) -> Response:
        span = request.query_params.get("span", "hour")
        view = self._look.overview(visitor.lang)
        return self._page(
            request,
            visitor,
            "overview",
            view=view,
            refresh=REFRESH_S,
            span=span if span in SPANS else "hour",
        )

    def messages(self, request: Request, visitor: Visitor) -> Response:
        asked = {
            name: request.query_params.get(name, "").strip()[:256] for name in ("id", "user", "app")
        }
        decision, told = request.query_params.get("decision"), None
        decision = decision if decision == "" or decision in set(Decision) else None
        if asked["id"] and "\0" not in "".join(asked.values()):
            try:
                after = read_cursor(found) if (found := request.query_params.get("after")) else None
            except ApiRefusal:
                after = None
            told = self._ports.trace(
                asked["id"],
                asked["app"] or None,
                asked["user"] or None,
                decision,
                after,
                SHOWN_MAX,
                COUNTS_S,
            )
        more = cursor_text(told["next"]) if told and told["next"] else None
        total = sum(told["counts"].values()) if told and told["counts"] is not None else None
        return self._page(
            request,
            visitor,
            "messages",
            asked=asked,
            told=told,
            decision=decision,
            more=more,
            total=total,
        )

    def lanes(self, request: Request, visitor: Visitor) -> Response:
        flow = flows(self._world.tallies, now_ms())
        lanes = [
            {**lane, "flow": flow.get((lane["app"], lane["vendor"], lane["business_id"]), 0.0)}
            for lane in self._ports.lanes(visitor.lang)
        ]
        return self._page(request, visitor, "lanes", lanes=lanes)

    def credentials(self, request: Request, visitor: Visitor) -> Response:
        return self._page(
            request,
            visitor,
            "credentials",
            rows=self._world.credentials.listed(),
            vendors=list(FIELDS),
        )

    def account_page(
        self,
        request: Request,
        visitor: Visitor,
        wrong: str = "",
        fields: Mapping[str, str] | None = None,
    ) -> Response:
        """The form of a new account of a vendor, or of a known one's new secrets."""
        if not visitor.may_admin:
            return self._refusal(visitor, "not_allowed", 403)
        asked = {
            name: request.query_params.get(name, "")[:64]
            for name in ("vendor", "app", "business_id")
        }
        if fields is not None:
            asked |= {name: fields.get(name, "") for name in asked}
        if asked["vendor"] not in set(Vendor):
            return self._refusal(visitor, "gone", 404)
        key = asked["app"], asked["vendor"], asked["business_id"]
        old = next(
            (
                row
                for row in self._world.credentials.listed()
                if (row["app"], row["vendor"], row["business_id"]) == key
            ),
            None,
        )
        kinds = FIELDS[Vendor(asked["vendor"])]
        shown = {"asked": asked, "old": old, "kinds": kinds, "wrong": wrong, "fields": fields or {}}
        return self._page(request, visitor, "account", 400 if wrong else 200, **shown)

    def audit(self, request: Request, visitor: Visitor) -> Response:
        before = request.query_params.get("before", "")
        rows = self._world.audit.listed(
            int(before) if before.isascii() and before.isdigit() and len(before) < 18 else None
        )
        return self._page(
            request,
            visitor,
            "audit",
            rows=rows,
            before=rows[-1]["id"] if len(rows) == SHOWN_LINES else None,
        )

    def charts(self, request: Request, _visitor: Visitor) -> Response:
        span = request.query_params.get("span", "hour")
        return JSONResponse(
            series(self._world.tallies, span if span in SPANS else "hour", now_ms())
        )

    def letters(self, request: Request, visitor: Visitor) -> Response:
        letters, counts = (
            self._world.dead_letters.heads(limit=LETTERS_MAX),
            self._world.dead_letters.counts(),
        )
        groups = self._world.dead_letters.groups()
        return self._page(
            request, visitor, "letters", letters=letters, counts=counts, groups=groups
        )

    def people(self, request: Request, visitor: Visitor) -> Response:
        asked = {name: request.query_params.get(name, "").strip()[:512] for name in ("app", "user")}
        told = (
            self._ports.person(asked["app"], asked["user"])
            if asked["app"] and asked["user"]
            else None
        )
        return self._page(request, visitor, "people", asked=asked, told=told)

    def login_page(
        self, request: Request, visitor: Visitor, wrong: str = "", status: int = 200
    ) -> Response:
        nobody = self.oidc is None and not self._world.users.any()
        visit = request.cookies.get(VISIT_COOKIE, "") or secrets.token_urlsafe(16)
        response = self._page(
            request,
            replace(visitor, visit=visit),
            "login",
            status,
            wrong=wrong,
            nobody=nobody,
            oidc=self.oidc is not None,
        )
        response.set_cookie(
            VISIT_COOKIE, visit, max_age=3600, httponly=True, samesite="strict", path="/login"
        )
        return response

    def targets(self, _request: Request) -> Response:
        """The processes that serve metrics, from Redis.

        Without Redis 503: Prometheus then keeps its list.
        """
        try:
            return JSONResponse(self._look.targets())
        except (RedisError, OSError) as error:
            log.warning(
                "nobody can be asked who serves metrics", extra={"reason": type(error).__name__}
            )
            return JSONResponse({"error": "Redis is away"}, 503)

    # ------------------------------------------------------------ forms

    def _same_site(self, request: Request, ours: bool) -> bool:
        """False for a form that the browser reports as cross-site; programs report nothing.

        ours: its token is ours. Where a proxy has replaced the Host by its own name, only the token
        and the browser's Sec-Fetch-Site decide.
        """
        fetched = request.headers.get("sec-fetch-site")
        if fetched is not None:
            return fetched in ("same-origin", "none")
        origin = request.headers.get("origin")
        if origin is None or urlsplit(origin).netloc == self._peers.host(
            _peer(request), request.headers
        ):
            return True
        return ours and forwarded(request.headers, request.scope.get("http_version", "1.1"))

    def log_in(self, request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        name, caller = fields.get("name", ""), self._peers.caller(_peer(request), request.headers)
        tries = [
            (self._login_key("from", caller), LOGINS_MAX),
            (self._login_key("of", name), ACCOUNT_LOGINS_MAX),
        ]
        if self._too_many_logins(tries):
            log.warning("a login was slowed down: too many wrong ones")
            return self.login_page(request, visitor, "slow_down", 429)
        user = self._world.users.check(name, fields.get("password", ""))
        if user is None:
            return self.login_page(request, visitor, "wrong_login", 403)
        self._forget_login(tries)
        cookie = self._signer.cookie(ConsoleSession(user.name, user.mark, now_ms() + LIFE_S * 1000))
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=LIFE_S,
            httponly=True,
            samesite="strict",
            secure=self._over_tls(request),
        )
        return response

    def oidc_start(self, request: Request, visitor: Visitor) -> Response:
        """Sends the browser to the provider; what it must come back with is in a cookie that only
        we can make.
        """
        if self.oidc is None:
            return self._refusal(visitor, "not_found", 404)
        try:
            target, pending = self.oidc.begin()
        except oidc.OidcError as error:
            log.warning("nobody can sign in by OpenID", extra={"reason": str(error)})
            return self.login_page(request, visitor, "oidc_away", 503)
        told = msgspec.json.encode(
            (pending.state, pending.nonce, pending.verifier, now_ms() + oidc.AWAY_S * 1000)
        )
        response = RedirectResponse(target, 303)
        # lax: the provider sends the browser back, which is a navigation from another site
        cookie = self._signer.sealed("oidc", told)
        response.set_cookie(
            OIDC_COOKIE,
            cookie,
            max_age=oidc.AWAY_S,
            httponly=True,
            samesite="lax",
            secure=self._over_tls(request),
            path="/login",
        )
        return response

    def oidc_back(self, request: Request, visitor: Visitor) -> Response:
        """The provider has sent somebody back: a session, or the login page with the reason in the
        log.
        """
        if self.oidc is None:
            return self._refusal(visitor, "not_found", 404)
        try:
            person = self.oidc.finish(self._pending(request), dict(request.query_params))
        except oidc.OidcError as error:
            log.warning("a sign-in by OpenID was refused", extra={"reason": str(error)})
            response = self.login_page(request, visitor, "oidc_refused", 403)
            response.delete_cookie(OIDC_COOKIE, path="/login")
            return response
        name = f"sso:{person.name}"
        self._world.audit.note(name, "signed in", "", "", person.role)
        # a page of ours between: to a redirect that another site began no browser gives a strict
        # cookie
        words = word("oidc_welcome", visitor.lang)
        response = self._render(
            Visitor(None, None, visitor.lang),
            "said",
            200,
            path="",
            done="",
            asked_for=[],
            said=words,
            good=True,
        )
        response.headers["refresh"] = "0; url=/"
        response.delete_cookie(OIDC_COOKIE, path="/login")
        cookie = self._signer.cookie(
            ConsoleSession(name, "", now_ms() + oidc.LIFE_S * 1000, person.role)
        )
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=oidc.LIFE_S,
            httponly=True,
            samesite="strict",
            secure=self._over_tls(request),
        )
        return response

    def _pending(self, request: Request) -> oidc.Pending:
        told = self._signer.opened("oidc", request.cookies.get(OIDC_COOKIE, ""))
        if told is None:
            raise oidc.OidcError("this browser has begun no sign-in")
        state, nonce, verifier, ends_ms = msgspec.json.decode(told, type=tuple[str, str, str, int])
        if ends_ms <= now_ms():
            raise oidc.OidcError("the sign-in took too long")
        return oidc.Pending(state, nonce, verifier)

    def _over_tls(self, request: Request) -> bool:
        return self._peers.over_tls(_peer(request), request.headers, request.url.scheme)

    def _login_key(self, kind: str, what: str) -> str:
        return self._world.keys.logins(
            hashlib.sha256(f"{kind}\0{what}".encode("utf-8", "replace")).hexdigest()[:32]
        )

    def _too_many_logins(self, tries: Sequence[tuple[str, int]]) -> bool:
        """Counts this attempt before the password check, so that parallel ones cannot pass."""
        with self._world.redis.pipeline(transaction=True) as pipe:
            for key, _ in tries:
                pipe.incr(key)
                pipe.expire(key, 60, nx=True)
            counts = pipe.execute()[::2]
        return any(int(count) > most for count, (_, most) in zip(counts, tries, strict=True))

    def _forget_login(self, tries: Sequence[tuple[str, int]]) -> None:
        """Returns the attempts after a correct password."""
        with self._world.redis.pipeline(transaction=False) as pipe:
            for key, _ in tries:
                pipe.decr(key)
            pipe.execute()

    def log_out(self, _request: Request, _visitor: Visitor, _fields: Mapping[str, str]) -> Response:
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response

    def pause(self, _request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        return self._set_paused(visitor, fields, paused=True)

    def resume(self, _request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        return self._set_paused(visitor, fields, paused=False)

    def _set_paused(self, visitor: Visitor, fields: Mapping[str, str], *, paused: bool) -> Response:
        if not visitor.may_act:
            return self._refusal(visitor, "not_allowed", 403)
        key = fields.get("app", ""), fields.get("vendor", ""), fields.get("business_id", "")
        there = self._world.credentials.set_paused(*key, paused)
        if there:
            self._world.catalog.changed()
            words = "paused" if paused else "resumed"
            self._note(visitor, f"lane {words}", key[0], f"{key[1]} {key[2]}")
            log.warning(
                "a lane was %s in the console",
                words,
                extra={"app": key[0], "vendor": key[1], "business_id": key[2]},
            )
        return _back("/lanes", ("done_paused" if paused else "done_resumed") if there else "gone")

    def replay(self, _request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        if not visitor.may_act:
            return self._refusal(visitor, "not_allowed", 403)
        said = self._ports.replay(fields.get("id", ""))
        self._note(visitor, "letter replayed", "", fields.get("id", "")[:32], said or "done")
        log.warning("a dead letter was replayed in the console", extra={"reason": said or "done"})
        return _back("/dead-letters", said or "done_replayed")

    def whole_group(
        self, _request: Request, visitor: Visitor, fields: Mapping[str, str]
    ) -> Response:
        """All letters of one stage and kind of reason: replayed, or dropped."""
        if not visitor.may_act:
            return self._refusal(visitor, "not_allowed", 403)
        ids, doing = (
            self._world.dead_letters.ids_of(
                fields.get("stage", ""), fields.get("kind", ""), GROUP_MAX
            ),
            fields.get("do", ""),
        )
        if doing not in ("replay", "drop") or not ids:
            return _back("/dead-letters", "gone")
        count = self._world.dead_letters.drop(ids) if doing == "drop" else self._replay_all(ids)
        self._note(
            visitor,
            f"letters {doing}",
            "",
            f"{fields.get('stage', '')}: {fields.get('kind', '')}",
            f"{count} of {len(ids)}",
        )
        log.warning(
            "dead letters were %s in the console",
            "dropped" if doing == "drop" else "replayed",
            extra={"count": count},
        )
        said = "done_dropped" if doing == "drop" else "done_replayed"
        return _back("/dead-letters", said if count == len(ids) < GROUP_MAX else "done_part")

    def _replay_all(self, ids: Sequence[str]) -> int:
        until, count = time.monotonic() + GROUP_S_MAX, 0
        for letter_id in ids:
            if time.monotonic() > until:
                break
            count += self._ports.replay(letter_id) is None
        return count

    def set_device(
        self, _request: Request, visitor: Visitor, fields: Mapping[str, str]
    ) -> Response:
        if not visitor.may_act:
            return self._refusal(visitor, "not_allowed", 403)
        app, user, device = (fields.get(name, "") for name in ("app", "user", "device"))
        state = {"retire": "retired", "restore": "active"}.get(fields.get("do", ""))
        done = state is not None and self._ports.set_device(app, user, device, state)
        self._note(
            visitor,
            f"device {state or 'unchanged'}",
            app,
            person_mark(app, user),
            "done" if done else "gone",
        )
        log.warning(
            "a device was changed in the console", extra={"app": app, "reason": state or "nothing"}
        )
        return RedirectResponse(
            f"/people?{urlencode({'app': app, 'user': user, 'done': 'done_device' if done else 'gone'})}",  # noqa: E501
            303,
        )

    def push(self, _request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        """A test push to a person, the way of every message."""
        app, user = fields.get("app", ""), fields.get("user", "")
        if not visitor.may_act:
            return self._refusal(visitor, "not_allowed", 403)
        message_id = self._ports.test_push(app, user) if user else None
        self._note(visitor, "test push", app, person_mark(app, user), message_id or "gone")
        if message_id is None:
            return _back("/people", "gone")
        return RedirectResponse(
            f"/messages?{urlencode({'id': message_id, 'app': app, 'user': user, 'done': 'done_push'})}",  # noqa: E501
            303,
        )

    def check_account(
        self, request: Request, visitor: Visitor, fields: Mapping[str, str]
    ) -> Response:
        """Asks the vendor whether an account works; nobody gets a push."""
        if not visitor.may_act:
            return self._refusal(visitor, "not_allowed", 403)
        key = fields.get("app", ""), fields.get("vendor", ""), fields.get("business_id", "")
        good, words = self._ports.check_account(*key)
        self._note(visitor, "account checked", key[0], f"{key[1]} {key[2]}", words)
        rows, told = self._world.credentials.listed(), {"key": key, "good": good, "words": words}
        return self._page(
            request, visitor, "credentials", rows=rows, vendors=list(FIELDS), checked=told
        )

    def store_account(self, request: Request, visitor: Visitor, fields: FormFields) -> Response:
        """Stores a new account, or new secrets of a known one; errors are shown above the form."""
        if not visitor.may_admin:
            return self._refusal(visitor, "not_allowed", 403)
        vendor, app, business_id = (
            fields.get("vendor", ""),
            fields.get("app", "").strip(),
            fields.get("business_id", "").strip(),
        )
        if vendor not in set(Vendor):
            return self._refusal(visitor, "gone", 404)
        rotate = fields.get("do") == "rotate"
        wrong = self._ports.store_account(
            vendor, app, business_id, given(Vendor(vendor), fields, fields.files), rotate
        )
        self._note(
            visitor,
            "account rotated" if rotate else "account added",
            app,
            f"{vendor} {business_id}",
            wrong or "done",
        )
        if wrong is not None:
            return self.account_page(request, visitor, wrong, fields)
        return _back("/credentials", "done_account")

    def _note(
        self, visitor: Visitor, action: str, app: str, subject: str, result: str = "done"
    ) -> None:
        self._world.audit.note(visitor.name or "", action, app, subject, result)


#: Seconds of work on a group of letters; the rest waits for the next press.
GROUP_S_MAX: Final = 8.0
GROUP_MAX: Final = 5_000
#: Messages allowed after a form, so that no address can put a text on a page.
DONE: Final = frozenset(
    {
        "done_paused",
        "done_resumed",
        "done_replayed",
        "done_dropped",
        "done_device",
        "done_part",
        "done_push",
        "done_account",
        "gone",
        "not_replayable",
        "resharding_now",
    }
)


#: Between two looks of an open overview, seconds.
REFRESH_S: Final = 10
_UPLOADS_MAX: Final = 4


async def _read_form(request: Request) -> FormFields | None:
    """The fields and files of a form; None where it is too large. MultiPartException: it can't be
    read.
    """
    upload = request.headers.get("content-type", "").startswith("multipart/form-data")
    most, body = UPLOAD_BYTES_MAX if upload else FORM_BYTES_MAX, b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    if not upload:
        values = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
        return FormFields({name: value[0] for name, value in values.items()}, {})

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers,
        whole(),
        max_files=_UPLOADS_MAX,
        max_fields=32,
        max_part_size=FORM_BYTES_MAX,
    )
    fields, files = dict[str, str](), dict[str, bytes]()
    found = await parser.parse()
    for name, value in found.items():
        if isinstance(value, str):
            fields[name] = value
        else:
            files[name] = await value.read(FILE_BYTES_MAX + 1)
    await found.close()
    return FormFields(fields, files)


def _back(path: str, done: str) -> Response:
    return RedirectResponse(f"{path}?{urlencode({'done': done})}", 303)


def _peer(request: Request) -> str:
    """The other end of the connection."""
    return request.client.host if request.client else ""
