"""`pushfleet device …`."""

from __future__ import annotations

import click

from workers.cli.base import CliError, at, opened, print_json, print_table


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
            {**row, "token": _ends(row["token"]), "voip_token": _ends(row["voip_token"])} for row in runtime.devices.listed(app_id, user)
        ]
    if as_json:
        print_json(rows)
        return
    shown = [{**row, "registered": at(row["registered_ms"])} for row in rows]
    print_table(["user", "device_id", "platform", "vendor", "business_id", "state", "reason", "registered", "token"], shown, "no device")


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
    _set(app_id, user, device_id, "retired", "by an operator")


@device.command("restore")
@click.argument("app_id", metavar="APP")
@click.argument("user")
@click.argument("device_id", metavar="DEVICE")
def restore(app_id: str, user: str, device_id: str) -> None:
    """Send to a retired device again."""
    _set(app_id, user, device_id, "active", "")


def _set(app_id: str, user: str, device_id: str, state: str, reason: str) -> None:
    with opened() as runtime:
        if not runtime.devices.set_state(app_id, user, device_id, state, reason):
            raise CliError("no such device, or its user logged out there: then only a new registration brings it back", exit_code=1)
    print(state)
