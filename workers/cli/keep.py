"""`pushfleet backup`, `restore`, `upgrade`: what is done around a fleet that is to last."""

from __future__ import annotations

import contextlib
import dataclasses
import tarfile
from collections.abc import Iterator
from pathlib import Path

import click

from common import runfile
from common.config import Settings
from common.running_fleet import resolve
from common.secret_keys import SECRET_KEYS_NAME
from workers.cli import NO
from workers.cli.errors import CliError
from workers.cli.opening import opened
from workers.embedded import EmbeddedError, start_embedded
from workers.maintenance.backup import KEYS_NAME, BackupCounts, BackupError, load, release, save
from workers.reports import servers
from workers.runtime import Runtime

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
def backup(file: Path) -> None:
    """Write the whole fleet to FILE: tables, what is under way, and the keys. Keep it as a secret.

    While the fleet runs it is not one moment: pushes that go out meanwhile may go out again after a
    restore. Stop it first where that matters (`up`: Ctrl-C; the servers of `embedded` are then
    started for the backup alone).
    """
    with _servers() as runtime:
        alive = runtime.living.roles()
        counts = save(runtime, file)
    print(f"{file}: {_counted(counts)}, and the keys: keep it as a secret")
    if alive:
        print(
            f"{len(alive)} processes were at work meanwhile: what they sent may go out again "
            "after a restore"
        )


@click.command()
@click.argument("file", type=_FILE, required=False)
@click.option(
    "--hold/--no-hold",
    default=True,
    show_default=True,
    help="Pause every lane until --release: nothing is sent.",
)
@click.option(
    "--release", "released", is_flag=True, help="Let the lanes flow that a restore has held."
)
def restore(file: Path | None, hold: bool, released: bool) -> None:
    """Bring a backup into empty servers; the fleet must not run yet."""
    if released == (file is not None):
        raise CliError("restore takes a FILE, or --release")
    if file is None:
        with opened() as runtime:
            lanes = release(runtime)
        print(f"{len(lanes)} lanes flow again" if lanes else "no lane was held")
        return
    if not file.is_file():
        raise CliError(f"there is no file {file}")
    _bring_keys(Settings.load(), file)
    with _servers() as runtime:
        if runtime.living.roles():
            raise CliError("the fleet runs: stop it first")
        try:
            counts = load(runtime, file, hold=hold)
        except (BackupError, tarfile.TarError) as error:
            raise CliError(f"nothing was restored: {error}") from None
    print(f"restored: {_counted(counts)}")
    print(
        "every lane is held: start the fleet, look at it, then pushfleet restore --release"
        if hold
        else "the fleet sends once it starts"
    )


def _counted(counts: BackupCounts) -> str:
    return (
        f"{sum(counts.rows.values())} rows of {len(counts.rows)} tables, {counts.keys} keys of "
        "Redis"
    )


def _bring_keys(settings: Settings, file: Path) -> None:
    """An embedded fleet that has no keys yet gets those of the backup."""
    own = settings.data_dir / SECRET_KEYS_NAME
    if (
        own.exists()
        or settings.secret_keys_file
        or settings.secret_keys
        or not settings.embedded_database
    ):
        return
    with contextlib.suppress(tarfile.TarError, KeyError, OSError), tarfile.open(file) as tar:
        keys = tar.extractfile(KEYS_NAME)
        if keys is not None:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            runfile.write_private(own, keys.read())


@contextlib.contextmanager
def _servers() -> Iterator[Runtime]:
    """The fleet's servers; embedded ones are started for this command where no fleet runs."""
    settings = Settings.load()
    running = None
    if (settings.embedded_redis or settings.embedded_database) and not runfile.alive(
        runfile.read(settings.data_dir)
    ):
        try:
            running = start_embedded(
                settings, valkey=settings.embedded_redis, postgres=settings.embedded_database
            )
        except EmbeddedError as error:
            raise CliError(str(error), exit_code=3) from None
        redis_url = running.redis_url or settings.redis_url
        core_url = redis_url if settings.core_url == "embedded" else settings.core_url
        settings = dataclasses.replace(
            settings,
            redis_url=redis_url,
            core_url=core_url,
            database_url=running.database_url or settings.database_url,
        )
    else:
        settings = resolve(settings)
    runtime = Runtime(settings)
    try:
        yield runtime
    finally:
        runtime.close()
        if running is not None:
            running.stop()


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Say what stands against this version, and what it will change. Changes nothing.",
)
def upgrade(check: bool) -> None:
    """Look whether this version can take over from the one that runs (docs/upgrade.md has the
    steps).
    """
    if not check:
        raise CliError("upgrade --check looks; the steps are in docs/upgrade.md")
    with opened() as runtime:
        findings = [
            *servers.key_findings(runtime.settings),
            *servers.redis_findings(runtime),
            *servers.database_findings(runtime),
        ]
        for finding in findings:
            if finding.check == "tables" and not finding.ok and "newer" not in finding.found:
                print(
                    f"TO DO    tables: {finding.found}: pushfleet migrate, before the new "
                    "processes start"
                )
                continue
            print(
                f"{'OK      ' if finding.ok else 'PROBLEM '} {finding.check}: {finding.found}"
                + (f"; {finding.cure}" if finding.cure else "")
            )
        print("every setting of this environment is known to this version")
    against = [
        one for one in findings if not one.ok and (one.check != "tables" or "newer" in one.found)
    ]
    if against:
        raise click.exceptions.Exit(NO)
