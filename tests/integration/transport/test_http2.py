"""What a transport makes of every way an HTTP/2 server may answer, refuse, stop or fall silent."""

import asyncio
import collections
import threading
import time
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, GoAwayFrame, SettingsFrame

from tests.integration.transport.conftest import (
    both,
    patience_s,
    push,
    pushes,
    reasons,
    route,
    warm,
)
from tests.integration.transport.servers import H2Server, RawServer, by_connection
from tests.waiting import eventually
from workers.wire import NoAnswer

ONE_ATTEMPT = (
    "aioapns 4.0 hardened makes one attempt: streams above a GOAWAY's last id are reported "
    "unsent, not begun again"
)


# ---------------------------------------------------------------- many at once


@both()
def test_a_thousand_in_flight_are_answered_in_the_order_of_the_requests(serve, transport):
    held = []

    def behave(connection, seen):
        """Answers nobody until all are here, then the last first."""
        held.append(seen)
        if len(held) == 1000:
            for each in reversed(held):
                connection.reply(each.stream, 200, {"apns-id": each.id})

    server = serve(H2Server, behave, settings={3: 1000})
    requests = pushes(1000)
    warm(transport, route(server.base))
    answers = transport.send_many(route(server.base), requests, 60)
    assert [a.headers["apns-id"] for a in answers] == [r.headers["apns-id"] for r in requests]
    assert server.log.connections == 1
    assert all(0 < a.seconds < 60 for a in answers)


@both()
def test_method_path_headers_and_body_arrive_as_given_and_nothing_else(serve, transport):
    server = serve(H2Server)
    request = push(7, body=b'{"aps":{"alert":"\xe4\xbd\xa0"}}')
    transport.send_many(route(server.base), [request], 30)
    seen = server.log.seen[0]
    assert seen.body == request.body
    found = (seen.headers[":method"], seen.path, seen.headers[":scheme"])
    assert found == ("POST", request.path, "https")
    extra = {k for k in seen.headers if not k.startswith(":")} - set(request.headers)
    assert extra <= {"accept", "user-agent", "content-length"}
    assert {k: seen.headers[k] for k in request.headers} == request.headers


