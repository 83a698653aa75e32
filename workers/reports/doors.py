"""Doctor's findings at the doors: unknown names, and a gateway without homeserver calls."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from common.setting_checks import host_port
from workers.gateway.aliases import aliases_of
from workers.reports.findings import Finding, bad, good
from workers.runtime import Runtime

LETTERS_MAX: Final = 1000


def door_findings(runtime: Runtime) -> Iterator[Finding]:
    """Nothing where no tenant uses a door."""
    names = [
        alias for row in runtime.credentials.listed(None) for alias in aliases_of(row["options"])
    ]
    unknown = runtime.dead_letters.counts().get("gateway", 0)
    if unknown:
        yield bad("doors", "door_alias", count=unknown)
    if not names:
        return
    host, port = host_port(runtime.settings.gateway_addr)
    hint = ""
    if _private(host):
        hint = (
            "; Synapse sends nothing to a private address that its ip_range_whitelist does not "
            "name, and tells only its log"
        )
    yield good("doors", f"{len(names)} aliases, the gateway is on {host}:{port}{hint}")


def _private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"
