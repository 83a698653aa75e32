"""What only our own HTTP/2 transport has: no thread of its own, many lanes at once, a keeper, and
libcurl behind it.
"""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame, SettingsFrame

from tests.integration.transport.conftest import Engine, at_work, push, pushes, reasons, route, warm
from tests.integration.transport.servers import H1Server, H2Server, RawServer, by_connection
from tests.waiting import eventually
from workers.cli.up import free_ports
from workers.transport import dialer, http2
from workers.transport import engine as engine_module
from workers.transport.http2 import Http2Connection


@pytest.fixture
def engine(ca):
    made = Engine(ca)
    yield made
    made.close()


def send_rounds(engine, rounds, deadline_s):
    """A list of answers a round."""
    flight = engine.begin(rounds, deadline_s)
    flight.wait()
    return [flight.answers(number) for number in range(len(rounds))]


# ---------------------------------------------------------------- many lanes


def test_one_thread_drives_the_requests_of_many_lanes_at_once(serve, engine):
    server = serve(
        H2Server, lambda c, seen: c.later(1.0, c.reply, seen.stream, 200, {"apns-id": seen.id})
    )
    rounds = [(route(server.base, pool=f"lane-{n}"), pushes(5, 1 + 5 * n)) for n in range(40)]
    send_rounds(engine, [(where, part[:1]) for where, part in rounds], 30)  # opens them
    begun = time.monotonic()
    answers = send_rounds(engine, rounds, 30)
    assert time.monotonic() - begun < 20  # one after the other would take twice as long
    found = [[a.headers["apns-id"] for a in part] for part in answers]
    assert found == [[r.headers["apns-id"] for r in part] for _, part in rounds]
    assert server.log.connections == 40


def test_a_silent_lane_holds_up_no_round_but_its_own(serve, engine):
    quick = serve(H2Server)
    silent = serve(H2Server, lambda connection, seen: None)
    lanes = [
        route(quick.base, pool="a"),
        route(silent.base, pool="b"),
        route(f"https://localhost:{free_ports(1)}", pool="c"),
    ]
    flight = engine.begin([(where, pushes(3)) for where in lanes], 4)
    eventually(lambda: flight.wait(0.05) or (flight.done(0) and flight.done(2)))
    assert [flight.done(number) for number in range(3)] == [True, False, True]
    found = [reasons(flight.answers(number)) for number in (0, 2)]
    assert found == [{200: 3}, {("refused", False): 3}]
    assert reasons(engine.send_many(lanes[0], pushes(3, 10), 30)) == {200: 3}
    assert flight.wait()
    assert set(reasons(flight.answers(1))) <= {("timeout", True), ("timeout", False)}


def test_rounds_may_be_empty_and_of_several_endpoints(serve, engine):
    server = serve(H2Server)
    where = route(server.base)
    both = type(where)(
        "p",
        {"APNS_PRODUCTION": server.base, "OTHER": server.base.replace("localhost", "127.0.0.1")},
        True,
    )
    mixed = [push(1), push(2, endpoint="OTHER"), push(3)]
    answers = send_rounds(engine, [(where, []), (both, mixed), (where, [])], 5)
    assert [len(part) for part in answers] == [0, 3, 0]
    assert [a.headers["apns-id"] for a in answers[1]] == [r.headers["apns-id"] for r in mixed]


def test_callers_that_come_and_go_hand_the_lead_over(serve, engine):
    """Whoever drives leaves when its own answers are there; nobody else may wait for a driver that
    has left.
    """
    server = serve(
        H2Server,
        lambda c, seen: c.later(
            0.02 * (seen.stream % 7), c.reply, seen.stream, 200, {"apns-id": seen.id}
        ),
    )
    warm(engine, route(server.base))
    wrong: list[Any] = []

    def caller(first):
        for turn in range(8):
            requests = pushes(1 + (first + turn) % 5, 1000 * first + 10 * turn + 1)
            answers = engine.send_many(route(server.base), requests, 30)
            pairs = zip(requests, answers, strict=True)
            wrong.extend(1 for r, a in pairs if a.headers.get("apns-id") != r.headers["apns-id"])

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(1, 13)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert time.monotonic() - begun < 25
    assert server.log.connections == 1


# ---------------------------------------------------------------- peers


