"""A server ends when it is told to, at whatever moment that is."""

import contextlib
import gzip
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from workers.serving import (
    BODY_BYTES_MAX,
    MEMBERS_MAX,
    Refusal,
    bind,
    serve,
    unpacked,
    url_of,
    without_upgrade,
)


async def app(_scope: Any, _receive: Any, _send: Any) -> None:
    raise RuntimeError


def test_a_stop_before_the_server_listens_is_no_fault() -> None:
    stop = threading.Event()
    stop.set()
    serve(app, bind("127.0.0.1:0", "PUSHFLEET_CONSOLE_ADDR"), stop, 10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_ends_by_itself_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no loop")

    monkeypatch.setattr(uvicorn.Server, "run", broken)
    with pytest.raises((RuntimeError, OSError)):
        serve(app, bind("127.0.0.1:0", "PUSHFLEET_CONSOLE_ADDR"), threading.Event(), 10)


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def served() -> Iterator[str]:
    listener, stop = bind("127.0.0.1:0", "PUSHFLEET_GATEWAY_ADDR"), threading.Event()
    thread = threading.Thread(target=serve, args=(echo, listener, stop, 10))
    url = url_of(listener)
    thread.start()
    try:
        yield url
    finally:
        stop.set()
        thread.join()


OFFERS = {
    "Java's client": b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAA\r\n"
    b"Upgrade: h2c",
    "upper case": b"CONNECTION: UPGRADE\r\nUPGRADE: H2C",
    "websocket": b"upgrade:websocket\r\nconnection: upgrade",
}
#: What stands in a body is not the head's.
BODY = b"a\r\nUpgrade: h2c\r\n\r\nb"


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_a_call_that_offers_another_protocol_keeps_its_body_and_its_connection(
    offer: bytes,
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n" % (offer, len(BODY))
    with served() as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as line:
            answers = line.makefile("rb")
            for _ in range(2):
                line.sendall(head + BODY)
                assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
                while answers.readline() != b"\r\n":
                    pass
                assert answers.read(len(BODY)) == BODY


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curls_offer_of_http2_is_answered_in_http1() -> None:
    with served() as url:
        argv = ["curl", "-sS", "--noproxy", "*", "--http2", "-d", "words", url]
        told = subprocess.run(argv, check=True, capture_output=True, timeout=20)
    assert told.stdout == b"words"


def test_only_the_name_of_a_header_is_an_offer() -> None:
    head = b"GET /upgrade HTTP/1.1\r\nX-Upgrade: 1\r\nUpgrade-Insecure-Requests: 1\r\n"
    assert without_upgrade(head) == head


PACKED = gzip.compress(b"hello")
#: A packed body, and what is answered: its words, or a status.
BODIES = {
    "whole": (PACKED, b"hello"),
    "nothing": (b"", b""),
    "nothing, packed": (gzip.compress(b""), b""),
    "as much as there may be": (gzip.compress(bytes(BODY_BYTES_MAX)), bytes(BODY_BYTES_MAX)),
    "a byte more": (gzip.compress(bytes(BODY_BYTES_MAX + 1)), 413),
    "a thousand times more": (gzip.compress(bytes(64 * BODY_BYTES_MAX), 1), 413),
    "plain after all": (b'{"a": 1}', 400),
    "without its end": (PACKED[:-1], 400),
    "with a wrong sum": (PACKED[:-8] + bytes(8), 400),
    "with something behind": (PACKED + b"x", 400),
    "two": (PACKED + PACKED, b"hellohello"),
    "two, the second without its end": (PACKED + PACKED[:-1], 400),
    "as many as there may be": (PACKED * MEMBERS_MAX, b"hello" * MEMBERS_MAX),
    "one more": (PACKED * (MEMBERS_MAX + 1), 413),
    "two, a byte more": (gzip.compress(bytes(BODY_BYTES_MAX)) + gzip.compress(b"x"), 413),
    "two, the bound and nothing": (
        gzip.compress(bytes(BODY_BYTES_MAX)) + gzip.compress(b""),
        bytes(BODY_BYTES_MAX),
    ),
    "another wrapping": (b"x\x9c" + PACKED[10:], 400),
}


@pytest.mark.parametrize(("body", "answer"), BODIES.values(), ids=BODIES)
def test_a_packed_body_is_unpacked_within_the_bound(body: bytes, answer: bytes | int) -> None:
    if isinstance(answer, bytes):
        assert unpacked(body) == answer
        return
    with pytest.raises(Refusal) as refused:
        unpacked(body)
    assert refused.value.status == answer
