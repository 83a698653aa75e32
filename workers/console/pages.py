"""Pages for the operator: what flows, what became of a message, lanes, accounts, people."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from common.clock import now_ms
from common.model import Decision, Vendor
from common.storage.audit import SHOWN_MAX as SHOWN_LINES
from workers.console.accounts import FIELDS
from workers.console.api import ApiRefusal, cursor_text, read_cursor
from workers.console.charts import SPANS, flows, series
from workers.console.frame import REFRESH_S, Frame, Visitor
from workers.console.look import ConsoleStores, Dashboard, Ports
from workers.console.words import note_words

log = logging.getLogger(__name__)

#: Seconds that a page waits for the counts of a message's rows; later ones appear on reload.
COUNTS_S = 0.15
#: Recipients that a message's page shows at once; the counts are of all.
SHOWN_MAX: Final = 100
LETTERS_MAX: Final = 200
#: Lanes and accounts that a page shows at once; a search finds the others.
ROWS_MAX: Final = 200
#: Of an overview: lanes, those that do not flow first; findings before "more".
OVERVIEW_LANES_MAX: Final = 20
PROBLEMS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Which lanes or accounts are asked for. q: a part of the app or of the business id."""

    q: str
    vendor: str
    state: str

    @classmethod
    def read(cls, request: Request) -> Narrowed:
        return cls(*(request.query_params.get(name, "")[:64].strip() for name in cls.__slots__))

    @property
    def asked(self) -> bool:
        return bool(self.q or self.vendor or self.state)

    @property
    def query(self) -> str:
        """As a page is asked for it, "" where nothing is."""
        asked = {name: value for name in self.__slots__ if (value := getattr(self, name))}
        return f"?{urlencode(asked)}" if asked else ""

    @property
    def vendors(self) -> list[str]:
        return [vendor.value for vendor in Vendor]

    def takes(self, row: Mapping[str, Any]) -> bool:
        part = self.q.lower()
        return (
            (part in row["app"].lower() or part in row["business_id"].lower())
            and self.vendor in ("", row["vendor"])
            and self.state in ("", row.get("state", self.state))
        )


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
        calm_last = sorted(view.lanes, key=lambda lane: lane["state"] == "flowing")
        return self._frame.page(
            request,
            visitor,
            "overview",
            view=view,
            refresh=REFRESH_S,
            span=span,
            lanes=calm_last[:OVERVIEW_LANES_MAX],
            problems_max=PROBLEMS_MAX,
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
        flow, narrowed = flows(self._stores.tallies, now_ms()), Narrowed.read(request)
        found = [lane for lane in self._ports.lanes(visitor.lang) if narrowed.takes(lane)]
        lanes = [
            {**lane, "flow": flow.get((lane["app"], lane["vendor"], lane["business_id"]), 0.0)}
            for lane in found[:ROWS_MAX]
        ]
        return self._frame.page(
            request, visitor, "lanes", lanes=lanes, found=len(found), narrowed=narrowed
        )

    def credentials(
        self, request: Request, visitor: Visitor, checked: Mapping[str, Any] | None = None
    ) -> Response:
        """The accounts. checked: what the vendor said of one of them."""
        narrowed = Narrowed.read(request)
        found = [row for row in self._stores.credentials.listed() if narrowed.takes(row)]
        return self._frame.page(
            request,
            visitor,
            "credentials",
            rows=found[:ROWS_MAX],
            found=len(found),
            narrowed=narrowed,
            vendors=list(FIELDS),
            checked=checked,
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
        person, tenant = None, True
        if query["app"] and query["user"]:
            person = self._ports.person(query["app"], query["user"])
            tenant = query["app"] in self._stores.tenants.all()
        return self._frame.page(
            request, visitor, "people", query=query, person=person, tenant=tenant
        )

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
