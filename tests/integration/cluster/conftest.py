"""One cluster of three primaries and their replicas for all tests of this folder; each test has
names of its own.
"""

import dataclasses
from collections.abc import Iterator

import pytest

from common.config import Settings
from tests.cluster import ValkeyCluster, valkey_cluster
from tests.integration.conftest import opened
from workers.runtime import Runtime


@pytest.fixture(scope="session")
def cluster() -> Iterator[ValkeyCluster]:
    with valkey_cluster() as running:
        yield running


@pytest.fixture
def runtime(keyed: Settings, redis_url: str, cluster: ValkeyCluster) -> Iterator[Runtime]:
    """A process of a fleet whose keys, and whose core's, are on the cluster."""
    urls = {"redis_url": cluster.url(), "core_url": cluster.url(), "broker_url": redis_url}
    with opened(dataclasses.replace(keyed, **urls)) as found:
        yield found
