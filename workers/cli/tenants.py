"""`pushfleet app …` and `pushfleet strategy …`."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import click

from common.model import PushType, Vendor
from common.storage.tenants import Tenant, is_app
from workers.cli.account_options import secret_of
from workers.cli.arguments import check_tenant, check_zone, json_of
from workers.cli.errors import CliError, NotThereError
from workers.cli.opening import opened
from workers.cli.printing import print_list
from workers.gateway.gorush import SYNC
from workers.gateway.secrets import (
    CALLBACK_SECRETS,
    GATEWAY_KEYS,
    new_key,
    opened_secrets,
    with_secret,
)
from workers.routing.render import HiddenMode
from workers.routing.texts import CatalogueError, read_catalogue
from workers.runtime import Runtime
from workers.vendors import VENDORS
from workers.vendors.types import COMMON_OVERRIDES

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def app() -> None:
    """Tenants: the IM applications this fleet serves."""


@app.command("add")
@click.argument("app_id", metavar="APP")
@click.option("--name", help="What people know it as; the title of a push that has none.")
@click.option(
    "--lang",
    type=click.Choice(["zh", "en"]),
    help="Language of devices that name none.  [default: zh]",
)
@click.option(
    "--tz", help="Zone of do-not-disturb windows that name none.  [default: Asia/Shanghai]"
)
@click.option(
    "--hidden-mode",
    type=click.Choice([mode.value for mode in HiddenMode]),
    help="How much of a message is shown; full: all of it.",
)
@click.option("--hidden-text", metavar="TEXT", help="What --hidden-mode text shows.")
@click.option(
    "--content-key",
    "content_keys",
    multiple=True,
    metavar="KEY=TEXT",
    help="What devices with this content key show.",
)
@click.option(
    "--texts",
    type=_FILE,
    help="JSON: the fleet's own words in further languages, {lang: {key: text}}.",
)
@click.option(
    "--gorush-sync/--no-gorush-sync",
    default=None,
    help="Answers of the gorush door name what failed, as with ?sync=1.",
)
def add(
    app_id: str,
    name: str | None,
    lang: str | None,
    tz: str | None,
    hidden_mode: str | None,
    hidden_text: str | None,
    content_keys: tuple[str, ...],
    texts: Path | None,
    gorush_sync: bool | None,
) -> None:
    """Register a tenant, or change what is named of it."""
    check_zone(tz, "--tz")
    given = {
        "hidden_mode": hidden_mode,
        "hidden_text": hidden_text,
        "content_keys": _keyed_texts(content_keys),
        "texts": _catalogue(texts),
    }
    switched = {} if gorush_sync is None else {SYNC: gorush_sync}
    with opened() as runtime:
        known = runtime.tenants.all()
        if not is_app(app_id) and app_id not in known:
            raise CliError("APP takes 1-64 letters, digits, '.', '_' and '-'")
        old = known.get(app_id) or Tenant(app_id, "", "zh", "Asia/Shanghai")
        options = {
            **old.options,
            **{key: value for key, value in given.items() if value},
            **switched,
        }
        if options.get("hidden_mode") == HiddenMode.TEXT and not options.get("hidden_text"):
            raise CliError("--hidden-mode text needs --hidden-text TEXT")
        runtime.tenants.add(
            Tenant(
                app_id, old.name if name is None else name, lang or old.lang, tz or old.tz, options
            )
        )
        runtime.catalog.changed()
    print(f"tenant {app_id} is registered")


def _keyed_texts(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key or not text:
            raise CliError("--content-key takes KEY=TEXT")
        found[key] = text
    return found


def _catalogue(file: Path | None) -> dict[str, dict[str, str]]:
    if file is None:
        return {}
    try:
        return read_catalogue(json_of(file, "--texts"))
    except CatalogueError as error:
        raise CliError(f"--texts: {error}") from None


@app.command("list")
@click.option("--json", "as_json", is_flag=True)
def listed(as_json: bool) -> None:
    """Tenants of this fleet."""
    with opened() as runtime:
        rows = [
            {
                "app": t.app,
                "name": t.name,
                "lang": t.lang,
                "tz": t.tz,
                "hidden_mode": t.options.get("hidden_mode", HiddenMode.FULL),
            }
            for t in runtime.tenants.all().values()
        ]
    columns = ["app", "name", "lang", "tz", "hidden_mode"]
    print_list(rows, columns, "no tenant yet: pushfleet app add APP", as_json=as_json)


@app.command("callback")
@click.argument("app_id", metavar="APP")
@click.option(
    "--secret-file",
    type=_FILE,
    required=True,
    help="The cloud's callback token or secret; white space at its ends is dropped.",
)
def callback(app_id: str, secret_file: Path) -> None:
    """Store what the tenant's cloud signs its callbacks with. The one before stays valid: change it
    here, then at the cloud.
    """
    secret = secret_of(secret_file, "secret")
    if len(secret) > 1024:
        raise CliError("--secret-file takes a file with 1 to 1024 characters")
    with opened() as runtime:
        _change_secrets(runtime, app_id, CALLBACK_SECRETS, secret)
    print(f"callbacks of {app_id} are taken with this secret, and with the one before it")


@app.command("gateway-key")
@click.argument("app_id", metavar="APP")
@click.option(
    "--rotate",
    is_flag=True,
    help="Make a new one; the one before stays valid until the next rotation.",
)
def gateway_key(app_id: str, rotate: bool) -> None:
    """Print the key that stands in the addresses of this tenant's doors, made at
    the first asking.
    """
    with opened() as runtime:
        tenant = _tenant(runtime, app_id)
        known = opened_secrets(tenant.options, GATEWAY_KEYS, runtime.vault)
        key = known[0] if known and not rotate else new_key()
        if key not in known:
            _change_secrets(runtime, app_id, GATEWAY_KEYS, key)
    print(key)


@app.command("xmpp")
@click.argument("app_id", metavar="APP")
@click.option(
    "--server", required=True, metavar="HOST:PORT", help="Where the server listens for components."
)
@click.option(
    "--component",
    required=True,
    metavar="DOMAIN",
    help="The component's name there, e.g. push.example.org.",
)
@click.option("--secret-file", type=_FILE, required=True)
@click.option(
    "--connections",
    type=click.IntRange(1, 4),
    default=2,
    show_default=True,
    help="ejabberd: 2, overlapping; Prosody takes 1.",
)
@click.option(
    "--empty",
    type=click.Choice(["silent", "wake"]),
    default="silent",
    show_default=True,
    help="What an empty notification does.",
)
@click.option(
    "--domain",
    "domains",
    multiple=True,
    help="Whose users may register.  [default: the component's parent domain]",
)
def xmpp(
    app_id: str,
    server: str,
    component: str,
    secret_file: Path,
    connections: int,
    empty: str,
    domains: tuple[str, ...],
) -> None:
    """Connect the tenant to an XMPP server as its push component (XEP-0114); `worker gateway-xmpp`
    holds the connections.
    """
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise CliError("--server takes HOST:PORT, for instance localhost:5347")
    secret = secret_of(secret_file, "secret")
    with opened() as runtime:
        tenant = _tenant(runtime, app_id)
        given: dict[str, object] = {
            "host": host,
            "port": int(port),
            "domain": component,
            "connections": connections,
            "empty": empty,
        }
        given |= {"domains": list(domains) or [component.partition(".")[2] or component]}
        given |= {"secret": runtime.vault.encrypt(secret.encode()).decode()}
        runtime.tenants.add(
            Tenant(
                tenant.app, tenant.name, tenant.lang, tenant.tz, {**tenant.options, "xmpp": given}
            )
        )
        runtime.catalog.changed()
    print(f"{app_id} is the component {component} of {server}")


def _tenant(runtime: Runtime, app_id: str) -> Tenant:
    tenant = runtime.tenants.all().get(app_id)
    if tenant is None:
        raise NotThereError(f"no tenant {app_id}: pushfleet app add {app_id}")
    return tenant


def _change_secrets(runtime: Runtime, app_id: str, name: str, secret: str) -> None:
    tenant = _tenant(runtime, app_id)
    options = with_secret(tenant.options, name, secret, runtime.vault)
    runtime.tenants.add(Tenant(tenant.app, tenant.name, tenant.lang, tenant.tz, options))
    runtime.catalog.changed()


@click.group()
def strategy() -> None:
    """Named presets of vendor overrides (ZEGO: resourcesID)."""


@strategy.command("add")
@click.argument("app_id", metavar="APP")
@click.argument("strategy_id", metavar="ID")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def add_strategy(app_id: str, strategy_id: str, file: Path) -> None:
    """Store the preset in FILE: a JSON object {"huawei": {"channel_id": …}, "sound": {"ios": …},
    "push_type": "voip", …}.

    The vendors may also stand under "vendor", as they do in an event.
    """
    preset = json_of(file, "FILE")
    if not re.fullmatch(r"[!-~]{1,64}", strategy_id):
        raise CliError("ID takes 1-64 printable ASCII characters without spaces")
    if isinstance(preset, dict) and isinstance(preset.get("vendor"), dict):
        preset |= preset.pop("vendor")
    wrong = _wrong_with(preset)
    if wrong is not None:
        raise CliError(f"FILE: {wrong}")
    with opened() as runtime:
        if app_id not in runtime.tenants.all():
            raise NotThereError(f"no tenant {app_id}: pushfleet app add {app_id}")
        runtime.strategies.add(app_id, strategy_id, preset)
        runtime.catalog.changed()
    print(f"strategy {strategy_id} is stored")


def _wrong_with(preset: object) -> str | None:
    """The fault of a preset as a text; None for a valid one."""
    if not isinstance(preset, dict):
        return "it takes a JSON object"
    for name, value in preset.items():
        if name == "push_type":
            if value not in [*PushType]:
                return f"push_type takes {', '.join(PushType)}"
        elif name == "sound":
            if not isinstance(value, dict) or not all(
                key in ("ios", "android") and isinstance(file, str) for key, file in value.items()
            ):
                return 'sound takes {"ios": FILE, "android": FILE}'
        elif name not in [*Vendor]:
            return f"{name!r} is none of its keys: {', '.join(Vendor)}, sound, push_type"
        elif not isinstance(value, dict):
            return f"{name} takes an object of overrides"
        elif (wrong := _wrong_overrides(Vendor(name), value)) is not None:
            return wrong
    return None


def _wrong_overrides(vendor: Vendor, given: Mapping[str, object]) -> str | None:
    """The first name that no part of the fleet reads: it would be kept, and change nothing."""
    known = sorted(VENDORS[vendor].overrides | COMMON_OVERRIDES)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return f"{vendor} has no override {name!r}{hint}; it takes {', '.join(known)}"
    return None


@strategy.command("list")
@click.argument("app_id", metavar="APP", required=False)
@click.option("--json", "as_json", is_flag=True)
def list_strategies(app_id: str | None, as_json: bool) -> None:
    """Presets of a tenant, or of all."""
    with opened() as runtime:
        rows = [
            {"app": app, "id": name, "preset": preset}
            for (app, name), preset in sorted(runtime.strategies.all().items())
            if app_id in (None, app)
        ]
        check_tenant(runtime, app_id, rows, as_json=as_json)
    print_list(
        rows,
        ["app", "id", "preset"],
        "no strategy",
        lambda row: {**row, "preset": json.dumps(row["preset"], ensure_ascii=False)},
        as_json=as_json,
    )


@strategy.command("remove")
@click.argument("app_id", metavar="APP")
@click.argument("strategy_id", metavar="ID")
def remove_strategy(app_id: str, strategy_id: str) -> None:
    """Remove a preset; messages that name it are sent with the defaults."""
    with opened() as runtime:
        if not runtime.strategies.remove(app_id, strategy_id):
            raise CliError(
                f"no strategy {strategy_id} of {app_id}; there are: pushfleet strategy list "
                f"{app_id}",
                exit_code=1,
            )
        runtime.catalog.changed()
    print("removed")
