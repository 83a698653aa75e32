"""Doctor's findings on the fleet: clocks, processes, streams, lanes, accounts, vendors, letters."""

from __future__ import annotations

import shlex
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
from common.values import BothWords
from workers import shards
from workers.delivery.lane import Lane
from workers.lane_report import lanes_of
from workers.reports.findings import Finding, bad, good
from workers.reports.servers import other_fleets
from workers.runtime import Runtime
from workers.transport.easy import EasyMaker

#: One of lane_report.console_rows, or as much of it as names a lane.
LaneRow = Mapping[str, Any]

#: The age at which an entry shows a stage that does not keep up; the length at which a stream slows
#: down the stage before it.
OLD_S, DEEP = 60, 2_000
SKEW_MS_MAX = 1_000
EXPIRES_SOON_MS = 30 * 86_400_000
#: As the alert PushfleetQuotaNearlySpent.
QUOTA_SHARE: Final = 0.9
#: A vendor's server must take a connection within this, seconds.
REACH_S: Final = 4.0
#: Tokens of another app or environment in the last hour, and their share of all, that indicate a
#: wrong build.
FOREIGN_MIN, FOREIGN_SHARE = 20, 0.05
#: Milliseconds of a look through all devices; beyond them a sample is used.
DEVICES_MS = 2_000


def clock_findings(runtime: Runtime) -> Iterator[Finding]:
    """Redis' clock judges presence and due pushes, the host's everything else."""
    clocks: dict[str, Callable[[], float]] = {
        "Redis": lambda: _redis_ms(runtime.redis),
        "PostgreSQL": lambda: _database_ms(runtime),
    }
    for name, clock in clocks.items():
        before = time.time()
        there = clock()
        skew = there - (before + time.time()) / 2 * 1000
        if abs(skew) > SKEW_MS_MAX:
            way = BothWords("ahead of", "偏快") if skew > 0 else BothWords("behind", "偏慢")
            yield bad("clocks", "clock", name=name, skew_s=f"{abs(skew) / 1000:.1f}", way=way)
        else:
            yield good("clocks", f"{name} and this host agree within {max(abs(skew), 1):.0f} ms")


def _redis_ms(redis: Redis) -> float:
    seconds, micros = cast(Any, redis.time())
    return float(seconds * 1000 + micros / 1000)


def _database_ms(runtime: Runtime) -> float:
    with runtime.engine.connect() as connection:
        return float(
            connection.execute(
                text("SELECT extract(epoch FROM clock_timestamp()) * 1000")
            ).scalar_one()
        )


def process_findings(runtime: Runtime) -> Iterator[Finding]:
    roles = runtime.living.roles()
    if not any(role.startswith((*living.STAGES, living.DELIVERY)) for role in roles.values()):
        others = other_fleets(runtime)[:3]
        alive, perhaps = BothWords("", ""), BothWords("", "")
        if others:
            alive = BothWords(f"; alive: {', '.join(others)}", f"；存活的有：{', '.join(others)}")
            prefix = f"PUSHFLEET_PREFIX={others[0]}"
            perhaps = BothWords(
                f"; or, if that is this fleet, {prefix}", f"；若那就是本系统，则 {prefix}"
            )
        yield bad(
            "processes",
            "processes_none",
            prefix=runtime.settings.prefix,
            others=alive,
            perhaps=perhaps,
        )
        return
    vendors = {Vendor(row["vendor"]) for row in runtime.credentials.listed()}
    missing = living.missing(
        roles.values(), vendors, receipts=runtime.settings.receipts_url is not None
    )
    if missing:
        commands = "; ".join(map(living.command_of, missing))
        yield bad("processes", "processes_missing", lines=", ".join(missing), commands=commands)
    else:
        yield good("processes", f"{len(roles)} alive: {' '.join(roles)}")


