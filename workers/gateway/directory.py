"""The owner of a key, an alias or a secret: tenants and accounts in the doors' form.

It is rebuilt after a change.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from common.model import Vendor
from common.storage.accounts import Tenant
from common.storage.vault import Vault
from workers.delivery.lane import Lane
from workers.gateway.aliases import DoorAccount, aliases_of
from workers.gateway.secrets import CALLBACK_SECRETS, GATEWAY_KEYS, digest_of, opened_secrets
from workers.shards import ServerStores

log = logging.getLogger(__name__)

#: An operator's change takes effect within two seconds.
LOOK_S: Final = 1.5


class Config(Protocol):
    """One version of what operators configured (workers/adapters/catalog.py: Snapshot)."""

    @property
    def version(self) -> int: ...
    @property
    def tenants(self) -> Mapping[str, Tenant]: ...
    @property
    def lanes(self) -> Mapping[tuple[str, Vendor, str], Lane]: ...


class ConfigSource(Protocol):
    @property
    def now(self) -> Config: ...
    def fresh(self) -> Config: ...


class DoorStores(ServerStores, Protocol):
    """The part of the runtime that every door uses."""

    @property
    def catalog(self) -> ConfigSource: ...


@dataclass(frozen=True, slots=True)
class Directory:
    """by_key: digest of a gateway key -> tenant. secrets: callback secrets by tenant, of those that
    have some.
    """

    accounts: Sequence[DoorAccount]
    by_app: Mapping[str, list[DoorAccount]]
    by_key: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, Sequence[str]] = field(repr=False)
    langs: Mapping[str, str] = field(default_factory=dict)

    def app_of_key(self, key: str) -> str | None:
        return self.by_key.get(digest_of(key))


class Directories:
    """The current directory, refreshed by a thread of its own: answers never wait for a server."""

    def __init__(self, source: ConfigSource, vault: Vault) -> None:
        self._source = source
        self._vault = vault
        config = source.now
        self._made: tuple[Config, Directory] = (config, self._read(config))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="directory", daemon=True)
        self._thread.start()

    @property
    def now(self) -> Directory:
        return self._made[1]

    @property
    def tenants(self) -> Mapping[str, Tenant]:
        return self._made[0].tenants

    def close(self) -> None:
        self._stop.set()
        self._thread.join(LOOK_S + 5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                config = self._source.fresh()
                if config is not self._made[0]:
                    self._made = (config, self._read(config))
            except Exception as error:  # noqa: BLE001 - the old one stands; whatever is wrong must not end the looking
                log.warning(
                    "what operators configured can't be read now",
                    extra={"reason": type(error).__name__},
                )

    def _read(self, config: Config) -> Directory:
        by_app: dict[str, list[DoorAccount]] = {app: [] for app in config.tenants}
        for (app, vendor, business_id), lane in config.lanes.items():
            options = lane.credential.options
            topic = options.get("topic", "") if vendor == Vendor.APNS else ""
            env = options.get("env", "") if vendor == Vendor.APNS else ""
            by_app.setdefault(app, []).append(
                DoorAccount(app, vendor, business_id, aliases_of(options), env, topic)
            )
        opened = {
            app: opened_secrets(tenant.options, CALLBACK_SECRETS, self._vault)
            for app, tenant in config.tenants.items()
        }
        keys = {
            digest_of(key): app
            for app, tenant in config.tenants.items()
            for key in opened_secrets(tenant.options, GATEWAY_KEYS, self._vault)
        }
        everybody = [account for accounts in by_app.values() for account in accounts]
        langs = {app: tenant.lang for app, tenant in config.tenants.items()}
        return Directory(
            everybody, by_app, keys, {app: found for app, found in opened.items() if found}, langs
        )
