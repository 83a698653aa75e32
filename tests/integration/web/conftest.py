"""A tenant with accounts at simulated vendors, the command line on it, and the stages of the fleet
in one thread.
"""

import contextlib
import io
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Table, select
from sqlalchemy.exc import ProgrammingError

from common.config import Settings, environ_of
from common.model import Vendor
from common.storage.keys import LEDGER, STAGE_STREAMS
from common.storage.migrations import migrate
from common.storage.tables import apps, audit, credentials
from tests.builders import device_of, present
from tests.tables import spaced
from workers.app import DELIVERY, PRESENCE, ROUTING
from workers.cli import run
from workers.cli.worker import doors_of
from workers.handlers.delivery import LaneSender
from workers.handlers.intake import IntakeLoop
from workers.maintenance.ledger_writer import LedgerWriter
from workers.pipeline import Stages
from workers.runtime import Runtime

ROOT = Path(__file__).parents[3]
APP = "1400000001"
VENDORS = (Vendor.MEIZU, Vendor.HUAWEI, Vendor.XIAOMI, Vendor.VIVO)
#: Those that the tenant has an account with; Honor's is for receipts only.
ACCOUNTS = (*VENDORS, Vendor.HONOR)
#: Those that tests write to.
TABLES = (
    *spaced("""
        apps credentials devices events ledger notes dead_letters console_users settings logouts
    """),
    *("api_tokens", "audit", "tallies", "pages"),
)


@pytest.fixture(scope="session")
def simulators(tmp_path_factory) -> Iterator[dict]:
    """{endpoints, ca_file, control{vendor: url}} of running simulators."""
    folder = tmp_path_factory.mktemp("simulators")
    command = [sys.executable, "-m", "simulators", *ACCOUNTS, "--dir", str(folder)]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,  # Ctrl-C of the tests stops the tests, which then stop these
    )
    try:
        told = [json.loads(present(process.stdout).readline()) for _ in ACCOUNTS]
        meizu = next(one["control"] for one in told if one["vendor"] == "meizu")
        # the tests' devices share their tokens
        call(f"{meizu}/_sim/limits", b'{"device_per_minute": 0}')
        yield {
            "endpoints": {name: url for one in told for name, url in one["endpoints"].items()},
            "ca_file": told[0]["ca_file"],
            "control": {one["vendor"]: one["control"] for one in told},
            "record": {one["vendor"]: one["record"] for one in told},
        }
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # asked to end they wait for their callers
        process.wait()


@pytest.fixture
def fleet_settings(settings_with, database_url, simulators, free_port, tmp_path) -> Settings:
    """A whole fleet's settings: simulated vendors, addresses of its own, an empty database."""
    keys = tmp_path / "keys"
    keys.write_text("cHVzaGZsZWV0LXRlc3RzLXB1c2hmbGVldC10ZXN0cy0=\n")
    keys.chmod(0o600)
    receipts = free_port()
    return settings_with(
        DATABASE_URL=database_url,
        SECRET_KEYS_FILE=str(keys),
        CA_FILE=simulators["ca_file"],
        RECEIPTS_ADDR=f"127.0.0.1:{receipts}",
        RECEIPTS_URL=f"http://127.0.0.1:{receipts}",
        CONSOLE_ADDR=f"127.0.0.1:{free_port()}",
        **{f"ENDPOINT_{name}": url for name, url in simulators["endpoints"].items()},
    )


@pytest.fixture
def runtime(fleet_settings) -> Iterator[Runtime]:
    found = Runtime(fleet_settings, "test")
    try:
        _empty(found)
    except ProgrammingError:
        migrate(found.engine)
        _empty(found)
    yield found
    found.close()


def _empty(runtime: Runtime) -> None:
    """Deleted, of few rows: TRUNCATE makes files anew."""
    with runtime.engine.begin() as connection:
        connection.exec_driver_sql("; ".join(f"DELETE FROM {table}" for table in TABLES))


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def cli(runtime, fleet_settings, monkeypatch, capsys, tmp_path) -> Callable[..., Said]:
    """Runs `pushfleet …` on the fleet of this test, as its own process would: settings come from
    the environment.
    """
    for name, value in environ_of(fleet_settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: str | bytes = b"") -> Said:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        capsys.readouterr()
        code = run(list(arguments))
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return call


@pytest.fixture(scope="session")
def tenant_rows() -> dict[Table, list]:
    """What the command line wrote of the tenant when it was first made: the keys are the same."""
    return {}


@pytest.fixture
def tenant(cli, runtime, tenant_rows, tmp_path) -> str:
    """A tenant with an account at each simulated vendor, as the command line makes it."""
    if not tenant_rows:
        _make_tenant(cli, tmp_path)
        with runtime.engine.connect() as connection:
            for table in (apps, credentials, audit):
                found = connection.execute(select(table)).mappings()
                tenant_rows[table] = [
                    {name: value for name, value in row.items() if name != "id"} for row in found
                ]
        return APP
    with runtime.engine.begin() as connection:
        for table, rows in tenant_rows.items():
            connection.execute(table.insert(), rows)
    runtime.catalog.changed()
    return APP


