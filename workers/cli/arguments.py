"""Checks of commands' arguments."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.time_zones import zone_named
from workers.cli.errors import CliError, NotThereError
from workers.cli.printing import print_json

if TYPE_CHECKING:
    from workers.runtime import Runtime


def check_tenant(
    runtime: Runtime, app_id: str | None, rows: Sequence[Any], *, as_json: bool
) -> None:
    """Raises NotThereError when nothing is listed because the tenant does not exist.

    A program gets its empty list all the same.
    """
    if app_id is not None and not rows and app_id not in runtime.tenants.all():
        if as_json:
            print_json([])
        raise NotThereError(f"no tenant {app_id}: pushfleet app add {app_id}")


def json_of(path: Path, option: str) -> Any:
    """The content of a JSON file; raises CliError for other files, or for unstorable content."""
    import msgspec

    from workers.intake.dialects.reading import fit

    try:
        value = msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        raise CliError(f"{option} takes a file with a JSON object") from None
    if not fit(value) or _holds_nul(value):
        raise CliError(
            f"{option}: it is nested too deep, or holds U+0000 or a number beyond 64 bits"
        )
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(one) for key, one in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def check_zone(tz: str | None, option: str) -> None:
    """CliError where `tz` names no zone of the IANA database."""
    try:
        zone_named(tz or "UTC")
    except (KeyError, ValueError, OSError):
        raise CliError(
            f"{option} takes a zone name such as Asia/Shanghai or Europe/Berlin, not {tz!r}"
        ) from None
