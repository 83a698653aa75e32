"""Transaction poolers before PostgreSQL: the real PgBouncer where it is installed, and a stand-in
that needs nothing.
"""

import contextlib
import os
import queue
import secrets
import selectors
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psycopg
from sqlalchemy.engine import make_url

SERVERS = 2
_SSL, _GSS = 80877103, 80877104
_SHOWN = (
    "server_version",
    "client_encoding",
    "standard_conforming_strings",
    "integer_datetimes",
    "DateStyle",
    "TimeZone",
)


def kinds() -> list[str]:
    """Those that can be had here. `refusing` and `ignoring` are PgBouncer's two ways with a startup
    parameter it does not know.
    """
    real = ["pgbouncer-refusing", "pgbouncer-ignoring"] if shutil.which("pgbouncer") else []
    return ["refusing", "ignoring", *real]


@contextlib.contextmanager
def pooler(database_url: str, kind: str) -> Iterator[str]:
    """A transaction pooler before the database; the URL of the same database through it."""
    ignores = kind.endswith("ignoring")
    real = kind.startswith("pgbouncer")
    with _pgbouncer(database_url, ignores) if real else _stand_in(database_url, ignores) as port:
        url = make_url(database_url)
        yield f"postgresql+psycopg://{url.username}@127.0.0.1:{port}/{url.database}"


@contextlib.contextmanager
def _pgbouncer(database_url: str, ignores: bool) -> Iterator[int]:
    url = make_url(database_url)
    folder = Path(tempfile.mkdtemp(prefix="pushfleet-test-"))
    folder.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    lines = [
        "[databases]",
        f"* = host={url.host} port={url.port} user={url.username} password={url.password or ''}",
        "[pgbouncer]",
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any",
        f"pool_mode = transaction\ndefault_pool_size = {SERVERS}\nlogfile = "
        f"{folder}/log\npidfile = {folder}/pid",
        "ignore_startup_parameters = options" if ignores else "",
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines))
    (folder / "pgbouncer.ini").chmod(0o644)
    as_root = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        ["pgbouncer", "-q", *as_root, str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def _stand_in(database_url: str, ignores: bool) -> Iterator[int]:
    """Gives a server's connection to a client for one transaction, as PgBouncer's transaction mode
    does.
    """
    conninfo = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    sessions = [
        psycopg.connect(conninfo, autocommit=True, sslmode="disable") for _ in range(SERVERS)
    ]
    free: queue.Queue[socket.socket] = queue.Queue()
    for session in sessions:
        free.put(socket.socket(fileno=os.dup(session.pgconn.socket)))
    shown = {name: sessions[0].info.parameter_status(name) or "" for name in _SHOWN}
    door = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = door.accept()
                # each message goes alone, as PgBouncer sends them
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(
                    target=_Client(client, free, shown, ignores).serve, daemon=True
                ).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(door.getsockname()[1])
    finally:
        door.close()
        for session in sessions:
            session.close()


class _Client:
    def __init__(
        self,
        client: socket.socket,
        free: queue.Queue[socket.socket],
        shown: dict[str, str],
        ignores: bool,
    ) -> None:
        self._client = client
        self._free = free
        self._shown = shown
        self._ignores = ignores

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError), self._client:
            if self._greet():
                while (first := _message(self._client))[:1] != b"X":
                    self._transaction(first)

    def _greet(self) -> bool:
        while True:
            (length,) = struct.unpack("!i", _exactly(self._client, 4))
            body = _exactly(self._client, length - 4)
            if struct.unpack("!i", body[:4])[0] not in (_SSL, _GSS):
                break
            self._client.sendall(b"N")
        if b"options\0" in body and not self._ignores:
            words = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            self._client.sendall(b"E" + struct.pack("!i", len(words) + 4) + words)
            return False
        self._client.sendall(_packed(b"R", struct.pack("!i", 0)))
        for name, value in self._shown.items():
            self._client.sendall(_packed(b"S", f"{name}\0{value}\0".encode()))
        self._client.sendall(_packed(b"K", secrets.token_bytes(8)) + _packed(b"Z", b"I"))
        return True

    def _transaction(self, first: bytes) -> None:
        server = self._free.get()
        try:
            server.sendall(first)
            waits, open_batch = int(first[:1] in b"QS"), first[:1] not in b"QS"
            while True:
                ready = _readable(self._client, server)
                if self._client in ready:
                    message = _message(self._client)
                    server.sendall(message)
                    waits += message[:1] in b"QS"
                    open_batch = message[:1] not in b"QSdcf"
                if server in ready:
                    message = _message(server)
                    self._client.sendall(message)
                    waits -= message[:1] == b"Z"
                    if (
                        message[:1] == b"Z"
                        and message[5:6] == b"I"
                        and not waits
                        and not open_batch
                    ):
                        return
        finally:
            self._free.put(server)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _message(source: socket.socket) -> bytes:
    head = _exactly(source, 5)
    return head + _exactly(source, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = source.recv(count - len(found))
        if not part:
            raise EOFError
        found += part
    return found


def _readable(*sockets: socket.socket) -> list[socket.socket]:
    """Waits until one can be read from; select() knows no file beyond the 1,024th."""
    with selectors.DefaultSelector() as chosen:
        for one in sockets:
            chosen.register(one, selectors.EVENT_READ)
        return [cast(socket.socket, key.fileobj) for key, _ in chosen.select()]
