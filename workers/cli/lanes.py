"""`pushfleet lanes` and `pushfleet quota …`: what flows, how fast, and what is left of the vendors'
days.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from common.clock import now_ms
from common.model import Bucket, Vendor
from workers.cli.arguments import check_tenant
from workers.cli.errors import CliError, NotThereError
from workers.cli.opening import noted, opened
from workers.cli.printing import at, print_list


@click.command()
@click.option("--app", "app_id", default=None)
@click.option("--json", "as_json", is_flag=True)
def lanes(app_id: str | None, as_json: bool) -> None:
    """Every lane: one vendor with one account."""
    from workers.lane_report import lane_rows, lanes_of

    with opened() as runtime:
        rows = lane_rows(runtime, lanes_of(runtime, app_id))
        check_tenant(runtime, app_id, rows, as_json=as_json)
    columns = [
        "app",
        "vendor",
        "business_id",
        "env",
        "state",
        "since",
        "why",
        "rate",
        "rate_now",
        "inflight",
        "parked",
        "quotas",
    ]
    print_list(rows, columns, "no lane yet: pushfleet credential add", _as_words, as_json=as_json)


def _as_words(row: Mapping[str, Any]) -> dict[str, Any]:
    quotas = (_brief(quota) for quota in row["quotas"] if quota["limit"] is not None)
    return {**row, "since": at(row["since_ms"])[:19], "quotas": ", ".join(quotas)}


def _brief(quota: dict[str, Any]) -> str:
    out = f", spent at {at(quota['runs_out_ms'])}" if quota["runs_out_ms"] else ""
    return f"{quota['bucket']} {quota['used']}/{quota['limit']}{out}"


@click.group(invoke_without_command=True)
@click.option("--app", "app_id", default=None)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def quota(context: click.Context, app_id: str | None, as_json: bool) -> None:
    """Daily quotas of the lanes; without a command: list them."""
    if context.invoked_subcommand is None:
        _show(app_id, as_json)


@quota.command("list")
@click.option("--app", "app_id", default=None)
@click.option("--json", "as_json", is_flag=True)
def listed(app_id: str | None, as_json: bool) -> None:
    """What is used and left on each vendor's day."""
    _show(app_id, as_json)


def _show(app_id: str | None, as_json: bool) -> None:
    from workers.lane_report import lanes_of, quota_rows

    with opened() as runtime:
        rows = [
            {
                "app": lane.credential.app,
                "vendor": lane.vendor,
                "business_id": lane.credential.business_id,
                **one,
                "tz": lane.limits.timezone,
            }
            for lane in lanes_of(runtime, app_id)
            for one in quota_rows(runtime, lane)
        ]
        check_tenant(runtime, app_id, rows, as_json=as_json)
    print_list(
        rows,
        ["app", "vendor", "business_id", "bucket", "used", "limit", "runs out", "tz"],
        "no lane yet: pushfleet credential add",
        lambda row: {
            **row,
            "limit": "unlimited" if row["limit"] is None else row["limit"],
            "runs out": at(row["runs_out_ms"]),
        },
        as_json=as_json,
    )


@quota.command("set")
@click.argument("app_id", metavar="APP")
@click.argument("vendor", type=click.Choice([name.value for name in Vendor]))
@click.argument("business_id")
@click.argument("wishes", nargs=-1, required=True, metavar="BUCKET=N...")
def set_(app_id: str, vendor: str, business_id: str, wishes: tuple[str, ...]) -> None:
    """Set how many pushes a day a lane may send; every worker knows it within 2 s.

    0 sends none; BUCKET=default goes back to the vendor's own figure.
    """
    from workers.gate import terms_of

    wanted = dict(_wish(wish) for wish in wishes)
    with opened() as runtime:
        stored = next(
            (
                row
                for row in runtime.credentials.listed(app_id)
                if (row["vendor"], row["business_id"]) == (vendor, business_id)
            ),
            None,
        )
        if stored is None:
            raise NotThereError(
                f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet "
                "credential list"
            )
        quotas = {**(stored["limits"].get("quota") or {}), **wanted}
        kept = {bucket: number for bucket, number in quotas.items() if number is not None}
        limits = {**stored["limits"], "quota": kept}
        runtime.credentials.set_limits(app_id, vendor, business_id, limits)
        runtime.catalog.changed()
        noted(runtime, "quota set", app_id, f"{vendor} {business_id}", " ".join(wishes))
        lane = runtime.catalog.lane(app_id, Vendor(vendor), business_id)
        if lane is not None:
            for bucket in wanted:  # the operator knows better than what the vendor said before
                runtime.admission.report_open(terms_of(lane, now_ms()), Bucket(bucket))
    said = {bucket: "by default" if n is None else f"{n} a day" for bucket, n in wanted.items()}
    print(", ".join(f"{bucket} {words}" for bucket, words in said.items()))


def _wish(wish: str) -> tuple[str, int | None]:
    """(bucket, pushes a day); None: the default."""
    from workers.cli.account_options import bucket_of, whole

    bucket, sign, number = wish.partition("=")
    if not sign:
        raise CliError(
            f"quota set takes BUCKET=N, for instance public=20000, or BUCKET=default, not {wish!r}"
        )
    return bucket_of(bucket), None if number == "default" else whole(number, f"{bucket}=N")
