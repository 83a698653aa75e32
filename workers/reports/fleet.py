"""What doctor says of the fleet itself: clocks, processes, streams, lanes, accounts, vendors in reach, receipts, dead letters."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast
from urllib.parse import urlsplit

import pycurl
from redis import Redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.clock import now_ms
from common.config import Settings, is_loopback
from common.model import Vendor
from common.storage import keys, lanes, ledger, living
from common.storage.streams import GROUP
from common.storage.tenants import is_app
from common.storage.vault import VaultError
from workers.delivery.lane import Lane
from workers.lane_report import lane_status, lanes_of, quota_rows
from workers.reports.findings import Finding, bad, good
from workers.reports.servers import other_fleets
from workers.runtime import Runtime
from workers.transport.easy import EasyMaker

#: An entry that is older says that its stage does not keep up; entries of a stream at which the stage before it slows down.
OLD_S, DEEP = 60, 2_000
SKEW_MS_MAX = 1_000
EXPIRES_SOON_MS = 30 * 86_400_000
#: As the alert PushfleetQuotaNearlySpent.
QUOTA_SHARE: Final = 0.9
#: A vendor's server must take a connection within this, seconds.
REACH_S: Final = 4.0
#: Tokens of another app or environment in the last hour, and their share of what was asked, that say that a build is wrong.
FOREIGN_MIN, FOREIGN_SHARE = 20, 0.05
#: Devices are looked through for so long; then a sample must do.
DEVICES_MS = 2_000


def clock_findings(runtime: Runtime) -> Iterator[Finding]:
    """Redis' clock judges presence and due pushes, the host's everything else."""
    clocks: dict[str, Callable[[], float]] = {"Redis": lambda: _redis_ms(runtime.redis), "PostgreSQL": lambda: _database_ms(runtime)}
    for name, clock in clocks.items():
        before = time.time()
        there = clock()
        skew = there - (before + time.time()) / 2 * 1000
        if abs(skew) > SKEW_MS_MAX:
            way = "ahead of" if skew > 0 else "behind"
            yield bad("clocks", f"{name} is {abs(skew) / 1000:.1f} s {way} this host", "let NTP set both (chronyc tracking)")
        else:
            yield good("clocks", f"{name} and this host agree within {max(abs(skew), 1):.0f} ms")


def _redis_ms(redis: Redis) -> float:
    seconds, micros = cast(Any, redis.time())
    return float(seconds * 1000 + micros / 1000)


def _database_ms(runtime: Runtime) -> float:
    with runtime.engine.connect() as connection:
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp()) * 1000")).scalar_one())


def process_findings(runtime: Runtime) -> Iterator[Finding]:
    roles = runtime.living.roles()
    if not any(role.startswith((*living.STAGES, living.DELIVERY)) for role in roles.values()):
        others = other_fleets(runtime)[:3]
        found = f"none is alive under the prefix {runtime.settings.prefix}" + (f"; alive: {', '.join(others)}" if others else "")
        cure = "pushfleet up, or start the lines of the Procfile"
        yield bad("processes", found, cure + (f"; or, if that is this fleet, PUSHFLEET_PREFIX={others[0]}" if others else ""))
        return
    vendors = {Vendor(row["vendor"]) for row in runtime.credentials.listed()}
    missing = living.missing(roles.values(), vendors, receipts=runtime.settings.receipts_url is not None)
    if missing:
        yield bad("processes", f"not alive: {', '.join(missing)}", "start them: " + "; ".join(map(living.command_of, missing)))
    else:
        yield good("processes", f"{len(roles)} alive: {' '.join(roles)}")


def belt_findings(runtime: Runtime) -> Iterator[Finding]:
    now, total = now_ms(), 0
    for stream in runtime.settings.event_streams:
        depth = int(runtime.core.xlen(stream))
        oldest = cast(Any, runtime.core.xrange(stream, count=1)) if depth else []
        yield from _depth(f"events ({stream})", depth, int(oldest[0][0].split(b"-")[0]) if oldest else None, now, depth_max=None)
        groups = {group["name"] for group in cast(Any, runtime.core.xinfo_groups(stream))} if runtime.core.exists(stream) else set()
        others = groups - {GROUP.encode()}
        if others:
            yield bad(
                "belts",
                f"{stream} has another reader's group: {', '.join(sorted(map(bytes.decode, others)))}",
                "the stream belongs to the fleet: other readers use one of their own; then XGROUP DESTROY STREAM GROUP",
            )
    backlog = {**runtime.streams.backlog((*keys.STREAMS, keys.LEDGER, keys.RECEIPTS)), **runtime.lane_queues.backlog()}
    for stream_name, found in backlog.items():
        total += found.unread + found.pending
        most = ledger.STREAM_MAX if stream_name == keys.LEDGER else DEEP
        yield from _depth(stream_name, found.unread + found.pending, found.oldest_ms, now, depth_max=most)
    due = runtime.delayed.oldest_due_ms()
    if due is not None and now - due > OLD_S * 1000:
        yield bad("belts", f"delayed pushes are {(now - due) // 1000} s overdue", "is upkeep alive? its log says what it waits for")
    yield good("belts", f"{total} entries between the stages, {runtime.delayed.waiting_count()} waiting for their time")


def _depth(name: str, depth: int, oldest_ms: int | None, now: int, depth_max: int | None) -> Iterator[Finding]:
    age_s = (now - oldest_ms) // 1000 if oldest_ms is not None else 0
    if depth and age_s > OLD_S:
        cure = "its stage does not keep up: more replicas, or its log says what it waits for"
        yield bad("belts", f"{name}: {depth} entries, the oldest {age_s} s old", cure)
    elif depth_max is not None and depth > depth_max:
        yield bad("belts", f"{name}: {depth} entries, the stage before it waits", "more replicas of the stage that reads it")


def lane_findings(runtime: Runtime) -> Iterator[Finding]:
    found = list(runtime.catalog.now.lanes.values())
    if not found:
        yield bad("lanes", "there is no credential yet", "pushfleet app add, then pushfleet credential add")
        return
    flowing = 0
    for lane, status in zip(found, lane_status(runtime, found), strict=True):
        name = f"{lane.vendor} {lane.credential.business_id} of {lane.credential.app}"
        parked = runtime.lane_queues.waiting(lane.id)
        waiting = f", {parked} pushes wait behind it" if parked else ""
        key = f"{lane.credential.app} {lane.vendor} {lane.credential.business_id}"
        if lane.paused:
            yield bad("lanes", f"{name} is paused by an operator{waiting}", f"pushfleet credential resume {key}")
        elif status.state != lanes.FLOWING:
            since = _at(status.since_ms)
            yield bad("lanes", f"{name} is {status.state} since {since}: {status.why}{waiting}", f"pushfleet credential check {key}")
        elif runtime.guard.stopped(lane.id):
            yield bad(
                "lanes",
                f"{name}: too many tokens at once were told dead; none is retired",
                f"is this the right environment and key? compare with the app's build: pushfleet credential list {key}",
            )
        else:
            flowing += 1
    yield good("lanes", f"{flowing} of {len(found)} flow")


def credential_findings(runtime: Runtime) -> Iterator[Finding]:
    now = now_ms()
    try:
        stored = runtime.credentials.all()
    except VaultError as error:
        yield bad("credentials", str(error), "put that key back into the file, below the first")
        return
    for one in stored:
        if one.expires_ms is None:
            continue
        name, rotate = (
            f"{one.vendor} {one.business_id} of {one.app}",
            f"pushfleet credential rotate {one.app} {one.vendor} {one.business_id}",
        )
        if one.expires_ms <= now:
            yield bad("credentials", f"{name} has expired", rotate)
        elif one.expires_ms - now < EXPIRES_SOON_MS:
            yield bad("credentials", f"{name} expires {_at(one.expires_ms)[:16]}", rotate)
    yield good("credentials", f"{len(stored)} can be read")


def letter_findings(runtime: Runtime) -> Iterator[Finding]:
    """Dead letters are an operator's business, but not a fault of the set-up."""
    counts = runtime.dead_letters.counts()
    told = ", ".join(f"{count} of {stage}" for stage, count in sorted(counts.items()))
    yield good("dead letters", f"{told}: pushfleet dead-letters list" if told else "none")


