"""What the integration tests share: one process of a fleet on real servers."""

from __future__ import annotations

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


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Of a database of this test's own, with all tables."""
    with own_database(database_url) as url:
        made = sql.engine(url)
        migrate(made)
        yield made
        made.dispose()