def test_a_peer_that_does_not_read_gets_nothing_after_the_deadline(serve, engine):
    """What the kernel did not take was not sent: it is told so, and must not go when the peer reads
    again.
    """

    async def script(connection):
        connection.send(SettingsFrame(0, settings={4: (1 << 30)}))
        connection.give(0, 1 << 30)
        await connection.request()
        connection.head(1, 200)
        connection.transport.pause_reading()
        await asyncio.sleep(5)
        connection.transport.resume_reading()
        while True:
            await connection.request()

    server = serve(RawServer, script)
    where = route(server.base, connections_max=1, streams_max=1000)
    assert reasons(engine.send_many(where, [push(0)], 30)) == {200: 1}
    # 24 MB: more than the kernel holds
    requests = [push(n, body=b"x" * 60_000) for n in range(1, 401)]
    answers = engine.send_many(where, requests, 4)
    counts = reasons(answers)
    assert set(counts) == {("timeout", True), ("timeout", False)}
    time.sleep(2.0)
    told = {r.headers["apns-id"] for r, a in zip(requests, answers, strict=True) if a.sent}
    assert {seen.id for seen in server.log.seen} - {push(0).headers["apns-id"]} <= told


def test_an_idle_connection_is_kept_alive_by_the_keeper(serve, ca, monkeypatch):
    monkeypatch.setattr(engine_module, "KEEPER_S", 0.1)
    acknowledged = threading.Event()

    async def script(connection):
        connection.send(SettingsFrame(0))
        seen = await connection.request()
        connection.head(seen.stream, 200)
        await asyncio.sleep(0.2)
        connection.send(PingFrame(0, b"12345678"))
        while True:
            frame = await connection.frame()
            if (
                isinstance(frame, PingFrame)
                and "ACK" in frame.flags
                and frame.opaque_data == b"12345678"
            ):
                acknowledged.set()
                connection.send(GoAwayFrame(0, last_stream_id=1, error_code=0))

    engine = Engine(ca)
    server = serve(RawServer, script)
    assert reasons(engine.send_many(route(server.base), [push(1)], 30)) == {200: 1}
    assert acknowledged.wait(30)
    # a connection that said GOAWAY is closed though nobody sends
    eventually(lambda: not server.live)
    engine.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("transport-keeper")
    ]


def test_a_slow_drip_of_an_answer_is_read_to_its_end(serve, engine):
    async def script(connection):
        connection.send(SettingsFrame(0))
        seen = await connection.request()
        connection.head(seen.stream, 200, {"apns-id": seen.id}, end=False)
        data = DataFrame(seen.stream, b"slowly", flags=["END_STREAM"]).serialize()
        for at in range(len(data)):
            connection.transport.write(data[at : at + 1])
            await asyncio.sleep(0.02)

    server = serve(RawServer, script)
    (answer,) = engine.send_many(route(server.base), [push(1)], 5)
    assert (answer.status, answer.body) == (200, b"slowly")


def test_connections_follow_each_other_when_stream_ids_run_out(serve, engine, monkeypatch):
    monkeypatch.setattr(http2, "STREAM_ID_MAX", 41)
    server = serve(H2Server)
    for first in (1, 101):
        assert reasons(engine.send_many(route(server.base), pushes(50, first), 30)) == {200: 50}
    groups = by_connection(server.log)
    assert max(seen.stream for seen in server.log.seen) <= 41
    assert len(groups) >= 5
    assert len(set(server.log.ids)) == len(server.log.ids) == 100


def test_the_provider_token_changes_on_a_connection_that_lives_on(serve, engine):
    server = serve(H2Server)
    for turn in range(40):
        requests = [
            push(n, headers={**push(n).headers, "authorization": f"bearer {turn}." + "t" * 200})
            for n in range(3)
        ]
        assert reasons(engine.send_many(route(server.base), requests, 30)) == {200: 3}
    found = [seen.headers["authorization"].split(".")[0] for seen in server.log.seen[::3]]
    assert found == [f"bearer {turn}" for turn in range(40)]
    assert server.log.connections == 1


def test_a_garbage_server_costs_no_memory(serve, engine):
    """It speaks TLS and h2 by name, and then sends what it likes."""
    for junk in (
        b"\0" * 1_000_000,
        b"\xff" * 1_000_000,
        b"\x00\x40\x00\x01\x00\x00\x00\x00\x01" * 50_000,
    ):
        server = serve(
            H2Server, greet=lambda connection, junk=junk: connection.transport.write(junk)
        )
        answers = engine.send_many(route(server.base, pool=str(junk[:9])), pushes(3), 2)
        assert {a.reason for a in answers} <= {"reset", "timeout", "refused"}
    driver = engine._driver
    assert all(
        len(line.h2._rest) <= 16_400 for pool in driver.pools.values() for line in pool.lines
    )


