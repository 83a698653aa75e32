"""`pushfleet doctor`: is everything as the fleet needs it? One line a check, the cure beside what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import click
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from common.clock import now_ms
from common.config import SettingError, Settings, resolve, secret_keys
from common.model import Vendor
from common.storage import keys, lanes, ledger, living, migrations
from common.storage.streams import GROUP
from common.storage.vault import VaultError
from workers.cli import NO, UNREACHABLE
from workers.cli.base import at, print_json
from workers.lane_report import lane_status
from workers.runtime import Runtime

#: XAUTOCLAIM is what the oldest server that we can use has brought.
REDIS_MIN, POSTGRES_MIN = (6, 2), 13
#: An entry that is older says that its stage does not keep up; entries of a belt at which the stage before it slows down.
OLD_S, DEEP = 60, 2_000
MEMORY_SHARE_MAX = 0.8
SKEW_MS_MAX = 1_000
EXPIRES_SOON_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. cure: what to do, "" where all is well."""

    check: str
    ok: bool
    found: str
    cure: str = ""
    unreachable: bool = False


def good(check: str, found: str) -> Finding:
    return Finding(check, True, found)


def bad(check: str, found: str, cure: str) -> Finding:
    return Finding(check, False, found, cure)


@click.command()
@click.option("--json", "as_json", is_flag=True)
def doctor(as_json: bool) -> None:
    """Look at servers, keys, processes, belts, lanes, credentials and clocks. Exit code 0 when all is well."""
    settings = resolve(Settings.load())
    runtime = Runtime(settings)
    findings = []
    try:
        for finding in examined(runtime):
            findings.append(finding)
            if not as_json:
                _say(finding)
    finally:
        runtime.close()
    wrong = [finding for finding in findings if not finding.ok]
    if as_json:
        shown = [{name: value for name, value in asdict(finding).items() if name != "unreachable"} for finding in findings]
        print_json({"ok": not wrong, "checks": shown})
    else:
        print("all is well" if not wrong else f"{len(wrong)} to look at")
    if wrong:
        raise click.exceptions.Exit(UNREACHABLE if any(finding.unreachable for finding in wrong) else NO)


def _say(finding: Finding) -> None:
    print(f"{'OK      ' if finding.ok else 'PROBLEM '} {finding.check:<12} {finding.found}")
    if finding.cure:
        print(f"{'':>22}{finding.cure}")


def examined(runtime: Runtime) -> Iterator[Finding]:
    """Every finding, in order. What needs a server that is away is left out: that it is away has been said."""
    yield from key_findings(runtime.settings)
    redis_there, database_there = False, False
    for finding in redis_findings(runtime):
        redis_there = redis_there or not finding.unreachable
        yield finding
    for finding in database_findings(runtime):
        database_there = database_there or not finding.unreachable
        yield finding
    checks: Iterable[tuple[bool, str, Callable[[Runtime], Iterable[Finding]]]] = (
        (redis_there and database_there, "clocks", clock_findings),
        (redis_there and database_there, "processes", process_findings),
        (redis_there, "belts", belt_findings),
        (redis_there and database_there, "lanes", lane_findings),
        (database_there, "credentials", credential_findings),
        (database_there, "dead letters", letter_findings),
    )
    for possible, name, check in checks:
        if possible:
            yield from _safely(name, lambda check=check: check(runtime))  # type: ignore[misc]
    yield endpoint_finding(runtime.settings)


def _safely(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """A check that can't be made is a finding, and the others go on."""
    try:
        yield from check()
    except (RedisError, SQLAlchemyError, VaultError, SettingError, OSError) as error:
        yield bad(name, f"can't be looked at: {type(error).__name__}", "see the lines above")


# ---------------------------------------------------------------- keys and servers


def key_findings(settings: Settings) -> Iterator[Finding]:
    try:
        found = secret_keys(settings)
    except SettingError as error:
        yield bad("keys", str(error), "make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'")
        return
    yield good("keys", f"{len(found)} secret key{'s' * (len(found) != 1)}, the first encrypts")


def redis_findings(runtime: Runtime) -> Iterator[Finding]:
    servers: dict[str, Callable[[], Redis]] = {"redis": lambda: runtime.redis}
    if runtime.settings.core_url != runtime.settings.redis_url:
        servers["core's redis"] = lambda: runtime.core
    for name, server in servers.items():
        try:
            info = _info(server())
        except SettingError as error:
            yield Finding(name, False, str(error), "use a server (or sentinels) without cluster mode", unreachable=True)
            continue
        except (RedisError, OSError) as error:
            cure = "is it running, and is PUSHFLEET_REDIS_URL right?"
            yield Finding(name, False, f"can't be reached ({type(error).__name__})", cure, unreachable=True)
            continue
        yield from server_findings(name, info)


def _info(redis: Redis) -> dict[str, Any]:
    sections = [cast(Any, redis.info(section)) for section in ("server", "memory", "persistence", "cluster")]
    return {key: value for section in sections for key, value in section.items()}


def server_findings(name: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    """What INFO says of a server: version, memory, persistence. Pure."""
    kind, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", str(info.get("redis_version", "0")))
    known = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2] if part.isdigit())
    if known < REDIS_MIN:
        yield bad(name, f"{kind} {version}", "the fleet needs XAUTOCLAIM: Redis 6.2, Valkey 7.2 or newer")
    else:
        yield good(name, f"{kind} {version}")
    policy, most, used = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if most and policy != "noeviction":
        yield bad(name, f"maxmemory-policy {policy}: pushes can vanish when memory is short", "CONFIG SET maxmemory-policy noeviction")
    elif most and used > MEMORY_SHARE_MAX * most:
        yield bad(name, f"{used * 100 // most}% of maxmemory used", "give it more memory, or find out below which belt has grown")
    else:
        yield good(name, f"nothing is evicted, {used >> 20} MiB used" + (f" of {most >> 20}" if most else ""))
    if not int(info.get("aof_enabled", 0)):
        yield bad(name, "no append-only file: a crash loses what was on its way", "CONFIG SET appendonly yes, appendfsync everysec")
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield bad(name, "the append-only file can't be written", "look at the disk of the server")
    else:
        yield good(name, "append-only file is on")


