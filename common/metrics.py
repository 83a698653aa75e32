"""Every metric of the fleet in one place (contract §10), and the small server that shows them.

Labels come from closed sets: what arrives from outside goes through `dialect`, `request_status` and
their like first, so that no token, user id or text can become a label and no stranger can make a
million series.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import json
import logging
import os
import socket
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from common import runfile
from common.config import Settings
from common.model import Vendor
from common.setting_checks import host_port, is_loopback

log = logging.getLogger(__name__)

disable_created_metrics()  # type: ignore[no-untyped-call]

#: Number of ports tried from PUSHFLEET_METRICS_PORT on.
PORTS_MAX: Final = 100
#: A probe gets its answer within this, seconds; a server that has not answered us by then is not
#: there.
CHECK_S_MAX: Final = 3.0
#: Interval of the server thread's shutdown check; it is never shut down.
POLL_S: Final = 5.0
#: Calls at a time, and how long one may take, its head and the reading of its answer included.
CALLS_MAX: Final = 32
CALL_S_MAX: Final = 15.0
#: Seconds that a process of this machine may take to accept a connection before it counts as gone.
LISTENS_S_MAX: Final = 1.0
NONE: Final = "none"
VENDORS: Final = frozenset(vendor.value for vendor in Vendor)
DIALECTS: Final = frozenset({"native", "tencent", "zego", "nim"})
REQUEST_FAILURES: Final = frozenset({"timeout", "refused", "reset"})
LANE: Final = ("app", "vendor", "business_id")
FAST: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
SLOW: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)

EVENTS: Final = Counter(
    "pushfleet_events_total",
    "Events read from the core, by what became of them.",
    ("type", "result"),
)
IGNORED: Final = Counter(
    "pushfleet_ignored_total", "Events or fields that changed nothing, by reason.", ("reason",)
)
DECISIONS: Final = Counter(
    "pushfleet_decisions_total",
    "Final decisions, one a recipient and device.",
    ("vendor", "decision", "class"),
)
STAGE_SECONDS: Final = Histogram(
    "pushfleet_stage_seconds", "Time one batch spends in a stage.", ("stage",), buckets=FAST
)
STORED_TO_ACCEPTED_SECONDS: Final = Histogram(
    "pushfleet_stored_to_accepted_seconds",
    "From the event's ts to the vendor's acceptance.",
    ("vendor", "class"),
    buckets=SLOW,
)
VENDOR_REQUEST_SECONDS: Final = Histogram(
    "pushfleet_vendor_request_seconds", "One request to a vendor.", ("vendor",), buckets=FAST
)
VENDOR_REQUESTS: Final = Counter(
    "pushfleet_vendor_requests_total",
    "Requests to a vendor, by HTTP status or failure.",
    ("vendor", "status"),
)
BACKLOG: Final = Gauge("pushfleet_backlog", "Entries waiting in a queue.", ("queue",))
OLDEST_SECONDS: Final = Gauge(
    "pushfleet_oldest_seconds", "Age of the oldest entry of a queue.", ("queue",)
)
QUEUE_WAIT_SECONDS: Final = Gauge(
    "pushfleet_queue_wait_seconds",
    "How long work that could be done now has waited for a worker to take it: more replicas "
    "help while it grows.",
    ("stage", "vendor"),
)
QUEUE_BYTES: Final = Gauge(
    "pushfleet_queue_bytes", "Bytes of pushes that wait in a lane's queues, retries included.", LANE
)
QUOTA_USED: Final = Gauge(
    "pushfleet_quota_used", "Pushes sent on the vendor's day.", (*LANE, "bucket")
)
QUOTA_LIMIT: Final = Gauge(
    "pushfleet_quota_limit", "Pushes that may be sent on the vendor's day.", (*LANE, "bucket")
)
LANE_STATE: Final = Gauge("pushfleet_lane_state", "0 flowing, 1 probing, 2 stopped.", LANE)
LANE_CHANGES: Final = Counter(
    "pushfleet_lane_changes_total",
    "Changes of lanes' states, by cause.",
    ("vendor", "state", "cause"),
)
PROCESSES_MISSING: Final = Gauge(
    "pushfleet_processes_missing", "1: no process serves this line of the Procfile.", ("worker",)
)
BUILD_INFO: Final = Gauge(
    "pushfleet_build_info", "1, with the version of this process.", ("version",)
)
RETRIES: Final = Counter(
    "pushfleet_retries_total", "Pushes that go again, by reason.", ("vendor", "reason")
)
TOKENS_RETIRED: Final = Counter(
    "pushfleet_tokens_retired_total", "Device tokens retired.", ("vendor",)
)
LANE_PAUSED: Final = Gauge("pushfleet_lane_paused", "1 while an operator holds the lane.", LANE)
LANE_STOPPED_SINCE: Final = Gauge(
    "pushfleet_lane_stopped_since",
    "Seconds since 1970 at which a lane stopped; why: the words of `pushfleet lanes`.",
    (*LANE, "why"),
)
REDIS_MEMORY: Final = Gauge(
    "pushfleet_redis_memory_ratio",
    "Used memory of a server's maxmemory, 0 without one.",
    ("server",),
)
SHARD_AWAY: Final = Gauge(
    "pushfleet_shard_away",
    "1 while a shard's node does not answer: the other gauges are without it.",
    ("shard",),
)
TOKEN_GUARD: Final = Gauge(
    "pushfleet_token_guard", "1 while the mass guard has stopped the retiring of tokens.", LANE
)
UNKNOWN_CODES: Final = Counter(
    "pushfleet_unknown_codes_total", "Answers with a code nobody documents.", ("vendor",)
)
UNKNOWN_FIELDS: Final = Counter(
    "pushfleet_unknown_fields_total",
    "Fields of a callback that its dialect does not know.",
    ("dialect",),
)
DEAD_LETTERS: Final = Gauge("pushfleet_dead_letters", "Dead letters kept, by stage.", ("stage",))
CREDENTIAL_EXPIRES_SECONDS: Final = Gauge(
    "pushfleet_credential_expires_seconds", "Until a credential expires.", LANE
)
DOOR_REQUESTS: Final = Counter(
    "pushfleet_door_requests_total",
    "Requests of IM servers and clouds, by HTTP status.",
    ("door", "status"),
)
RECEIPTS: Final = Counter(
    "pushfleet_receipts_total", "Receipts of the vendors.", ("vendor", "status")
)


def version() -> str:
    """The version of the installed distribution; `unknown` in a tree without an installation."""
    try:
        return importlib.metadata.version("pushfleet")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Many observations of one (labelled) histogram: each bucket's lock is taken once."""
    bounds, buckets = histogram._upper_bounds, histogram._buckets  # noqa: SLF001 - a test holds it equal to observe()
    histogram._sum.inc(sum(amounts))  # noqa: SLF001
    ordered, before = sorted(amounts), 0
    for bound, bucket in zip(bounds, buckets, strict=True):
        upto = bisect_right(ordered, bound, before)
        if upto > before:
            bucket.inc(upto - before)
            before = upto
        if before == len(ordered):
            return


