"""The stand of the benchmarks: one server in the vendor's place, one fleet in few processes, and
the clock.

The server is `h2mock` (C, tests/benchmarks/h2mock.c) where a compiler and libnghttp2's headers are
present, else our APNs simulator, which is slower than what is measured: then only ratios of CPU
mean something, and the report says which it was.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from common.config import Settings
from common.model import Vendor
from common.storage.tenants import Tenant
from tests.benchmarks.counters import Counters, counters, processes
from workers.cli.demo import account
from workers.cli.fleet import migrate_settings
from workers.cli.up import free_ports, in_background
from workers.runtime import Runtime

try:
    from common.running_fleet import resolve
except ModuleNotFoundError:  # this file in a checkout of before (against.py)
    from common.config import resolve  # type: ignore[attr-defined, no-redef]

try:
    from simulators.simulator import ensure_ca, issue
except ModuleNotFoundError:  # this file in a checkout of before (against.py)
    from simulators.base import ensure_ca, issue  # type: ignore[import-not-found, no-redef]

HERE = Path(__file__).parent
PROCFILE = """intake: pushfleet worker intake
presence: pushfleet worker presence
routing: pushfleet worker routing
delivery-apns: pushfleet worker delivery --vendors apns
upkeep: pushfleet worker upkeep
"""
APP = "bench"
#: This file is laid into the checkout of an earlier version, too: of tests it imports no builders.
IPHONE = {"platform": "ios", "vendor": "apns", "business_id": "ios"}
#: Contract §2: tenants and credentials that change take effect within so long; no process says
#: when.
TAKES_EFFECT_S = 2.0
REGISTERED_S_MAX = 300.0
#: Seconds until a further process has to be ready, and until all others know of it
#: (living.REPLICAS_S).
READY_S_MAX = 60.0
REPLICAS_KNOWN_S = 6.0
#: The names of the fleet's streams are asked for again after so long.
STREAMS_KNOWN_S = 2.0


def built_mock(folder: Path) -> Path | None:
    """The C server, built; None where that can't be done here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    target = folder / "h2mock"
    source = HERE / "h2mock.c"
    argv = [compiler, "-O2", "-o", str(target), str(source), "-lnghttp2", "-lssl", "-lcrypto"]
    made = subprocess.run(argv, capture_output=True, check=False)
    return target if made.returncode == 0 else None


MOCK = "h2mock (C)"


