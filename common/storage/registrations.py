"""What events change in the registry (registry.py), as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.tokens import canonical


@dataclass(frozen=True, slots=True)
class Registration:
    """A token bound to a user's device as of `ts_ms`. device: the columns BROUGHT.

    latest_ms: the latest moment that ts_ms may mean; a logout up to then came before.
    """

    app: str
    device: Mapping[str, Any]
    ts_ms: int
    latest_ms: int

    @property
    def token_key(self) -> tuple[str, str, str]:
        vendor = str(self.device["vendor"])
        return self.app, vendor, canonical(vendor, self.device["token"])

    @property
    def voip_key(self) -> tuple[str, str, str] | None:
        vendor, token = str(self.device["vendor"]), self.device.get("voip_token")
        return (self.app, vendor, canonical(vendor, token)) if token else None

    @property
    def token_keys(self) -> list[tuple[str, str, str]]:
        """Both tokens, by one kind of key: a token has one owner, whichever it is registered as."""
        return [key for key in (self.token_key, self.voip_key) if key is not None]

    @property
    def device_key(self) -> tuple[str, str, str]:
        return self.app, self.device["user"], self.device["device_id"]

    @property
    def scopes(self) -> list[tuple[str, str, str]]:
        """The names under which its user may have left it."""
        names = [f"device:{self.device['device_id']}", f"platform:{self.device['platform']}"]
        if self.device.get("push_id"):
            names.append(f"device:{self.device['push_id']}")
        return [(self.app, self.device["user"], name) for name in names]


@dataclass(frozen=True, slots=True)
class Leaving:
    """A logout, kick or unregistration at `ts_ms`, of a device (id or push id) or of a platform.

    `ios` covers iPad.
    """

    app: str
    user: str
    ts_ms: int
    reason: str
    device_id: str | None = None
    platform: str | None = None

    @property
    def scopes(self) -> list[str]:
        if self.device_id is not None:
            return [f"device:{self.device_id}"]
        return (
            ["platform:ios", "platform:ipad"]
            if self.platform == "ios"
            else [f"platform:{self.platform}"]
        )
