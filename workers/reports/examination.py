"""All of doctor's checks, in order: for `pushfleet doctor` and the console's overview."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from common.config import SettingError
from common.storage.vault import VaultError
from common.values import BothWords
from workers.lane_report import console_rows
from workers.reports import fleet, network, servers, silent
from workers.reports.doors import door_findings
from workers.reports.findings import Finding, bad, database_error, redis_error
from workers.runtime import Runtime

#: Without these no other check is valid.
FIRST = ("redis", "core's redis", "postgresql", "tables")
#: Problems of a server that refuses everything: every other check would fail for them.
HIDING: Final = frozenset(
    {
        "redis_replica",
        "redis_rights",
        "redis_full",
        "redis_disk",
        "redis_refuses",
        "database_refuses",
        "database_no_days",
    }
)
Check = Callable[[], Iterable[Finding]]


def examined(runtime: Runtime) -> Iterator[Finding]:
    """Every finding, in order, without mere repetitions of an earlier one."""
    yield from servers.key_findings(runtime.settings)
    broken: dict[str, bool] = {}  # a server that can't be used, by its check
    for finding in (*servers.redis_findings(runtime), *servers.database_findings(runtime)):
        useless = not finding.ok and finding.check in FIRST and _hides(finding)
        broken[finding.check] = broken.get(finding.check, False) or useless
        yield finding
    redis_there = not broken.get("redis") and not broken.get("core's redis")
    database_there = not broken.get("postgresql") and not broken.get("tables")
    yield from _of_the_fleet(runtime, redis_there, database_there)
    yield network.endpoint_finding(runtime.settings)


def _hides(finding: Finding) -> bool:
    """True when later checks would fail for the same reason; not for memory or disk warnings."""
    return finding.unreachable or finding.check == "tables" or finding.problem in HIDING


def current(runtime: Runtime, rows: Sequence[fleet.LaneRow]) -> Iterator[Finding]:
    """The cheap, changing findings for each view of the console's overview.

    rows: of console_rows.
    """
    for name, check in (
        *_moving(runtime),
        ("lanes", lambda: fleet.lane_findings(rows)),
        ("quota", lambda: fleet.quota_findings(rows)),
    ):
        yield from _safely(name, check)


#: Checks that `current` makes.
CURRENT: Final = frozenset({"processes", "belts", "credentials", "lanes", "quota", "dead letters"})


def _moving(runtime: Runtime) -> list[tuple[str, Check]]:
    return [
        ("credentials", lambda: fleet.expiry_findings(runtime)),
        ("processes", lambda: fleet.process_findings(runtime)),
        ("belts", lambda: fleet.stream_findings(runtime)),
        ("dead letters", lambda: fleet.letter_findings(runtime)),
    ]


def _of_the_fleet(runtime: Runtime, redis_there: bool, database_there: bool) -> Iterator[Finding]:
    if database_there:
        unreadable = list(_safely("credentials", lambda: fleet.key_findings(runtime)))
        yield from unreadable
        if any(one.problem == "keys_lost" for one in unreadable):
            return  # every lane would look as if somebody had paused it
    both = redis_there and database_there
    if both:
        yield from _safely("lanes", lambda: current(runtime, console_rows(runtime)))
    elif redis_there:
        yield from _safely("belts", lambda: fleet.stream_findings(runtime))
    elif database_there:
        yield from _safely("credentials", lambda: fleet.expiry_findings(runtime))
        yield from _safely("dead letters", lambda: fleet.letter_findings(runtime))
    checks: Iterable[tuple[bool, str, Callable[[Runtime], Iterable[Finding]]]] = (
        (both, "clocks", fleet.clock_findings),
        (redis_there, "names", servers.name_findings),
        (both, "devices", fleet.device_findings),
        (both, "tenants", fleet.tenant_findings),
        (both, "rights", fleet.right_findings),
        (both, "builds", fleet.build_findings),
        (both, "silent pushes", silent.silent_findings),
        (both, "vendors", network.vendor_findings),
        (database_there, "receipts", lambda runtime: network.receipt_findings(runtime.settings)),
        (database_there, "doors", door_findings),
        (True, "reports", servers.reports_findings),
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
        problem = database_error(error)
        yield bad(
            name,
            "not_looked",
            said=BothWords(problem.words("en"), problem.words("zh")),
            cure=BothWords(problem.help("en"), problem.help("zh")),
        )
    except (VaultError, SettingError, OSError) as error:
        cure = BothWords(
            "pushfleet doctor --json, and the log of the processes",
            "pushfleet doctor --json，并查看各进程日志",
        )
        yield bad(name, "not_looked", said=type(error).__name__, cure=cure)
