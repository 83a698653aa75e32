"""Pages for the operator: what flows, what became of a message, lanes, accounts, people."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from common.clock import now_ms
from common.model import Decision, Vendor
from common.storage.audit import SHOWN_MAX as SHOWN_LINES
from workers.console.accounts import FIELDS
from workers.console.api import ApiRefusal, cursor_text, read_cursor
from workers.console.charts import SPANS, flows, series
from workers.console.frame import Frame, Visitor
from workers.console.look import ConsoleStores, Dashboard, Ports
from workers.console.words import note_words

log = logging.getLogger(__name__)

#: Seconds that a page waits for the counts of a message's rows; later ones appear on reload.
COUNTS_S = 0.15
#: Recipients that a message's page shows at once; the counts are of all.
SHOWN_MAX: Final = 100
LETTERS_MAX: Final = 200
#: Between two looks of an open overview, seconds.
REFRESH_S: Final = 10


class Pages:
    """What the stores hold, for people."""

    def __init__(self, frame: Frame, stores: ConsoleStores, ports: Ports) -> None:
        self._frame = frame
        self._stores = stores
        self._ports = ports
        self._look = Dashboard(stores, ports)

    def overview(self, request: Request, visitor: Visitor) -> Response:
        span = request.query_params.get("span", "hour")
        view = self._look.overview(visitor.lang)
        span = span if span in SPANS else "hour"
        return self._frame.page(
            request, visitor, "overview", view=view, refresh=REFRESH_S, span=span
        )

    def messages(self, request: Request, visitor: Visitor) -> Response:
        query = {
            name: request.query_params.get(name, "").strip()[:256] for name in ("id", "user", "app")
        }
        decision, trace = request.query_params.get("decision"), None
        decision = decision if decision == "" or decision in set(Decision) else None
        if query["id"] and "\0" not in "".join(query.values()):
            try:
                after = read_cursor(found) if (found := request.query_params.get("after")) else None
            except ApiRefusal:
                after = None
            trace = self._ports.trace(
                query["id"],
                query["app"] or None,
                query["user"] or None,
                decision,
                after,
                SHOWN_MAX,
                COUNTS_S,
            )
        more = cursor_text(trace["next"]) if trace and trace["next"] else None
        total = sum(trace["counts"].values()) if trace and trace["counts"] is not None else None
        return self._frame.page(
            request,
            visitor,
            "messages",
            query=query,
            trace=trace,
            decision=decision,
            more=more,
            total=total,
        )

    def lanes(self, request: Request, visitor: Visitor) -> Response:
        flow = flows(self._stores.tallies, now_ms())
        lanes = [
            {**lane, "flow": flow.get((lane["app"], lane["vendor"], lane["business_id"]), 0.0)}
            for lane in self._ports.lanes(visitor.lang)
        ]
        return self._frame.page(request, visitor, "lanes", lanes=lanes)

    def credentials(self, request: Request, visitor: Visitor) -> Response:
        rows = self._stores.credentials.listed()
        return self._frame.page(request, visitor, "credentials", rows=rows, vendors=list(FIELDS))

    def account_page(
        self,
        request: Request,
        visitor: Visitor,
        wrong: str = "",
        fields: Mapping[str, str] | None = None,
    ) -> Response:
        """The form of a new account of a vendor, or of a known one's new secrets."""
        if not visitor.may_admin:
            return self._frame.refusal(visitor, "not_allowed", 403)
        query = {
            name: request.query_params.get(name, "")[:64]
            for name in ("vendor", "app", "business_id")
        }
        if fields is not None:
            query |= {name: fields.get(name, "") for name in query}
        if query["vendor"] not in set(Vendor):
            return self._frame.refusal(visitor, "gone", 404)
        key = query["app"], query["vendor"], query["business_id"]
        rows = self._stores.credentials.listed()
        old = next(
            (row for row in rows if (row["app"], row["vendor"], row["business_id"]) == key), None
        )
        kinds = FIELDS[Vendor(query["vendor"])]
        shown = {"query": query, "old": old, "kinds": kinds, "wrong": wrong, "fields": fields or {}}
        return self._frame.page(request, visitor, "account", 400 if wrong else 200, **shown)

    def audit(self, request: Request, visitor: Visitor) -> Response:
        before = request.query_params.get("before", "")
        rows = self._stores.audit.listed(
            int(before) if before.isascii() and before.isdigit() and len(before) < 18 else None
        )
        return self._frame.page(
            request,
            visitor,
            "audit",
            rows=rows,
            before=rows[-1]["id"] if len(rows) == SHOWN_LINES else None,
        )

    def charts(self, request: Request, visitor: Visitor) -> Response:
        span = request.query_params.get("span", "hour")
        drawn = series(self._stores.tallies, span if span in SPANS else "hour", now_ms())
        named = {note_words(name, visitor.lang): line for name, line in drawn["backlog"].items()}
        return JSONResponse({**drawn, "backlog": named})

    def letters(self, request: Request, visitor: Visitor) -> Response:
        letters, counts = (
            self._stores.dead_letters.heads(limit=LETTERS_MAX),
            self._stores.dead_letters.counts(),
        )
        groups = self._stores.dead_letters.groups()
        return self._frame.page(
            request, visitor, "letters", letters=letters, counts=counts, groups=groups
        )

    def people(self, request: Request, visitor: Visitor) -> Response:
        query = {name: request.query_params.get(name, "").strip()[:512] for name in ("app", "user")}
        person = (
            self._ports.person(query["app"], query["user"])
            if query["app"] and query["user"]
            else None
        )
        return self._frame.page(request, visitor, "people", query=query, person=person)

    def targets(self, _request: Request) -> Response:
        """The processes that serve metrics, from Redis.

        Without Redis 503: Prometheus then keeps its list.
        """
        try:
            return JSONResponse(self._look.targets())
        except (RedisError, OSError) as error:
            log.warning(
                "no process that serves metrics is known", extra={"reason": type(error).__name__}
            )
            return JSONResponse({"error": "Redis is away"}, 503)
