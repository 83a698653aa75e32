"""`pushfleet doctor`: tries what the fleet needs, names what is wrong and the command that cures
it; `--fix` does the safe ones.
"""

from __future__ import annotations

import click
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from common.config import Settings
from common.running_fleet import resolve
from common.storage.shards import known_shards
from workers.cli import NO, UNREACHABLE
from workers.cli.printing import print_json
from workers.reports.examination import examined
from workers.reports.findings import Finding
from workers.runtime import Runtime


@click.command()
@click.option(
    "--fix",
    is_flag=True,
    help="Do what cures a problem where nothing can be lost by it, then look again.",
)
@click.option("--json", "as_json", is_flag=True)
def doctor(fix: bool, as_json: bool) -> None:
    """Look at servers, rights, keys, processes, streams, lanes, credentials, vendors and clocks.
    Exit code 0 when all is well.
    """
    settings = known_shards(resolve(Settings.load()))
    runtime = Runtime(settings)
    try:
        if fix:
            _fix(runtime, as_json)
        findings = []
        for finding in examined(runtime):
            findings.append(finding)
            if not as_json:
                _print_finding(finding)
    finally:
        runtime.close()
    wrong = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json({"ok": not wrong, "checks": [_shown(one) for one in findings]})
    else:
        print("all is well" if not wrong else f"{len(wrong)} to look at")
    if wrong:
        raise click.exceptions.Exit(
            UNREACHABLE if any(finding.unreachable for finding in wrong) else NO
        )


def _fix(runtime: Runtime, quiet: bool) -> None:
    """Every fix that a finding offers; what can't be done is found again."""
    for finding in list(examined(runtime)):
        if finding.ok or finding.fix is None:
            continue
        try:
            finding.fix()
        except (RedisError, SQLAlchemyError, OSError) as error:
            result = f"not done ({type(error).__name__})"
        else:
            result = "done"
        if not quiet:
            print(f"FIX      {finding.check:<12} {finding.cure}: {result}")


def _shown(one: Finding) -> dict[str, object]:
    problem = {"problem": one.problem or None, "since_ms": one.since_ms}
    return {"check": one.check, "ok": one.ok, "found": one.found, "cure": one.cure, **problem}


def _print_finding(finding: Finding) -> None:
    verdict = "NOTE" if finding.note else "OK" if finding.ok else "PROBLEM"
    print(f"{verdict:<8} {finding.check:<12} {finding.found}")
    if finding.cure:
        print(f"{'':>22}{finding.cure}")