@both()
def test_many_callers_share_one_connection_and_get_their_own_answers(serve, transport):
    server = serve(H2Server)
    wrong: list[Any] = []

    def caller(first):
        for turn in range(5):
            requests = pushes(20, first + 100 * turn)
            answers = transport.send_many(route(server.base), requests, 30)
            pairs = zip(requests, answers, strict=True)
            wrong.extend(1 for r, a in pairs if a.headers.get("apns-id") != r.headers["apns-id"])

    threads = [threading.Thread(target=caller, args=(10_000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not wrong
    assert len(set(server.log.ids)) == len(server.log.ids) == 400
    assert server.log.connections == 1


# ---------------------------------------------------------------- what answers look like

BODIES = {
    "an empty error body": (410, b"", b""),
    "an empty 200": (200, b"", b""),
    "a byte": (400, b"x", b"x"),
    "a page that is no JSON": (502, b"<html>" * 50, b"<html>" * 50),
    "1 MiB": (200, b"a" * (1 << 20), b"a" * (1 << 20)),
    "1 MiB and a byte, cut": (200, b"a" * (1 << 20) + b"b", b"a" * (1 << 20)),
    "3 MiB, cut": (500, b"a" * (3 << 20), b"a" * (1 << 20)),
}


@both()
@pytest.mark.parametrize(("status", "body", "wanted"), BODIES.values(), ids=BODIES)
def test_any_body_is_an_answer(serve, transport, status, body, wanted):
    server = serve(
        H2Server,
        lambda connection, seen: connection.reply(seen.stream, status, {"apns-id": seen.id}, body),
    )
    answers = transport.send_many(route(server.base), pushes(3), 30)
    assert [(a.status, a.body == wanted) for a in answers] == [(status, True)] * 3


@both()
def test_hundreds_of_error_bodies_in_a_row_do_not_exhaust_a_window(serve, transport):
    """More than the 65,535 bytes that a connection begins with."""
    body = b'{"reason":"BadDeviceToken"}' * 10
    server = serve(
        H2Server,
        lambda connection, seen: connection.reply(seen.stream, 400, {"apns-id": seen.id}, body),
    )
    for turn in range(3):
        answers = transport.send_many(route(server.base), pushes(100, 1 + 100 * turn), 30)
        assert {(a.status, a.body) for a in answers} == {(400, body)}
    assert server.log.connections == 1
    assert len(server.log.seen) == 300


@both()
def test_a_redirect_is_an_answer_and_is_not_followed(serve, transport):
    server = serve(
        H2Server,
        lambda connection, seen: connection.reply(seen.stream, 302, {"location": "/elsewhere"}),
    )
    (answer,) = transport.send_many(route(server.base), [push(1)], 5)
    assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
    assert len(server.log.seen) == 1


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("transport", ["aioapns"], indirect=True)
def test_aioapns_waits_for_windows_given_back_a_handful_at_a_time(serve, transport):
    """A stream's window is 1,000 bytes; each frame's bytes are given back one frame later. Of our
    own transport: tests/unit/workers/transport/test_http2_connection.py.
    """

    async def script(connection):
        connection.gives_back = True
        connection.send(SettingsFrame(0, settings={4: 1000}))
        while True:
            seen = await connection.request()
            connection.head(seen.stream, 200, {"apns-id": seen.id})

    server = serve(RawServer, script)
    requests = [push(n, body=bytes([n]) * 3500) for n in range(1, 31)]
    assert reasons(transport.send_many(route(server.base), requests, 30)) == {200: 30}
    found = {s.id: s.body for s in server.log.seen}
    assert found == {r.headers["apns-id"]: r.body for r in requests}


@both()
def test_the_number_of_streams_may_fall_to_one_and_rise_again(serve, transport):
    def behave(connection, seen):
        """1000 streams, after 50 answers 1, after 60 answers 1000 again. A stream over what the
        client has agreed to ends the connection.
        """
        if connection.answered in (50, 60):
            streams = {50: 1, 60: 1000}[connection.answered]
            connection.settings(MAX_CONCURRENT_STREAMS=streams)
        connection.later(0.005, connection.reply, seen.stream, 200, {"apns-id": seen.id})

    server = serve(H2Server, behave, settings={3: 1000})
    for first, agreed in ((1, 2), (51, 4), (101, 4)):
        answers = transport.send_many(route(server.base, connections_max=1), pushes(50, first), 30)
        assert reasons(answers) == {200: 50}
        eventually(lambda agreed=agreed: server.agreed >= agreed)
    assert len(set(server.log.ids)) == len(server.log.ids) == 150
    assert server.log.connections == 1


@both(
    aioapns_fails="aioapns 4.0 opens as many streams as the SETTINGS it has read so far allow: 299 of 300 "  # noqa: E501
    "were refused"
)
def test_one_stream_until_the_first_answer_then_many_as_apns_does(serve, transport):
    def behave(connection, seen):
        """A second stream before the first answer is refused, whatever SETTINGS said."""
        if connection.answered == 0 and len(connection.open) > 1:
            refused.append(seen)
            connection.reset(seen.stream, ErrorCodes.REFUSED_STREAM)
        else:
            connection.later(0.2, connection.reply, seen.stream, 200, {"apns-id": seen.id})

    refused: list[Any] = []
    server = serve(H2Server, behave)
    begun = time.monotonic()
    answers = transport.send_many(route(server.base), pushes(300), 30)
    assert reasons(answers) == {200: 300}
    assert time.monotonic() - begun < 20  # one after the other would take a minute
    assert not refused
    assert server.log.connections == 1


def test_a_first_answer_that_never_comes_holds_the_others_up_for_a_moment_only(serve, either):
    held: list[Any] = []

    def behave(connection, seen):
        """Answers the first one only when all the others have their answers."""
        if seen.path.endswith("001"):
            held.append((connection, seen))
        else:
            connection.reply(seen.stream, 200, {"apns-id": seen.id})
        if len(server.log.seen) == 50:
            connection, seen = held.pop()
            connection.reply(seen.stream, 200, {"apns-id": seen.id})

    server = serve(H2Server, behave)
    answers = either.send_many(route(server.base), pushes(50), 30)
    assert reasons(answers) == {200: 50}
    assert max(answer.seconds for answer in answers[1:]) < 15
    assert [seen.path for seen in server.log.seen].index(push(1).path) == 0


def after_50_ms(connection, seen):
    connection.later(0.05, connection.reply, seen.stream, 200, {"apns-id": seen.id})


def test_connections_grow_only_when_streams_run_out_and_never_over_the_bound(serve, either):
    server = serve(H2Server, after_50_ms, settings={3: 10})
    found = reasons(either.send_many(route(server.base, connections_max=3), pushes(8), 30))
    assert found == {200: 8}
    assert server.log.connections == 1
    shown = reasons(either.send_many(route(server.base, connections_max=3), pushes(200), 30))
    assert shown == {200: 200}
    assert 1 < server.log.connections <= 3


def test_connections_grow_soon_after_the_loop_was_idle(serve, curl):
    server = serve(H2Server, after_50_ms, settings={3: 10})
    assert reasons(curl.send_many(route(server.base), pushes(8), 30)) == {200: 8}
    for _ in range(3):  # turns without work: the loop looks after its pools seldom from then on
        time.sleep(0.1)
        curl.renew("another pool")
    answers = curl.send_many(route(server.base, connections_max=3), pushes(200), 30)
    assert reasons(answers) == {200: 200}
    assert 1 < server.log.connections <= 3


@pytest.mark.parametrize("alpn", [["h2"], ["http/1.1"], []], ids=["h2", "HTTP/1.1", "no ALPN"])
def test_what_a_further_connection_agrees_on_is_listened_to_before_it_is_written_into(
    serve, curl, alpn
):
    """Requests of a pool that has a connection are deaf, which is cheaper: the one that opens a
    further connection is taken back first, and goes again with open ears.
    """
    server = serve(H2Server, after_50_ms, settings={3: 10})
    assert reasons(curl.send_many(route(server.base), pushes(8), 30)) == {200: 8}
    server.context.set_alpn_protocols(alpn)  # another server, behind the same name
    pool = next(one for one in curl._loop.pools.values() if one.heard)
    assert pool.listen_until == 0
    answers = curl.send_many(route(server.base, connections_max=3), pushes(200, 11), 30)
    assert server.log.connections > 1, "it tried"
    read = server.log.ids
    assert len(set(read)) == len(read), "none twice"
    if alpn == ["h2"]:
        assert reasons(answers) == {200: 200}
    else:
        assert {seen.connection for seen in server.log.seen} == {1}
        assert reasons(answers) == {200: len(read) - 8, ("refused", False): 208 - len(read)}


def test_connections_grow_where_each_turn_finds_all_streams_answered(serve, curl):
    server = serve(H2Server, after_50_ms, settings={3: 10})
    assert reasons(curl.send_many(route(server.base), pushes(8), 30)) == {200: 8}
    selector = curl._loop.selector
    select = selector.select

    def late(patience):
        time.sleep(0.12)  # a busy machine
        return select(patience)

    selector.select = late
    answers = curl.send_many(route(server.base, connections_max=3), pushes(200), 30)
    assert reasons(answers) == {200: 200}
    assert 1 < server.log.connections <= 3


def test_a_known_number_of_streams_opens_as_many_connections_as_are_needed(serve, either):
    held: list[Any] = []

    def behave(connection, seen):
        """Answers nobody until more are here than one connection has streams."""
        held.append((connection, seen))
        while len(server.log.seen) >= 150 and held:
            connection, seen = held.pop()
            connection.reply(seen.stream, 200, {"apns-id": seen.id})

    server = serve(H2Server, behave, settings={3: 100})
    assert reasons(
        either.send_many(route(server.base, connections_max=8, streams_max=100), pushes(300), 30)
    ) == {200: 300}
    assert 2 <= server.log.connections <= 4


# ---------------------------------------------------------------- GOAWAY


def goaway_after(count, last=None, then_close=False):
    """The first connection answers `count` requests and says GOAWAY; later ones answer all. last:
    the id it names.
    """

    def behave(connection, seen):
        if connection.number > 1 or connection.answered < count:
            connection.reply(seen.stream, 200, {"apns-id": seen.id})
        if (
            connection.number == 1
            and connection.answered == count
            and not getattr(connection, "gone", False)
        ):
            connection.gone = True
            connection.frame(
                GoAwayFrame(0, last_stream_id=seen.stream if last is None else last, error_code=0)
            )
            if then_close:
                # at once, a TCP reset could eat the GOAWAY
                connection.later(0.1, connection.transport.close)

    return behave


def accepted_once(server, count):
    """The first connection's requests above the GOAWAY were not processed: only answered ones
    count.
    """
    groups = by_connection(server.log)
    first = [seen.id for seen in groups[1]][:20]
    return sorted(
        [*first, *(seen.id for number, group in groups.items() if number > 1 for seen in group)]
    )


@both(aioapns_fails=ONE_ATTEMPT)
@pytest.mark.parametrize("then_close", [False, True], ids=["stays open", "closes soon"])
def test_a_graceful_goaway_loses_nothing_and_doubles_nothing(serve, transport, then_close):
    server = serve(H2Server, goaway_after(20, then_close=then_close))
    requests = pushes(40)
    warm(transport, route(server.base))
    answers = transport.send_many(route(server.base), requests, 30)
    assert reasons(answers) == {200: 40}
    assert accepted_once(server, 40) == sorted(r.headers["apns-id"] for r in requests)


@pytest.mark.parametrize("transport", ["aioapns"], indirect=True)
def test_aioapns_tells_what_a_goaway_left_unsent(serve, transport):
    server = serve(H2Server, goaway_after(20))
    warm(transport, route(server.base))
    answers = transport.send_many(route(server.base), pushes(40), 30)
    assert reasons(answers) == {200: 20, ("reset", False): 20}


@both(aioapns_fails=ONE_ATTEMPT)
def test_a_goaway_below_streams_in_flight_lets_those_under_it_finish(serve, transport):
    held = []

    def behave(connection, seen):
        """Reads 30, names the 10th as the last one it will do, answers those ten a moment later."""
        if connection.number > 1:
            connection.reply(seen.stream, 200, {"apns-id": seen.id, "by": "second"})
            return
        held.append(seen)
        if len(held) == 30:
            connection.frame(GoAwayFrame(0, last_stream_id=held[9].stream, error_code=0))
            for each in held[:10]:
                connection.later(
                    0.1, connection.reply, each.stream, 200, {"apns-id": each.id, "by": "first"}
                )

    server = serve(H2Server, behave)
    warm(transport, route(server.base))
    answers = transport.send_many(route(server.base), pushes(30), 30)
    assert reasons(answers) == {200: 30}
    assert collections.Counter(a.headers["by"] for a in answers) == {"first": 10, "second": 20}


@both()
def test_an_idle_connection_that_said_goaway_is_replaced(serve, transport):
    def behave(connection, seen):
        connection.reply(seen.stream, 200, {"apns-id": seen.id})
        if connection.number == 1:
            connection.frame(GoAwayFrame(0, last_stream_id=seen.stream, error_code=0))
            connection.later(0.05, connection.transport.close)

    server = serve(H2Server, behave)
    for number in (1, 2, 3):
        assert reasons(transport.send_many(route(server.base), [push(number)], 30)) == {200: 1}
        time.sleep(0.15)
    assert len(server.log.ids) == 3
    assert server.log.connections == 2


# ---------------------------------------------------------------- resets and losses


@both(
    aioapns_fails="aioapns 4.0 hardened makes one attempt: a refused stream is reported unsent, not begun "  # noqa: E501
    "again"
)
def test_a_refused_stream_is_begun_again(serve, transport):
    refused = set()

    def behave(connection, seen):
        if seen.id not in refused and seen.stream % 4 == 1:
            refused.add(seen.id)
            server.log.seen.remove(seen)  # not processed
            connection.reset(seen.stream, ErrorCodes.REFUSED_STREAM)
        else:
            connection.reply(seen.stream, 200, {"apns-id": seen.id})

    server = serve(H2Server, behave)
    answers = transport.send_many(route(server.base), pushes(20), 30)
    assert refused
    assert reasons(answers) == {200: 20}
    assert len(set(server.log.ids)) == len(server.log.ids) == 20


@both()
def test_a_stream_refused_every_time_is_reported_unsent(serve, transport):
    server = serve(
        H2Server, lambda connection, seen: connection.reset(seen.stream, ErrorCodes.REFUSED_STREAM)
    )
    answers = transport.send_many(route(server.base), pushes(5), 30)
    assert reasons(answers) == {("reset", False): 5}
    assert len(server.log.ids) <= 5 * 6
    assert server.log.connections <= 5 * 6


@both()
@pytest.mark.parametrize(
    "code",
    [
        ErrorCodes.INTERNAL_ERROR,
        ErrorCodes.CANCEL,
        ErrorCodes.PROTOCOL_ERROR,
        ErrorCodes.ENHANCE_YOUR_CALM,
    ],
)
def test_any_other_reset_may_have_been_read_and_is_never_sent_twice(serve, transport, code):
    def behave(connection, seen):
        if seen.path.endswith("3"):
            connection.reset(seen.stream, code)
        else:
            connection.reply(seen.stream, 200, {"apns-id": seen.id})

    server = serve(H2Server, behave)
    answers = transport.send_many(route(server.base), pushes(9), 30)
    assert reasons(answers) == {200: 8, ("reset", True): 1}
    assert isinstance(answers[2], NoAnswer)
    assert len(set(server.log.ids)) == len(server.log.ids) == 9
    assert server.log.connections == 1


LOSSES = {
    "reset of the connection": lambda connection: connection.transport.abort(),
    "end of the connection": lambda connection: connection.transport.close(),
    "a frame that makes no sense": lambda connection: connection.transport.write(
        b"\x00\x00\x05\x06\x00\x00\x00\x00\x00hello"
    ),
    "bytes that are no frame": lambda connection: connection.transport.write(
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 800
    ),
    "a GOAWAY that names all, then the end": lambda connection: (
        connection.frame(GoAwayFrame(0, last_stream_id=2**31 - 1, error_code=2)),
        connection.transport.close(),
    ),
}


@both()
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_a_connection_lost_with_requests_in_flight_never_sends_them_twice(serve, transport, lose):
    """libcurl by itself replays POSTs of a used connection that dies before the first byte of an
    answer.
    """

    def behave(connection, seen):
        if connection.number > 1:
            connection.reply(seen.stream, 200, {"apns-id": seen.id})
        elif len(server.log.seen) == 30:
            lose(connection)

    server = serve(H2Server, behave)
    warm(transport, route(server.base))
    answers = transport.send_many(route(server.base), pushes(30), 4)
    assert set(reasons(answers)) <= {("reset", True), ("timeout", True)}
    assert len(server.log.ids) == 30
    assert reasons(transport.send_many(route(server.base), [push(2000)], 30)) == {200: 1}


@both()
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_a_connection_lost_at_its_first_request_is_not_tried_with_that_one_again(
    serve, transport, lose
):
    server = serve(H2Server, lambda connection, seen: lose(connection))
    found = set(reasons(transport.send_many(route(server.base), [push(1)], 4)))
    assert found <= {("reset", True), ("timeout", True)}
    assert len(server.log.ids) == 1


# ---------------------------------------------------------------- silence


@both()
def test_silence_is_a_timeout_at_the_deadline_and_nobody_else_waits(serve, transport):
    server = serve(
        H2Server,
        lambda c, seen: (
            None if seen.path.endswith("5") else c.reply(seen.stream, 200, {"apns-id": seen.id})
        ),
    )
    done: dict[str, Any] = {}

    def other():
        done["answers"] = transport.send_many(route(server.base), pushes(4, 160), 30)
        done["at"] = time.monotonic()

    warm(transport, route(server.base))
    thread = threading.Timer(0.1, other)
    thread.start()
    answers, ended = transport.send_many(route(server.base), pushes(9), 4), time.monotonic()
    thread.join()
    assert reasons(answers) == {200: 8, ("timeout", True): 1}
    assert 3.9 < answers[4].seconds < 20
    assert reasons(done["answers"]) == {200: 4}
    assert done["at"] < ended
    assert len(set(server.log.ids)) == len(server.log.ids)


@both()
def test_a_server_that_never_finishes_its_body_is_a_timeout(serve, transport):
    async def script(connection):
        connection.send(SettingsFrame(0))
        seen = await connection.request()
        connection.head(seen.stream, 200, end=False)
        while True:
            connection.send(DataFrame(seen.stream, b"."))
            await asyncio.sleep(0.05)

    server = serve(RawServer, script)
    begun = time.monotonic()
    found = reasons(transport.send_many(route(server.base), [push(1)], 3))
    assert found == {("timeout", True): 1}
    assert time.monotonic() - begun < 12


@both()
def test_a_connection_nothing_came_from_is_left_after_a_timeout(serve, transport):
    """Half-open in effect: it takes everything and says nothing. The next request must not meet it
    again.
    """
    server = serve(
        H2Server,
        lambda c, seen: None if c.number == 2 else c.reply(seen.stream, 200, {"apns-id": seen.id}),
    )
    deadline_s = patience_s(transport, server.base, 2.0)
    found = set(reasons(transport.send_many(route(server.base), pushes(5), deadline_s)))
    assert found == {("timeout", True)}
    assert reasons(transport.send_many(route(server.base), pushes(5, 11), 30)) == {200: 5}
    assert server.log.connections == 3


@both()
def test_requests_that_never_got_a_stream_are_timeouts_that_were_not_sent(serve, transport):
    server = serve(H2Server, lambda connection, seen: None, settings={3: 2})
    warm(transport, route(server.base, connections_max=1))  # the limit is known from here on
    answers = transport.send_many(route(server.base, connections_max=1), pushes(10), 0.5)
    counts = reasons(answers)
    assert set(counts) == {("timeout", True), ("timeout", False)}
    # a stream that a timeout frees may still go to the next in line
    assert counts["timeout", False] >= 5
    told = {r.headers["apns-id"] for r, a in zip(pushes(10), answers, strict=True) if a.sent}
    assert set(server.log.ids) <= told
