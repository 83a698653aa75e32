"""What the integration tests share: one process of a fleet on real servers."""

from collections.abc import Callable, Iterator

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine

from common.config import Settings
from common.storage import sql
from common.storage.migrations import migrate
from tests.conftest import own_database
from workers.runtime import Runtime


@pytest.fixture
def runtime(settings_with: Callable[..., Settings], database_url: str) -> Iterator[Runtime]:
    secret_key = Fernet.generate_key().decode()
    made = Runtime(settings_with(DATABASE_URL=database_url, SECRET_KEYS=secret_key))
    migrate(made.engine)
    yield made
    made.close()


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
