"""`pushfleet init`: a tenant, an account, a device and a first push; each step is printed as the
command that does it again.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from common import runfile
from common.config import VENDOR_ENDPOINTS, Settings
from common.model import Vendor
from common.running_fleet import resolve
from common.settings_table import PREFIX
from workers.cli import NO, run
from workers.cli.demo_data import account_options, made_up
from workers.cli.errors import CliError
from workers.cli.opening import opened, program
from workers.cli.why import decided_trace
from workers.vendors import VENDORS

WAIT_S = 30.0


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--app", "app_id", default="1400000001", show_default=True, help="The tenant to make."
)
@click.option(
    "--vendor",
    type=click.Choice([vendor.value for vendor in Vendor]),
    default="apns",
    show_default=True,
)
@click.option("--business-id", help="Name of the account.  [default: VENDOR-1]")
@click.option("--user", default="bob", show_default=True, help="Who gets the push.")
@click.option("--token", help="Device token of a real phone; a made-up one with the simulators.")
@click.argument(
    "account", nargs=-1, metavar="[OPTIONS OF credential add]...", type=click.UNPROCESSED
)
def init(
    app_id: str,
    vendor: str,
    business_id: str | None,
    user: str,
    token: str | None,
    account: tuple[str, ...],
) -> None:
    """Set up a first tenant, account and device, and send one push.

    Without options of `credential add` the account is a throw-away one of the vendor's simulator
    that `pushfleet up` runs.
    """
    settings = resolve(Settings.load())
    if account and not token:
        raise CliError("with a real account --token names the device token of a real phone")
    folder = settings.data_dir / "init"
    options = list(account) or _simulated(settings, vendor, folder)
    business_id = business_id or f"{vendor}-1"
    name = re.sub(r"[^\w.-]", "_", f"{vendor}-{user}")  # what an earlier call printed stays true
    device = {
        "user": user,
        "device_id": f"{user}-phone",
        "platform": VENDORS[Vendor(vendor)].platform,
        "vendor": vendor,
        "business_id": business_id,
        "token": token or made_up(Vendor(vendor), uuid.uuid4().hex + uuid.uuid4().hex),
    }
    steps: list[list[str]] = [["app", "add", app_id, "--name", "My chat"]]
    if not _is_there(app_id, vendor, business_id):
        steps.append(
            ["credential", "add", vendor, "--app", app_id, "--business-id", business_id, *options]
        )
    path = _event(
        folder, f"{name}-device.json", "device.registered", app_id, f"{user}-phone", device
    )
    steps.append(["publish", "--fresh", path])
    for step in steps:
        _do(step)
    path = _event(
        folder, f"{name}-message.json", "message.stored", app_id, "hello", hello("hello", user)
    )
    printed = _do(["publish", "--fresh", path])
    raise click.exceptions.Exit(_outcome(settings, app_id, vendor, printed.split()[0]))


def hello(message_id: str, user: str) -> dict[str, Any]:
    """`data` of a chat message from alice."""
    return {
        "message_id": message_id,
        "conversation": {"type": "c2c", "id": "alice"},
        "sender": {"id": "alice", "nick": "Alice"},
        "recipients": [user],
        "elements": [{"type": "text", "text": "See you at eight"}],
    }


def _simulated(settings: Settings, vendor: str, folder: Path) -> list[str]:
    """Options of an account that the simulator takes. CliError where real phones
    would be reached.
    """
    if vendor not in (runfile.read(settings.data_dir).get("simulators") or {}):
        name = f"{PREFIX}ENDPOINT_{VENDOR_ENDPOINTS[vendor][0]}"
        words = (
            f"no simulator of {vendor} runs here: give --token and the options of `credential "
            f"add {vendor}`"
        )
        raise CliError(f"{words}, or let `pushfleet up` start one (without {name})")
    return next(options for known, options in account_options(_near(folder)) if known == vendor)


def _near(path: Path) -> Path:
    """As seen from here, where it is below: what is printed is typed again."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _is_there(app_id: str, vendor: str, business_id: str) -> bool:
    with opened() as runtime:
        return any(
            (row["vendor"], row["business_id"]) == (vendor, business_id)
            for row in runtime.credentials.listed(app_id)
        )


def _event(
    folder: Path, name: str, kind: str, app_id: str, event_id: str, data: Mapping[str, Any]
) -> str:
    """Writes the event to a file that can be edited and published again; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    event = {"v": 1, "id": event_id, "type": kind, "app": app_id, "data": data}
    runfile.write_private(
        folder / name, json.dumps(event, indent=1, ensure_ascii=False).encode() + b"\n"
    )
    return str(_near(folder / name))


def _do(step: Sequence[str]) -> str:
    """Prints the command, runs it, prints and returns its output; a failure ends ours."""
    print(f"$ {program()} {shlex.join(step)}", flush=True)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(step)
    print(out.getvalue(), end="", flush=True)
    if code:
        raise click.exceptions.Exit(code)
    return out.getvalue()


def _outcome(settings: Settings, app_id: str, vendor: str, message_id: str) -> int:
    """Prints what became of the push; the exit code."""
    from simulators.registry import SIMULATORS

    with opened() as runtime:
        trace = decided_trace(runtime, message_id, app_id, time.monotonic() + WAIT_S)
    _do(["why", message_id])
    if not trace or not any(one["decision"] == "accepted" for one in trace["recipients"]):
        print(
            f"the push was not taken; what is wrong with the fleet: {program()} doctor",
            file=sys.stderr,
        )
        return NO
    record = settings.data_dir / "simulators" / f"{SIMULATORS[vendor].module}.jsonl"
    print(
        f"\n{vendor} took the push"
        + (f"; its simulator has it in {_near(record)}" if record.exists() else "")
    )
    return 0
