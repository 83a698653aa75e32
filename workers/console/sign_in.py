"""Signing in to the console, and out."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from common.clock import now_ms
from workers.console import oidc
from workers.console.frame import VISIT_COOKIE, Frame, Visitor, local_address, peer_of
from workers.console.look import ConsoleStores
from workers.console.sessions import COOKIE, LIFE_S, ConsoleSession
from workers.console.words import word

log = logging.getLogger(__name__)

#: Wrong logins of one address in a minute.
LOGINS_MAX: Final = 10
#: Failed logins of one person in a minute, from all addresses: more than from one address, so that
#: one attacker locks nobody out.
ACCOUNT_LOGINS_MAX: Final = 30
OIDC_COOKIE: Final = "pushfleet-oidc"


class SignIn:
    """Who may see the console: by password, or by OpenID Connect."""

    def __init__(self, frame: Frame, stores: ConsoleStores) -> None:
        self._frame = frame
        self._stores = stores

    def login_page(
        self,
        request: Request,
        visitor: Visitor,
        wrong: str = "",
        status: int = 200,
        back: str | None = None,
    ) -> Response:
        """back: where the visitor goes from here; None: as the address says."""
        back = local_address(request.query_params.get("back", "/") if back is None else back)
        nobody = self._frame.oidc is None and not self._stores.users.any()
        visit = request.cookies.get(VISIT_COOKIE, "") or secrets.token_urlsafe(16)
        response = self._frame.page(
            request,
            replace(visitor, visit=visit),
            "login",
            status,
            wrong=wrong,
            back=back,
            nobody=nobody,
            oidc=self._frame.oidc is not None,
        )
        response.set_cookie(
            VISIT_COOKIE, visit, max_age=3600, httponly=True, samesite="strict", path="/login"
        )
        return response

    def log_in(self, request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        back = local_address(fields.get("back", "/"))
        name, caller = (
            fields.get("name", ""),
            self._frame.peers.caller(peer_of(request), request.headers),
        )
        tries = [
            (self._login_key("from", caller), LOGINS_MAX),
            (self._login_key("of", name), ACCOUNT_LOGINS_MAX),
        ]
        if self._too_many_logins(tries):
            log.warning("a login was slowed down: too many wrong ones")
            return self.login_page(request, visitor, "slow_down", 429, back)
        user = self._stores.users.check(name, fields.get("password", ""))
        if user is None:
            return self.login_page(request, visitor, "wrong_login", 403, back)
        self._forget_login(tries)
        cookie = self._frame.signer.cookie(
            ConsoleSession(user.name, user.mark, now_ms() + LIFE_S * 1000)
        )
        response = RedirectResponse(back, 303)
        secure = self._frame.over_tls(request)
        response.set_cookie(
            COOKIE, cookie, max_age=LIFE_S, httponly=True, samesite="strict", secure=secure
        )
        return response

    def oidc_start(self, request: Request, visitor: Visitor) -> Response:
        """Sends the browser to the provider; a signed cookie has the expected answer."""
        if self._frame.oidc is None:
            return self._frame.refusal(visitor, "not_found", 404)
        try:
            target, pending = self._frame.oidc.begin()
        except oidc.OidcError as error:
            log.warning("nobody can sign in by OpenID", extra={"reason": str(error)})
            return self.login_page(request, visitor, "oidc_away", 503)
        remembered = msgspec.json.encode(
            (
                pending.state,
                pending.nonce,
                pending.verifier,
                now_ms() + oidc.AWAY_S * 1000,
                local_address(request.query_params.get("back", "/")),
            )
        )
        response = RedirectResponse(target, 303)
        # lax: the provider sends the browser back, which is a navigation from another site
        cookie = self._frame.signer.sealed("oidc", remembered)
        response.set_cookie(
            OIDC_COOKIE,
            cookie,
            max_age=oidc.AWAY_S,
            httponly=True,
            samesite="lax",
            secure=self._frame.over_tls(request),
            path="/login",
        )
        return response

    def oidc_back(self, request: Request, visitor: Visitor) -> Response:
        """Handles the provider's return: a session, or the login page and a logged reason."""
        if self._frame.oidc is None:
            return self._frame.refusal(visitor, "not_found", 404)
        try:
            pending, back = self._pending(request)
            person = self._frame.oidc.finish(pending, dict(request.query_params))
        except oidc.OidcError as error:
            log.warning("a sign-in by OpenID was refused", extra={"reason": str(error)})
            response = self.login_page(request, visitor, "oidc_refused", 403)
            response.delete_cookie(OIDC_COOKIE, path="/login")
            return response
        name = f"sso:{person.name}"
        self._stores.audit.note(name, "signed in", "", "", person.role)
        # a page of ours between: to a redirect that another site began no browser gives a strict
        # cookie
        words = word("oidc_welcome", visitor.lang)
        nobody = Visitor(None, None, visitor.lang)
        response = self._frame.render(
            nobody, "said", 200, path="", done="", asked_for=[], said=words, good=True
        )
        response.headers["refresh"] = f"0; url={back}"
        response.delete_cookie(OIDC_COOKIE, path="/login")
        cookie = self._frame.signer.cookie(
            ConsoleSession(name, "", now_ms() + oidc.LIFE_S * 1000, person.role)
        )
        secure = self._frame.over_tls(request)
        response.set_cookie(
            COOKIE, cookie, max_age=oidc.LIFE_S, httponly=True, samesite="strict", secure=secure
        )
        return response

    def _pending(self, request: Request) -> tuple[oidc.Pending, str]:
        """What this browser has begun, and the page that it goes to afterwards."""
        remembered = self._frame.signer.opened("oidc", request.cookies.get(OIDC_COOKIE, ""))
        if remembered is None:
            raise oidc.OidcError("this browser has begun no sign-in")
        try:
            state, nonce, verifier, ends_ms, back = msgspec.json.decode(
                remembered, type=tuple[str, str, str, int, str]
            )
        except msgspec.MsgspecError:
            raise oidc.OidcError("another version of the console began this sign-in") from None
        if ends_ms <= now_ms():
            raise oidc.OidcError("the sign-in took too long")
        return oidc.Pending(state, nonce, verifier), local_address(back)

    def _login_key(self, kind: str, what: str) -> str:
        return self._stores.keys.logins(
            hashlib.sha256(f"{kind}\0{what}".encode("utf-8", "replace")).hexdigest()[:32]
        )

    def _too_many_logins(self, tries: Sequence[tuple[str, int]]) -> bool:
        """Counts this attempt before the password check, so that parallel ones cannot pass."""
        with self._stores.redis.pipeline(transaction=True) as pipe:
            for key, _ in tries:
                pipe.incr(key)
                pipe.expire(key, 60, nx=True)
            counts = pipe.execute()[::2]
        return any(int(count) > most for count, (_, most) in zip(counts, tries, strict=True))

    def _forget_login(self, tries: Sequence[tuple[str, int]]) -> None:
        """Returns the attempts after a correct password."""
        with self._stores.redis.pipeline(transaction=False) as pipe:
            for key, _ in tries:
                pipe.decr(key)
            pipe.execute()

    def log_out(self, _request: Request, _visitor: Visitor, _fields: Mapping[str, str]) -> Response:
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response
