"""Tenants, accounts and presets as every process keeps them, and their changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from redis.exceptions import RedisError

from common.config import SettingError, Settings
from common.model import Vendor
from common.storage.accounts import (
    AccountsCopy,
    AccountSet,
    SealedCredential,
    Tenant,
    drawn,
    is_app,
)
from common.storage.migrations import NEWEST
from common.storage.opened import StoredCredential
from common.storage.redis import best_effort
from common.storage.unavailable import database_unavailable, store_unavailable
from workers.delivery.lane import Lane, limits_of
from workers.vendors import VENDORS
from workers.vendors.types import Credential, Template
from workers.wire import Route

log = logging.getLogger(__name__)

#: Connections of a lane over HTTP/1.1 in one process, where each takes one request at a time: with
#: them a round of 500 is answered within the usual deadline by a vendor that takes a second for
#: each. HTTP/2 needs few (workers/wire.py).
HTTP1_CONNECTIONS_MAX = 50
#: Changed credentials, quotas and tenants take effect within 2 s: the version is looked at this
#: often.
CONFIG_EVERY_S = 1.0
#: Seconds that a look at changed settings waits for the database; after them the last good copy
#: stays in use.
CONFIG_WAIT_S = 3.0
#: Who changes something while others do reads it again this often; then everybody reads SQL.
PUBLISH_TRIES: Final = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tenants, accounts and presets as of one version."""

    version: int
    tenants: Mapping[str, Tenant]
    lanes: Mapping[tuple[str, Vendor, str], Lane]
    strategies: Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class AccountSources:
    """copy: in Redis. read: SQL's accounts, as of this version. bounded: bounds a question to SQL
    that need not be answered. open_: opens a credential for this process. tables: version of SQL's
    tables; None: there are none.
    """

    copy: AccountsCopy
    read: Callable[[int], AccountSet]
    bounded: Callable[[float], AbstractContextManager[None]]
    open_: Callable[[SealedCredential], StoredCredential]
    tables: Callable[[], str | None]


