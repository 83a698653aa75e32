"""`pushfleet app …` and `pushfleet strategy …`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from common.model import PushType, Vendor
from common.storage.tenants import Tenant
from workers.cli.base import CliError, opened, print_json, print_table


@click.group()
def app() -> None:
    """Tenants: the IM applications this fleet serves."""


@app.command("add")
@click.argument("app_id", metavar="APP")
@click.option("--name", default="", help="What people know it as; the title of a push that has none.")
@click.option("--lang", type=click.Choice(["zh", "en"]), default="zh", show_default=True)
@click.option("--tz", default="Asia/Shanghai", show_default=True, help="Zone of do-not-disturb windows that name none.")
def add(app_id: str, name: str, lang: str, tz: str) -> None:
    """Register a tenant, or change its name, language and zone."""
    if not re.fullmatch(r"[!-z|~]{1,64}", app_id):
        raise CliError("APP takes 1-64 printable ASCII characters without spaces and braces")
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise CliError(f"--tz takes a zone name such as Asia/Shanghai or Europe/Berlin, not {tz!r}") from None
    with opened() as runtime:
        runtime.tenants.add(Tenant(app_id, name, lang, tz))
        runtime.catalog.changed()
    print(f"tenant {app_id} is registered")


@app.command("list")
@click.option("--json", "as_json", is_flag=True)
def listed(as_json: bool) -> None:
    """Tenants of this fleet."""
    with opened() as runtime:
        rows = [{"app": t.app, "name": t.name, "lang": t.lang, "tz": t.tz} for t in runtime.tenants.all().values()]
    if as_json:
        print_json(rows)
    else:
        print_table(["app", "name", "lang", "tz"], rows, "no tenant yet: pushfleet app add APP")


@click.group()
def strategy() -> None:
    """Named presets of vendor overrides (ZEGO: resourcesID)."""


@strategy.command("add")
@click.argument("app_id", metavar="APP")
@click.argument("strategy_id", metavar="ID")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def add_strategy(app_id: str, strategy_id: str, file: Path) -> None:
    """Store the preset in FILE: a JSON object {"huawei": {"channel_id": …}, "sound": {"ios": …}, "push_type": "voip", …}."""
    try:
        preset = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise CliError("FILE takes a JSON object") from None
    if not re.fullmatch(r"[!-~]{1,64}", strategy_id):
        raise CliError("ID takes 1-64 printable ASCII characters without spaces")
    wrong = _wrong_with(preset)
    if wrong is not None:
        raise CliError(f"FILE: {wrong}")
    with opened() as runtime:
        if app_id not in runtime.tenants.all():
            raise CliError(f"no tenant {app_id}: pushfleet app add {app_id}")
        runtime.strategies.add(app_id, strategy_id, preset)
        runtime.catalog.changed()
    print(f"strategy {strategy_id} is stored")


def _wrong_with(preset: object) -> str | None:
    """What a preset must not hold, in words; None for a good one."""
    if not isinstance(preset, dict):
        return "it takes a JSON object"
    for name, value in preset.items():
        if name == "push_type":
            if value not in [*PushType]:
                return f"push_type takes {', '.join(PushType)}"
        elif name == "sound":
            if not isinstance(value, dict) or not all(key in ("ios", "android") and isinstance(file, str) for key, file in value.items()):
                return 'sound takes {"ios": FILE, "android": FILE}'
        elif name not in [*Vendor]:
            return f"{name!r} is none of its keys: {', '.join(Vendor)}, sound, push_type"
        elif not isinstance(value, dict):
            return f"{name} takes an object of overrides"
    return None


@strategy.command("list")
@click.argument("app_id", metavar="APP")
@click.option("--json", "as_json", is_flag=True)
def list_strategies(app_id: str, as_json: bool) -> None:
    """Presets of a tenant."""
    with opened() as runtime:
        rows = [{"app": app, "id": name, "preset": preset} for (app, name), preset in runtime.strategies.all().items() if app == app_id]
    if as_json:
        print_json(rows)
    else:
        print_table(["id", "preset"], [{**row, "preset": json.dumps(row["preset"], ensure_ascii=False)} for row in rows], "no strategy")


@strategy.command("remove")
@click.argument("app_id", metavar="APP")
@click.argument("strategy_id", metavar="ID")
def remove_strategy(app_id: str, strategy_id: str) -> None:
    """Remove a preset; messages that name it are sent with the defaults."""
    with opened() as runtime:
        if not runtime.strategies.remove(app_id, strategy_id):
            raise CliError(f"no strategy {strategy_id}", exit_code=1)
        runtime.catalog.changed()