#: Gauges of the whole fleet, reported by the active upkeep only: two processes would contradict
#: each other.
FLEET_GAUGES: Final = (
    *(
        BACKLOG,
        OLDEST_SECONDS,
        QUEUE_WAIT_SECONDS,
        QUEUE_BYTES,
        QUOTA_USED,
        QUOTA_LIMIT,
        LANE_STATE,
        TOKEN_GUARD,
        DEAD_LETTERS,
        CREDENTIAL_EXPIRES_SECONDS,
        *(PROCESSES_MISSING, LANE_PAUSED, LANE_STOPPED_SINCE, REDIS_MEMORY, SHARD_AWAY),
    ),
)
_shown: dict[Gauge, dict[tuple[str, ...], float]] = {}


def show(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    """Sets these series of a fleet-wide gauge and removes all others. One thread per gauge.

    A removed account has no state any more.
    """
    shown = _shown.get(gauge, {})
    for labels, value in values.items():
        if shown.get(labels) != value:
            gauge.labels(*labels).set(value)
    for labels in shown.keys() - values.keys():
        gauge.remove(*labels)
    _shown[gauge] = dict(values)


def hide() -> None:
    """Clears the fleet-wide gauges: another process reports them now."""
    for gauge in FLEET_GAUGES:
        show(gauge, {})


def begin(vendors: Iterable[str] = (), dialects: Iterable[str] = ()) -> None:
    """Shows 0 where an alert asks for an increase: a series that begins at 1 has none."""
    for vendor in vendors:
        TOKENS_RETIRED.labels(vendor)
        UNKNOWN_CODES.labels(vendor)
    for name in dialects:
        UNKNOWN_FIELDS.labels(name)


def dialect(value: str) -> str:
    return value if value in DIALECTS else "other"


def request_status(value: int | str) -> str:
    """An HTTP status as its digits, or `timeout`, `refused`, `reset`; anything else is `other`."""
    text = str(value)
    known = text in REQUEST_FAILURES or (
        text.isascii() and text.isdigit() and 100 <= int(text[:4]) <= 599
    )
    return text if known else "other"


# ---------------------------------------------------------------- the server


class _Bounded:
    """A check that fails when it takes too long, as with a hanging server.

    It is not started again while it hangs.
    """

    def __init__(self, check: Callable[[], bool], seconds: float) -> None:
        self._check = check
        self._seconds = seconds
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._good = False

    def __call__(self) -> bool:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._good = False
                self._thread = threading.Thread(target=self._run, name="check", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(self._seconds)
        return self._good and not thread.is_alive()

    def _run(self) -> None:
        self._good = _asked(self._check)


@dataclass(frozen=True, slots=True)
class _Checks:
    name: str
    health: Callable[[], bool]
    ready: Callable[[], bool]


def serve_metrics(
    settings: Settings, name: str, health: Callable[[], bool], ready: Callable[[], bool]
) -> int | None:
    """Serves /metrics, /healthz and /readyz (200 or 503, within CHECK_S_MAX) from a thread.

    It takes the first free of PORTS_MAX ports. Returns the port; None when PUSHFLEET_METRICS_PORT
    is 0 or no port is free (logged: a process without metrics still works). Binds
    PUSHFLEET_METRICS_ADDR, else the console's address: loopback by default. The URL is in run.json
    until the exit.
    """
    if settings.metrics_port == 0:
        return None
    host = _bound(settings)
    checks = _Checks(name, _Bounded(health, CHECK_S_MAX), _Bounded(ready, CHECK_S_MAX))
    server = _first_free(
        host, range(settings.metrics_port, min(settings.metrics_port + PORTS_MAX, 65_536)), checks
    )
    if server is None:
        log.error("no free port for metrics", extra={"port": settings.metrics_port})
        return None
    port = int(server.server_address[1])
    threading.Thread(
        target=server.serve_forever, args=(POLL_S,), name="metrics", daemon=True
    ).start()
    url = f"http://{target(settings, port)}/metrics"
    log.info("metrics are served", extra={"url": url})
    _announce(settings, url)
    return port


class _Places(ThreadingHTTPServer):
    """A server with a bound on concurrent calls and on their time.

    Slow calls are ended; without a free place the oldest one is.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._calls: dict[int, socket.socket] = {}
        self._calls_lock = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        timer = threading.Timer(CALL_S_MAX, _hang_up, (request,))
        timer.daemon = True
        timer.start()
        with self._calls_lock:
            while len(self._calls) >= CALLS_MAX:
                _hang_up(self._calls.pop(next(iter(self._calls))))
            self._calls[id(request)] = request
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            with self._calls_lock:
                self._calls.pop(id(request), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hung up, or was made to, is no news."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _first_free(host: str, ports: Iterable[int], checks: _Checks) -> ThreadingHTTPServer | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Server(_Places):
        address_family = family
        daemon_threads = True
        # a process that was killed comes back on its own port, though calls of its last life are in
        # TIME_WAIT there; a second listener is still refused, except on Windows, where no worker
        # runs
        allow_reuse_address = True
        # of a sixth caller at once the kernel drops the knock, which comes again after a second
        request_queue_size = 128

    for port in ports:
        try:
            return Server((host, port), _handler(checks))
        except OSError:
            continue
    return None


def _handler(checks: _Checks) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._reply(200, content_type, encode(REGISTRY))
            elif path in ("/healthz", "/readyz"):
                good = _asked(checks.health if path == "/healthz" else checks.ready)
                body = json.dumps({"name": checks.name, "ok": good}).encode()
                self._reply(200 if good else 503, "application/json", body)
            else:
                self._reply(404, "text/plain", b"there are /metrics, /healthz and /readyz\n")

        def refuse(self) -> None:
            self._reply(405, "text/plain", b"GET and HEAD only\n")

        def _reply(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            if status == 405:
                self.send_header("Allow", "GET, HEAD")
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - as the base class calls it
        do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = refuse  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """A scrape every few seconds is no news."""

    return Handler


def _asked(check: Callable[[], bool]) -> bool:
    """A check that breaks is a no: the broker being away shows itself as an exception."""
    try:
        return bool(check())
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is 503
        log.warning("a health check failed", extra={"reason": type(error).__name__})
        return False


def _reachable(host: str) -> str:
    if is_loopback(host):
        return f"[{host}]" if ":" in host else host
    return socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound


def _bound(settings: Settings) -> str:
    return settings.metrics_addr or host_port(settings.console_addr)[0]


def target(settings: Settings, port: int) -> str:
    """host:port of these metrics for another machine.

    PUSHFLEET_METRICS_ADVERTISE, else the bound address.
    """
    own = settings.metrics_advertise
    host = (f"[{own}]" if ":" in own else own) if own else _reachable(_bound(settings))
    return f"{host}:{port}"


def _refused(url: str) -> bool:
    """True when certainly no process listens there; other errors prove nothing."""
    try:
        host, port = host_port(url.removeprefix("http://").removesuffix("/metrics"))
        socket.create_connection((host, port), LISTENS_S_MAX).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _announce(settings: Settings, url: str) -> None:
    """Adds the URL to run.json's `metrics` and removes it at the exit.

    A folder that cannot be written costs the entry, not the process. Entries of killed processes
    are removed: no process listens on their ports.
    """
    owner = os.getpid()

    def add(run: runfile.Run) -> None:
        run["metrics"] = sorted(
            {url, *(one for one in run.get("metrics", ()) if one != url and not _refused(one))}
        )

    def drop(run: runfile.Run) -> None:
        run["metrics"] = [one for one in run.get("metrics", ()) if one != url]

    def leave() -> None:
        # `up` takes the file away at its end: a process that leaves later must not bring it back
        if os.getpid() == owner and runfile.read(settings.data_dir):
            runfile.change(settings.data_dir, drop)

    try:
        runfile.change(settings.data_dir, add)
        atexit.register(leave)
    except OSError as error:
        log.warning(
            "run.json can't be written, so nobody finds these metrics by it",
            extra={"reason": type(error).__name__},
        )
