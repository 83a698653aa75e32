"""HTTP/1.1: keep-alive, servers that close, reset or dribble, and the bounds of connections.
libcurl only: aioapns speaks HTTP/2.
"""

import contextlib
import itertools
import os
import socket
import time
from pathlib import Path

import pytest

from tests.integration.transport.conftest import push, pushes, reasons, route
from tests.integration.transport.servers import H1Server, h1_answer
from workers.wire import HttpResponse, Request


def where(server, **named):
    return route(server.base, http2=False, **named)


@pytest.fixture(params=["TLS", "loopback without TLS"])
def h1(request, serve):
    """h1(behave) -> a started HTTP/1.1 server."""
    return lambda behave=None: serve(
        H1Server, behave, plain=request.param != "TLS", alpn=("http/1.1",)
    )


def test_requests_arrive_as_given_and_answers_come_in_order(h1, curl):
    server = h1()
    requests = pushes(60)
    answers = curl.send_many(where(server, connections_max=4), requests, 30)
    assert [a.headers["apns-id"] for a in answers] == [r.headers["apns-id"] for r in requests]
    assert server.log.connections <= 4
    seen = {s.id: s for s in server.log.seen}
    for request in requests:
        one = seen[request.headers["apns-id"]]
        assert (one.path, one.body) == (request.path, request.body)
        extra = {k for k in one.headers if not k.startswith(":")} - set(request.headers)
        assert extra <= {"host", "accept", "user-agent", "content-length"}


def test_connections_are_kept_from_batch_to_batch(h1, curl):
    server = h1()
    for first in (1, 11, 21):
        found = reasons(curl.send_many(where(server, connections_max=1), pushes(10, first), 30))
        assert found == {200: 10}
    assert server.log.connections == 1


