"""The transports against a strict HTTP/2 server that none of us wrote: node's http2."""

import json

import pytest

from tests.integration.transport.conftest import NODE, both, push, pushes, route, warm
from workers.transport.curl import CurlTransport
from workers.wire import HttpResponse, NoAnswer, Request

pytestmark = NODE


@pytest.fixture
def node(by_node):
    """node(streams, goaway_after) -> base URL of a started server."""
    return lambda streams, goaway_after=0: by_node("node_server.mjs", streams, goaway_after)


def stats(ca, base):
    transport = CurlTransport(ca)
    (answer,) = transport.send_many(
        route(base, pool="stats"), [Request("APNS_PRODUCTION", "/_stats", {}, b"", method="GET")], 5
    )
    transport.close()
    assert isinstance(answer, HttpResponse)
    return json.loads(answer.body)


@both()
def test_hundreds_of_pushes_of_full_size_are_each_answered_once(node, transport, ca):
    base = node(1000)
    warm(transport, route(base))
    requests = [push(n, body=b"p" * 4096) for n in range(1, 301)]
    answers = transport.send_many(route(base), requests, 20)
    assert [a.headers["apns-id"] for a in answers] == [r.headers["apns-id"] for r in requests]
    assert {a.headers["x-length"] for a in answers} == {"4096"}
    assert [a.status for a in answers] == [400 if n % 16 == 15 else 200 for n in range(1, 301)]
    told = stats(ca, base)
    assert len(told["seen"]) == len(set(told["seen"])) == 301
    assert told["sessions"] == 2  # ours, and the one that asks


@both()
def test_few_streams_are_respected_and_what_was_refused_is_told_unsent(node, transport, ca):
    """A second connection may be written to before its SETTINGS are read: node refuses what is over
    the limit.
    """
    base = node(3)
    warm(transport, route(base, connections_max=2))
    requests = pushes(100)
    answers = transport.send_many(route(base, connections_max=2), requests, 15)
    assert {a.sent for a in answers if isinstance(a, NoAnswer)} <= {False}
    pairs = zip(requests, answers, strict=True)
    answered = [r.headers["apns-id"] for r, a in pairs if not isinstance(a, NoAnswer)]
    seen = [i for i in stats(ca, base)["seen"] if i != push(0).headers["apns-id"]]
    assert sorted(seen) == sorted(answered)
    assert len(answered) > 50


def test_a_single_connection_with_few_streams_answers_all(node, either):
    base = node(3)
    answers = either.send_many(route(base, connections_max=1), pushes(100), 15)
    assert not [a for a in answers if isinstance(a, NoAnswer)]


def test_a_server_that_says_goaway_every_fifty_answers_loses_and_doubles_nothing(node, either, ca):
    base = node(1000, goaway_after=50)
    answers = [
        a
        for turn in range(4)
        for a in either.send_many(route(base), pushes(100, 1 + 100 * turn), 10)
    ]
    seen = stats(ca, base)["seen"]
    assert len(seen) == len(set(seen))
    assert not [a for a in answers if isinstance(a, NoAnswer)]
    assert len(seen) == 400
