"""`pushfleet lanes` and `pushfleet quota …`: what flows, how fast, and what is left of the vendors' days."""

from __future__ import annotations

from typing import Any

import click

from common.clock import now_ms
from common.contracts import decode_batch
from common.model import Bucket, Vendor
from workers.cli.base import CliError, at, opened, print_json, print_table
from workers.cli.credentials import bucket_of, whole
from workers.delivery.lane import Lane
from workers.gate import rate_shown, terms_of
from workers.runtime import Runtime


@click.command()
@click.option("--app", "app_id", default=None)
@click.option("--json", "as_json", is_flag=True)
def lanes(app_id: str | None, as_json: bool) -> None:
    """Every lane: one vendor with one account."""
    with opened() as runtime:
        rows = [_lane(runtime, lane) for lane in _lanes(runtime, app_id)]
    if as_json:
        print_json(rows)
        return
    shown = [{**row, "quotas": ", ".join(_brief(quota) for quota in row["quotas"] if quota["limit"] is not None)} for row in rows]
    columns = ["app", "vendor", "business_id", "env", "state", "rate", "rate_now", "inflight", "parked", "quotas"]
    print_table(columns, shown, "no lane yet: pushfleet credential add")


def _lanes(runtime: Runtime, app_id: str | None) -> list[Lane]:
    found = runtime.catalog.now.lanes
    return [found[key] for key in sorted(found) if app_id is None or key[0] == app_id]


def _lane(runtime: Runtime, lane: Lane) -> dict[str, Any]:
    """As contract §9. inflight, parked: pushes. rate_now is 0 while the vendor's Retry-After holds the lane."""
    credential, terms = lane.credential, terms_of(lane, now_ms())
    return {
        "app": credential.app,
        "vendor": credential.vendor,
        "business_id": credential.business_id,
        "env": credential.options.get("env"),
        "state": "paused" if lane.paused else runtime.lane_states.peek(lane.id).state,
        "rate": lane.limits.rate_per_s,
        "rate_now": rate_shown(lane, terms, runtime.admission.rate_now(terms)),
        "inflight": runtime.admission.in_flight(lane.id),
        "parked": sum(len(push.targets) for blob in runtime.delayed.parked_blobs(lane.id) for push in decode_batch(blob).pushes),
        "quotas": _quotas(runtime, lane),
    }


def _quotas(runtime: Runtime, lane: Lane) -> list[dict[str, Any]]:
    """limit null: unlimited, `used` then counts attempts. runs_out_ms: when it will be spent at today's pace, null if not today."""
    return [
        {"bucket": usage.bucket, "used": usage.used, "limit": usage.limit, "runs_out_ms": usage.runs_out_ms}
        for usage in runtime.admission.usage(terms_of(lane, now_ms()))
    ]


def _brief(quota: dict[str, Any]) -> str:
    out = f", spent at {at(quota['runs_out_ms'])}" if quota["runs_out_ms"] else ""
    return f"{quota['bucket']} {quota['used']}/{quota['limit']}{out}"


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def quota(context: click.Context, as_json: bool) -> None:
    """Daily quotas of the lanes; without a command: list them."""
    if context.invoked_subcommand is None:
        _show(None, as_json)


@quota.command("list")
@click.option("--app", "app_id", default=None)
@click.option("--json", "as_json", is_flag=True)
def listed(app_id: str | None, as_json: bool) -> None:
    """What is used and left on each vendor's day."""
    _show(app_id, as_json)


def _show(app_id: str | None, as_json: bool) -> None:
    with opened() as runtime:
        rows = [
            {"app": lane.credential.app, "vendor": lane.vendor, "business_id": lane.credential.business_id, **one}
            for lane in _lanes(runtime, app_id)
            for one in _quotas(runtime, lane)
        ]
    if as_json:
        print_json(rows)
        return
    shown = [{**row, "limit": "unlimited" if row["limit"] is None else row["limit"], "runs out": at(row["runs_out_ms"])} for row in rows]
    print_table(["app", "vendor", "business_id", "bucket", "used", "limit", "runs out"], shown, "no lane yet: pushfleet credential add")


@quota.command("set")
@click.argument("app_id", metavar="APP")
@click.argument("vendor", type=click.Choice([name.value for name in Vendor]))
@click.argument("business_id")
@click.argument("wishes", nargs=-1, required=True, metavar="BUCKET=N...")
def set_(app_id: str, vendor: str, business_id: str, wishes: tuple[str, ...]) -> None:
    """Set how many pushes a day a lane may send; every worker knows it within 2 s."""
    wanted = dict(_wish(wish) for wish in wishes)
    with opened() as runtime:
        stored = next(
            (row for row in runtime.credentials.listed(app_id) if (row["vendor"], row["business_id"]) == (vendor, business_id)), None
        )
        if stored is None:
            raise CliError(f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet credential list")
        limits = {**stored["limits"], "quota": {**(stored["limits"].get("quota") or {}), **wanted}}
        runtime.credentials.set_limits(app_id, vendor, business_id, limits)
        runtime.catalog.changed()
        lane = runtime.catalog.lane(app_id, Vendor(vendor), business_id)
        if lane is not None:
            for bucket in wanted:  # the operator knows better than what the vendor said before
                runtime.admission.told_open(terms_of(lane, now_ms()), Bucket(bucket))
    print(", ".join(f"{bucket} {number}" for bucket, number in wanted.items()) + " a day")


def _wish(wish: str) -> tuple[str, int]:
    bucket, sign, number = wish.partition("=")
    if not sign:
        raise CliError(f"quota set takes BUCKET=N, for instance public=20000, not {wish!r}")
    return bucket_of(bucket), whole(number, f"{bucket}=N")
