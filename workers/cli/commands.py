"""The tree of commands; each file below is loaded only when one of its commands is used."""

from __future__ import annotations

import importlib
from typing import Any

import click

#: command -> file under workers/cli that has a click command (or group) of this name, dashes as
#: underscores.
FILES = {
    "worker": "worker",
    "migrate": "worker",
    "up": "fleet",
    "demo": "demo",
    "simulate": "fleet",
    "app": "tenants",
    "credential": "credentials",
    "device": "devices",
    "why": "why",
    "lanes": "lanes",
    "quota": "lanes",
    "strategy": "tenants",
    "publish": "publish",
    "test-push": "publish",
    "dead-letters": "dead_letters",
    "doctor": "doctor",
    "user": "users",
    "bench": "bench",
    "settings": "settings",
    "contract": "contract",
    "init": "init",
    "api-token": "api_token",
    "backup": "keep",
    "restore": "keep",
    "upgrade": "keep",
    "reshard": "reshard",
}


class Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(FILES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        file = FILES.get(cmd_name)
        if file is None:
            return None
        module: Any = importlib.import_module(f"workers.cli.{file}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.command(cls=Lazy)
@click.version_option(package_name="pushfleet")
def cli() -> None:
    """Pushfleet: the offline-push fleet of a self-hosted IM."""
