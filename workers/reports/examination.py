"""Everything that doctor looks at, in order: for `pushfleet doctor` and for the console's overview."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from common.config import SettingError
from common.storage.vault import VaultError
from workers.reports import fleet, servers
from workers.reports.doors import door_findings
from workers.reports.findings import Finding, bad, database_error, redis_error
from workers.runtime import Runtime

#: Without these no other check says anything true.
FIRST = ("redis", "core's redis", "postgresql", "tables")


def examined(runtime: Runtime) -> Iterator[Finding]:
    """Every finding, in order. What would only repeat an earlier one in other words is left out."""
    yield from servers.key_findings(runtime.settings)
    broken: dict[str, bool] = {}  # a server that can't be used, by its check
    for finding in (*servers.redis_findings(runtime), *servers.database_findings(runtime)):
        useless = not finding.ok and finding.check in FIRST and _hides(finding)
        broken[finding.check] = broken.get(finding.check, False) or useless
        yield finding
    redis_there = not broken.get("redis") and not broken.get("core's redis")
    database_there = not broken.get("postgresql") and not broken.get("tables")
    yield from _of_the_fleet(runtime, redis_there, database_there)
    yield fleet.endpoint_finding(runtime.settings)


def _hides(finding: Finding) -> bool:
    """Whether what follows would fail for the same reason: a warning about memory or disk hides nothing."""
    return finding.unreachable or finding.check == "tables" or finding.found.startswith(("it is", "it takes", "this user", "it refuses"))


def _of_the_fleet(runtime: Runtime, redis_there: bool, database_there: bool) -> Iterator[Finding]:
    if database_there:
        unreadable = list(_safely("credentials", lambda: fleet.credential_findings(runtime)))
        yield from unreadable
        if any(not one.ok and "none of the keys" in one.found for one in unreadable):
            return  # every lane would look as if somebody had paused it
    both = redis_there and database_there
    checks: Iterable[tuple[bool, str, Callable[[Runtime], Iterable[Finding]]]] = (
        (both, "clocks", fleet.clock_findings),
        (redis_there, "names", servers.name_findings),
        (both, "processes", fleet.process_findings),
        (redis_there, "belts", fleet.belt_findings),
        (both, "lanes", fleet.lane_findings),
        (both, "quota", fleet.quota_findings),
        (both, "devices", fleet.device_findings),
        (both, "tenants", fleet.tenant_findings),
        (both, "rights", fleet.right_findings),
        (both, "builds", fleet.build_findings),
        (both, "vendors", fleet.vendor_findings),
        (database_there, "receipts", lambda runtime: fleet.receipt_findings(runtime.settings)),
        (database_there, "dead letters", fleet.letter_findings),
        (database_there, "doors", door_findings),
    )
    for possible, name, check in checks:
        if possible:
            yield from _safely(name, lambda check=check: check(runtime))  # type: ignore[misc]


def _safely(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """A check that can't be made is a finding, and the others go on."""
    try:
        yield from check()
    except RedisError as error:
        yield redis_error(name, error)
    except SQLAlchemyError as error:
        told = database_error(error)
        yield Finding(name, False, f"can't be looked at: {told.found}", told.cure)
    except (VaultError, SettingError, OSError) as error:
        yield bad(name, f"can't be looked at: {type(error).__name__}", "pushfleet doctor --json, and the log of the processes")