def _make_tenant(cli, tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("simulated-secret-1\n")
    key = tmp_path / "callback-key"
    key.write_text("Y2FsbGJhY2sta2V5\n")
    assert cli("app", "add", APP, "--name", "Example IM").code == 0
    for words in (
        "meizu --app-id 110001 --right meizu.private --option callback=on",
        f"huawei --app-id 100001 --callback-user push --callback-key-file {key}",
        "honor --app-id 104000001 --app-key 104000001",
        "xiaomi --package com.example.im",
        "vivo --app-id 10001 --app-key a1b2c3d4-0000-0000-0000-000000000000",
    ):
        vendor, *options = words.split()
        account = f"credential add {vendor} --app {APP} --business-id {vendor}-1".split()
        said = cli(*account, "--app-secret-file", str(secret), *options)
        assert said.code == 0, said.err


def registered(user: str, device: str, vendor: str, token: str) -> dict:
    data = device_of(
        user,
        device_id=device,
        platform="android",
        vendor=vendor,
        business_id=f"{vendor}-1",
        token=token,
    )
    return event("device.registered", data)


def live(user: str, device: str = "phone") -> dict:
    """A phone at Meizu with an address that no other test has: what is over five pushes a minute
    to one is folded there.
    """
    return registered(user, device, "meizu", f"live{user}{secrets.token_hex(4)}")


def event(kind: str, data: dict, **more) -> dict:
    ms = int(time.time() * 1000)
    event_id = f"{kind}-{time.time_ns()}"
    return {"v": 1, "id": event_id, "type": kind, "app": APP, "ts": ms, "data": data, **more}


def message(message_id: str, recipients: list[str], conversation: str = "c2c", **push) -> dict:
    data = {
        "message_id": message_id,
        "conversation": {"type": conversation, "id": "alice" if conversation == "c2c" else "g1"},
        "sender": {"id": "alice", "nick": "Alice"},
        "recipients": recipients,
        "elements": [{"type": "text", "text": "晚上一起吃饭吗"}],
        "push": push,
    }
    return event("message.stored", data)


class LittleFleet:
    """Every stage of the fleet, one after the other, in one thread."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._consumer = IntakeLoop(runtime.settings.event_streams, doors_of(runtime))
        self._stages = Stages(runtime)
        self._stop = threading.Event()
        self.writer = LedgerWriter(runtime)
        self._thread = threading.Thread(target=self._run, name="little-fleet")

    def step(self) -> None:
        self._consumer.once(block_ms=10)
        self._stages.consumer(PRESENCE)(self._stop.is_set)
        self._stages.consumer(ROUTING)(self._stop.is_set)
        for vendor in VENDORS:
            self._stages.consumer(DELIVERY, vendor)(self._stop.is_set)
        self.runtime.delayed.release_due()
        self.writer.flush()

    def is_quiet(self) -> bool:
        """Nothing is on its way from the core to the ledger, but for what waits for a lane."""
        streams = [*STAGE_STREAMS[PRESENCE], *STAGE_STREAMS[ROUTING], LEDGER]
        names = [self.runtime.keys.stream(name) for name in streams]
        found = [self.runtime.redis.xlen(name) for name in names]
        found += [self.runtime.core.xlen(name) for name in self.runtime.settings.event_streams]
        senders = [self._stages.consumer(DELIVERY, vendor) for vendor in VENDORS]
        return not any(found) and not any(
            one.running.busy() for one in senders if isinstance(one, LaneSender)
        )

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()


@pytest.fixture(autouse=True)
def short_slices(monkeypatch) -> None:
    """A step sends to each vendor in turn: a slice must not wait five seconds for a lane that is
    paused, nor one second after its last round for work that only the next step brings.
    """
    monkeypatch.setattr("workers.handlers.delivery.SLICE_S", 0.2)
    monkeypatch.setattr("workers.handlers.delivery.LINGER_S", 0.02)


@pytest.fixture
def fleet(runtime) -> Iterator[LittleFleet]:
    """Not started yet."""
    little = LittleFleet(runtime)
    yield little
    little.stop()


#: How long a test waits for what has to come about, or for an answer, where how long it takes is
#: not its question: on a machine of thirty busy processes a step of a second takes half a minute.
#: What has a limit of its own is tested against that.
PATIENCE_S = 60.0


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict

    @property
    def text(self) -> str:
        return self.body.decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def call(
    url: str, body: bytes | None = None, headers: dict | None = None, method: str | None = None
) -> Answer:
    """One HTTP request; redirects and errors are answers."""
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(
            urllib.request.Request(url, body, headers or {}, method=method), timeout=PATIENCE_S
        ) as answer:
            return Answer(answer.status, answer.read(), dict(answer.headers.items()))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(), dict(error.headers.items()))


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports below those that the system gives to outgoing connections: none of them takes it before
    it is bound.
    """

    def find() -> int:
        for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port
        raise OSError("there is no free port")

    return find