def database_findings(runtime: Runtime) -> Iterator[Finding]:
    try:
        with runtime.engine.connect() as connection:
            version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
            current = set(MigrationContext.configure(connection).get_current_heads())
            read_only = connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one()
    except (SQLAlchemyError, OSError) as error:
        cause = type(getattr(error, "orig", None) or error).__name__
        yield Finding(
            "postgresql", False, f"can't be reached ({cause})", "is it running, and is PUSHFLEET_DATABASE_URL right?", unreachable=True
        )
        return
    words = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    if version < POSTGRES_MIN * 10_000:
        yield bad("postgresql", words, f"the fleet needs {POSTGRES_MIN} or newer")
    elif read_only:
        yield bad("postgresql", f"{words}, a standby that can't be written", "PUSHFLEET_DATABASE_URL must name the primary")
    else:
        yield good("postgresql", words)
    config = Config()
    config.set_main_option("script_location", str(migrations.__path__[0]))
    newest = set(ScriptDirectory.from_config(config).get_heads())
    if current == newest:
        yield good("tables", f"version {', '.join(sorted(current))}")
    else:
        yield bad("tables", f"version {', '.join(sorted(current)) or 'none'}, not {', '.join(sorted(newest))}", "pushfleet migrate")


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


# ---------------------------------------------------------------- the fleet


def process_findings(runtime: Runtime) -> Iterator[Finding]:
    roles = runtime.living.roles()
    if not any(role.startswith((*living.STAGES, living.DELIVERY)) for role in roles.values()):
        yield bad("processes", "none is alive", "pushfleet up, or start the lines of the Procfile")
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
                "belts", f"{stream} has another reader's group", "the stream belongs to the fleet: other readers use one of their own"
            )
    backlog = runtime.belts.backlog((*keys.BELTS, keys.LEDGER, keys.RECEIPTS))
    for belt, found in backlog.items():
        total += found.unread + found.pending
        most = ledger.BELT_MAX if belt == keys.LEDGER else DEEP
        yield from _depth(belt, found.unread + found.pending, found.oldest_ms, now, depth_max=most)
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
        parked = runtime.delayed.parked_count(lane.id)
        waiting = f", {parked} batches wait behind it" if parked else ""
        key = f"{lane.credential.app} {lane.vendor} {lane.credential.business_id}"
        if lane.paused:
            yield bad("lanes", f"{name} is paused by an operator{waiting}", f"pushfleet credential resume {key}")
        elif status.state != lanes.FLOWING:
            since = at(status.since_ms)[:19]
            yield bad("lanes", f"{name} is {status.state} since {since}: {status.why}{waiting}", f"pushfleet credential check {key}")
        elif runtime.guard.stopped(lane.id):
            yield bad("lanes", f"{name}: too many tokens at once were told dead; none is retired", "is this the right environment and key?")
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
            yield bad("credentials", f"{name} expires {at(one.expires_ms)[:16]}", rotate)
    yield good("credentials", f"{len(stored)} can be read")


def letter_findings(runtime: Runtime) -> Iterator[Finding]:
    """Dead letters are an operator's business, but not a fault of the set-up."""
    counts = runtime.dead_letters.counts()
    told = ", ".join(f"{count} of {stage}" for stage, count in sorted(counts.items()))
    yield good("dead letters", f"{told}: pushfleet dead-letters list" if told else "none")


def endpoint_finding(settings: Settings) -> Finding:
    if not settings.endpoints:
        return good("endpoints", "the vendors' own")
    told = ", ".join(f"{name} -> {url}" for name, url in sorted(settings.endpoints.items()))
    return good("endpoints", f"not the vendors' own, pushes reach no phone: {told}")
