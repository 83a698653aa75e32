"""What every conformance test needs: a throw-away CA, server contexts, the two transports, and
requests as APNs gets them.
"""

import collections
import contextlib
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulators.simulator import ensure_ca, issue
from tests.builders import present
from tests.integration.transport import servers
from workers.transport.aioapns import AioapnsTransport
from workers.transport.curl import CurlTransport
from workers.transport.engine import Http2Transport
from workers.wire import NoAnswer, Request, Route

DEADLINE_S = 30.0
#: Of tests whose server node runs.
NODE = [
    pytest.mark.npm,
    pytest.mark.skipif(
        shutil.which("node") is None,
        reason="node is not installed: its http2 can't be the foreign server",
    ),
]


@pytest.fixture(scope="session")
def ca_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ca")


@pytest.fixture(scope="session")
def ca(ca_folder):
    return ensure_ca(ca_folder)


@pytest.fixture(scope="session")
def certificate(ca_folder):
    """(certificate, key) for localhost and 127.0.0.1."""
    return issue(ca_folder, "server")


@pytest.fixture
def serve(certificate) -> Iterator[Callable]:
    """serve(H2Server, behave, ...) -> a started server with TLS, stopped at the end. plain=True:
    without TLS.
    """
    started = []

    def start(kind, *arguments, plain=False, alpn=("h2",), client_ca=None, **named):
        context = None
        if not plain:
            context = servers.server_context(
                certificate[0], certificate[1], alpn=alpn, client_ca=client_ca
            )
        server = kind(context, *arguments, **named)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def by_node(certificate) -> Iterator[Callable[..., str]]:
    """by_node(script, *arguments) -> base URL of a started server."""
    started = []

    def start(script: str, *arguments: object) -> str:
        file = Path(__file__).with_name(script)
        argv = ["node", *map(str, (file, *certificate, *arguments))]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return f"https://localhost:{int(present(process.stdout).readline())}"

    yield start
    for process in started:
        present(process.stdin).close()
        process.wait(5)
        present(process.stdout).close()


@pytest.fixture
def curl(ca) -> Iterator[CurlTransport]:
    transport = CurlTransport(ca)
    yield transport
    transport.close()


def push(number: int, body: bytes = b'{"aps":{"alert":"hello"}}', **changes) -> Request:
    """A request as the APNs vendor file makes it."""
    headers = {
        "authorization": "bearer header.payload.signature",
        "apns-topic": "com.example.chat",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1900000000",
        "apns-id": str(uuid.UUID(int=number)),
        "apns-collapse-id": f"m-{number}",
    }
    usual = {
        "endpoint": "APNS_PRODUCTION",
        "path": f"/3/device/{number:064x}",
        "headers": headers,
        "body": body,
        **changes,
    }
    return Request(**usual)


def pushes(count: int, first: int = 1) -> list[Request]:
    return [push(number) for number in range(first, first + count)]


@contextlib.contextmanager
def at_work(transport, where: Route) -> Iterator[list]:
    """Five pushes are on their way inside; their answers, once it is left."""
    answers: list = []
    send = lambda: answers.extend(transport.send_many(where, pushes(5), 30))  # noqa: E731
    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(0.2)
    yield answers
    thread.join(60)


def reasons(answers) -> collections.Counter:
    """How often each status, or each reason and whether it was sent."""
    return collections.Counter(
        (a.reason, a.sent) if isinstance(a, NoAnswer) else a.status for a in answers
    )


def route(base: str, http2: bool = True, pool: str = "chat:apns:main:1", **named) -> Route:
    return Route(pool, {"APNS_PRODUCTION": base}, http2, **named)


@pytest.fixture
def transport(request, ca):
    """The transport a test names by parameter: `both()` below."""
    made = MAKE[request.param](ca)
    yield made
    made.close()


@pytest.fixture(params=["curl", "engine"])
def either(request, ca):
    """The two transports that every vendor's requests go through."""
    made = MAKE[request.param](ca)
    yield made
    made.close()


class Engine(Http2Transport):
    """As the fleet makes it, with libcurl behind it."""

    def __init__(self, ca=None, **named):
        super().__init__(ca, CurlTransport(ca), **named)


MAKE = {"curl": CurlTransport, "aioapns": AioapnsTransport, "engine": Engine}


def both(aioapns_fails: str | None = None):
    """Runs a test against every transport for HTTP/2; a reason makes aioapns an expected failure
    (strict: passing is an error too).
    """
    marks = [pytest.mark.xfail(strict=True, reason=aioapns_fails)] if aioapns_fails else []
    return pytest.mark.parametrize(
        "transport", ["curl", "engine", pytest.param("aioapns", marks=marks)], indirect=True
    )


def patience_s(transport, base: str, seconds: float = 0.8) -> float:
    """So many seconds; on a machine that is slow today ten times what a first answer takes."""
    begun = time.monotonic()
    warm(transport, route(base, pool="pace"))
    return max(seconds, 10 * (time.monotonic() - begun))


def warm(transport, where: Route) -> None:
    """Opens the pool's first connection, so that what follows goes out at once."""
    (answer,) = transport.send_many(where, [push(0, path=servers.WARM_UP)], DEADLINE_S)
    assert answer.status == 200
