"""What every page of the console has: a visitor, rights, language, words and headers."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import anyio
import anyio.to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from common.clock import now_ms
from common.setting_checks import host_port, is_loopback
from common.storage.users import OPERATORS, ROLES
from workers.console import oidc
from workers.console.form_fields import FormFields, read_form
from workers.console.look import ConsoleStores, age_of, happened, since_ms, time_of, zone
from workers.console.peers import Peers, forwarded
from workers.console.sessions import COOKIE, PURPOSE, Signer
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
LANG_COOKIE: Final = "lang"
VISIT_COOKIE: Final = "pushfleet-visit"
FORM_S_MAX: Final = 10.0
#: Longest wait for a page, seconds; then it reports that a server is away.
PAGE_S_MAX: Final = 15.0
#: Between two looks of an open overview, or of a page that could not be shown, seconds.
REFRESH_S: Final = 10
#: Longest address that a visitor is brought back to after the login.
BACK_CHARACTERS_MAX: Final = 2_000
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src "  # noqa: E501
    "'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
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
        "done_push_nobody",
        "done_account",
        "done_later",
        "gone",
        "not_replayable",
        "resharding_now",
        "session_ended",
        "session_ended_form",
    }
)


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


class SentForm(Exception):  # noqa: N818 - an answer that ends the handling, not a fault
    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


Page = Callable[[Request, Visitor], Response]


class Frame:
    """Shows pages and takes forms: who the visitor is, what they may, in which language."""

    def __init__(self, stores: ConsoleStores) -> None:
        self._stores = stores
        self.signer = Signer(stores.vault.derived(PURPOSE))
        self.peers = Peers(stores.settings.trusted_proxies)
        self.oidc = oidc.Provider(stores.settings) if stores.settings.oidc_issuer else None
        self._loopback = is_loopback(host_port(stores.settings.console_addr)[0])
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
            zone=zone,
        )

    def shown(
        self, page: Page, *, open_to_all: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for visitors with the right to read; the stores are asked in a thread."""

        def handle(request: Request) -> Response:
            return self._guarded(
                request, lambda visitor: page(request, visitor), open_to_all=open_to_all
            )

        async def endpoint(request: Request) -> Response:
            return await self._in_time(request, lambda: handle(request))

        return endpoint

    async def _in_time(self, request: Request, work: Callable[[], Response]) -> Response:
        """Bounds a page's time when a server hangs; the thread ends with the server's answer."""
        try:
            with anyio.fail_after(PAGE_S_MAX):
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except TimeoutError:
            return self._plain_refusal(
                request, "server_away", 503, name="Redis, PostgreSQL", refresh=_again(request)
            )

    def posted(
        self, form: Callable[[Request, Visitor, FormFields], Response], *, is_login: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """A form's target: ours by its token, but for the login, which has no session yet."""

        def handle(request: Request, fields: FormFields) -> Response:
            def act(visitor: Visitor) -> Response:
                ours = self.signer.form_token_valid(
                    visitor.cookie or request.cookies.get(VISIT_COOKIE, ""), fields.get("token", "")
                )
                if not (ours or is_login) or not self._same_site(request, ours):
                    return self.refusal(visitor, "not_ours", 403)
                return form(request, visitor, fields)

            return self._guarded(request, act, open_to_all=is_login)

        async def endpoint(request: Request) -> Response:
            try:
                with anyio.fail_after(FORM_S_MAX):
                    fields = await read_form(request)
            except TimeoutError:
                return self._plain_refusal(request, "form_unread", 408)
            except (ClientDisconnect, MultiPartException, ValueError):
                return self._plain_refusal(request, "form_unread", 400)
            if fields is None:
                return self._plain_refusal(request, "form_too_large", 413)
            return await self._in_time(request, lambda: handle(request, fields))

        return endpoint

    def _guarded(
        self, request: Request, act: Callable[[Visitor], Response], *, open_to_all: bool
    ) -> Response:
        lang = _language(request)
        visitor = Visitor(None, None, lang)
        response: Response
        try:
            visitor = self._visitor(request, lang)
            if visitor.role is None and not open_to_all:
                response = self._sent_to_login(request, visitor)
            else:
                response = act(visitor)
        except SentForm as sent:
            response = sent.response
        except (RedisError, SQLAlchemyError, OSError) as error:
            log.warning(
                "a page can't be shown: a store is away", extra={"reason": type(error).__name__}
            )
            name = "Redis" if isinstance(error, RedisError) else "PostgreSQL"
            response = self.refusal(
                visitor, "server_away", 503, _query(request), name=name, refresh=_again(request)
            )
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie(LANG_COOKIE, lang, max_age=365 * 86_400, samesite="lax")
        for header, value in HEADERS.items():
            response.headers[header] = value
        return response

    def _sent_to_login(self, request: Request, visitor: Visitor) -> Response:
        """To the login, which brings the visitor back to the page that was asked for."""
        if _by_a_link(request):
            # the browser keeps a strict cookie from a page that another site's link opens; it sends
            # it with the page that this one opens
            return self._on_to(visitor, 200, back_to(request))
        asked = {"back": back_to(request)} if back_to(request) != "/" else {}
        if COOKIE in request.cookies:
            asked["done"] = "session_ended" + ("_form" if request.method == "POST" else "")
        return RedirectResponse("/login" + (f"?{urlencode(asked)}" if asked else ""), 303)

    def _visitor(self, request: Request, lang: str) -> Visitor:
        """The visitor by session; without users and only on this machine, any visitor may read."""
        cookie = request.cookies.get(COOKIE, "")
        session = self.signer.read(cookie, now_ms())
        if session and session.role:
            known = self.oidc is not None and session.role in ROLES
            return (
                Visitor(session.name, session.role, lang, cookie)
                if known
                else Visitor(None, None, lang)
            )
        user = self._stores.users.get(session.name) if session else None
        if session and user and user.mark == session.mark:
            return Visitor(user.name, user.role, lang, cookie)
        if self._loopback and self.oidc is None and not self._stores.users.any():
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

    def page(
        self, request: Request, visitor: Visitor, name: str, status: int = 200, **values: Any
    ) -> Response:
        done = request.query_params.get("done", "")
        path, done = request.url.path, done if done in DONE else ""
        return self.render(
            visitor, name, status, path=path, done=done, asked_for=_query(request), **values
        )

    def refusal(
        self,
        visitor: Visitor,
        said: str,
        status: int,
        asked_for: Sequence[tuple[str, str]] = (),
        refresh: int | None = None,
        **values: Any,
    ) -> Response:
        """refresh: seconds after which the browser asks again."""
        words = word(said, visitor.lang, **values)
        shown = {"path": "", "done": "", "said": words, "refresh": refresh}
        return self.render(visitor, "said", status, asked_for, **shown)

    def render(
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
            self.signer.form_token(visitor.cookie or visitor.visit)
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

    def without_slash(self, request: Request) -> Response:
        """To the page whose address has a slash too many."""
        query = urlencode(request.query_params.multi_items())
        page = quote(request.url.path.rstrip("/")) + (f"?{query}" if query else "")
        response = RedirectResponse(local_address(page), 307)
        for header, value in HEADERS.items():
            response.headers[header] = value
        return response

    def page_of_form(self, request: Request) -> Response:
        """A form's target that is opened by its address alone, as by a change of the language below
        an answer, or after a login: nothing is done, the page of the form follows.
        """
        page, lang = request.url.path.rpartition("/")[0] or "/", _language(request)
        response = self._on_to(Visitor(None, None, lang), 405, f"{page}?lang={lang}")
        response.headers["allow"] = "POST"
        return response

    def _on_to(self, visitor: Visitor, status: int, page: str) -> Response:
        """A page whose only use is that the browser goes on from it to another one of ours."""
        words = word("moment", visitor.lang)
        shown = {"path": "", "done": "", "said": words, "good": True}
        response = self.render(visitor, "said", status, [], **shown)
        for header, value in {**HEADERS, "refresh": f"0; url={page}"}.items():
            response.headers[header] = value
        return response

    def _plain_refusal(self, request: Request, said: str, status: int, **values: Any) -> Response:
        """A refusal before the visitor is identified."""
        lang = _language(request)
        response = self.refusal(Visitor(None, None, lang), said, status, _query(request), **values)
        for header, value in HEADERS.items():
            response.headers[header] = value
        return response

    def _same_site(self, request: Request, ours: bool) -> bool:
        """False for a form that the browser reports as cross-site; programs report nothing.

        ours: its token is ours. Where a proxy has replaced the Host by its own name, only the token
        and the browser's Sec-Fetch-Site decide.
        """
        fetched = request.headers.get("sec-fetch-site")
        if fetched is not None:
            return fetched in ("same-origin", "none")
        origin = request.headers.get("origin")
        if origin is None or urlsplit(origin).netloc == self.peers.host(
            peer_of(request), request.headers
        ):
            return True
        return ours and forwarded(request.headers, request.scope.get("http_version", "1.1"))

    def over_tls(self, request: Request) -> bool:
        return self.peers.over_tls(peer_of(request), request.headers, request.url.scheme)


def back_to(request: Request) -> str:
    """The page of ours that was asked for, as an address without a host."""
    query = urlencode(_query(request))
    return local_address(quote(request.url.path) + (f"?{query}" if query else ""))


def local_address(told: str) -> str:
    """The address of a page of ours; "/" for any other one, and for one of another site."""
    ours = re.fullmatch(r"/(?![/\\])[!-\[\]-~]*", told)
    return told if ours and len(told) <= BACK_CHARACTERS_MAX else "/"


def _language(request: Request) -> str:
    return language(
        request.query_params.get("lang"),
        request.cookies.get(LANG_COOKIE),
        request.headers.get("accept-language", ""),
    )


def _query(request: Request) -> list[tuple[str, str]]:
    """What the page was asked for, without what a form or the choice of a language adds."""
    items = request.query_params.multi_items()
    return [(key, value) for key, value in items if key not in ("lang", "done")]


def _again(request: Request) -> int | None:
    """When the browser may ask for the page again; a form is never sent again by itself."""
    return REFRESH_S if request.method == "GET" else None


def _by_a_link(request: Request) -> bool:
    """Whether a link of another site, as a ticket or a chat, opened this page in a browser."""
    fetched = request.headers.get("sec-fetch-site"), request.headers.get("sec-fetch-mode")
    return (
        request.method == "GET"
        and COOKIE not in request.cookies
        and fetched == ("cross-site", "navigate")
    )


def peer_of(request: Request) -> str:
    """The other end of the connection."""
    return request.client.host if request.client else ""
