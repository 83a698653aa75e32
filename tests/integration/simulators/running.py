"""A simulator of this repository, listening on a free port in a thread of its own, with a
certificate of the throw-away CA.
"""

import asyncio
import contextlib
import copy
import functools
import http.server
import importlib
import json
import ssl
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest

from simulators.door import Manners
from simulators.http2 import serve_port
from simulators.simulator import Record, ensure_ca, issue
from tests.waiting import eventually


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="simulators-ca-")


@functools.cache
def certificate():
    """(ca.pem, certificate, key) of this test run; the folder goes with the process."""
    folder = Path(_folder().name)
    ca = ensure_ca(folder)
    return (ca, *issue(folder, "simulator"))


class Running:
    """`with Running("huawei", tmp_path) as huawei:` huawei.base is its https URL, huawei.simulator
    the object behind it.
    """

    def __init__(self, vendor, folder, tls=True):
        self.ca, self._certificate, self._key = certificate()
        self.simulator = importlib.import_module(f"simulators.{vendor}").make(
            Record(folder / f"{vendor}.jsonl")
        )
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        files = (self._certificate, self._key) if self._tls else (None, None)
        self.server = self.run(
            serve_port(self.simulator, "127.0.0.1", 0, *files, manners=Manners(http1_only=True))
        )
        self.port = self.server.port
        self.base = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_):
        self.run(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def context(self):
        return ssl.create_default_context(cafile=self.ca)

    def door(self, action, **wanted):
        """POST /_sim/<action>; the answer's JSON."""
        request = urllib.request.Request(
            f"{self.base}/_sim/{action}", json.dumps(wanted).encode(), method="POST"
        )
        with urllib.request.urlopen(request, context=self.context(), timeout=60) as answer:
            return json.load(answer)

    def faults(self, **wanted):
        return self.door("faults", **wanted)

    @property
    def counts(self):
        return self.door("stats")["counts"]

    @property
    def lines(self):
        return self.simulator.record.lines()

    @property
    def tokens(self):
        return [line["token"] for line in self.lines]


def fixtures_of(vendor, client_of, access_of=None, **clock):
    """Fixtures of a module: the vendor's simulator, its client, and what lets the client send.
    clock: the simulator's own time, where a test needs one.
    """

    @pytest.fixture(name=vendor)
    def simulator(tmp_path):
        with Running(vendor, tmp_path) as running:
            if clock:
                running.door("clock", **clock)
            yield running

    @pytest.fixture(name="client")
    def client(request):
        running = request.getfixturevalue(vendor)
        return client_of(running.base, running.ca)

    @pytest.fixture(name="access")
    def access(client):
        return access_of(client)

    return (simulator, client, access) if access_of else (simulator, client)


class Receipts(http.server.ThreadingHTTPServer):
    """Keeps (path, headers, body) of each call."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.seen: list[tuple] = []


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Receipts)
        self.server.seen.append(
            (self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        )
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hook():
    """A place where receipts arrive: (url, wait) with wait(n) -> the first n of (path, headers,
    body).
    """
    server = Receipts()
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()

    def wait(count=1, seconds=60.0):
        eventually(lambda: len(server.seen) >= count, seconds, what="the receipts never came")
        return server.seen

    try:
        yield f"http://127.0.0.1:{server.server_port}/cb", wait
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


DELETE = object()


def changed(value, path, new):
    """A deep copy with one place changed: path "a.b.0", new DELETE to take it out. A key with a dot
    in it: "extra/callback.id".
    """
    result = copy.deepcopy(value)
    keys = path.split("/") if "/" in path else path.split(".")
    place = result
    for key in keys[:-1]:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    last = int(keys[-1]) if isinstance(place, list) else keys[-1]
    if new is DELETE:
        del place[last]
    else:
        place[last] = new
    return result
