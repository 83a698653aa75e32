"""What the tests of routing share: messages, people, tenants, and a world kept in dictionaries."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from common.contracts import Device, Message, OfflineRecipients, Recipient
from common.model import Vendor
from common.storage.tenants import Tenant
from workers.routing.fan_out import RoutingPorts
from workers.vendors import VENDORS
from workers.vendors.types import Credential, Template

NOW_MS = 1_763_787_600_000  # 2025-11-22 05:00 UTC, 13:00 in Shanghai

_RIGHTS = {vendor: frozenset(spec.rights) for vendor, spec in VENDORS.items()}


def message(**changes: Any) -> Message:
    """A text of Ann to Bob; changes by name, nested objects as JSON has them (`class` is a key of
    push).
    """
    base: dict[str, Any] = {
        "app": "demo",
        "event_id": "stored:1",
        "type": "message.stored",
        "message_id": "m-1",
        "ts_ms": NOW_MS,
        "received_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 86_400_000,
        "conversation": {"type": "c2c", "id": "ann"},
        "sender": {"id": "ann", "nick": "Ann"},
        "recipients": ["bob"],
        "elements": [{"type": "text", "text": "hello"}],
        "push": {"display": {"nick_prefix": "on"}},
    }
    return msgspec.convert({**base, **changes}, Message)


def group(**changes: Any) -> Message:
    conversation = {"type": "group", "id": "g1", "name": "Team"}
    return message(**{"conversation": conversation, "recipients": None, **changes})


def device(vendor: Vendor = Vendor.APNS, **changes: Any) -> Device:
    base: dict[str, Any] = {
        "device_id": f"{vendor}-phone",
        "platform": {Vendor.APNS: "ios", Vendor.HARMONY: "harmony"}.get(vendor, "android"),
        "vendor": vendor,
        "business_id": "b1",
        "token": "CN_" + "a1" * 16 if vendor == Vendor.OPPO else "a1" * 32,
        "voip_token": None,
        "lang": "en",
        "tz": None,
        "app_version": None,
        "registered_ms": NOW_MS - 1000,
    }
    return Device(**{**base, **changes})


def who(*devices: Device, user: str = "bob", desktop: bool = False) -> Recipient:
    return Recipient(user, devices or (device(),), desktop)


def credential(vendor: Vendor, **changes: Any) -> Credential:
    """An account with every right, channel and template."""
    base: dict[str, Any] = {
        "app": "demo",
        "vendor": vendor,
        "business_id": "b1",
        "version": 1,
        "options": {
            "topic": "com.example.chat",
            "env": "production",
            "project_id": "demo-im",
            "app_id": "100000123",
            "app_key": "0a1b",
        }
        | {"package": "com.example.chat", "badge_class": "com.example.Main"},
        "secrets": {"app_secret": "s3cret"},
        "rights": _RIGHTS[vendor],
        "channels": {"chat": "101", "call": "102"},
        "templates": {"chat": Template("T1"), "call": Template("T2")}
        if vendor == Vendor.XIAOMI
        else {},
    }
    return Credential(**{**base, **changes})


class Books:
    """Settings, friends, tenants and accounts, in memory: every port of routing."""

    def __init__(
        self, tenant: Tenant | None = None, settings: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._tenant = tenant or Tenant("demo", "Chat", "zh", "Asia/Shanghai")
        self.settings = settings or {}
        self.friendships: set[tuple[str, str]] = set()
        self.accounts = {vendor: credential(vendor) for vendor in Vendor}
        self.strategies: dict[str, Mapping[str, Any]] = {}

    def of_people(
        self, people: Collection[tuple[str, str]], conversations: Sequence[str]
    ) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        return {(app, user): self.settings[user] for app, user in people if user in self.settings}

    def friends(self, app: str, users: Sequence[str], sender: str) -> set[str]:
        return {user for user in users if (user, sender) in self.friendships}

    def tenant(self, app: str) -> Tenant:
        return self._tenant

    def credential(self, app: str, vendor: Vendor, business_id: str) -> Credential | None:
        return self.accounts.get(vendor)

    def strategy(self, app: str, strategy_id: str) -> Mapping[str, Any] | None:
        return self.strategies.get(strategy_id)


def world(books: Any) -> RoutingPorts:
    return RoutingPorts(books, books, books)


def offline(about: Message, *recipients: Recipient) -> OfflineRecipients:
    return OfflineRecipients(message=about, recipients=recipients or (who(),), presence_ms=NOW_MS)
