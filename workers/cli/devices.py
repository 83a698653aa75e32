"""`pushfleet device …`."""

from __future__ import annotations

import re

import click

from common.clock import now_ms
from common.storage.audit import person_mark
from common.tokens import BY_OPERATOR
from workers.cli.arguments import check_tenant
from workers.cli.errors import CliError
from workers.cli.opening import noted, opened
from workers.cli.printing import at, print_list


@click.group()
def device() -> None:
    """Registered devices."""


@device.command("list")
@click.argument("app_id", metavar="APP")
@click.argument("user", required=False)
@click.option("--json", "as_json", is_flag=True)
def listed(app_id: str, user: str | None, as_json: bool) -> None:
    """Devices of a tenant or of one person. Tokens are shown by their ends only."""
    with opened() as runtime:
        rows = [
            {**row, "token": _ends(row["token"]), "voip_token": _ends(row["voip_token"])}
            for row in runtime.devices.listed(app_id, user)
        ]
        check_tenant(runtime, app_id, rows, as_json=as_json)
    print_list(
        rows,
        [
            "user",
            "device_id",
            "platform",
            "vendor",
            "business_id",
            "state",
            "reason",
            "registered",
            "token",
        ],
        "no device",
        lambda row: {**row, "registered": at(row["registered_ms"])},
        as_json=as_json,
    )


def _ends(token: str | None) -> str | None:
    if token is None:
        return None
    return f"{token[:4]}…{token[-4:]}" if len(token) > 12 else "…"


@device.command("retire")
@click.argument("app_id", metavar="APP")
@click.argument("user")
@click.argument("device_id", metavar="DEVICE")
def retire(app_id: str, user: str, device_id: str) -> None:
    """Stop sending to a device until it registers again or is restored."""
    _set(app_id, user, device_id, "retired", BY_OPERATOR)


@device.command("restore")
@click.argument("app_id", metavar="APP")
@click.argument("user", required=False)
@click.argument("device_id", metavar="DEVICE", required=False)
@click.option(
    "--lane", metavar="VENDOR:BUSINESS_ID", help="All devices that this lane's vendor had retired."
)
@click.option(
    "--since",
    metavar="AGO",
    help="With --lane: what was retired since so long ago, as 90m, 6h or 2d.",
)
def restore(
    app_id: str, user: str | None, device_id: str | None, lane: str | None, since: str | None
) -> None:
    """Send to a retired device again; or take back what the answers of a wrong credential did to a
    lane's devices.
    """
    if lane is None and since is None and user is not None and device_id is not None:
        _set(app_id, user, device_id, "active", "")
        return
    vendor, colon, business_id = (lane or "").partition(":")
    ago = re.fullmatch(r"([0-9]{1,6})([mhd])", since or "")
    if user is not None or not colon or ago is None:
        raise CliError(
            "name USER and DEVICE, or --lane VENDOR:BUSINESS_ID with --since 6h", exit_code=2
        )
    since_ms = now_ms() - int(ago[1]) * {"m": 60, "h": 3600, "d": 86_400}[ago[2]] * 1000
    with opened() as runtime:
        count = runtime.devices.restore_lane(app_id, vendor, business_id, since_ms)
        noted(runtime, "devices restored", app_id, f"{vendor} {business_id}", str(count))
    print(f"{count} devices are active again")
    if not count:
        raise CliError("no device of that lane was retired by its vendor since then", exit_code=1)


def _set(app_id: str, user: str, device_id: str, state: str, reason: str) -> None:
    with opened() as runtime:
        if not runtime.devices.set_state(app_id, user, device_id, state, reason):
            raise CliError(
                "no such device, or its user logged out there: then only a new registration "
                "brings it back",
                exit_code=1,
            )
        noted(runtime, f"device {state}", app_id, person_mark(app_id, user))
    print(state)
