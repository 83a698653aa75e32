"""`pushfleet settings`: every setting, its value in force, where it comes from, and what it takes;
docs/settings.md is made of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from common.config import VENDOR_ENDPOINTS, Settings, environ_of, read_dotenv
from common.setting_checks import PROXY_TAKES
from common.settings_table import PREFIX, SETTINGS, URL_NAMES, Setting

ENDPOINT_TAKES = "https://host:port (http:// for loopback only), without a path"
HEAD = """# Settings

Made by `pushfleet settings --markdown`; a test holds it equal to the code. Every setting is a variable of the environment, or a line
of `.env` in the working folder (the environment wins), read once at the start. A name that begins with `PUSHFLEET_` and is not here
stops the process with exit code 2 and the nearest right name; so does a wrong value. `PUSHFLEET_TEST_*` and the variables that Kubernetes
sets for services are left alone.

`pushfleet settings` shows the values in force and where they come from, without passwords; `--explain` with what each takes.

| Setting | Default | Takes | |
| --- | --- | --- | --- |
"""  # noqa: E501
TAIL = """
Each setting that ends in `_URL` is also read from a file, for secrets that are mounted: {files}. Only one of the two may be set.

## Proxies

`PUSHFLEET_PROXY_<VENDOR>`, for instance {proxy}: {proxy_takes}. All requests to that vendor go through it, those for access tokens too;
the environment's own HTTPS_PROXY is not looked at. Trouble with the proxy makes a push `unavailable`, and the words name the proxy.

## Endpoints

Another address in place of a vendor's own, for simulators and tests: {takes}.

| Vendor | Settings |
| --- | --- |
"""  # noqa: E501


@click.command()
@click.option("--explain", is_flag=True, help="With what each setting takes and means.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--markdown", is_flag=True, hidden=True, help="The settings page.")
def settings(explain: bool, as_json: bool, markdown: bool) -> None:
    """Show every setting, its value and where it comes from; passwords and keys are not shown."""
    if markdown:
        click.echo(page(), nl=False)
        return
    from workers.cli.printing import print_json

    rows = shown(
        {**read_dotenv(Path(".env")), **os.environ},
        set(read_dotenv(Path(".env"))) - set(os.environ),
    )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']}={row['value']}  ({row['from']})")
        if explain:
            click.echo(
                f"    {row['means']}\n    takes {row['takes']}"
                + (f"; default {row['default']}" if row["default"] else "")
            )


def shown(environ: Mapping[str, str], in_dotenv: set[str]) -> list[dict[str, Any]]:
    """[{name, value, from: default|environment|.env|file, default, takes, means}]. SettingError as
    at any start.
    """
    values = environ_of(Settings.load(environ))
    rows = []
    for one in SETTINGS:
        name = PREFIX + one.name
        value = values.get(name, one.default)
        rows.append(
            {
                "name": name,
                "value": _hidden(one, value),
                "from": _origin(name, environ, in_dotenv),
                "default": one.default,
            }
        )
        rows[-1] |= {"takes": one.takes, "means": one.means}
    for vendor, names in VENDOR_ENDPOINTS.items():
        for endpoint in names:
            name = f"{PREFIX}ENDPOINT_{endpoint}"
            row = {
                "name": name,
                "value": values.get(name, ""),
                "from": _origin(name, environ, in_dotenv),
                "default": "",
            }
            rows.append(
                {**row, "takes": ENDPOINT_TAKES, "means": f"In place of {vendor}'s own address."}
            )
    for vendor in VENDOR_ENDPOINTS:
        name = f"{PREFIX}PROXY_{vendor.upper()}"
        value = re.sub(r"//.*@", "//", values.get(name, ""))
        origin = _origin(name, environ, in_dotenv)
        row = {"name": name, "value": value, "from": origin, "default": ""}
        rows.append(
            {**row, "takes": PROXY_TAKES, "means": f"The proxy for all requests to {vendor}."}
        )
    return rows


def _hidden(one: Setting, value: str) -> str:
    """URLs without user and password; keys not at all."""
    from common.logs import scrub

    if one.name == "SECRET_KEYS":
        return "***" if value else ""
    return scrub(value.partition("?")[0]) if one.secret else value


def _origin(name: str, environ: Mapping[str, str], in_dotenv: set[str]) -> str:
    if environ.get(f"{name}_FILE", "").strip() and name.removeprefix(PREFIX) in URL_NAMES:
        return "file"
    if not environ.get(name, "").strip():
        return "default"
    return ".env" if name in in_dotenv else "environment"


def page() -> str:
    """docs/settings.md."""
    rows = [
        f"| `{PREFIX}{one.name}` | {f'`{one.default}`' if one.default else ''} | "
        f"{_cell(one.takes)} | {_cell(one.means)} |"
        for one in SETTINGS
    ]
    files = ", ".join(f"`{PREFIX}{name}_FILE`" for name in URL_NAMES)
    takes = _cell(ENDPOINT_TAKES)
    tail = TAIL.format(
        files=files, takes=takes, proxy=f"`{PREFIX}PROXY_FCM`", proxy_takes=_cell(PROXY_TAKES)
    )
    ends = [
        f"| {vendor} | {', '.join(f'`{PREFIX}ENDPOINT_{name}`' for name in names)} |"
        for vendor, names in VENDOR_ENDPOINTS.items()
    ]
    return HEAD + "\n".join(rows) + "\n" + tail + "\n".join(ends) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