def descriptors() -> dict[int, str]:
    """Number -> what it is, of this process."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(link.name)] = str(link.readlink())
    return found


def test_what_waits_in_libcurls_resolver_is_not_the_end_of_a_connection(h1, curl):
    server = h1()
    before = descriptors()
    assert reasons(curl.send_many(where(server, connections_max=1), pushes(3), 30)) == {200: 3}
    news = [fd for fd, kind in descriptors().items() if "eventfd" in kind and fd not in before]
    for turn in range(1, 6):
        for fd in news:  # an answer of the resolver's thread that nobody has fetched yet
            with contextlib.suppress(OSError):
                os.eventfd_write(fd, 1)
        found = reasons(curl.send_many(where(server, connections_max=1), pushes(2, turn * 10), 30))
        assert found == {200: 2}
    assert server.log.connections == 1


def test_a_descriptor_that_is_another_file_now_is_not_the_end_of_a_connection(h1, curl):
    ended = itertools.chain([True], itertools.repeat(False))
    server = h1(lambda seen, number: h1_answer(200) + (H1Server.CLOSE if next(ended) else b""))
    for turn in (1, 2, 3):  # libcurl closes what the server has ended once a second
        assert reasons(curl.send_many(where(server), [push(turn)], 30)) == {200: 1}
        time.sleep(1.1)
    opened = server.log.connections
    with contextlib.ExitStack() as files:  # the lowest free numbers, all with unread bytes
        for _ in range(40):
            for end in (pair := socket.socketpair()):
                files.enter_context(end)
            pair[0].send(b"x")
            pair[1].send(b"x")
        for turn in range(4, 9):
            assert reasons(curl.send_many(where(server), [push(turn)], 30)) == {200: 1}
    assert server.log.connections == opened


def test_a_server_that_closes_after_every_answer_loses_and_doubles_nothing(h1, curl):
    server = h1(
        lambda seen, number: (
            h1_answer(200, {"apns-id": seen.id, "connection": "close"}) + H1Server.CLOSE
        )
    )
    assert reasons(curl.send_many(where(server, connections_max=4), pushes(40), 30)) == {200: 40}
    assert len(set(server.log.ids)) == len(server.log.ids) == server.log.connections == 40


def test_a_server_that_closes_unannounced_after_every_answer_doubles_nothing(h1, curl):
    """A request written into a connection that ends just then may have been read: never again by
    itself.
    """
    server = h1(lambda seen, number: h1_answer(200, {"apns-id": seen.id}) + H1Server.CLOSE)
    answers = curl.send_many(where(server, connections_max=2), pushes(40), 30)
    counts = reasons(answers)
    assert set(counts) <= {200, ("reset", True)}
    assert len(set(server.log.ids)) == len(server.log.ids)
    pairs = zip(pushes(40), answers, strict=True)
    told = {r.headers["apns-id"] for r, a in pairs if isinstance(a, HttpResponse)}
    assert told <= set(server.log.ids)


ENDS = {
    "read, then closed": lambda seen, number: H1Server.CLOSE,
    "read, then reset": lambda seen, number: H1Server.RESET,
    "half a head": lambda seen, number: b"HTTP/1.1 200 OK\r\ncontent-le" + H1Server.CLOSE,
    "half a body": lambda seen, number: (
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf" + H1Server.CLOSE
    ),
    "no HTTP at all": lambda seen, number: b"220 mail.example.com ESMTP\r\n" + H1Server.CLOSE,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("used", [False, True], ids=["new connection", "used connection"])
def test_a_request_that_was_read_and_not_answered_is_a_reset_and_sent_once(h1, curl, end, used):
    server = h1(lambda seen, number: h1_answer(200) if used and number == 1 else end(seen, number))
    if used:
        assert reasons(curl.send_many(where(server, connections_max=1), [push(100)], 30)) == {
            200: 1
        }
    (answer,) = curl.send_many(where(server, connections_max=1), [push(1)], 30)
    assert (answer.reason, answer.sent) == ("reset", True)
    assert server.log.ids.count(push(1).headers["apns-id"]) == 1


def test_a_connection_the_server_closed_while_idle_is_replaced(h1, curl):
    server = h1(lambda seen, number: h1_answer(200) + H1Server.CLOSE)
    for number in range(1, 6):
        assert reasons(curl.send_many(where(server), [push(number)], 30)) == {200: 1}
        time.sleep(0.1)
    assert len(server.log.ids) == 5


def test_silence_is_a_timeout_and_the_others_go_on(h1, curl):
    server = h1(lambda seen, number: None if seen.path.endswith("5") else h1_answer(200))
    begun = time.monotonic()
    answers = curl.send_many(where(server, connections_max=3), pushes(9), 4)
    assert reasons(answers) == {200: 8, ("timeout", True): 1}
    assert time.monotonic() - begun < 20


def test_what_never_got_a_connection_was_not_sent(h1, curl):
    server = h1(lambda seen, number: None)
    answers = curl.send_many(where(server, connections_max=2), pushes(6), 4)
    assert reasons(answers) == {("timeout", True): 2, ("timeout", False): 4}
    assert len(server.log.ids) == 2


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n "
    b"world\r\n0\r\nx-trailer: no\r\n\r\n"
)
BODIES = {
    "chunked, with a trailer": (CHUNKED, 200, b"hello world"),
    "interim, then final": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + h1_answer(200, {}, b"final"),
        200,
        b"final",
    ),
    "empty 400": (h1_answer(400), 400, b""),
    "2 MiB, cut": (h1_answer(200, {}, b"z" * (2 << 20)), 200, b"z" * (1 << 20)),
    "until the end of the connection": (
        b"HTTP/1.1 200 OK\r\n\r\nuntil" + H1Server.CLOSE,
        200,
        b"until",
    ),
    "lines that end in LF only": (b"HTTP/1.1 200 OK\nX-A: 1\ncontent-length: 2\n\nok", 200, b"ok"),
    "302": (h1_answer(302, {"location": "https://example.com/"}), 302, b""),
    "gzip nobody asked for": (
        h1_answer(200, {"content-encoding": "gzip"}, b"\x1f\x8braw"),
        200,
        b"\x1f\x8braw",
    ),
}


@pytest.mark.parametrize(("raw", "status", "body"), BODIES.values(), ids=BODIES)
def test_any_body_is_an_answer(h1, curl, raw, status, body):
    server = h1(lambda seen, number: raw)
    (answer,) = curl.send_many(where(server), [push(1)], 30)
    assert (answer.status, answer.body == body) == (status, True)
    assert "x-trailer" not in answer.headers


def test_other_methods_are_sent_as_such_and_the_next_post_is_a_post(h1, curl):
    server = h1()
    headers = {"content-type": "application/json"}
    asked = [
        Request("APNS_PRODUCTION", "/v1/topics?cursor=2", {}, b"", method="GET"),
        Request("APNS_PRODUCTION", "/v1/topics/1", headers, b"{}", method="DELETE"),
        Request("APNS_PRODUCTION", "/v1/topics/2", {}, b"", method="DELETE"),
        push(1),
        push(2, body=b""),
    ]
    for request in asked:
        assert reasons(curl.send_many(where(server, connections_max=1), [request], 30)) == {200: 1}
    found = [(s.headers[":method"], s.path, s.body) for s in server.log.seen]
    assert found == [(r.method, r.path, r.body) for r in asked]


def test_a_large_body_is_sent_without_waiting_to_be_asked(h1, curl):
    """`Expect: 100-continue` would cost a second against servers that don't know it."""
    server = h1()
    assert reasons(curl.send_many(where(server), [push(1, body=b"q" * (3 << 20))], 30)) == {200: 1}
    assert "expect" not in server.log.seen[0].headers
    assert len(server.log.seen[0].body) == 3 << 20


def test_cookies_are_neither_kept_nor_sent(h1, curl):
    server = h1(lambda seen, number: h1_answer(200, {"set-cookie": "a=b"}))
    for number in (1, 2):
        curl.send_many(where(server), [push(number)], 5)
    assert all("cookie" not in seen.headers for seen in server.log.seen)


def test_repeated_headers_are_joined_and_empty_ones_kept(h1, curl):
    server = h1(
        lambda seen, number: (
            b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nX-Empty:\r\ncontent-length: 0\r\n\r\n"
        )
    )
    (answer,) = curl.send_many(where(server), [push(1, headers={"x-empty-too": ""})], 30)
    assert answer.headers["x-a"] == "1, 2"
    assert answer.headers["x-empty"] == ""
    assert server.log.seen[0].headers["x-empty-too"] == ""


def test_proxies_of_the_environment_are_not_asked(h1, curl, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server = h1()
    assert reasons(curl.send_many(where(server), [push(1)], 30)) == {200: 1}
