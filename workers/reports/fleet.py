"""Doctor's findings on the fleet: clocks, processes, streams, lanes, accounts, vendors, letters."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from redis import Redis
from sqlalchemy import text

from common.clock import now_ms
from common.model import Vendor
from common.storage import keys, lanes, ledger, living
from common.storage.streams import GROUP, fleet_of
from common.storage.tenants import is_app
from common.storage.vault import VaultError
from common.values import BothWords
from workers import shards
from workers.console.words import STAGES
from workers.gateway.secrets import open_doors
from workers.lane_report import lanes_of
from workers.reports.devices import without_account
from workers.reports.findings import Finding, bad, good
from workers.reports.servers import other_fleets
from workers.runtime import Runtime

#: One of lane_report.console_rows, or as much of it as names a lane.
LaneRow = Mapping[str, Any]

#: The age at which an entry shows a stage that does not keep up; the length at which a stream slows
#: down the stage before it.
OLD_S, DEEP = 60, 2_000
SKEW_MS_MAX = 1_000
#: Days before its end at which a credential is reported, and the share of a quota, as in
#: deploy/alerts.yml.
EXPIRES_SOON_DAYS: Final = 30
QUOTA_SHARE: Final = 0.9
#: Tokens of another app or environment in the last hour, and their share of all, that indicate a
#: wrong build.
FOREIGN_MIN, FOREIGN_SHARE = 20, 0.05


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
        clock = connection.execute(text("SELECT extract(epoch FROM clock_timestamp()) * 1000"))
        return float(clock.scalar_one())


def process_findings(runtime: Runtime) -> Iterator[Finding]:
    roles, databases = runtime.living.roles(), runtime.living.databases()
    if len(databases) > 1:
        prefix = runtime.settings.prefix
        yield bad("processes", "two_fleets", prefix=prefix, databases=", ".join(databases))
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
        roles.values(),
        vendors,
        receipts=runtime.settings.receipts_url is not None,
        doors=open_doors(one.options for one in runtime.tenants.all().values()),
    )
    if missing:
        commands = "; ".join(map(living.command_of, missing))
        yield bad("processes", "processes_missing", lines=", ".join(missing), commands=commands)
    else:
        yield good("processes", f"{len(roles)} alive: {' '.join(roles)}")


def _other_readers(runtime: Runtime, stream: str) -> list[str]:
    """Prefixes of other fleets whose intake reads this stream of the core now."""
    consumers = cast(Any, runtime.core.xinfo_consumers(stream, GROUP))
    found = {fleet_of(one["name"]) for one in consumers if one["idle"] < living.ALIVE_S * 1_000}
    return sorted(found - {"", runtime.settings.prefix})


def stream_findings(runtime: Runtime) -> Iterator[Finding]:
    now, total = now_ms(), 0
    for stream in runtime.settings.event_streams:
        depth = int(runtime.core.xlen(stream))
        oldest = cast(Any, runtime.core.xrange(stream, count=1)) if depth else []
        since = int(oldest[0][0].split(b"-")[0]) if oldest else None
        yield from _depth(f"events ({stream})", depth, since, now, depth_max=None)
        if not runtime.core.exists(stream):
            continue
        groups = {group["name"] for group in cast(Any, runtime.core.xinfo_groups(stream))}
        if GROUP.encode() in groups and (fleets := _other_readers(runtime, stream)):
            yield bad("belts", "belt_shared", stream=stream, prefixes=", ".join(fleets))
        others = groups - {GROUP.encode()}
        if others:
            yield bad(
                "belts",
                "belt_reader",
                stream=stream,
                groups=", ".join(sorted(map(bytes.decode, others))),
            )
    answering = shards.answering(runtime)
    if answering.away:
        yield bad("belts", "shard_away", shards=", ".join(map(str, answering.away)))
    backlog = {
        **shards.backlog(answering, (*keys.STREAMS, keys.LEDGER, keys.RECEIPTS)),
        **shards.lanes_backlog(answering),
    }
    for stream_name, found in backlog.items():
        total += found.unread + found.pending
        most = ledger.STREAM_MAX if stream_name == keys.LEDGER else DEEP
        yield from _depth(
            stream_name, found.unread + found.pending, found.oldest_ms, now, depth_max=most
        )
    waiting, due = shards.delayed_waiting(answering)
    if due is not None and now - due > OLD_S * 1000:
        yield bad("belts", "delayed_overdue", since_ms=due, age_s=(now - due) // 1000)
    yield good(
        "belts",
        f"{total} entries between the stages, {waiting} waiting for their time",
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
            at = _at(row["since_ms"])
            yield bad(
                "lanes", "lane_stopped", **since, **named, state=state, at=at, why=row["reason"]
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
        if ends is not None and ends - now < EXPIRES_SOON_DAYS * 86_400_000:
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
        "，".join(f"{STAGES.get(stage, (stage, stage))[1]} {n} 条" for stage, n in by_stage),
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


def device_findings(runtime: Runtime) -> Iterator[Finding]:
    """Devices whose account there is not: their pushes end as no_credential."""
    for row in without_account(runtime):
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
        total = sum(
            decisions.get(name, 0)
            for name in ("accepted", "token_dead", "token_foreign", "rejected")
        )
        if foreign >= FOREIGN_MIN and foreign >= FOREIGN_SHARE * total:
            yield bad("builds", "build_foreign", vendor=vendor, foreign=foreign, total=total)


def _at(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))
