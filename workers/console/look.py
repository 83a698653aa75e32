"""The data of the pages, read from the stores: flow, lanes, open problems.

They hold no token, secret or text.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from sqlalchemy.exc import DBAPIError, OperationalError

from common.clock import now_ms
from common.model import Vendor
from common.storage import keys
from common.storage.api_tokens import ApiTokens
from common.storage.audit import Audit
from common.storage.credentials import Credentials
from common.storage.dead_letters import DeadLetters
from common.storage.event_rows import Cursor
from common.storage.lanes import LaneStates
from common.storage.ledger_reads import LastHour, LedgerReader
from common.storage.living import Heartbeats
from common.storage.shards import JointStreams
from common.storage.streams import StreamStore
from common.storage.tallies import Tallies
from common.storage.tenants import Tenants
from common.storage.users import Users
from workers import shards
from workers.console.charts import Funnel, funnel
from workers.shards import ServerStores, Shard

log = logging.getLogger(__name__)

#: An entry of this age is worth a look; of that age it needs a hand, ms.
SLOW_MS, LATE_MS = 10_000, 60_000
LAST_HOUR_KEPT_S = 10.0
#: Between two examinations for the overview: each takes connections to every vendor.
EXAMINED_EVERY_S = 60.0


class Changed(Protocol):
    def announce(self) -> bool: ...


class ConsoleStores(ServerStores, Protocol):
    """The part of the runtime that the console uses."""

    @property
    def living(self) -> Heartbeats: ...
    @property
    def streams(self) -> StreamStore: ...
    @property
    def shards(self) -> Sequence[Shard]: ...
    @property
    def joint_streams(self) -> JointStreams | None: ...
    @property
    def reports(self) -> LedgerReader: ...
    @property
    def credentials(self) -> Credentials: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def users(self) -> Users: ...
    @property
    def catalog(self) -> Changed: ...
    @property
    def lane_states(self) -> LaneStates: ...
    @property
    def api_tokens(self) -> ApiTokens: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def tallies(self) -> Tallies: ...
    @property
    def tenants(self) -> Tenants: ...


class Examined(Protocol):
    """A finding of doctor (workers/reports/findings.py)."""

    @property
    def check(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def note(self) -> bool: ...
    @property
    def since_ms(self) -> int | None: ...
    @property
    def page(self) -> str: ...
    def words(self, lang: str) -> str: ...
    def help(self, lang: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The functions of the layers above: traces, replays, the lanes' rows (contract §7, §9).

    replay: None when done, else the reason.
    """

    replay: Callable[[str], str | None]
    lanes: Callable[[str], list[dict[str, Any]]]  # (language)
    #: (app, user) -> workers/reports/person.py; (app, user, device, state wanted) -> whether it was
    #: changed
    person: Callable[[str, str], dict[str, Any]]
    set_device: Callable[[str, str, str, str], bool]
    #: (message id, app, user, decision, after, rows at most, patience s) ->
    #: workers/reports/trace.py: trace_page
    trace: Callable[
        [str, str | None, str | None, str | None, Cursor | None, int, float], dict[str, Any] | None
    ]
    #: doctor's findings: those that change from minute to minute (the lanes' rows); all others,
    #: which take seconds
    current: Callable[[Sequence[Mapping[str, Any]]], Sequence[Examined]]
    examine: Callable[[], Sequence[Examined]]
    #: (app, user) -> the message id of a test push; None: no such tenant
    test_push: Callable[[str, str], str | None]
    #: (vendor, app, business id, options of accounts.py, rotate) -> what was wrong; None: stored
    store_account: Callable[[str, str, str, Mapping[str, Any], bool], str | None]
    #: (app, vendor, business id) -> (True when the vendor accepts it, message)
    check_account: Callable[[str, str, str], tuple[bool, str]]


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    entries: int
    age_ms: int | None

    @property
    def status(self) -> str:
        age = self.age_ms or 0
        return "bad" if age > LATE_MS else "slow" if age > SLOW_MS else "good"


@dataclass(frozen=True, slots=True)
class Examination:
    """Doctor's last findings; problems: those that need a person."""

    at_ms: int
    count: int
    problems: Sequence[Examined]


@dataclass(frozen=True, slots=True)
class Overview:
    """last_hour None: too many rows to count now."""

    at_ms: int
    queues: Sequence[Queue]
    last_hour: LastHour | None
    lanes: Sequence[Mapping[str, Any]]
    letters: int
    processes: Sequence[str]
    problems: Sequence[Examined] = field(default_factory=tuple)
    funnel: Funnel | None = None
    examined: Examination | None = None

    @property
    def wrong(self) -> int:
        return len(self.problems)

    @property
    def waiting(self) -> int:
        return sum(queue.entries for queue in self.queues)

    @property
    def accepted(self) -> int:
        return (
            sum(counts.get("accepted", 0) for counts in self.last_hour.decisions.values())
            if self.last_hour
            else 0
        )


