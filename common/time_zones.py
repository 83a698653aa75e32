"""The time zones of the newer of two data: this machine's and the package tzdata's.

`ZoneInfo` takes the machine's, however old. Countries change their clocks at a few weeks' notice,
and on a server without the update people's quiet hours lie an hour beside their night.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

#: Both data say their release in the first line of this file: "# version 2026f".
RELEASE_FILE = "tzdata.zi"


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo:
    """The zone of a name of the IANA database; KeyError, ValueError or OSError, as `ZoneInfo`."""
    machines = ZoneInfo(name)
    if _package_is_newer():
        with suppress(OSError), _package().joinpath(*name.split("/")).open("rb") as rules:
            return ZoneInfo.from_file(rules, key=name)
    return machines


@lru_cache(maxsize=1)
def _package_is_newer() -> bool:
    """Also than data that do not say their release, as where the file is left out."""
    folders = [folder for folder in map(Path, TZPATH) if folder.is_dir()]
    return bool(folders) and _release(_package()) > _release(folders[0])


def _package() -> Traversable:
    return resources.files("tzdata") / "zoneinfo"


def _release(data: Traversable) -> str:
    with suppress(OSError), (data / RELEASE_FILE).open() as told:
        return told.readline().removeprefix("# version ").strip()
    return ""