def _listening(port: int, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("localhost", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def serving_mock(
    mock: Path, key: Path, certificate: Path, max_streams: int, delay_ms: int = 0
) -> Iterator[tuple[str, int]]:
    """The C server's address and pid while it runs."""
    port = free_ports(1)
    argv = [str(mock), str(port), str(key), str(certificate), str(max_streams), str(delay_ms)]
    server = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        _listening(port)
        yield f"https://localhost:{port}", server.pid
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def vendor(folder: Path, delay_ms: int = 0) -> Iterator[tuple[str, Path, str]]:
    """(address, CA file, which server it is)"""
    ca = ensure_ca(folder / "ca")
    certificate, key = issue(folder / "ca", "bench")
    mock = built_mock(folder)
    if mock is not None:
        with serving_mock(mock, key, certificate, 1000, delay_ms) as (address, _pid):
            yield address, ca, MOCK
        return
    argv = [sys.executable, "-m", "simulators", "apns", "--port", "0", "--dir", str(folder)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        endpoint = told["endpoints"]["APNS_PRODUCTION"]
        yield (endpoint, Path(told["ca_file"]), "the APNs simulator (Python)")
    finally:
        process.terminate()
        process.wait()


class Stand:
    """A running fleet with one tenant and an APNs lane."""

    def __init__(
        self,
        runtime: Runtime,
        names: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        servers: Sequence[int] = (),
    ) -> None:
        """servers: process ids of the cluster's, if it is on one."""
        self.runtime = runtime
        self.environ = environ
        self.redis = runtime.core
        self.folder = folder
        self.names = names
        self._servers = servers
        self._streams: list[bytes] = []
        self._streams_until = 0.0
        with runtime.engine.connect() as connection:  # the builds before have one table only
            view = connection.execute(text("SELECT to_regclass('ledger_all')")).scalar()
            self._rows = "ledger_all" if view else "ledger"

    def tenant(self, app: str) -> None:
        self.runtime.tenants.add(Tenant(app, "Bench", "en", "UTC"))
        self.runtime.credentials.add(
            account(Vendor.APNS, apns_options(self.folder), app=app, business_id="ios")
        )

    def devices(self, app: str, count: int, first: int = 0) -> None:
        """One iPhone each for users u<first> …, by one statement."""
        statement = text(
            'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, '
            "token, registered_ms, state, reason, state_ms)"
            " SELECT :app, 'u' || n, 'd', 'ios', 'apns', 'ios', lpad(to_hex(n), 64, 'a'), 1, "
            "'active', '', 1"
            " FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n ON CONFLICT "
            "DO NOTHING"
        )
        with self.runtime.engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(statement, {"app": app, "first": first, "last": first + count - 1})
        with self.runtime.engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            connection.execute(text("ANALYZE devices"))
        self.forget_people()

    def forget_people(self) -> None:
        """Rows that no event wrote: what the fleet keeps of people in Redis knows
        nothing of them.
        """
        redis = self.runtime.redis
        found: list[bytes] = []
        for key in redis.scan_iter(match=f"{self.runtime.settings.prefix}*:person:*", count=10_000):
            found.append(key)
            if len(found) == 5_000:
                redis.unlink(*found)
                found.clear()
        if found:
            redis.unlink(*found)

    def devices_quick(self, app: str, count: int) -> None:
        """A handful of iPhones, their tokens this tenant's own."""
        statement = text(
            'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, '
            "token, registered_ms, state, reason, state_ms)"
            " SELECT CAST(:app AS text), 'u' || n, 'd', 'ios', 'apns', 'ios', md5(CAST(:app "
            "AS text)) || lpad(to_hex(n), 32, '0'),"
            " 1, 'active', '', 1"
            " FROM generate_series(0, CAST(:last AS int)) AS n ON CONFLICT DO NOTHING"
        )
        with self.runtime.engine.begin() as connection:
            connection.execute(statement, {"app": app, "last": count - 1})

    def publish_c2c(
        self,
        count: int,
        users: int,
        apps: Sequence[str] = (APP,),
        pace_s: float = 0.0,
        per_entry: int = 1,
    ) -> str:
        """`count` messages; the prefix of their ids. pace_s: seconds to spread them over.
        per_entry: messages of one stream entry.
        """
        prefix = uuid.uuid4().hex[:8]
        started = time.monotonic()
        for start in range(0, count, 200):
            lines = [
                c2c_message(apps[n % len(apps)], f"{prefix}-{n}", f"u{n % users}")
                for n in range(start, min(start + 200, count))
            ]
            with self.redis.pipeline(transaction=False) as pipe:
                for at in range(0, len(lines), per_entry):
                    part = lines[at : at + per_entry]
                    pipe.xadd(
                        "im:events", {"e": part[0]} if per_entry == 1 else {"b": "\n".join(part)}
                    )
                pipe.execute()
            if pace_s:
                time.sleep(max(started + pace_s * start / count - time.monotonic(), 0))
        return prefix

    def register(self, count: int) -> float:
        """Registrations per second: `count` events, from the first on the core's stream until the
        last has left it.
        """
        started = time.monotonic()
        for start in range(0, count, 200):
            with self.redis.pipeline(transaction=False) as pipe:
                for n in range(start, min(start + 200, count)):
                    data = {"user": f"r{n}", "device_id": "d", "token": f"{n:064x}", **IPHONE}
                    pipe.xadd("im:events", {"e": json.dumps(event(APP, "device.registered", data))})
                pipe.execute()
        while self.redis.xlen("im:events"):
            if time.monotonic() - started > REGISTERED_S_MAX:
                raise TimeoutError(f"not {count} registrations within {REGISTERED_S_MAX:g} s")
            time.sleep(0.02)
        return count / (time.monotonic() - started)

    def publish_group(self, group: str) -> str:
        name = uuid.uuid4().hex[:8]
        conversation = {"type": "group", "id": group, "name": "All"}
        sender = {"id": "s", "nick": "Sam"}
        data = {"message_id": name, "conversation": conversation, "sender": sender}
        stored = {**data, "elements": [{"type": "text", "text": "hi"}]}
        self.redis.xadd("im:events", {"e": json.dumps(event(APP, "message.stored", stored))})
        return name

    def accepted(self, prefix: str, count: int, seconds: float = 300.0) -> list[int]:
        """Milliseconds from stored to accepted of each push of these messages, once there are
        `count`.
        """
        query = text(
            f"SELECT l.decided_ms, l.decided_ms - e.received_ms FROM {self._rows} l JOIN "
            "events e USING (day, app, event_id)"
            " WHERE e.message_id LIKE :prefix AND l.decision = 'accepted'"
        )
        counted = text(
            f"SELECT count(*) FROM {self._rows} l JOIN events e USING (day, app, event_id)"
            " WHERE e.message_id LIKE :prefix AND l.decision = 'accepted'"
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # counting costs the database more than the fleet's own rows: only when it may be true
            if self._idle():
                with self.runtime.engine.connect() as connection:
                    if (
                        connection.execute(counted, {"prefix": prefix + "%"}).scalar() or 0
                    ) >= count:
                        return sorted(
                            row[1] for row in connection.execute(query, {"prefix": prefix + "%"})
                        )
            time.sleep(0.1)
        raise TimeoutError(f"not {count} accepted pushes within {seconds:g} s")

    def _idle(self) -> bool:
        """Nothing is on any stream. Asks the server for its streams now and then, so that it holds
        for every build's layout.
        """
        if self.redis.xlen("im:events"):
            return False
        if time.monotonic() > self._streams_until:
            pattern = f"{self.runtime.settings.prefix}*"
            self._streams = list(
                self.runtime.redis.scan_iter(match=pattern, count=10_000, _type="stream")
            )
            self._streams_until = time.monotonic() + STREAMS_KNOWN_S
        with self.runtime.redis.pipeline(transaction=False) as pipe:
            for stream in self._streams:
                pipe.xlen(stream)
            return not any(pipe.execute())

    def span_ms(self, prefix: str) -> int:
        """From the first message stored to the last push accepted."""
        query = text(
            f"SELECT max(l.decided_ms) - min(e.received_ms) FROM {self._rows} l JOIN events "
            "e USING (day, app, event_id)"
            " WHERE e.message_id LIKE :prefix AND l.decision = 'accepted'"
        )
        with self.runtime.engine.connect() as connection:
            return int(connection.execute(query, {"prefix": prefix + "%"}).scalar() or 0)

    def counters(self) -> Counters:
        """What the fleet's processes, Valkey and PostgreSQL used until now."""
        where = self.runtime.settings.data_dir, self.redis, self.runtime.engine
        return counters(*where, self._servers)

    @contextlib.contextmanager
    def more(self, lines: Sequence[str]) -> Iterator[None]:
        """A further process of each of these lines (`intake`, `delivery --vendors apns`) inside, as
        a supervisor starts it.
        """
        before = self._at_work()
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "workers", "worker", *line.split()],
                env={**os.environ, **self.environ, "PUSHFLEET_PROCESS": f"{line.split()[0]}.m{n}"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for n, line in enumerate(lines)
        ]
        try:
            end = time.monotonic() + READY_S_MAX
            while self._at_work() < before + len(lines):
                if time.monotonic() > end:
                    raise TimeoutError(f"not {len(lines)} more processes within {READY_S_MAX:g} s")
                time.sleep(0.1)
            time.sleep(REPLICAS_KNOWN_S)
            yield
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)

    def _at_work(self) -> int:
        return sum(self.runtime.living.replicas(stage) for stage in ("intake", "delivery"))

    def steadily(self, per_second: int, seconds: float, users: int) -> "Burst":
        """c2c messages at a pace, until each is accepted and written. Whatever is due goes in one
        write: a publisher that waits for its processor puts no less on the stream.
        """
        prefix, count = uuid.uuid4().hex[:8], round(per_second * seconds)
        before, began = self.counters(), time.time()
        sent = 0
        while sent < count:
            due = min(count, 1 + int((time.time() - began) * per_second))
            with self.redis.pipeline(transaction=False) as pipe:
                for n in range(sent, due):
                    message = c2c_message(APP, f"{prefix}-{n}", f"u{n % users}")
                    pipe.xadd("im:events", {"e": message})
                pipe.execute()
            sent = due
            time.sleep(max(began + sent / per_second - time.time(), 0.001))
        self.accepted(prefix, count)
        used = self.counters().since(before, count)
        took_ms = max(self.last_accepted_ms(prefix) - began * 1000, 1)
        return Burst(count / took_ms * 1000, used)

    @contextlib.contextmanager
    def held_intake(self) -> Iterator[None]:
        """Intake stands still inside: what is published lies on the core's stream before the clock
        starts.
        """
        pids = processes(self.runtime.settings.data_dir)["intake"]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def burst(
        self, count: int, users: int, apps: Sequence[str] = (APP,), per_entry: int = 1
    ) -> "Burst":
        """`count` c2c messages that lay on the stream before the clock started, until each is
        accepted and written.
        """
        with self.held_intake():
            prefix = self.publish_c2c(count, users, apps, per_entry=per_entry)
            before, started_ms = self.counters(), time.time() * 1000
        self.accepted(prefix, count)
        used = self.counters().since(before, count)
        return Burst(count / max(self.last_accepted_ms(prefix) - started_ms, 1) * 1000, used)

    def last_accepted_ms(self, prefix: str) -> int:
        """When the last push of these messages was accepted, epoch ms."""
        query = text(
            f"SELECT max(l.decided_ms) FROM {self._rows} l JOIN events e USING (day, app, event_id)"
            " WHERE e.message_id LIKE :prefix AND l.decision = 'accepted'"
        )
        with self.runtime.engine.connect() as connection:
            return int(connection.execute(query, {"prefix": prefix + "%"}).scalar() or 0)


@dataclass(frozen=True, slots=True)
class Burst:
    """per_second: pushes from the first read until the last is accepted. used: see
    `Counters.since`.
    """

    per_second: float
    used: dict[str, Any]


def event(app: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    head = {"v": 1, "id": uuid.uuid4().hex, "ts": int(time.time() * 1000)}
    return {**head, "type": kind, "app": app, "data": data}


def c2c_message(app: str, message_id: str, to: str) -> str:
    """A message of somebody to one person, as the core writes it."""
    data: dict[str, Any] = {
        "message_id": message_id,
        "conversation": {"type": "c2c", "id": "s"},
        "sender": {"id": "s", "nick": "Sam"},
    }
    data |= {"recipients": [to], "elements": [{"type": "text", "text": "Meeting moved to 20:00"}]}
    return json.dumps(event(app, "message.stored", data))


def apns_options(folder: Path) -> list[str]:
    p8 = folder / "bench.p8"
    if not p8.exists():
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        p8.write_bytes(pem)
    account = ("--key-id", "BENCHKEY01", "--team-id", "BENCHTEAM1", "--topic", "com.example.chat")
    return ["--p8", str(p8), *account, "--env", "production"]


@contextlib.contextmanager
def stand(
    url: str,
    ca: Path,
    replicas: Mapping[str, int] | None = None,
    servers: Sequence[int] = (),
    **settings: str,
) -> Iterator[Stand]:
    folder = Path(tempfile.mkdtemp(prefix="pushfleet-bench-"))
    folder.chmod(0o755)
    (folder / "Procfile").write_text(PROCFILE)
    environ = {
        "PUSHFLEET_DATA_DIR": str(folder / "var"),
        "PUSHFLEET_ENDPOINT_APNS_PRODUCTION": url,
        "PUSHFLEET_CA_FILE": str(ca),
    }
    environ |= {"PUSHFLEET_LOG_LEVEL": "warning"}
    environ |= {f"PUSHFLEET_{name}": value for name, value in settings.items()}
    wanted = Settings.load(environ)
    try:
        procfile = folder / "Procfile"
        with in_background(
            wanted, replicas or {}, False, migrate=migrate_settings, procfile_path=procfile
        ) as fleet:
            runtime = Runtime(resolve(wanted))
            try:
                made = Stand(runtime, fleet.names, folder, environ, servers)
                made.tenant(APP)
                runtime.catalog.changed()
                time.sleep(TAKES_EFFECT_S)
                yield made
            finally:
                runtime.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