class Dashboard:
    def __init__(self, stores: ConsoleStores, ports: Ports) -> None:
        self._stores = stores
        self._ports = ports
        self._lock = threading.Lock()
        self._examination: Examination | None = None
        self._examine_at = 0.0
        self._examining = threading.Lock()
        self._last_hour: tuple[float, LastHour | None] = (-LAST_HOUR_KEPT_S, None)

    def overview(self, lang: str) -> Overview:
        now = now_ms()
        queues, lanes, letters, roles = (
            self.queues(now),
            self._ports.lanes(lang),
            self._stores.dead_letters.counts(),
            self._stores.living.roles(),
        )
        count, examined = sum(letters.values()), self.examination()
        problems = [
            *_looked_at(self._ports.current(lanes)),
            *(examined.problems if examined else ()),
        ]
        return Overview(
            now,
            queues,
            self.last_hour(now),
            lanes,
            count,
            list(roles),
            problems,
            funnel(self._stores.tallies, now),
            examined,
        )

    def queues(self, now: int) -> list[Queue]:
        """From the core's streams to the ledger; a vendor's streams of all urgencies as one."""
        stores = self._stores
        found = []
        for stream in stores.settings.event_streams:
            first = cast(Any, stores.core.xrange(stream, count=1))
            found.append(
                Queue(
                    stream,
                    int(stores.core.xlen(stream)),
                    now - int(first[0][0].split(b"-")[0]) if first else None,
                )
            )
        answering = shards.answering(stores)
        backlog = {
            **shards.backlog(answering, (*keys.STREAMS, keys.LEDGER, keys.RECEIPTS)),
            **shards.lanes_backlog(answering),
        }
        groups: dict[str, tuple[str, ...]] = dict(keys.STAGE_STREAMS)
        groups |= {f"send {vendor}": keys.SEND[vendor] for vendor in Vendor}
        groups |= {keys.LEDGER: (keys.LEDGER,), keys.RECEIPTS: (keys.RECEIPTS,)}
        for name, streams in groups.items():
            parts = [backlog[stream_name] for stream_name in streams if stream_name in backlog]
            oldest = min(
                (part.oldest_ms for part in parts if part.oldest_ms is not None), default=None
            )
            depth = sum(part.unread + part.pending for part in parts)
            found.append(
                Queue(name, depth, max(now - oldest, 0) if oldest is not None and depth else None)
            )
        count, due = shards.delayed_waiting(answering)
        found.append(Queue("delayed", count, max(now - due, 0) if due is not None else None))
        return found

    def examination(self) -> Examination | None:
        """Doctor's last findings; None: not yet.

        Doctor runs every EXAMINED_EVERY_S seconds while the page is viewed, in a thread of its own.
        """
        if time.monotonic() >= self._examine_at and self._examining.acquire(blocking=False):
            threading.Thread(target=self._examine, name="doctor", daemon=True).start()
        return self._examination

    def _examine(self) -> None:
        try:
            found = list(self._ports.examine())
            self._examination = Examination(now_ms(), len(found), _looked_at(found))
        except Exception as error:  # noqa: BLE001 - the page goes on without it
            log.warning("the examination broke", extra={"reason": type(error).__name__})
        finally:
            self._examine_at = time.monotonic() + EXAMINED_EVERY_S
            self._examining.release()

    def last_hour(self, now: int) -> LastHour | None:
        """Counted at most each LAST_HOUR_KEPT_S seconds, however many people look."""
        with self._lock:
            if time.monotonic() - self._last_hour[0] >= LAST_HOUR_KEPT_S:
                try:
                    self._last_hour = (time.monotonic(), self._stores.reports.last_hour(now))
                except OperationalError as error:
                    if not _took_too_long(error):
                        raise
                    self._last_hour = (time.monotonic(), None)
            return self._last_hour[1]

    def targets(self) -> list[dict[str, Any]]:
        """Prometheus' http_sd: every process that serves metrics, or should."""
        return [
            {"targets": [address], "labels": {"process": name}}
            for name, address in self._stores.living.targets().items()
        ]


def _looked_at(found: Sequence[Examined]) -> list[Examined]:
    return [one for one in found if one.note or not one.ok]


def _took_too_long(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == "57014"


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One line of a recipient's trace. id: the vendor's, of an attempt."""

    at_ms: int
    stage: str
    words: str
    id: str = ""


def happened(one: Mapping[str, Any]) -> list[ChartLine]:
    """All that a recipient's row knows, as it happened."""
    lines = [ChartLine(step["at_ms"], step["stage"], step["note"]) for step in one["steps"]]
    for each in one["attempts"]:
        words = f"{each['status']} {each['code']} {each['words']}"
        lines.append(
            ChartLine(each["at_ms"], "attempt", words.strip(), each["vendor_message_id"] or "")
        )
    lines += [ChartLine(each["at_ms"], "receipt", each["status"]) for each in one["receipts"]]
    return sorted(lines, key=lambda line: line.at_ms)


def age_of(ms: int | None) -> str:
    """Short for people, in any language: 0.4s, 12s, 3m, 2h, 5d."""
    if ms is None:
        return ""
    seconds = max(ms, 0) / 1000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"


def since_ms(at_ms: int, from_ms: int) -> str:
    """Short for people: 35ms, 1.2s, 3m."""
    ms = max(at_ms - from_ms, 0)
    return f"{ms}ms" if ms < 1000 else age_of(ms)


def day_of(ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(ms / 1000))


def zone() -> str:
    """Of the server's local time, as +08:00."""
    words = time.strftime("%z", time.localtime())
    return f"{words[:3]}:{words[3:]}"


def time_of(ms: int | None) -> str:
    """Local time of the server, to the millisecond."""
    if not ms:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000)) + f".{ms % 1000:03d}"
