"""What a running `pushfleet up` adds to the settings: its servers and its simulators."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import MappingProxyType

from common import runfile
from common.config import ENDPOINTS, VENDOR_ENDPOINTS, SettingError, Settings
from common.setting_checks import EMBEDDED


class NothingRunning(RuntimeError):  # noqa: N818 - it reads as what it says
    """`embedded` is set but nothing is running. The command line's exit code 3."""

    def __init__(self, lacking: str = "PUSHFLEET_REDIS_URL") -> None:
        """lacking: the setting that would name a server of one's own."""
        super().__init__(f"nothing is running: `pushfleet up`, or set {lacking}")


def resolve(settings: Settings) -> Settings:
    """The settings with `embedded` replaced by what `up` has started (run.json).

    Its simulators become endpoints, but only for a fleet on the same Redis, and never for a vendor
    with an endpoint of its own. Raises NothingRunning when `embedded` is set and no live process
    wrote run.json.
    """
    run = runfile.read(settings.data_dir)
    running = run if runfile.alive(run) else {}
    redis_url = running.get("redis_url") if settings.embedded_redis else settings.redis_url
    database_url = (
        running.get("database_url") if settings.embedded_database else settings.database_url
    )
    if not redis_url:
        raise NothingRunning
    if not database_url:
        raise NothingRunning("PUSHFLEET_DATABASE_URL")
    core_url = redis_url if settings.core_url == EMBEDDED else settings.core_url
    broker_url = _resolved_broker(settings, redis_url, running)
    found = dataclasses.replace(
        settings,
        redis_url=redis_url,
        broker_url=broker_url,
        core_url=core_url,
        database_url=database_url,
    )
    return _with_simulators(found, running) if running.get("redis_url") == redis_url else found


def _resolved_broker(settings: Settings, redis_url: str, run: runfile.Run) -> str | None:
    """The server of the wake-ups; raises SettingError for a cluster without one."""
    if settings.broker_url != EMBEDDED:
        return settings.broker_url
    if settings.embedded_redis:
        return redis_url
    started = run.get("broker_url")
    if not started:
        raise SettingError(
            "PUSHFLEET_BROKER_URL must be set with a cluster: it takes a plain Redis for "
            "Celery's wake-ups, redis://host:port/0"
        )
    return str(started)


def _with_simulators(settings: Settings, run: runfile.Run) -> Settings:
    there = simulated_endpoints(settings.data_dir / "simulators")
    vendors = [
        vendor
        for vendor in run.get("simulators") or {}
        if vendor in VENDOR_ENDPOINTS and not own_endpoints(settings, vendor)
    ]
    endpoints = {
        name: there[name]
        for vendor in vendors
        for name in VENDOR_ENDPOINTS[vendor]
        if name in there
    }
    ca_file = settings.ca_file or (
        Path(run["ca_file"]) if run.get("ca_file") and endpoints else None
    )
    return dataclasses.replace(
        settings, endpoints=MappingProxyType({**endpoints, **settings.endpoints}), ca_file=ca_file
    )


def own_endpoints(settings: Settings, vendor: str) -> bool:
    """True when any endpoint of the vendor is overridden: then it has no simulator."""
    return any(name in settings.endpoints for name in VENDOR_ENDPOINTS[vendor])


def simulated_endpoints(folder: Path) -> dict[str, str]:
    """NAME -> URL of all simulators that have written their <vendor>.json into the folder.

    One simulator may serve two vendors.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found |= json.loads(path.read_bytes())["endpoints"]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ):  # it has just ended, or is no simulator's
            continue
    return {name: url for name, url in found.items() if name in ENDPOINTS}
