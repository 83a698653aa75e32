"""The read-only HTTP API (docs/api.md): the trace of a message, a person, counts.

A bearer token identifies the caller and the tenant.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.clock import now_ms
from common.model import Decision, Vendor
from common.storage.api_tokens import ApiToken
from common.storage.event_rows import Cursor
from common.storage.tallies import MINUTE_MS, percentile
from workers.console.api_types import ApiError, Count, Counts, Latency, MessageTrace, Person
from workers.console.look import ConsoleStores, Ports

log = logging.getLogger(__name__)

ROOT: Final = "/api/v1"
#: Calls of one token in a minute; more are answered with 429.
CALLS_A_MINUTE: Final = 600
ROWS_DEFAULT, ROWS_MAX = 100, 1_000
VALUE_CHARACTERS_MAX: Final = 512
#: Longest wait for an answer, seconds; then it reports that a server is away.
ANSWER_S: Final = 15.0
#: Longest wait for a message's counts, seconds.
COUNTS_S: Final = 5.0
#: Longest time that counts are asked of, and most steps of an answer.
DAYS_MAX: Final = 400
STEPS_MAX: Final = 1_500
#: ?by= -> column of the tallies; `name` is always included.
BY: Final = ("app", "vendor", "class")
STEPS: Final = {"minute": 1, "5m": 5, "hour": 60, "day": 1_440}
DAY_MS: Final = 86_400_000


class ApiRefusal(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


ApiHandler = Callable[[Request, ApiToken], msgspec.Struct]


class Api:
    def __init__(self, stores: ConsoleStores, ports: Ports) -> None:
        self._stores = stores
        self._ports = ports

    def routes(self) -> list[Route]:
        doors: dict[str, tuple[ApiHandler, str]] = {
            f"{ROOT}/messages/{{message_id:path}}": (self.message, "support"),
            f"{ROOT}/people/{{app}}/{{user:path}}": (self.person, "support"),
            f"{ROOT}/counts": (self.counts, "stats"),
        }
        return [
            Route(path, self._door(answer, role), methods=["GET"])
            for path, (answer, role) in doors.items()
        ]

    def _door(self, answer: ApiHandler, role: str) -> Callable[[Request], Awaitable[Response]]:
        def handle(request: Request) -> Response:
            try:
                token = self._token(request)
                if role == "support" and token.role != "support":
                    raise ApiRefusal(
                        403, "this token reads counts only: pushfleet api-token add --role support"
                    )
                return _json(answer(request, token))
            except ApiRefusal as refusal:
                return _refused(refusal.status, refusal.words)
            except (RedisError, SQLAlchemyError, OSError) as error:
                log.warning(
                    "the API can't answer: a store is away", extra={"reason": type(error).__name__}
                )
                return _refused(503, "a server can't be reached: come again")

        async def endpoint(request: Request) -> Response:
            try:
                with anyio.fail_after(ANSWER_S):
                    return await anyio.to_thread.run_sync(
                        lambda: handle(request), abandon_on_cancel=True
                    )
            except TimeoutError:
                return _refused(503, "a server can't be reached: come again")

        return endpoint

    def _token(self, request: Request) -> ApiToken:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = self._stores.api_tokens.check(given.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise ApiRefusal(
                401, "no valid token: Authorization: Bearer …, made by pushfleet api-token add"
            )
        key = self._stores.keys.logins(f"api-{token.id}")
        with self._stores.redis.pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, 60, nx=True)
            count = int(pipe.execute()[0])
        if count > CALLS_A_MINUTE:
            raise ApiRefusal(429, f"at most {CALLS_A_MINUTE} calls a minute with one token")
        return token

    def message(self, request: Request, token: ApiToken) -> MessageTrace:
        app, after = _app(token, _value(request, "app")), _value(request, "after")
        most = _whole(request, "limit", ROWS_DEFAULT, ROWS_MAX)
        message_id = _path(request, "message_id")
        cursor = None if after is None else read_cursor(after)
        user = _value(request, "user")
        decision = _one_of(request, "decision", ("", *Decision))
        trace = self._ports.trace(message_id, app, user, decision, cursor, most, COUNTS_S)
        if trace is None:
            raise ApiRefusal(
                404,
                "nothing is known of it: not published, not read yet, or older than the "
                "ledger keeps",
            )
        following = trace["next"]
        trace.pop("counting")
        return msgspec.convert(
            {**trace, "next": None if following is None else cursor_text(following)}, MessageTrace
        )

    def person(self, request: Request, token: ApiToken) -> Person:
        app = _app(token, _path(request, "app"))
        return msgspec.convert(self._ports.person(app or "", _path(request, "user")), Person)

    def counts(self, request: Request, token: ApiToken) -> Counts:
        app, now = _app(token, _value(request, "app")), now_ms()
        until = _whole(request, "until_ms", now, 1 << 53)
        since = _whole(request, "since_ms", max(until - DAY_MS, 0), 1 << 53)
        by = [name for name in (_value(request, "by") or "vendor").split(",") if name]
        step = _value(request, "step")
        if not set(by) <= set(BY) or (step is not None and step not in STEPS):
            raise ApiRefusal(400, f"by takes {', '.join(BY)}; step takes {', '.join(STEPS)}")
        minutes = STEPS[step] if step else 0
        if not 0 < until - since <= DAYS_MAX * DAY_MS or (
            minutes and (until - since) // (minutes * MINUTE_MS) > STEPS_MAX
        ):
            raise ApiRefusal(
                400,
                f"since_ms lies before until_ms, by {DAYS_MAX} days and {STEPS_MAX} steps at most",
            )
        asked = {
            "vendor": _one_of(request, "vendor", list(Vendor)),
            "class": _value(request, "class"),
            "app": app,
        }
        wanted = {name: value for name, value in asked.items() if value}
        tallies, columns = self._stores.tallies, [*by, "name"]

        def counts(kind: str) -> list[Count]:
            rows = tallies.read(kind, since, until, columns, step_min=minutes, where=wanted)
            return [_count(row, with_step=bool(minutes)) for row in rows]

        latency = self._latency(since, until, wanted)
        counted = tallies.counted_ms()
        return Counts(
            since, until, counted, counts("event"), counts("push"), counts("receipt"), latency
        )

    def _latency(self, since: int, until: int, wanted: Mapping[str, str]) -> list[Latency]:
        slots: dict[str, dict[int, int]] = {}
        for row in self._stores.tallies.read(
            "push", since, until, ["vendor"], slots=True, where={**wanted, "name": "accepted"}
        ):
            slots.setdefault(row["vendor"], {})[row["slot"]] = row["count"]
        return [
            Latency(vendor, *(percentile(found, share) for share in (0.5, 0.95, 0.99)))
            for vendor, found in slots.items()
        ]


def _count(row: Mapping[str, Any], *, with_step: bool) -> Count:
    named = {"app": row.get("app"), "vendor": row.get("vendor"), "message_class": row.get("class")}
    return Count(row["count"], row["name"], row["at_ms"] if with_step else None, **named)


def _app(token: ApiToken, asked: str | None) -> str | None:
    """The tenant of the answer; None: all. Raises ApiRefusal 403 for a tenant outside the token."""
    if token.app is not None and asked not in (None, token.app):
        raise ApiRefusal(403, "this token is of another tenant")
    return token.app or asked


def _value(request: Request, name: str, *, empty: bool = False) -> str | None:
    """A query parameter; None when absent, or empty where empty has no meaning."""
    found = request.query_params.get(name)
    return None if found is None or (not found and not empty) else _plain(found, name)


def _one_of(request: Request, name: str, known: Sequence[str]) -> str | None:
    """A query parameter of a closed set; None when absent."""
    found = _value(request, name, empty="" in known)
    if found is not None and found not in known:
        raise ApiRefusal(400, f"{name} takes {', '.join(filter(None, known))}")
    return found


def _path(request: Request, name: str) -> str:
    found = str(request.path_params[name])
    if not found:
        raise ApiRefusal(400, f"{name} is empty")
    return _plain(found, name)


def _plain(value: str, name: str) -> str:
    if len(value) > VALUE_CHARACTERS_MAX or re.search("[\0\ud800-\udfff]", value):
        raise ApiRefusal(
            400,
            f"{name} takes at most {VALUE_CHARACTERS_MAX} characters, no U+0000 and no half "
            "of a pair",
        )
    return value


def _whole(request: Request, name: str, default: int, most: int) -> int:
    found = _value(request, name)
    if found is None:
        return default
    if not re.fullmatch("[0-9]{1,16}", found) or not 0 < int(found) <= most:
        raise ApiRefusal(400, f"{name} takes a whole number from 1 to {most}")
    return int(found)


def cursor_text(after: Cursor) -> str:
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """ApiRefusal 400: cursor_text has not made it."""
    try:
        user, device = msgspec.json.decode(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=tuple[str, str]
        )
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise ApiRefusal(400, "after takes what the page before gave as next") from None
    paged = user == "\0"
    if (paged and not re.fullmatch("[0-9]{1,12}", device)) or (not paged and "\0" in user + device):
        raise ApiRefusal(400, "after takes what the page before gave as next")
    return user, device


def astray(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a path or a method below ROOT that there is not, as programs read it."""
    words = "the API only reads: GET" if status == 405 else "there is no such address"
    response = _refused(status, words)
    response.headers.update(headers or {})
    return response


HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=HEADERS)


def _refused(status: int, words: str) -> Response:
    bearer = {"www-authenticate": "Bearer"}
    more = {401: bearer, 429: {"retry-after": "60"}, 503: {"retry-after": "5"}}.get(status, {})
    return Response(
        msgspec.json.encode(ApiError(words)), status, {**HEADERS, **more}, "application/json"
    )