def quota_findings(runtime: Runtime) -> Iterator[Finding]:
    for lane in lanes_of(runtime):
        credential = lane.credential
        for quota in quota_rows(runtime, lane):
            limit, used = quota["limit"], quota["used"]
            if not limit or used < QUOTA_SHARE * limit:
                continue
            said = "is spent until the vendor's midnight" if used >= limit else f"is used to {used * 100 // limit} %"
            found = f"{lane.vendor} {credential.business_id} of {credential.app}: the {quota['bucket']} quota of today ({limit}) {said}"
            key = f"{credential.app} {lane.vendor} {credential.business_id}"
            yield bad("quota", found, f"a higher quota from the vendor, then pushfleet quota set {key} {quota['bucket']}=N")


# ---------------------------------------------------------------- accounts and devices

_UNKNOWN = """SELECT app, vendor, business_id, count(*) AS devices FROM devices{sample} AS d WHERE state = 'active' AND NOT EXISTS
 (SELECT 1 FROM credentials AS c WHERE (c.app, c.vendor, c.business_id) = (d.app, d.vendor, d.business_id))
 GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 5"""


def device_findings(runtime: Runtime) -> Iterator[Finding]:
    """Devices whose account there is not: their pushes end as no_credential."""
    for row in _without_account(runtime):
        there = sorted(lane.credential.business_id for lane in lanes_of(runtime, row["app"]) if lane.vendor == row["vendor"])
        name = f"{row['vendor']} {row['business_id']} of {row['app']}"
        found = f"devices ({row['devices']}{'+' if row['sampled'] else ''}) of {name}, which has no account"
        cure = f"pushfleet credential add {row['vendor']} --app {row['app']} --business-id {row['business_id']} …"
        yield bad("devices", found, cure + (f"; or the app registers with {' or '.join(there)}" if there else ""))


