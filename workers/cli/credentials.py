"""`pushfleet credential …`: accounts with the vendors (contract §6). Secrets come from files and
are never shown again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from common.clock import now_ms
from common.model import Vendor, Verdict
from common.storage.credentials import StoredCredential
from workers.adapters.catalog import lane_of
from workers.cli.account_options import account_options, read_account
from workers.cli.arguments import check_tenant
from workers.cli.errors import CliError, NotThereError
from workers.cli.opening import noted, opened
from workers.cli.printing import at, print_json, print_table
from workers.delivery.access import FleetAccess
from workers.gateway.aliases import aliases_of, overlap
from workers.receipts.readers import READERS
from workers.runtime import Runtime
from workers.vendors.types import AccessRefused
from workers.wire import NoAnswer


@click.group()
def credential() -> None:
    """Accounts with the vendors."""


@credential.command("add")
@click.argument("vendor", type=click.Choice([vendor.value for vendor in Vendor]))
@click.option("--app", "app_id", required=True)
@click.option("--business-id", required=True)
@account_options
def add(vendor: str, app_id: str, business_id: str, **given: Any) -> None:
    """Check an account offline and store it."""
    with opened() as runtime:
        store(runtime, Vendor(vendor), app_id, business_id, given, old=None)
        noted(runtime, "account added", app_id, f"{vendor} {business_id}")
    print(
        f"credential {vendor} {business_id} of {app_id} is stored; prove it: pushfleet "
        f"credential check {app_id} {vendor} {business_id}"
    )


@credential.command("rotate")
@click.argument("app_id", metavar="APP")
@click.argument("vendor", type=click.Choice([vendor.value for vendor in Vendor]))
@click.argument("business_id")
@account_options
def rotate(app_id: str, vendor: str, business_id: str, **given: Any) -> None:
    """Replace an account's secrets; what is not named stays. The old version lives on while the new
    one takes over.
    """
    with opened() as runtime:
        old = find(runtime, app_id, vendor, business_id)
        version = store(runtime, Vendor(vendor), app_id, business_id, given, old)
        noted(runtime, "account rotated", app_id, f"{vendor} {business_id}")
    print(f"credential {vendor} {business_id} of {app_id} is now version {version}")


def store(
    runtime: Runtime,
    vendor: Vendor,
    app_id: str,
    business_id: str,
    given: Mapping[str, Any],
    old: StoredCredential | None,
) -> int:
    if app_id not in runtime.tenants.all():
        raise NotThereError(f"no tenant {app_id}: pushfleet app add {app_id}")
    if not re.fullmatch(r"[!-~]{1,32}", business_id) or set(business_id) & set("()[]{}<>"):
        raise CliError(
            "--business-id takes 1-32 printable ASCII characters without brackets or spaces"
        )
    if old is None and any(
        row["vendor"] == vendor and row["business_id"] == business_id
        for row in runtime.credentials.listed(app_id)
    ):
        raise CliError(
            f"{vendor} {business_id} is there already; to replace it: pushfleet credential "
            f"rotate {app_id} {vendor} {business_id}"
        )
    new = read_account(vendor, app_id, business_id, given, old)
    _check_aliases(runtime, new, old)
    version = runtime.credentials.add(new)
    runtime.catalog.changed()
    return version


def _check_aliases(runtime: Runtime, new: StoredCredential, old: StoredCredential | None) -> None:
    """Checks that a new alias means one account of a tenant: a door could not choose otherwise.

    What the account was called before stays: its secrets can be replaced all the same.
    """
    known = aliases_of(old.options) if old is not None else ()
    mine = [one for one in aliases_of(new.options) if one not in known]
    for row in runtime.credentials.listed(new.app):
        if (row["vendor"], row["business_id"]) == (new.vendor, new.business_id):
            continue
        for theirs in aliases_of(row["options"]):
            if any(overlap(own.glob, theirs.glob) for own in mine):
                raise CliError(
                    f"--alias: {row['vendor']} {row['business_id']} of {new.app} has "
                    f"{theirs.glob!r} already"
                )


def find(runtime: Runtime, app_id: str, vendor: str, business_id: str) -> StoredCredential:
    for stored in runtime.credentials.all():
        if (stored.app, stored.vendor, stored.business_id) == (app_id, vendor, business_id):
            return stored
    raise NotThereError(
        f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet credential list"
    )


@credential.command("list")
@click.argument("app", metavar="[APP", required=False)
@click.argument(
    "vendor",
    metavar="[VENDOR",
    type=click.Choice([vendor.value for vendor in Vendor]),
    required=False,
)
@click.argument("business_id", metavar="[BUSINESS_ID]]]", required=False)
@click.option("--app", "app_option", help="As the argument APP.")
@click.option("--json", "as_json", is_flag=True)
def listed(
    app: str | None,
    vendor: str | None,
    business_id: str | None,
    app_option: str | None,
    as_json: bool,
) -> None:
    """Accounts, without their secrets: all, or those of a tenant, of a vendor, or one."""
    with opened() as runtime:
        rows = [
            {
                **{
                    name: row[name]
                    for name in (
                        "app",
                        "vendor",
                        "business_id",
                        "version",
                        "paused",
                        "created_ms",
                        "expires_ms",
                    )
                },
                "env": row["options"].get("env"),
                "options": {
                    name: value for name, value in row["options"].items() if name != "expires_ms"
                },
                **{name: row[name] for name in ("rights", "channels", "templates", "limits")},
            }
            for row in runtime.credentials.listed(app or app_option)
            if vendor in (None, row["vendor"]) and business_id in (None, row["business_id"])
        ]
        check_tenant(runtime, app or app_option, rows, as_json=as_json)
    if as_json:
        print_json(rows)
    if business_id is not None and not rows:
        raise NotThereError(
            f"no credential {vendor} {business_id} of {app}; there are: pushfleet credential list"
        )
    if as_json:
        return
    shown = [
        {**row, "rights": " ".join(row["rights"]), "expires": at(row["expires_ms"])} for row in rows
    ]
    print_table(
        ["app", "vendor", "business_id", "version", "env", "paused", "rights", "expires"],
        shown,
        "no credential yet",
    )


_KEY = [
    click.argument("app_id", metavar="APP"),
    click.argument("vendor", type=click.Choice([vendor.value for vendor in Vendor])),
    click.argument("business_id"),
]


def _keyed(command: Callable[..., Any]) -> Callable[..., Any]:
    for argument in reversed(_KEY):
        command = argument(command)
    return command


@credential.command("check")
@_keyed
def check(app_id: str, vendor: str, business_id: str) -> None:
    """Ask the vendor whether the account works; nobody gets a push."""
    with opened() as runtime:
        print(prove(runtime, find(runtime, app_id, vendor, business_id)))


def prove(runtime: Runtime, stored: StoredCredential) -> str:
    """The vendor's answer about a working account.

    Raises CliError for another one, or when the vendor is away.
    """
    from common.storage.access import AccessStore

    lane = lane_of(stored, runtime.settings)
    if lane is None:
        raise CliError(f"this fleet does not know {stored.vendor}")
    ports = runtime.delivery(lane.vendor)
    keeper = AccessStore(runtime.redis, runtime.keys, runtime.vault, ports.deadline_s)
    access = FleetAccess(keeper, runtime.transport, now_ms, time.sleep, ports.deadline_s).get(
        lane, now_ms()
    )
    if isinstance(access, AccessRefused):
        raise CliError(
            f"no access token: {access.verdict} {access.code} {access.words}".strip(), exit_code=1
        )
    if lane.spec.check is None or lane.spec.checked is None:
        return (
            "the vendor gave an access token; it has no further test call"
            if access
            else "the account was read; the vendor has no test call"
        )
    answer = lane.send_many(
        ports.transport, [lane.spec.check(lane.credential, access)], ports.deadline_s
    )[0]
    if isinstance(answer, NoAnswer):
        raise CliError(f"the vendor can't be reached: {answer.reason} {answer.words}", exit_code=3)
    verdict = lane.spec.checked(answer)
    if verdict != Verdict.ACCEPTED:
        raise CliError(f"the vendor says {verdict} (HTTP {answer.status})", exit_code=1)
    return "the account works"


@credential.command("receipts-url")
@_keyed
def receipts_url(app_id: str, vendor: str, business_id: str) -> None:
    """The address to enter in the vendor's console for receipts. Whoever knows it can send
    receipts: keep it as a secret.
    """
    with opened() as runtime:
        lane = lane_of(find(runtime, app_id, vendor, business_id), runtime.settings)
        url = runtime.receipts_url(lane) if lane and lane.vendor in READERS else None
    if lane and lane.vendor not in READERS:
        raise CliError(f"{vendor} sends no receipts", exit_code=1)
    if url is None:
        raise CliError(
            "PUSHFLEET_RECEIPTS_URL is not set: the public base URL of the receipts service"
        )
    print(url)


@credential.command("pause")
@_keyed
def pause(app_id: str, vendor: str, business_id: str) -> None:
    """Stop a lane: its pushes wait while their time allows."""
    _pause(app_id, vendor, business_id, paused=True)


@credential.command("resume")
@_keyed
def resume(app_id: str, vendor: str, business_id: str) -> None:
    """Let a paused lane flow again."""
    _pause(app_id, vendor, business_id, paused=False)


def _pause(app_id: str, vendor: str, business_id: str, *, paused: bool) -> None:
    with opened() as runtime:
        if not runtime.credentials.set_paused(app_id, vendor, business_id, paused):
            raise NotThereError(
                f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet "
                "credential list"
            )
        runtime.catalog.changed()
        runtime.lane_states.hold(f"{app_id}:{vendor}:{business_id}", paused)
        noted(
            runtime, "lane paused" if paused else "lane resumed", app_id, f"{vendor} {business_id}"
        )
    print("paused" if paused else "flows again")


@credential.command("remove")
@_keyed
def remove(app_id: str, vendor: str, business_id: str) -> None:
    """Forget an account. Its devices' pushes become `no_credential`."""
    with opened() as runtime:
        if not runtime.credentials.remove(app_id, vendor, business_id):
            raise NotThereError(
                f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet "
                "credential list"
            )
        runtime.catalog.changed()
        for one in runtime.shards:
            one.lane_queues.drop(f"{app_id}:{vendor}:{business_id}")
        noted(runtime, "account removed", app_id, f"{vendor} {business_id}")
    print("removed")
