"""What all tests share: real servers of our own, started once a session, so that no test can touch
a developer's data.

PUSHFLEET_TEST_REDIS_URL and PUSHFLEET_TEST_DATABASE_URL name other servers; each test then keeps to
names of its own there.
"""

import contextlib
import gc
import os
import re
import shutil
import signal
import tempfile
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis
from xdist.scheduler import LoadFileScheduling

from common.config import Settings
from common.storage.redis import connect
from tests.examples import examples
from workers.embedded import Running, start_embedded

# How fast examples are made, or run, says how busy the machine is.
hypothesis.settings.register_profile(
    "any machine",
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")
# Each of the hundreds of processes that the tests start would compile the code again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

#: The only tests that run again where they fail.
QUARANTINE = Path(__file__).parent / "quarantine.toml"
#: Folders in the order in which a run of all takes them: what waits longest first, so that no
#: process is left with it at the end.
ORDER = ("tests/chaos/", "tests/isolation/", "tests/e2e/", "tests/integration/", "tests/unit/")
#: How the ids of files begin of which one process runs all, one after the other. Chaos and
#: isolation: fleets of their own with measured deadlines. The whole way: one fleet for many files,
#: as many processes as all servers together. Two such chains: they wait more than they work, and a
#: second fleet starts in a fortieth of the time that one chain would take longer. Cluster: six
#: servers, which serve all files.
TOGETHER = (
    r"tests/chaos/",
    r"tests/isolation/",
    r"tests/e2e/test_([a-c]|direct|first)",
    r"tests/e2e/",
    r"tests/integration/cluster/",
)


def quarantined() -> list[str]:
    """How the ids of the tests begin that may run again."""
    return [one["id"] for one in tomllib.loads(QUARANTINE.read_text(encoding="utf-8"))["test"]]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Python's collector pauses meanwhile, and never looks again at the hundreds of thousands of
    objects that twelve thousand tests are: it took an eighth of all CPU.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After the shuffling: by folder, so that servers of a folder are started once and stopped when
    it is done.
    """
    again = tuple(quarantined())
    for item in items:
        if item.nodeid.startswith(again):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=2))
    place = {folder: number for number, folder in enumerate(ORDER)}
    items.sort(
        key=lambda item: next(
            (place[folder] for folder in ORDER if item.nodeid.startswith(folder)), len(ORDER)
        )
    )


class ByFile(LoadFileScheduling):
    """A file is run by one process; all files of one line of TOGETHER by the same one."""

    def _split_scope(self, nodeid: str) -> str:
        chains = (chain for chain in TOGETHER if re.match(chain, nodeid))
        return next(chains, super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def data_settings(folder: Path, **more: str) -> Settings:
    """Settings for nothing but a DATA_DIR, and what else is named (without the prefix)."""
    environ = {
        "PUSHFLEET_DATA_DIR": str(folder),
        **{f"PUSHFLEET_{name}": value for name, value in more.items()},
    }
    return Settings.load(environ)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that the servers' user can reach; pytest's own are closed to everybody but
    us.
    """
    folder = Path(tempfile.mkdtemp(prefix="pushfleet-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A DATA_DIR of this test."""
    with open_folder() as folder:
        yield folder / "var"


@contextlib.contextmanager
def embedded(*, valkey: bool = False, postgres: bool = False) -> Iterator[Running]:
    with open_folder() as folder:
        running = start_embedded(data_settings(folder / "var"), valkey=valkey, postgres=postgres)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis-compatible server for the session."""
    if given := os.environ.get("PUSHFLEET_TEST_REDIS_URL"):
        yield given
        return
    with embedded(valkey=True) as running:
        assert running.redis_url
        yield running.redis_url


@pytest.fixture
def space() -> str:
    """A word that only this test uses; it is in every key of `settings`."""
    return "t" + uuid.uuid4().hex[:10]


@pytest.fixture
def redis_client(redis_url: str, space: str) -> Iterator[redis.Redis]:
    """A client. Embedded: of an empty server, and empty again at the end. Else what has this test's
    word in its key goes at the end.
    """
    client = connect(redis_url)
    if "PUSHFLEET_TEST_REDIS_URL" not in os.environ:
        client.flushall()
    yield client
    if "PUSHFLEET_TEST_REDIS_URL" in os.environ:
        _forget(client, space)
    else:  # who comes next may not begin with this fixture
        client.flushall()
    client.close()


def _forget(client: redis.Redis, space: str) -> None:
    for key in client.scan_iter(match=f"*{space}*", count=1000):
        client.unlink(key)


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """An empty database of this session's own, dropped at its end; SQLAlchemy's form."""
    if given := os.environ.get("PUSHFLEET_TEST_DATABASE_URL"):
        with own_database(given) as url:
            yield url
        return
    with embedded(postgres=True) as running:
        assert running.database_url
        with psycopg.connect(_conninfo(running.database_url), autocommit=True) as session:
            session.execute("ALTER SYSTEM SET synchronous_commit = off")  # nobody kills this server
            session.execute("SELECT pg_reload_conf()")
        with own_database(running.database_url) as url:
            yield url


def _conninfo(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


@contextlib.contextmanager
def own_database(server_url: str, made: str = "") -> Iterator[str]:
    """A new database on the server of the URL; the URL of the new one.

    made: options of CREATE DATABASE.
    """
    name = "pushfleet_test_" + uuid.uuid4().hex[:10]
    address, _, options = server_url.partition("?")
    base = address.rpartition("/")[0]
    conninfo = _conninfo(server_url)
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name} {made}")
    try:
        yield f"{base}/{name}" + (f"?{options}" if options else "")
    finally:
        with psycopg.connect(conninfo, autocommit=True) as session:
            session.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings_with(redis_url: str, space: str, data_dir: Path) -> Iterator[Callable[..., Settings]]:
    """Makes settings on the session's Redis with names of this test; what else is named comes
    without the prefix. Their keys go at the end: doctor looks for other fleets' names.
    """

    def make(**more: str) -> Settings:
        names = {
            "REDIS_URL": redis_url,
            "PREFIX": f"push{space}",
            "KEY_PREFIX": f"im{space}:",
            "EVENT_STREAMS": f"im{space}:events",
        }
        return data_settings(data_dir, **{**names, **more})

    yield make
    client = connect(redis_url)
    _forget(client, space)
    client.close()


@pytest.fixture
def settings(settings_with: Callable[..., Settings], database_url: str) -> Settings:
    """Settings on the session's Redis and PostgreSQL, every name of ours with this test's word in
    it.
    """
    return settings_with(DATABASE_URL=database_url)


class OwnValkey:
    """A server that a test may kill and start again on the same port and data."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._server = running.servers[0]
        assert running.redis_url
        self.url: str = running.redis_url

    def kill(self) -> None:
        """SIGKILL: what was not yet synced may be lost, as in life."""
        process = self._server.process
        assert process
        process.send_signal(signal.SIGKILL)
        process.wait()

    def restart(self) -> None:
        """Starts it again when it is dead, and waits until it answers."""
        self._running.revive()
        self._server.wait()

    def pause(self) -> None:
        """Half-open: connections stay, nothing is answered (SIGSTOP)."""
        assert self._server.process
        self._server.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._server.process
        self._server.process.send_signal(signal.SIGCONT)


@pytest.fixture
def restartable_valkey() -> Iterator[OwnValkey]:
    with embedded(valkey=True) as running:
        own = OwnValkey(running)
        yield own
        own.go_on()
