"""The rows of one event, a page at a time: what stays quick for a message to a million people."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, func, literal, select, text, tuple_
from sqlalchemy.exc import OperationalError

from common.ledger_records import unpack_users
from common.storage import sql
from common.storage.ledger_reads import COUNT_MS_MAX, paged_rows
from common.storage.tables import ledger_all as ledger
from common.storage.tables import notes, pages

#: (user, device) after which a page begins; for rows in pages of people, (PAGED, their number).
Cursor = tuple[str, str]
#: No user id: PostgreSQL stores no U+0000.
PAGED: Final = "\0"

#: Lifetime of an event's counts: seconds, and a multiple of the time that counting took.
COUNTS_KEPT_S, COUNTS_KEPT_TIMES = 2.0, 20.0
COUNTS_KEPT_MAX: Final = 256
#: Fewer rows are counted each time: what took long was the machine, and rows still come.
KEPT_FROM_ROWS: Final = 2_000

#: Events that are counted at the same time, and those that may wait for it.
COUNTERS: Final = 2
WAITING_MAX: Final = 64
#: Deadline of one count, seconds: the server's own bound, and connecting.
COUNT_S_MAX: Final = COUNT_MS_MAX / 1000 + 2.0
#: Longest wait for counts in seconds.
PATIENCE_S: Final = 2 * COUNT_S_MAX

_EventKey = tuple[int, Any, str, str]
_counts: OrderedDict[_EventKey, tuple[float, dict[str, int] | None]] = OrderedDict()
_under_way: dict[_EventKey, Future[dict[str, int] | None]] = {}
_counters = ThreadPoolExecutor(COUNTERS, thread_name_prefix="counts")
_lock = threading.Lock()


class EventRows:
    """event: of LedgerReader.find."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def counts(self, event: Mapping[str, Any]) -> dict[str, int] | None:
        """decision ("" while waiting) -> rows, the most first; None beyond COUNT_MS_MAX.

        Pages are counted by their size, without being opened: a person on two pages of one event
        (a group that was read again has other pages) counts twice.
        """
        return self.counts_soon(event, PATIENCE_S)[0]

    def counts_soon(
        self, event: Mapping[str, Any], patience_s: float
    ) -> tuple[dict[str, int] | None, bool]:
        """(counts as `counts`, True while counting). It waits for `patience_s` at most.

        Counting then continues in the background; the last counts are returned until it ends.
        Nothing is begun while WAITING_MAX events wait to be counted.
        """
        key = (id(self._engine), event["day"], event["app"], event["event_id"])
        with _lock:
            until, last = _counts.get(key, (0.0, None))
            if time.monotonic() < until:
                return last, False
            counting = _under_way.get(key)
            if counting is None and len(_under_way) >= WAITING_MAX:
                return last, True
            if counting is None or counting.done():
                counting = _under_way[key] = _counters.submit(self._counted, key, dict(event))
        try:
            return counting.result(patience_s), False
        except TimeoutError:
            return last, True

    def _counted(self, key: _EventKey, event: Mapping[str, Any]) -> dict[str, int] | None:
        began = time.monotonic()
        try:
            found = self._count(event)
            took = time.monotonic() - began
            kept_s = max(COUNTS_KEPT_S if took > 0.1 else 0.0, took * COUNTS_KEPT_TIMES)
            if found is not None and sum(found.values()) < KEPT_FROM_ROWS:
                kept_s = 0.0  # shown only to whom the next count takes too long
            with _lock:
                _counts[key] = (time.monotonic() + kept_s, found)
                _counts.move_to_end(key)
                while len(_counts) > COUNTS_KEPT_MAX:
                    _counts.popitem(last=False)
            return found
        finally:
            with _lock:
                _under_way.pop(key, None)

    def _count(self, event: Mapping[str, Any]) -> dict[str, int] | None:
        found: dict[str, int] = {}
        try:
            with sql.within(COUNT_S_MAX), self._engine.begin() as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = {COUNT_MS_MAX}"))
                own = (
                    select(ledger.c.decision, func.count())
                    .where(*_of(ledger, event))
                    .group_by(ledger.c.decision)
                )
                paged = (
                    select(pages.c.decision, func.sum(pages.c.count))
                    .where(*_of(pages, event))
                    .group_by(pages.c.decision)
                )
                for decision, count in (*connection.execute(own), *connection.execute(paged)):
                    found[decision or ""] = found.get(decision or "", 0) + int(count)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "57014":
                raise
            return None
        return dict(sorted(found.items(), key=lambda one: -one[1]))

    def page(
        self,
        event: Mapping[str, Any],
        user: str | None,
        decision: str | None,
        after: Cursor | None,
        most: int,
    ) -> tuple[list[dict[str, Any]], Cursor | None]:
        """(at most `most` rows, the start of the next page; None: no more).

        decision "": rows that wait.
        """
        found: list[dict[str, Any]] = []
        with self._engine.connect() as connection:
            if after is None or after[0] != PAGED:
                statement = select(ledger).where(*_of(ledger, event), *_narrow(user, decision))
                if after is not None:
                    statement = statement.where(
                        tuple_(ledger.c.user, ledger.c.device) > tuple_(*map(literal, after))
                    )
                ordered = statement.order_by(ledger.c.user, ledger.c.device).limit(most + 1)
                found = [dict(row) for row in connection.execute(ordered).mappings()]
                if len(found) > most:
                    return found[:most], (found[most - 1]["user"], found[most - 1]["device"])
            start = int(after[1]) if after is not None and after[0] == PAGED else 0
            more, following = self._people(
                connection, event, user, decision, start, most - len(found)
            )
        return [*found, *more], following

    def _people(
        self,
        connection: Any,
        event: Mapping[str, Any],
        user: str | None,
        decision: str | None,
        start: int,
        most: int,
    ) -> tuple[list[dict[str, Any]], Cursor | None]:
        """Rows of the event's pages of people, from number `start` on."""
        if decision == "":
            return [], None
        heads = (
            select(pages.c.page, pages.c.count)
            .where(*_of(pages, event))
            .order_by(pages.c.decided_ms, pages.c.page)
        )
        if decision is not None:
            heads = heads.where(pages.c.decision == decision)
        before, found = 0, list[dict[str, Any]]()
        for page, count in connection.execute(heads).all():
            if before + count > start or user is not None:
                query = select(pages).where(*_of(pages, event), pages.c.page == page)
                whole = dict(connection.execute(query).mappings().one())
                first = 0 if user is not None else max(start - before, 0)
                people = unpack_users(whole["users"])[
                    first : None if user is not None else first + most - len(found)
                ]
                found += self._unknown(connection, event, whole, people, user)
                start = before + first + len(people)
                if user is not None and found:
                    return found, None
                if user is None and (len(found) >= most or first + len(people) < count):
                    return found, (PAGED, str(start))
            before += count
        return found, None

    def _unknown(
        self,
        connection: Any,
        event: Mapping[str, Any],
        page: dict[str, Any],
        people: Sequence[str],
        user: str | None,
    ) -> list[dict[str, Any]]:
        """Rows of these people, except those with a row of their own."""
        own = select(ledger.c.user).where(
            *_of(ledger, event), ledger.c.device == "", ledger.c.user.in_(list(people))
        )
        wanted = set(people) - set(connection.execute(own).scalars())
        return [row for row in paged_rows([page], set(), user) if row["user"] in wanted]

    def notes(self, event: Mapping[str, Any], people: Sequence[str]) -> list[dict[str, Any]]:
        """Steps and receipts of these people and of the whole event, in order of time."""
        about = notes.c.user.in_(["", *people])
        with self._engine.connect() as connection:
            found = []
            for kind in ("step", "receipt"):
                statement = select(notes).where(
                    *_of(notes, event), about, notes.c.kind == literal(kind, literal_execute=True)
                )
                found += [dict(row) for row in connection.execute(statement).mappings()]
        return sorted(found, key=lambda note: note["at_ms"])


def _of(table: Any, event: Mapping[str, Any]) -> Sequence[ColumnElement[bool]]:
    return (
        table.c.day == event["day"],
        table.c.app == event["app"],
        table.c.event_id == event["event_id"],
    )


def _narrow(user: str | None, decision: str | None) -> list[ColumnElement[bool]]:
    wanted = [] if user is None else [ledger.c.user == user]
    if decision is not None:
        wanted.append(ledger.c.decision == decision if decision else ledger.c.decision.is_(None))
    return wanted