def stream_findings(runtime: Runtime) -> Iterator[Finding]:
    now, total = now_ms(), 0
    for stream in runtime.settings.event_streams:
        depth = int(runtime.core.xlen(stream))
        oldest = cast(Any, runtime.core.xrange(stream, count=1)) if depth else []
        yield from _depth(
            f"events ({stream})",
            depth,
            int(oldest[0][0].split(b"-")[0]) if oldest else None,
            now,
            depth_max=None,
        )
        groups = (
            {group["name"] for group in cast(Any, runtime.core.xinfo_groups(stream))}
            if runtime.core.exists(stream)
            else set()
        )
        others = groups - {GROUP.encode()}
        if others:
            yield bad(
                "belts",
                "belt_reader",
                stream=stream,
                groups=", ".join(sorted(map(bytes.decode, others))),
            )
    backlog = {
        **shards.backlog(runtime, (*keys.STREAMS, keys.LEDGER, keys.RECEIPTS)),
        **shards.lanes_backlog(runtime),
    }
    for stream_name, found in backlog.items():
        total += found.unread + found.pending
        most = ledger.STREAM_MAX if stream_name == keys.LEDGER else DEEP
        yield from _depth(
            stream_name, found.unread + found.pending, found.oldest_ms, now, depth_max=most
        )
    due = shards.delayed_oldest_ms(runtime)
    if due is not None and now - due > OLD_S * 1000:
        yield bad("belts", "delayed_overdue", since_ms=due, age_s=(now - due) // 1000)
    yield good(
        "belts",
        f"{total} entries between the stages, {shards.delayed_count(runtime)} waiting for "
        "their time",
    )


def _depth(
    name: str, depth: int, oldest_ms: int | None, now: int, depth_max: int | None
) -> Iterator[Finding]:
    age_s = (now - oldest_ms) // 1000 if oldest_ms is not None else 0
    if depth and age_s > OLD_S:
        yield bad("belts", "belt_old", since_ms=oldest_ms, queue=name, depth=depth, age_s=age_s)
    elif depth_max is not None and depth > depth_max:
        yield bad("belts", "belt_deep", queue=name, depth=depth)


def lane_findings(rows: Sequence[LaneRow]) -> Iterator[Finding]:
    """rows: of lane_report.console_rows."""
    if not rows:
        yield bad("lanes", "lanes_none")
        return
    flowing = 0
    for row in rows:
        named: dict[str, Any] = {
            "lane": _name(row),
            "key": _key(row),
            "waiting": _waiting(row["parked"]),
        }
        since: dict[str, Any] = {"since_ms": row["since_ms"]}
        if row["state"] == lanes.PAUSED:
            yield bad("lanes", "lane_paused", **since, **named)
        elif row["state"] != lanes.FLOWING:
            state = BothWords(row["state"], "试探" if row["state"] == lanes.PROBING else "停止")
            yield bad(
                "lanes",
                "lane_stopped",
                **since,
                **named,
                state=state,
                at=_at(row["since_ms"]),
                why=row["reason"],
            )
        elif row["guard"]:
            yield bad("lanes", "lane_guard", **named)
        else:
            flowing += 1
    yield good("lanes", f"{flowing} of {len(rows)} flow")


def _waiting(parked: int) -> BothWords:
    return (
        BothWords(f", {parked} pushes wait behind it", f"，{parked} 条推送在等待")
        if parked
        else BothWords("", "")
    )


def _name(row: LaneRow) -> BothWords:
    """The name of a lane, as everywhere."""
    lane, app = f"{row['vendor']} {row['business_id']}", row["app"]
    return BothWords(f"{lane} of {app}", f"{lane}（{app}）")


def _key(row: LaneRow) -> str:
    """As the command line takes it."""
    return shlex.join([row["app"], row["vendor"], row["business_id"]])


def key_findings(runtime: Runtime) -> Iterator[Finding]:
    """Checks that the stored credentials can be read with the present keys."""
    try:
        stored = runtime.credentials.all()
    except VaultError as error:
        yield bad("credentials", "keys_lost", said=error)
        return
    yield good("credentials", f"{len(stored)} can be read")


def expiry_findings(runtime: Runtime) -> Iterator[Finding]:
    now = now_ms()
    for row in runtime.credentials.listed():
        ends = row["expires_ms"]
        if ends is not None and ends - now < EXPIRES_SOON_MS:
            problem = "credential_expired" if ends <= now else "credential_expires"
            yield bad("credentials", problem, lane=_name(row), key=_key(row), at=_at(ends)[:16])


def letter_findings(runtime: Runtime) -> Iterator[Finding]:
    """Dead letters are an operator's business, but not a fault of the set-up."""
    counts = runtime.dead_letters.counts()
    if not counts:
        yield good("dead letters", "none")
        return
    by_stage = sorted(counts.items())
    text = BothWords(
        ", ".join(f"{n} of {stage}" for stage, n in by_stage),
        "，".join(f"{stage} {n} 条" for stage, n in by_stage),
    )
    yield replace(bad("dead letters", "letters", counts=text), ok=True, note=True)


def quota_findings(rows: Sequence[LaneRow]) -> Iterator[Finding]:
    """rows: as lane_findings."""
    for row in rows:
        for quota in row["quotas"]:
            limit, used = quota["limit"], quota["used"]
            if limit and used >= QUOTA_SHARE * limit:
                values = {
                    "lane": _name(row),
                    "key": _key(row),
                    "bucket": quota["bucket"],
                    "limit": limit,
                    "share": used * 100 // limit,
                }
                yield bad("quota", "quota_spent" if used >= limit else "quota_nearly", **values)


# ---------------------------------------------------------------- accounts and devices

_UNKNOWN = """SELECT app, vendor, business_id, count(*) AS devices FROM devices{sample} AS d WHERE state = 'active' AND NOT EXISTS
 (SELECT 1 FROM credentials AS c WHERE (c.app, c.vendor, c.business_id) = (d.app, d.vendor, d.business_id))
 GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 5"""  # noqa: E501


def device_findings(runtime: Runtime) -> Iterator[Finding]:
    """Devices whose account there is not: their pushes end as no_credential."""
    for row in _without_account(runtime):
        there = sorted(
            lane.credential.business_id
            for lane in lanes_of(runtime, row["app"])
            if lane.vendor == row["vendor"]
        )
        perhaps = BothWords("", "")
        if there:
            perhaps = BothWords(
                f"; or the app registers with {' or '.join(there)}",
                f"；或由应用改用 {' / '.join(there)} 注册",
            )
        about = {name: row[name] for name in ("vendor", "app", "business_id")}
        count = f"{row['devices']}{'+' if row['sampled'] else ''}"
        yield bad(
            "devices", "device_account", lane=_name(row), count=count, perhaps=perhaps, **about
        )


def _without_account(runtime: Runtime) -> list[Mapping[str, Any]]:
    for sample in ("", " TABLESAMPLE SYSTEM (1)"):
        try:
            with runtime.engine.begin() as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = {DEVICES_MS}"))
                rows = connection.execute(
                    text(_UNKNOWN.replace("{sample} AS d", f" AS d{sample}"))
                ).mappings()
                return [{**row, "sampled": bool(sample)} for row in rows]
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "57014":
                raise
    return []


def tenant_findings(runtime: Runtime) -> Iterator[Finding]:
    """Tenants whose names an older version took: their keys may be another tenant's."""
    for app in runtime.tenants.all():
        if not is_app(app):
            yield bad("tenants", "tenant_name", app=app)


def right_findings(runtime: Runtime) -> Iterator[Finding]:
    """Rights that a vendor honours only with a channel of the app's."""
    for lane in lanes_of(runtime):
        credential = lane.credential
        if lane.spec.rights_want_channel & credential.rights and not credential.channels:
            named = {
                "vendor": lane.vendor,
                "business_id": credential.business_id,
                "app": credential.app,
            }
            yield bad("rights", "right_channel", lane=_name(named), key=_key(named))


def build_findings(runtime: Runtime) -> Iterator[Finding]:
    """Reports tokens of another app or environment: a debug build, or the wrong account."""
    for vendor, decisions in runtime.reports.last_hour(now_ms()).decisions.items():
        foreign = decisions.get("token_foreign", 0)
        asked = sum(
            decisions.get(name, 0)
            for name in ("accepted", "token_dead", "token_foreign", "rejected")
        )
        if foreign >= FOREIGN_MIN and foreign >= FOREIGN_SHARE * asked:
            yield bad("builds", "build_foreign", vendor=vendor, foreign=foreign, asked=asked)


# ---------------------------------------------------------------- the network


def vendor_findings(runtime: Runtime) -> Iterator[Finding]:
    """Connects by TCP and TLS to each server of each vendor with an account.

    It uses the certificates that pushes will use.
    """
    targets = sorted(
        {
            (lane.vendor, name, url)
            for lane in lanes_of(runtime)
            for name, url in _servers(runtime, lane)
        }
    )
    if not targets:
        return
    make = EasyMaker(runtime.settings.ca_file, REACH_S)
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda target: _reached(make, target[2], runtime.settings.proxies.get(target[0])),
                targets,
            )
        )
    wrong = [(target, words) for target, words in zip(targets, found, strict=True) if words]
    own = BothWords("", "")
    if len(wrong) * 2 > len(targets) > 2:
        share = f"{len(wrong)} of {len(targets)} servers: look at your own network"
        own = BothWords(
            f" ({share})", f"（{len(targets)} 个服务器中有 {len(wrong)} 个：请检查自己的网络）"
        )
    for (vendor, name, url), words in wrong:
        untrusted = "certificate" in words.lower()
        cure = BothWords("firewall, DNS or proxy of this host", "检查本机的防火墙、DNS 或代理")
        if untrusted:
            cure = BothWords(
                "PUSHFLEET_CA_FILE: the certificates that signed it",
                "PUSHFLEET_CA_FILE：签发其证书的 CA",
            )
        there = name in runtime.settings.endpoints
        perhaps = (
            BothWords(f"; or PUSHFLEET_ENDPOINT_{name}", f"；或 PUSHFLEET_ENDPOINT_{name}")
            if there
            else BothWords("", "")
        )
        yield bad(
            "vendors",
            "vendor_away",
            vendor=vendor,
            server=urlsplit(url).netloc,
            said=words,
            own=own,
            cure=cure,
            perhaps=perhaps,
        )
    if not wrong:
        yield good("vendors", f"{len(targets)} servers take connections")