def _without_account(runtime: Runtime) -> list[Mapping[str, Any]]:
    for sample in ("", " TABLESAMPLE SYSTEM (1)"):
        try:
            with runtime.engine.begin() as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = {DEVICES_MS}"))
                rows = connection.execute(text(_UNKNOWN.replace("{sample} AS d", f" AS d{sample}"))).mappings()
                return [{**row, "sampled": bool(sample)} for row in rows]
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "57014":
                raise
    return []


def tenant_findings(runtime: Runtime) -> Iterator[Finding]:
    """Tenants whose names an older version took: their keys may be another tenant's."""
    for app in runtime.tenants.all():
        if not is_app(app):
            cure = "pushfleet app add under a name of letters, digits, '.', '_' and '-'; then its core, credentials and devices move there"
            yield bad("tenants", f"{app}: a name that may share keys with other tenants", cure)


def right_findings(runtime: Runtime) -> Iterator[Finding]:
    """Rights that a vendor honours only with a channel of the app's."""
    for lane in lanes_of(runtime):
        credential = lane.credential
        if lane.spec.rights_want_channel & credential.rights and not credential.channels:
            found = (
                f"{lane.vendor} {credential.business_id} of {credential.app} has a private right and no channel: phones may show nothing"
            )
            named = f"{credential.app} {lane.vendor} {credential.business_id}"
            cure = f"pushfleet credential rotate {named} --channel chat=ID (docs/vendors/{lane.vendor}.md)"
            yield bad("rights", found, cure)


def build_findings(runtime: Runtime) -> Iterator[Finding]:
    """Tokens of another app or environment beside good traffic: a debug build, or the wrong account."""
    for vendor, decisions in runtime.reports.last_hour(now_ms()).decisions.items():
        foreign = decisions.get("token_foreign", 0)
        asked = sum(decisions.get(name, 0) for name in ("accepted", "token_dead", "token_foreign", "rejected"))
        if foreign >= FOREIGN_MIN and foreign >= FOREIGN_SHARE * asked:
            found = f"{vendor}: {foreign} of {asked} tokens of the last hour belong to another app or environment"
            cure = "a debug build or the wrong account: compare its environment and topic (pushfleet credential list)"
            yield bad("builds", found, cure)


