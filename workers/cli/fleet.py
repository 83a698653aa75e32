"""`pushfleet up` and `pushfleet simulate`."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from common.config import SettingError, Settings
from common.storage.migrations import migrate as migrate_tables
from common.storage.redis import best_effort
from workers.cli import up as whole
from workers.runtime import Runtime


def migrate_settings(settings: Settings) -> None:
    """Brings the tables to this version, and tells Redis: processes that start do not ask SQL."""
    runtime = Runtime(settings)
    try:
        migrate_tables(runtime.engine)
        with best_effort("the copy of the accounts"), contextlib.suppress(SettingError):
            runtime.catalog.check()
    finally:
        runtime.close()


@click.command()
@click.option(
    "--replicas",
    default="",
    help="NAME=N,… with the names of the Procfile, for instance presence=2,delivery-apns=2.",
)
@click.option(
    "--no-simulators",
    is_flag=True,
    help="Start no vendor simulators: real vendors, or endpoints of your own.",
)
def up(replicas: str, no_simulators: bool) -> None:
    """Run the whole fleet on this machine until Ctrl-C."""
    settings = Settings.load()
    try:
        wanted = whole.read_replicas(replicas)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--replicas") from None
    raise click.exceptions.Exit(
        whole.up(settings, wanted, not no_simulators, migrate=migrate_settings)
    )


@click.command()
@click.argument("vendors", nargs=-1)
@click.option("--port", default=0, help="First port; 0: free ones.")
@click.option("--dir", "folder", default="var/simulators", show_default=True)
def simulate(vendors: tuple[str, ...], port: int, folder: str) -> None:
    """Run vendors' simulators until Ctrl-C; one JSON line each when it is ready."""
    # in our place, not beside us: a signal must reach them, and nothing may be left when this
    # process is ended
    command = [sys.executable, "-m", "simulators", *vendors, "--port", str(port), "--dir", folder]
    os.execv(sys.executable, command)  # noqa: S606