def _servers(runtime: Runtime, lane: Lane) -> list[tuple[str, str]]:
    """(endpoint, base URL) that this lane uses."""
    spec = lane.spec
    used = spec.endpoints_used(lane.credential) if spec.endpoints_used else list(spec.endpoints)
    return [(name, runtime.settings.endpoints.get(name, spec.endpoints[name])) for name in used]


def _reached(make: EasyMaker, url: str, proxy: str | None) -> str:
    """ "" for an established connection; else libcurl's message."""
    easy = pycurl.Curl()
    try:
        make.trust(easy)
        for option, value in (
            (pycurl.URL, url),
            (pycurl.CONNECT_ONLY, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, proxy or ""),
        ):
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
    """Checks that vendors can use the public address of receipts, as far as this host can."""
    url = settings.receipts_url
    if url is None or settings.endpoints:  # simulators reach this machine
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if is_loopback(host):
        yield bad("receipts", "receipts_own", server=parts.netloc)
        return
    if parts.scheme != "https":
        yield bad("receipts", "receipts_http")
    try:
        with socket.create_connection((host, port), REACH_S) as connection:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(connection, server_hostname=host):
                    pass
    except OSError as error:
        untrusted = isinstance(error, ssl.SSLCertVerificationError)
        said = (
            BothWords("its certificate is not trusted", "证书不受信任")
            if untrusted
            else type(error).__name__
        )
        yield bad("receipts", "receipts_away", server=parts.netloc, said=said)
        return
    yield good("receipts", f"{parts.netloc} answers")


def endpoint_finding(settings: Settings) -> Finding:
    if not settings.endpoints:
        return good("endpoints", "the vendors' own")
    text = ", ".join(f"{name} -> {url}" for name, url in sorted(settings.endpoints.items()))
    return good("endpoints", f"not the vendors' own, pushes reach no phone: {text}")


def _at(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))
