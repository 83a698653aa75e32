"""One cluster of three primaries and their replicas for all tests of this folder; each test has
names of its own.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from common.config import Settings
from common.storage.migrations import migrate
from tests.cluster import ValkeyCluster, valkey_cluster
from workers.runtime import Runtime


@pytest.fixture(scope="session")
def cluster() -> Iterator[ValkeyCluster]:
    with valkey_cluster() as running:
        yield running


@pytest.fixture
def runtime(
    settings: Settings, redis_url: str, cluster: ValkeyCluster, tmp_path: Path
) -> Iterator[Runtime]:
    """A process of a fleet whose keys, and whose core's, are on the cluster."""
    (tmp_path / "keys").write_bytes(Fernet.generate_key())
    (tmp_path / "keys").chmod(0o600)
    names = {
        "redis_url": cluster.url(),
        "core_url": cluster.url(),
        "broker_url": redis_url,
        "secret_keys_file": tmp_path / "keys",
    }
    found = Runtime(dataclasses.replace(settings, **names))
    migrate(found.engine)
    yield found
    found.close()
