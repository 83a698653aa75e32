"""What the integration tests share: one process of a fleet on real servers."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest
import redis
from cryptography.fernet import Fernet
from sqlalchemy import Engine

from common.config import Settings
from common.storage import sql
from common.storage.migrations import migrate
from common.storage.tenants import Tenant
from tests.conftest import embedded, own_database
from tests.frozen import FrozenPostgres
from workers.runtime import Runtime


@contextlib.contextmanager
def opened(settings: Settings, *tenants: Tenant) -> Iterator[Runtime]:
    """One process of a fleet, on all tables and with these tenants."""
    made = Runtime(settings)
    try:
        migrate(made.engine)
        for tenant in tenants:
            made.tenants.add(tenant)
        yield made
    finally:
        made.close()


@pytest.fixture
def keyed(settings_with: Callable[..., Settings], database_url: str) -> Settings:
    """`settings` with a key for what is stored sealed."""
    return settings_with(DATABASE_URL=database_url, SECRET_KEYS=Fernet.generate_key().decode())


@pytest.fixture
def runtime(keyed: Settings) -> Iterator[Runtime]:
    with opened(keyed) as made:
        yield made


@pytest.fixture(scope="module")
def own_url(database_url: str, template: str) -> Iterator[str]:
    """A database of this file's own, whose secrets all have one key."""
    with own_database(database_url, f"TEMPLATE {template}") as url:
        yield url


@pytest.fixture(scope="session")
def secret_key() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture
def own_settings(
    redis_client: redis.Redis, settings_with: Callable[..., Settings], own_url: str, secret_key: str
) -> Callable[..., Settings]:
    """`settings_with`, on an empty Redis and that database."""
    return functools.partial(settings_with, DATABASE_URL=own_url, SECRET_KEYS=secret_key)


@pytest.fixture
def full(redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """Call `full.config_set("maxmemory", 1)` for a server that is full; it has room again
    afterwards.
    """
    yield redis_client
    redis_client.config_set("maxmemory", 0)


@pytest.fixture(scope="module")
def server() -> Iterator[FrozenPostgres]:
    """A database server of this file's own, which may stand still."""
    with embedded(postgres=True) as running:
        made = FrozenPostgres(running)
        yield made
        made.go_on()


@pytest.fixture(scope="session")
def template(database_url: str) -> Iterator[str]:
    """The name of a database with all tables and no rows, to copy: seven times as fast as to
    migrate.
    """
    with own_database(database_url) as url:
        made = sql.engine(url)
        migrate(made)
        made.dispose()
        yield str(made.url.database)


@pytest.fixture
def engine(database_url: str, template: str) -> Iterator[Engine]:
    """Of a database of this test's own, with all tables."""
    with own_database(database_url, f"TEMPLATE {template}") as url:
        made = sql.engine(url)
        yield made
        made.dispose()
