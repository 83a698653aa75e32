"""What a caller was told is unsent is never written afterwards, however late the transport's own
thread comes: a process may stand still between any two instructions.
"""

import threading
import time

from tests.integration.transport.conftest import Engine, pushes, route, warm
from tests.integration.transport.servers import H2Server, echo
from workers.transport.aioapns import AioapnsTransport
from workers.transport.curl import CurlTransport
from workers.transport.easy import EasyMaker
from workers.wire import HttpResponse


def outcomes(answers):
    return [
        answer.status if isinstance(answer, HttpResponse) else (answer.reason, answer.sent)
        for answer in answers
    ]


UNSENT = [("timeout", False)]


class SlowMaker(EasyMaker):
    def __call__(self, pool):
        time.sleep(1.0)
        return super().__call__(pool)


def test_curl_makes_a_handle_too_late_for_the_one_who_waits(serve, ca):
    """The time left was looked at before the pause, so libcurl counts it from after it."""
    server = serve(H2Server, echo)
    transport = CurlTransport(ca)
    transport._make = SlowMaker(ca, 5.0)
    told = transport.send_many(route(server.base), pushes(1), 0.3)
    assert outcomes(told) == UNSENT
    time.sleep(1.5)
    assert server.log.seen == []
    transport.close()


def test_the_engine_reads_what_came_in_time_and_begins_nothing_after_it(serve, ca, monkeypatch):
    """One stream at a time; the caller, who drives, stands still until the deadline is over."""
    server = serve(
        H2Server,
        lambda c, seen: c.later(0.5, c.reply, seen.stream, 200, {"apns-id": seen.id}),
        settings={3: 1},
    )
    monkeypatch.setattr("workers.transport.engine.KEEPER_S", 60.0)  # it would drive instead
    engine = Engine(ca)
    where = route(server.base, connections_max=1)
    warm(engine, where)
    flight = engine.begin([(where, pushes(3))], 5.0)
    while not server.log.seen:
        flight.wait(0.05)
    time.sleep(5.2)
    flight.wait()
    assert outcomes(flight.answers(0)) == [200, *UNSENT, *UNSENT]
    time.sleep(0.3)
    assert len(server.log.seen) == 1
    engine.close()


def test_who_waits_for_another_to_drive_gets_what_came_in_time(serve, ca, monkeypatch):
    """Both have stood still until their deadlines were over; the one who drives reads first."""
    server = serve(
        H2Server, lambda c, seen: c.later(0.5, c.reply, seen.stream, 200, {"apns-id": seen.id})
    )
    monkeypatch.setattr("workers.transport.engine.GRACE_S", 20.0)  # the other's thread may be late
    engine = Engine(ca)
    where = route(server.base, connections_max=1)
    warm(engine, where)
    drives, waits = (engine.begin([(where, pushes(3))], 5.0) for _ in range(2))
    while len(server.log.seen) < 6:
        drives.wait(0.05)
    assert engine._lead.acquire(blocking=False)
    time.sleep(5.2)

    def driven() -> None:
        engine._lead.release()
        drives.wait()

    thread = threading.Timer(0.05, driven)
    thread.start()
    waits.wait()
    assert outcomes(waits.answers(0)) == [200] * 3
    thread.join()
    assert outcomes(drives.answers(0)) == [200] * 3
    engine.close()


def test_aioapns_comes_too_late_to_a_free_connection(serve, ca):
    server = serve(H2Server, echo)
    transport = AioapnsTransport(ca)
    one = route(server.base)
    assert outcomes(transport.send_many(one, pushes(1), 60)) == [200]
    assert transport._loop is not None
    transport._loop.call_soon_threadsafe(time.sleep, 1.0)
    told = transport.send_many(one, pushes(1, 2), 0.2)
    assert outcomes(told) == UNSENT
    time.sleep(1.0)
    assert outcomes(transport.send_many(one, pushes(1, 3), 60)) == [200]
    assert len(server.log.seen) == 2
    transport.close()


def test_aioapns_waits_for_no_answer_to_what_its_deadline_passed_while_it_connected(serve, ca):
    """It stands still in the middle of a handshake: connection and deadline come at one moment. The
    only stream of its lane is free again afterwards.
    """

    def behave(connection, seen):
        if not seen.id.endswith("1"):
            echo(connection, seen)

    server = serve(H2Server, behave)
    transport = AioapnsTransport(ca)
    still = [0.5]

    def stands_still(*_: object) -> None:
        if still:
            assert transport._loop
            transport._loop.call_soon_threadsafe(time.sleep, still.pop())
            time.sleep(0.1)

    server.context.sni_callback = stands_still
    where = route(server.base, connections_max=1, streams_max=1)
    (late,) = outcomes(transport.send_many(where, pushes(1), 0.3))
    assert late[0] == "timeout"
    assert outcomes(transport.send_many(where, pushes(1, 2), 20)) == [200]
    transport.close()


def test_to_close_aioapns_while_it_stands_still_is_no_error(serve, ca):
    server = serve(H2Server, echo)
    transport = AioapnsTransport(ca)
    assert outcomes(transport.send_many(route(server.base), pushes(1), 60)) == [200]
    thread, loop = transport._thread, transport._loop
    assert thread
    assert loop
    loop.call_soon_threadsafe(time.sleep, 3.0)
    transport.close()
    thread.join(60)
    assert not thread.is_alive()
