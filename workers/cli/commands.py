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


#: What `pushfleet --help` says of them, in the order in which an operator meets them.
SECTIONS = {
    "First steps": {
        "up": "Run the whole fleet on this machine until Ctrl-C",
        "init": "A first tenant, account and device, and one push to it",
        "publish": "Put events on the fleet's stream, as a core does",
        "why": "The story of a message or call: who got it, and why not",
        "test-push": "One push to one person, each step as it happens",
        "demo": "The whole fleet against simulators, with a proof at the end",
    },
    "Tenants, accounts, people": {
        "app": "Tenants: the IM applications that this fleet serves",
        "credential": "Accounts with the vendors: add, check, rotate, pause",
        "quota": "The lanes' daily quotas",
        "strategy": "Named presets of vendor overrides (ZEGO: resourcesID)",
        "device": "Registered devices",
        "user": "People of the console; erase a person's data",
        "api-token": "Keys of the read-only HTTP API",
    },
    "When something is wrong": {
        "doctor": "Look at everything; name what is wrong and what cures it",
        "lanes": "Every lane: does it flow, since when, why not",
        "dead-letters": "What could not be done, with its reason: show, replay, drop",
    },
    "Keeping it": {
        "settings": "Every setting, its value and where it comes from",
        "migrate": "Bring the database's tables to this version",
        "upgrade": "Can this version take over from the one that runs?",
        "backup": "The whole fleet into one file",
        "restore": "A backup into empty servers, held until it is released",
        "reshard": "Give the fleet another number of shards",
        "contract": "What a core may publish (JSON Schema, AsyncAPI), OpenAPI",
    },
    "Processes": {
        "worker": "Run one process of the fleet until SIGTERM",
        "simulate": "Run vendors' simulators until Ctrl-C",
        "bench": "Measure this fleet beside its peers, on this machine",
    },
}


class Lazy(click.Group):
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Loads none of them."""
        del ctx
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(f"{name:12}", text) for name, text in commands.items()])

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
