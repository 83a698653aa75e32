"""The stores in PostgreSQL. Who imports this loads SQLAlchemy and psycopg: 23 MiB."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from sqlalchemy import Engine

from common.storage import sql as sql
from common.storage.api_tokens import ApiTokens
from common.storage.audit import Audit
from common.storage.bindings import Bindings
from common.storage.credentials import Credentials
from common.storage.dead_letters import DeadLetters
from common.storage.devices import Devices
from common.storage.direct_tokens import DirectTokens
from common.storage.ledger import Ledger
from common.storage.ledger_reads import LedgerReader
from common.storage.people import PeopleCache
from common.storage.preferences import Preferences
from common.storage.strategies import Strategies
from common.storage.tallies import Tallies
from common.storage.tenants import Tenants
from common.storage.users import Users
from common.storage.vault import Vault

T = TypeVar("T")


def _store(kind: Callable[[Engine], T]) -> cached_property[T]:
    return cached_property(lambda self: kind(self._engine))


class SqlStores:
    """The stores on one engine, each made when first asked for. reports: the engine of reports."""

    def __init__(self, engine: Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    def devices(self, bindings: Bindings, people: PeopleCache) -> Devices:
        """Of one shard."""
        return Devices(self._engine, bindings, people)

    @staticmethod
    def reports(engine: Engine) -> LedgerReader:
        return LedgerReader(engine)

    @staticmethod
    def tallies(engine: Engine) -> Tallies:
        return Tallies(engine)

    preferences = _store(Preferences)
    ledger = _store(Ledger)
    tenants = _store(Tenants)

    @cached_property
    def credentials(self) -> Credentials:
        return Credentials(self._engine, self._vault)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self._engine, self._vault)

    users = _store(Users)
    api_tokens = _store(ApiTokens)
    audit = _store(Audit)
    strategies = _store(Strategies)
    direct_tokens = _store(DirectTokens)
