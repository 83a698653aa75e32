"""Requests through a proxy that knows CONNECT: HTTP/1.1 and HTTP/2, and each way in which the proxy
itself can fail.
"""

import functools
import subprocess
import sys
import time

import pytest

from tests.builders import present
from tests.integration.transport.conftest import push, pushes, reasons, route
from tests.integration.transport.servers import H1Server, H2Server
from tests.tables import table
from workers.cli.up import free_ports
from workers.transport.aioapns import AioapnsTransport


class Proxy:
    def __init__(self, manner, login=""):
        command = [sys.executable, "-m", "tests.integration.transport.connect_proxy", manner, login]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(present(self.process.stdout).readline())
        self.name = f"the proxy 127.0.0.1:{self.port}"

    def url(self, login=""):
        return f"http://{login and login + '@'}127.0.0.1:{self.port}"

    def stop(self):
        """The lines of all CONNECTs."""
        if self.process.poll() is None:
            told, _ = self.process.communicate()
            self.lines = told.splitlines()
        return self.lines


def proxies():
    """start(manner, login) -> a started one."""
    started = []

    def start(manner="open", login=""):
        started.append(Proxy(manner, login))
        return started[-1]

    yield start
    for one in started:
        one.stop()


proxy = pytest.fixture(proxies)


@pytest.fixture(scope="module")
def same_proxy():
    """As `proxy`; one for all tests that ask for the same."""
    for start in proxies():
        yield functools.cache(start)


@pytest.mark.parametrize("manner", ["open", "split"])
def test_http2_goes_through_it_and_is_none_of_its_business(serve, either, proxy, manner):
    server, through = serve(H2Server), proxy(manner, "ann:p@ss: wörd")
    where = route(server.base, proxy=through.url("ann:p%40ss%3A%20w%C3%B6rd"))
    for first in (1, 101):
        assert reasons(either.send_many(where, pushes(50, first), 30)) == {200: 50}
    assert server.log.connections == 1
    (line,) = through.stop()
    assert line.startswith(f"CONNECT localhost:{server.port} HTTP/1.1|")
    assert "bearer" not in line
    assert "device" not in line


@pytest.mark.parametrize("plain", [False, True], ids=["TLS", "loopback without TLS"])
def test_http1_goes_through_it_too(serve, either, proxy, plain):
    server, through = serve(H1Server, plain=plain, alpn=("http/1.1",)), proxy()
    answers = either.send_many(
        route(server.base, http2=False, proxy=through.url(), connections_max=2), pushes(10), 5
    )
    assert reasons(answers) == {200: 10}
    assert all("via" not in answer.headers for answer in answers)
    assert 1 <= len(through.stop()) <= 2


FAILURES = table("""
    asks for a password | open | ann:secret | ""
      | it asks for a user and a password, or refuses those given (407)
    another password | open | ann:secret | ann:hunter2
      | it asks for a user and a password, or refuses those given (407)
    does not let us | deny | "" | "" | it refuses the connection (403)
    ends the connection | close | "" | "" | it ended the connection
    is no proxy | junk | "" | "" | ""
    never ends its answer | endless | "" | "" | its answer has no end
""")


@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
@pytest.mark.parametrize(("manner", "login", "given", "words"), FAILURES.values(), ids=FAILURES)
def test_its_refusals_are_told_as_its_own_and_nothing_was_sent(
    serve, either, same_proxy, manner, login, given, words, http2
):
    server, through = serve(H2Server), same_proxy(manner, login)
    answers = either.send_many(
        route(server.base, http2=http2, proxy=through.url(given)), pushes(3), 30
    )
    assert {answer.sent for answer in answers} == {False}
    assert all(
        answer.words.startswith(through.name) and answer.words.endswith(words) for answer in answers
    )
    assert not any("secret" in repr(answer) or "hunter2" in repr(answer) for answer in answers)
    assert not server.log.seen


def test_one_that_is_not_there_is_named(either):
    port = free_ports(1)
    (answer,) = either.send_many(
        route("https://localhost:1", proxy=f"http://u:hunter2@127.0.0.1:{port}"), [push(1)], 3
    )
    assert (answer.reason, answer.sent) == ("refused", False)
    assert answer.words.startswith(f"the proxy 127.0.0.1:{port}: ")
    assert "hunter2" not in answer.words


def test_one_whose_name_nobody_knows_is_named(either):
    (answer,) = either.send_many(
        route("https://localhost:1", proxy="http://no-such-host.invalid:3128"), [push(1)], 5
    )
    assert answer.sent is False
    unresolved = answer.words.startswith("the proxy no-such-host.invalid:3128: ")
    assert unresolved or answer.reason == "timeout"


def test_one_that_is_silent_costs_the_deadline_and_nothing_was_sent(serve, either, proxy):
    server, through = serve(H2Server), proxy("silent")
    begun = time.monotonic()
    found = reasons(either.send_many(route(server.base, proxy=through.url()), pushes(2), 0.6))
    assert found == {("timeout", False): 2}
    assert time.monotonic() - begun < 20


def test_a_vendor_that_it_can_not_reach(either, proxy):
    through = proxy()
    (answer,) = either.send_many(
        route(f"https://localhost:{free_ports(1)}", proxy=through.url()), [push(1)], 5
    )
    found = (answer.sent, answer.words)
    assert found == (False, f"{through.name}: it refuses the connection (502)")


def test_what_is_wrong_behind_it_is_the_vendors(serve, either, proxy):
    server, through = serve(H2Server), proxy()
    (answer,) = either.send_many(
        route(server.base.replace("localhost", "127.0.0.2"), proxy=through.url()), [push(1)], 5
    )
    assert answer.sent is False
    server.behave = lambda connection, seen: connection.transport.abort()
    (lost,) = either.send_many(route(server.base, proxy=through.url()), [push(1)], 5)
    assert (lost.reason, lost.sent) == ("reset", True)
    assert "proxy" not in lost.words


def test_two_lanes_with_and_without_one_share_no_connection(serve, either, proxy):
    server, through = serve(H2Server), proxy()
    for where in (route(server.base), route(server.base, proxy=through.url())):
        assert reasons(either.send_many(where, pushes(3), 30)) == {200: 3}
    assert server.log.connections == 2
    assert len(through.stop()) == 1


def test_aioapns_refuses_one(ca):
    transport = AioapnsTransport(ca)
    with pytest.raises(ValueError, match="no proxy"):
        transport.send_many(route("https://localhost:1", proxy="http://127.0.0.1:1"), [push(1)], 1)
    transport.close()
