"""A command's runtime, its line in the audit log, and this program's name."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.runtime import Runtime


@contextlib.contextmanager
def opened() -> Iterator[Runtime]:
    """The runtime of one command, on the servers of the settings or of the fleet that runs here."""
    # loaded here: `--help` needs none of it, and it takes most of a second
    from common.config import Settings
    from common.running_fleet import resolve
    from common.storage.shards import known_shards
    from workers.runtime import Runtime

    runtime = Runtime(known_shards(resolve(Settings.load())))
    try:
        yield runtime
    finally:
        runtime.close()


def noted(
    runtime: Runtime, action: str, app: str = "", subject: str = "", result: str = "done"
) -> None:
    """A line of the audit log by who runs this command (common/storage/audit.py)."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        who = str(os.getuid())
    runtime.audit.note(f"cli:{who}", action, app, subject, result)


def program() -> str:
    """This program as typed: `pushfleet` if the PATH leads to it, else its path."""
    typed = Path(sys.argv[0])
    own = typed if typed.name == "pushfleet" else Path(sys.executable).parent / "pushfleet"
    on_path = shutil.which("pushfleet")
    if not own.exists() or (on_path and Path(on_path).samefile(own)):
        return "pushfleet"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)
