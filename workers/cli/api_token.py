"""`pushfleet api-token …`: keys of the read-only HTTP API (docs/api.md)."""

from __future__ import annotations

import click

from common.clock import now_ms
from common.storage.api_tokens import TOKEN_ROLES
from workers.cli.errors import CliError
from workers.cli.opening import noted, opened
from workers.cli.printing import at, print_list

DAY_MS = 86_400_000


@click.group()
def api_token() -> None:
    """Keys of the read-only HTTP API."""


@api_token.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(TOKEN_ROLES),
    required=True,
    help="stats reads counts; support also traces and people.",
)
@click.option("--app", "app_id", help="Of this tenant only.")
@click.option("--all-apps", is_flag=True, help="Of every tenant.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=365,
    show_default=True,
    help="It ends after so many days.",
)
def add(name: str, role: str, app_id: str | None, all_apps: bool, days: int) -> None:
    """Make a token; it is shown this once."""
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise CliError("NAME takes 1-64 printable characters")
    if all_apps == (app_id is not None):
        raise CliError("name the tenant with --app APP, or --all-apps")
    with opened() as runtime:
        if app_id is not None and app_id not in runtime.tenants.all():
            raise CliError(f"no tenant {app_id}: pushfleet app add {app_id}", exit_code=1)
        own, token = runtime.api_tokens.add(name, role, app_id, now_ms() + days * DAY_MS)
        noted(runtime, "API token added", app_id or "", own, role)
    print(
        f"token {own} reads as {role} of {app_id or 'every tenant'}, for {days} days; shown "
        "this once:"
    )
    print(token)


@api_token.command("list")
@click.option("--json", "as_json", is_flag=True)
def listed(as_json: bool) -> None:
    """Tokens by name; what they are is not shown again."""
    with opened() as runtime:
        rows = runtime.api_tokens.listed()
    print_list(
        rows,
        ["id", "name", "role", "app", "made", "ends"],
        "no token: pushfleet api-token add NAME --role stats --app APP",
        lambda row: {
            **row,
            "app": row["app"] or "every tenant",
            "made": at(row["created_ms"]),
            "ends": at(row["expires_ms"]),
        },
        as_json=as_json,
    )


@api_token.command("revoke")
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """End a token at once."""
    with opened() as runtime:
        if not runtime.api_tokens.revoke(token_id):
            raise CliError(f"no token {token_id}; there are: pushfleet api-token list", exit_code=1)
        noted(runtime, "API token revoked", "", token_id)
    print("revoked")