# ---------------------------------------------------------------- names and addresses


@pytest.fixture
def hanging():
    """The address of a listener whose backlog is full: it answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()
        for filler in fillers:
            filler.close()


def test_an_address_that_hangs_is_passed_by(serve, ca, monkeypatch, hanging):
    """IPv6 that leads nowhere is the usual case."""
    engine = Engine(ca, connect_timeout_s=60)
    server = serve(H2Server)
    addresses = [
        (socket.AF_INET, hanging),
        (socket.AF_INET, ("127.0.0.1", 9)),
        (socket.AF_INET, ("127.0.0.1", server.port)),
    ]
    monkeypatch.setattr(dialer, "look_up", lambda host, port, flags=0: list(addresses))
    begun = time.monotonic()
    assert reasons(engine.send_many(route(server.base), pushes(3), 30)) == {200: 3}
    assert time.monotonic() - begun < 20, "before its connect is given up"
    engine.close()


def test_a_name_server_that_is_slow_holds_up_nobody_else(serve, engine, monkeypatch):
    usual, asked, over = dialer.look_up, [], threading.Event()

    def slow(host, port, flags=0):
        if host == "slow.invalid" and not flags:
            asked.append(host)
            over.wait(60)
        return usual(host, port, flags)

    monkeypatch.setattr(dialer, "look_up", slow)
    server = serve(H2Server)
    lanes = [route("https://slow.invalid:1", pool=f"slow-{n}") for n in range(20)]
    flight = engine.begin([(where, pushes(1)) for where in lanes], 0.8)
    begun = time.monotonic()
    assert reasons(engine.send_many(route(server.base), pushes(3), 30)) == {200: 3}
    assert flight.wait()
    found = {(a.reason, a.sent) for number in range(20) for a in flight.answers(number)}
    assert found == {("timeout", False)}
    assert time.monotonic() - begun < 20
    over.set()
    assert len(asked) == 1, "those who ask for one name share its look-up"


# ---------------------------------------------------------------- libcurl behind it


def test_http1_and_plain_loopback_go_through_libcurl(serve, engine):
    tls, plain = serve(H1Server, alpn=("http/1.1",)), serve(H1Server, plain=True)
    assert reasons(engine.send_many(route(tls.base, http2=False), pushes(3), 30)) == {200: 3}
    assert reasons(engine.send_many(route(plain.base), pushes(3), 30)) == {200: 3}
    assert engine._driver is None


def test_a_connection_that_breaks_our_code_is_closed_and_its_lane_goes_through_libcurl(
    serve, engine, monkeypatch, caplog
):
    server = serve(H2Server)
    warm(engine, route(server.base))
    usual = Http2Connection.receive

    def broken(self, data, now):
        if b"\x88" in data:
            raise IndexError("a secret of the peer's")
        return usual(self, data, now)

    monkeypatch.setattr(Http2Connection, "receive", broken)
    assert reasons(engine.send_many(route(server.base), pushes(3), 30)) == {("reset", True): 3}
    assert "libcurl now" in caplog.text
    assert "secret" not in caplog.text
    assert reasons(engine.send_many(route(server.base), pushes(3, 11), 30)) == {200: 3}
    assert not engine.handles(route(server.base), [push(1)])
    assert engine.handles(route(server.base, pool="another"), [push(1)])
    assert len(set(server.log.ids)) == len(server.log.ids) == 6


def test_a_driver_that_breaks_answers_its_callers_and_is_replaced(serve, engine, caplog):
    server = serve(H2Server, lambda connection, seen: None)
    warm(engine, route(server.base))
    with at_work(engine, route(server.base)) as answers:
        engine._inbox.append(7)
        engine._driver.wake()
    assert reasons(answers) == {("reset", True): 5}
    assert "transport failed" in caplog.text
    server.behave = lambda connection, seen: connection.reply(seen.stream, 200)
    assert reasons(engine.send_many(route(server.base), pushes(5, 11), 30)) == {200: 5}


def test_a_certificate_that_ssl_does_not_take_goes_through_libcurl(serve, engine, caplog):
    from workers.wire import ClientIdentity

    server = serve(H2Server)
    where = route(server.base, identity=ClientIdentity(b"no certificate", b"no key"))
    assert not engine.handles(where, [push(1)])
    assert {a.sent for a in engine.send_many(where, pushes(2), 3)} == {False}
    assert "goes through libcurl" in caplog.text