class Catalog:
    """Tenants, credentials and strategies, read again when their version in Redis has moved: from
    the copy beside it, else from SQL. The last good copy stays in use.
    """

    def __init__(self, settings: Settings, sources: AccountSources) -> None:
        self._settings = settings
        self._from = sources
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        #: When the last look began, when it must have begun at least, and why it learned nothing.
        self._looked_at = self._since = -inf
        self._failed: Exception | None = None

    @property
    def now(self) -> Snapshot:
        known, since = self._snapshot, max(self._since, time.monotonic() - CONFIG_EVERY_S)
        return known if known is not None and self._looked_at >= since else self._as_of(since)

    def fresh(self) -> Snapshot:
        """As `now`, but our copy is no older than this call."""
        return self._as_of(time.monotonic())

    def _as_of(self, since: float) -> Snapshot:
        """Our copy, by a look that began then or later."""
        with self._lock:
            if self._looked_at < since or self._snapshot is None:
                began = time.monotonic()
                self._look()
                self._looked_at = began
            if self._snapshot is None:
                self._snapshot = self._made_of(self._from.read(0))
            return self._snapshot

    def version(self) -> int:
        return self.now.version

    def newest_version(self) -> int:
        """As `version`, looked up. Raises database_unavailable() where it could not be read."""
        version = self.fresh().version
        if self._failed is not None:
            raise self._failed
        return version

    def changed(self) -> None:
        """Notifies every process of a change that SQL has, and keeps the copy of what holds now."""
        copy = self._from.copy
        for _ in range(PUBLISH_TRIES):
            seen = copy.version()
            if self._published(seen, drawn(seen)):
                break
        else:
            copy.move()
        self._since = time.monotonic()

    def announce(self) -> bool:
        """As `changed`. False without Redis: upkeep finds out (`check`) when it is back."""
        try:
            self.changed()
        except RedisError as error:
            log.warning("a change waits for Redis", extra={"reason": type(error).__name__})
            return False
        return True

    def check(self) -> None:
        """Compares the copy with SQL: somebody died between a change and its notice, or one of the
        two stores came back from a backup. Raises database_unavailable(), also for
        one without tables, of which no copy is believed any more.
        """
        version, known = self._from.copy.look()
        try:
            found = self._from.read(version)
        except database_unavailable():
            if self._from.tables() is None:
                self.disown()
            raise
        if not version:  # as it was before a loss of Redis, perhaps: see `_gone_back`
            self.changed()
        elif not (known is None or known.same(found)) or not self._from.copy.mark(found, version):
            log.warning("the accounts in SQL are not those that the fleet works with: it is told")
            self.changed()
        elif known is None:
            self._from.copy.keep(found, version)
        self._from.copy.compared()

    def tables_fit(self) -> bool:
        """True where the copy says that the database's tables are of this program's version."""
        found = self._from.copy.look()[1]
        return found is not None and found.tables == NEWEST

    def compared_lately(self) -> bool:
        """True where somebody has found the copy to be what SQL has, minutes ago at most."""
        return self._from.copy.compared_lately()

    def disown(self) -> None:
        """Ends the belief in a copy that tells of tables which the database has not."""
        if self.tables_fit():
            self._from.copy.move()
            self._since = time.monotonic()

    def _published(self, seen: int, version: int) -> bool:
        """False: the copy of this version is not there, whatever the reason."""
        try:
            with self._from.bounded(CONFIG_WAIT_S):
                found = self._from.read(version)
            return self._from.copy.keep(found, seen)
        except store_unavailable(SettingError) as error:  # who adds a tenant needs no keys
            log.info("no copy of the accounts is kept", extra={"reason": type(error).__name__})
            return False

    def _look(self) -> None:
        self._failed = None
        known, version = self._snapshot, self._from.copy.version()
        if known is not None and known.version == version:
            return
        version, kept = self._from.copy.look()
        if known is not None and version < known.version:
            version, kept = self._gone_back(version, known.version)
        if kept is not None:
            self._snapshot = self._made_of(kept)
            return
        if known is None:
            self._snapshot = self._read(version)
            return
        try:
            with self._from.bounded(CONFIG_WAIT_S):
                self._snapshot = self._read(version)
        except database_unavailable() as error:
            self._failed = error
            log.warning("the database is away: credentials stay as they were")

    def _gone_back(self, version: int, known: int) -> tuple[int, AccountSet | None]:
        """Redis has lost our version, by a failover or with the end of its file: its copy may be of
        before a change that SQL has. What SQL has is kept as a version that nobody has seen.

        The version of now; its copy, where it was kept since.
        """
        log.warning("the accounts in Redis are those of an earlier time: SQL is asked")
        self._published(version, drawn(known))
        now, kept = self._from.copy.look()
        return now, kept if now != version else None

    def _read(self, version: int) -> Snapshot:
        found = self._from.read(version)
        with best_effort("the copy of the accounts"):
            if self._from.copy.mark(found, version):
                self._from.copy.keep(found, version)
            else:
                self._from.copy.move()  # who has read the others reads again
        return self._made_of(found)

    def _made_of(self, found: AccountSet) -> Snapshot:
        lanes = {}
        for stored in map(self._from.open_, found.credentials):
            lane = lane_of(stored, self._settings)
            if lane is not None:
                lanes[(stored.app, lane.vendor, stored.business_id)] = lane
        tenants = {one.app: one for one in found.tenants}
        if odd := [app for app in tenants if not is_app(app)]:
            log.error(
                "tenants of an older version have names that may share keys with others: add "
                "each anew under a name of letters, digits,"
                " '.', '_' and '-' and move its core there",
                extra={"count": len(odd)},
            )
        strategies = {(app, name): preset for app, name, preset in found.strategies}
        return Snapshot(found.version, tenants, lanes, strategies)

    # what routing asks (workers/routing/fan_out.py: Tenancy)

    def tenant(self, app: str) -> Tenant:
        return self.now.tenants.get(app) or Tenant(app, "", "zh", "Asia/Shanghai")

    def credential(self, app: str, vendor: Vendor, business_id: str) -> Credential | None:
        lane = self.lane(app, vendor, business_id)
        return lane.credential if lane is not None else None

    def newest_credential(
        self, app: str, vendor: Vendor, business_id: str, since: float = inf
    ) -> Credential | None:
        """As `credential`; None holds as of this call, or of this monotonic time.

        Raises database_unavailable() where it may have been added.
        """
        known = self.credential(app, vendor, business_id)
        if known is None:
            found = self._as_of(min(since, time.monotonic())).lanes.get((app, vendor, business_id))
            known = found.credential if found is not None else None
            if known is None and self._failed is not None:
                raise self._failed
        return known

    def strategy(self, app: str, strategy_id: str) -> Mapping[str, Any] | None:
        return self.now.strategies.get((app, strategy_id))

    def lane(self, app: str, vendor: Vendor, business_id: str) -> Lane | None:
        return self.now.lanes.get((app, vendor, business_id))


def lane_of(stored: StoredCredential, settings: Settings) -> Lane | None:
    """The lane of a stored credential; None for an unknown vendor (a newer version's row)."""
    spec = VENDORS.get(Vendor(stored.vendor))
    if spec is None:
        return None
    credential = Credential(
        app=stored.app,
        vendor=spec.vendor,
        business_id=stored.business_id,
        # Not the number in the store, which restarts when an account is removed and added again:
        # the new account would meet a stopped lane, and use the old one's access token and
        # connections.
        version=stored.created_ms,
        options=stored.options,
        secrets=stored.secrets,
        rights=stored.rights,
        channels=stored.channels,
        templates={name: Template(*template) for name, template in stored.templates.items()},
    )
    bases = {name: settings.endpoints.get(name, url) for name, url in spec.endpoints.items()}
    key = f"{credential.lane}:{credential.version}"
    route = Route(
        key, bases, spec.http2, spec.identity(credential), proxy=settings.proxies.get(spec.vendor)
    )
    if not spec.http2:
        route = replace(route, connections_max=HTTP1_CONNECTIONS_MAX)
    reserve = {name: float(share) for name, share in (stored.limits.get("reserve") or {}).items()}
    return Lane(spec, credential, route, limits_of(spec, stored.limits), stored.paused, reserve)
