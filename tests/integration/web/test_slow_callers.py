"""Who is slow keeps nobody out: half heads, half bodies, slow readers, idle connections, at each of
our HTTP doors.
"""

import contextlib
import socket
import threading
import time
import urllib.request

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from common import metrics
from common.config import Settings
from tests.integration.web.conftest import PATIENCE_S
from tests.waiting import eventually
from workers import serving

#: Seconds within which a slow call ends by the bound that its test has shortened, on a machine that
#: stands still for some of them too; the bounds of a fleet are longer.
ENDED_S = 8.0
OK = b"HTTP/1.1 200 OK"
HALF_HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nX-Slow: "


@pytest.fixture
def address():
    """A server with a few places that takes bodies and gives a large answer."""

    async def take(request):
        await request.body()
        return PlainTextResponse("x" * 20_000_000 if request.url.path == "/large" else "ok")

    app = Starlette(routes=[Route("/{path:path}", take, methods=["GET", "POST"])])
    listener, stop = serving.bind("127.0.0.1:0", "X"), threading.Event()
    thread = threading.Thread(target=serving.serve, args=(app, listener, stop, 40))
    thread.start()
    yield listener.getsockname()
    stop.set()
    thread.join(PATIENCE_S)


def connected(address, said: bytes) -> socket.socket:
    found = socket.create_connection(address, PATIENCE_S)
    found.sendall(said)
    found.settimeout(PATIENCE_S)
    return found


def answer(address) -> bytes:
    """The first line of an answer; nothing where the call ended before."""
    with (
        contextlib.suppress(ConnectionError),
        connected(address, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as asking,
    ):
        return asking.recv(100).partition(b"\r\n")[0]
    return b""


def ended(connection: socket.socket, seconds: float) -> bool:
    """Whether the server ends it within this time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_an_answer_on_a_kept_connection_does_not_wait_for_an_acknowledgement(address):
    took = []
    with connected(address, b"") as asking:
        for _ in range(20):
            began, got = time.monotonic(), b""
            asking.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            while not got.endswith(b"\r\n\r\nok"):
                got += asking.recv(4096)
            took.append(time.monotonic() - began)
    # the first are acknowledged at once; from then on a system waits 40 ms before it does
    assert min(took[10:]) < 0.03


@pytest.mark.parametrize(
    "said",
    [HALF_HEAD, b"", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"],
    ids=["half a head", "nothing", "idle after a call"],
)
def test_five_times_the_places_of_waiting_callers_keep_nobody_out(address, said):
    held = []
    for _ in range(200):
        held.append(connected(address, said))
        time.sleep(0.001)
    assert [answer(address) for _ in range(5)] == [OK] * 5
    for one in held:
        one.close()


SLOW = {
    "half a head": ("HEAD_S_MAX", HALF_HEAD),
    "half a head, then a little": ("HEAD_S_MAX", HALF_HEAD + b"aaaa"),
    "half a body": ("CALL_S_MAX", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx"),
    "an answer that is not read": ("CALL_S_MAX", b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_call_ends(address, monkeypatch, kind):
    setting, said = SLOW[kind]
    monkeypatch.setattr(serving, setting, 0.3)
    monkeypatch.setattr(serving, "IDLE_S_MAX", 0.2)
    monkeypatch.setattr(serving, "FLUSH_S_MAX", 0.2)
    connection = connected(address, said)
    if kind == "an answer that is not read":
        time.sleep(1.5)
    assert ended(connection, ENDED_S)
    eventually(lambda: answer(address) == OK)


#: What a caller says first, and then again and again: a sign of life is no progress.
TRICKLES = {
    "a head, a byte at a time": ("HEAD_S_MAX", HALF_HEAD, b"a"),
    "empty lines before a head": ("HEAD_S_MAX", b"", b"\r\n"),  # a server may skip them
    "half a head behind a call that was answered": (
        "HEAD_S_MAX",
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nX-A: ",
        b"a",
    ),
    "a body in chunks of a byte": (  # no length says when it is too slow
        "CALL_S_MAX",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\na\r\n",
    ),
    "a trailer that never ends": (
        "CALL_S_MAX",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ",
        b"a",
    ),
}


@pytest.mark.parametrize(("setting", "said", "more"), TRICKLES.values(), ids=TRICKLES)
def test_a_call_that_trickles_ends(address, monkeypatch, setting, said, more):
    monkeypatch.setattr(serving, setting, 0.5)
    with connected(address, said) as connection:
        end = time.monotonic() + ENDED_S
        try:
            while time.monotonic() < end:
                connection.sendall(more)
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() < end
    eventually(lambda: answer(address) == OK)


def test_many_calls_on_one_connection_are_not_ended(address, monkeypatch):
    monkeypatch.setattr(serving, "HEAD_S_MAX", 0.5)
    monkeypatch.setattr(serving, "CALL_S_MAX", 0.5)

    def many() -> bool:
        with contextlib.suppress(ConnectionError), connected(address, b"") as connection:
            for _ in range(8):
                time.sleep(0.1)
                connection.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
                said = b""
                while not said.endswith(b"ok"):
                    more = connection.recv(1000)
                    if not more:
                        return False
                    said += more
                assert said.startswith(b"HTTP/1.1 200")
            return True
        return False

    # one that stood still between its two ends may be ended
    assert any(many() for _ in range(5))


def is_healthy(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE_S) as said,
    ):
        return said.status == 200
    return False


def test_the_metrics_port_has_places_for_everybody(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "CALL_S_MAX", 600.0)  # no place is free by itself
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = Settings.load(
        {"PUSHFLEET_DATA_DIR": str(tmp_path), "PUSHFLEET_METRICS_PORT": str(port)}
    )
    assert metrics.serve_metrics(settings, "slow", lambda: True, lambda: True) == port
    before = threading.active_count()  # other tests' workers have threads, too
    held = [connected(("127.0.0.1", port), b"GET /metrics HTTP/1.0\r\nX: ") for _ in range(100)]
    eventually(lambda: is_healthy(port))
    assert threading.active_count() - before < 100
    for one in held:
        one.close()
    monkeypatch.setattr(metrics, "CALL_S_MAX", 1.0)
    trickle = connected(("127.0.0.1", port), b"GET /metrics HTTP/1.0\r\nX: ")
    for _ in range(8):  # a byte now and then is no sign of life
        time.sleep(0.2)
        try:
            trickle.sendall(b"x")
        except OSError:
            break
    assert ended(trickle, ENDED_S)