# ---------------------------------------------------------------- the network


def vendor_findings(runtime: Runtime) -> Iterator[Finding]:
    """A TCP and TLS connection to each server of each vendor that has an account, with the certificates that pushes will use."""
    targets = sorted({(lane.vendor, name, url) for lane in lanes_of(runtime) for name, url in _servers(runtime, lane)})
    if not targets:
        return
    make = EasyMaker(runtime.settings.ca_file, REACH_S)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda target: _reached(make, target[2], runtime.settings.proxies.get(target[0])), targets))
    wrong = [(target, words) for target, words in zip(targets, found, strict=True) if words]
    own = f" ({len(wrong)} of {len(targets)} servers: look at your own network)" if len(wrong) * 2 > len(targets) > 2 else ""
    for (vendor, name, url), words in wrong:
        untrusted = "certificate" in words.lower()
        cure = "PUSHFLEET_CA_FILE: the certificates that signed it" if untrusted else "firewall, DNS or proxy of this host"
        cure += f"; or PUSHFLEET_ENDPOINT_{name}" if name in runtime.settings.endpoints else ""
        yield bad("vendors", f"{vendor}: {urlsplit(url).netloc} can't be reached: {words}{own}", cure)
    if not wrong:
        yield good("vendors", f"{len(targets)} servers take connections")


def _servers(runtime: Runtime, lane: Lane) -> list[tuple[str, str]]:
    """(endpoint, base URL) that this lane uses."""
    spec = lane.spec
    used = spec.endpoints_used(lane.credential) if spec.endpoints_used else list(spec.endpoints)
    return [(name, runtime.settings.endpoints.get(name, spec.endpoints[name])) for name in used]


def _reached(make: EasyMaker, url: str, proxy: str | None) -> str:
    """ "" when a connection stands; else libcurl's words for what failed."""
    easy = pycurl.Curl()
    try:
        make.trust(easy)
        for option, value in ((pycurl.URL, url), (pycurl.CONNECT_ONLY, 1), (pycurl.NOSIGNAL, 1), (pycurl.PROXY, proxy or "")):
            easy.setopt(option, value)
        easy.setopt(pycurl.NOPROXY, "" if proxy else "*")
        easy.setopt(pycurl.HTTPPROXYTUNNEL, 1 if proxy else 0)
        easy.setopt(pycurl.TIMEOUT_MS, int(REACH_S * 1000))
        easy.perform()
    except pycurl.error as error:
        return str(pycurl.easy_strerror(error.args[0]))
    finally:
        easy.close()
    return ""


def receipt_findings(settings: Settings) -> Iterator[Finding]:
    """Whether the public address of receipts is one that vendors can use; as far as this host can tell."""
    url = settings.receipts_url
    if url is None or settings.endpoints:  # simulators reach this machine
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if is_loopback(host):
        found = f"{parts.netloc} of PUSHFLEET_RECEIPTS_URL is this machine's own: no vendor reaches it"
        yield bad("receipts", found, "a public https:// address")
        return
    if parts.scheme != "https":
        found = "PUSHFLEET_RECEIPTS_URL is http://: receipts and their addresses can be read on the way"
        yield bad("receipts", found, "an https:// address")
    try:
        with socket.create_connection((host, port), REACH_S) as connection:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(connection, server_hostname=host):
                    pass
    except OSError as error:
        words = "its certificate is not trusted" if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
        found = f"{parts.netloc} of PUSHFLEET_RECEIPTS_URL can't be reached from here: {words}"
        yield bad("receipts", found, "DNS, firewall, and the reverse proxy before PUSHFLEET_RECEIPTS_ADDR (docs/reverse-proxy.md)")
        return
    yield good("receipts", f"{parts.netloc} answers")


def endpoint_finding(settings: Settings) -> Finding:
    if not settings.endpoints:
        return good("endpoints", "the vendors' own")
    told = ", ".join(f"{name} -> {url}" for name, url in sorted(settings.endpoints.items()))
    return good("endpoints", f"not the vendors' own, pushes reach no phone: {told}")


def _at(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))
