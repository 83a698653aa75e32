"""Who is trusted, what is shared, when connections are made, left and closed, and what a fork or a
close does to callers.
"""

import logging
import os
import socket
import threading
import time
from typing import Any

import pytest

from simulators.simulator import ensure_ca, issue
from tests.chaos.proxy import ThreadedProxy
from tests.integration.transport.conftest import (
    Engine,
    at_work,
    both,
    push,
    pushes,
    reasons,
    route,
    warm,
)
from tests.integration.transport.servers import H1Server, H2Server, SayingServer, by_connection
from tests.waiting import eventually
from workers.cli.up import free_ports
from workers.transport import engine, loop
from workers.transport.curl import CurlTransport
from workers.wire import ClientIdentity, NoAnswer, Route

# ---------------------------------------------------------------- who is trusted


@both()
def test_nobody_there_is_refused_and_not_sent(transport):
    begun = time.monotonic()
    answers = transport.send_many(route(f"https://localhost:{free_ports(1)}"), pushes(5), 30)
    assert reasons(answers) == {("refused", False): 5}
    assert time.monotonic() - begun < 20


@both()
def test_a_name_that_does_not_exist_is_refused_and_not_sent(transport):
    answers = transport.send_many(route("https://no-such-host.invalid:443"), pushes(2), 5)
    assert {a.sent for a in answers} == {False}
    assert {a.reason for a in answers} <= {"refused", "timeout"}


@both()
def test_an_unknown_authority_is_refused(transport, tmp_path):
    from tests.integration.transport.servers import server_context

    ensure_ca(tmp_path)
    server = H2Server(server_context(*issue(tmp_path, "stranger")))
    try:
        found = reasons(transport.send_many(route(server.base), pushes(3), 30))
        assert found == {("refused", False): 3}
        assert not server.log.seen
    finally:
        server.stop()


@both()
def test_a_certificate_for_another_name_is_refused(serve, transport):
    server = serve(H2Server)
    base = server.base.replace("localhost", "127.0.0.2")
    assert {a.sent for a in transport.send_many(route(base), pushes(3), 30)} == {False}
    assert not server.log.seen


@pytest.mark.parametrize("make", [CurlTransport, Engine], ids=["curl", "engine"])
def test_a_bundle_of_the_system_is_trusted_too(ca, serve, monkeypatch, tmp_path, make):
    """Where the system has a bundle and no folder, it is joined with ca_file."""
    ensure_ca(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    server = serve(H2Server)
    for trusted in (make(tmp_path / "ca.pem"), make()):
        assert reasons(trusted.send_many(route(server.base), [push(1)], 30)) == {200: 1}
        trusted.close()


@pytest.mark.parametrize("make", [CurlTransport, Engine], ids=["curl", "engine"])
def test_a_missing_ca_file_is_told_at_the_start(tmp_path, make):
    with pytest.raises(ValueError, match="additional certificates"):
        make(tmp_path / "none.pem")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused(serve, either, certificate):
    import ssl

    server = serve(H2Server)
    server.context.minimum_version = ssl.TLSVersion.TLSv1
    server.context.set_ciphers("ALL:@SECLEVEL=0")
    server.context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert reasons(either.send_many(route(server.base), [push(1)], 5)) == {("refused", False): 1}


def test_a_server_that_speaks_http1_only_is_refused_on_an_http2_route(serve, either):
    server = serve(H1Server, alpn=("http/1.1",))
    (answer,) = either.send_many(route(server.base), [push(1)], 3)
    assert isinstance(answer, NoAnswer)
    assert not [seen for seen in server.log.seen if seen.headers[":method"] == "POST"]


@pytest.mark.parametrize("transport", ["curl", "engine", "aioapns"], indirect=True)
@pytest.mark.parametrize("alpn", [(), ("http/1.1",)], ids=["no ALPN", "HTTP/1.1 only"])
def test_a_server_that_does_not_agree_on_http2_has_read_nothing(serve, transport, alpn):
    """Neither one that would understand it all the same: what it makes of our
    octets is not known.
    """
    server = serve(H2Server, alpn=alpn)
    for first in (1, 11):
        answers = transport.send_many(route(server.base), pushes(5, first), 30)
        assert reasons(answers) == {("refused", False): 5}
        assert {answer.words for answer in answers} == {"the server did not agree on HTTP/2"}
    assert not server.log.seen
    server.context.set_alpn_protocols(["h2"])
    assert reasons(transport.send_many(route(server.base), pushes(5, 21), 30)) == {200: 5}


SETTINGS, GOAWAY = b"\0\0\0\4\0\0\0\0\0", b"\0\0\x08\7\0\0\0\0\0" + bytes(8)
#: What a peer that agreed on HTTP/2 says before it has read anything, whether it ends, and what is
#: told: nothing was read where it says so itself, else what was written may have been.
GREETINGS = {
    "goaway at once": (SETTINGS + GOAWAY, True, ("reset", False)),
    "the words of HTTP/1.1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, ("reset", True)),
    "nothing, and ends": (b"", True, ("reset", True)),
    "nothing": (b"", False, ("timeout", True)),
}


@pytest.mark.parametrize(("words", "ends", "told"), GREETINGS.values(), ids=GREETINGS)
def test_a_peer_that_agrees_on_http2_and_speaks_another_is_told_by_what_it_may_have_read(
    serve, either, words, ends, told
):
    server = serve(SayingServer, words, ends=ends)
    deadline_s = 2 if told[0] == "timeout" else 20
    assert reasons(either.send_many(route(server.base), pushes(2), deadline_s)) == {told: 2}


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_a_peer_that_speaks_no_tls_has_read_nothing(serve, either, words):
    server = serve(SayingServer, words, ends=False, plain=True)
    base = server.base.replace("http://", "https://")
    answers = either.send_many(route(base), pushes(2), 10 if words else 0.5)
    assert reasons(answers) == {("refused" if words else "timeout", False): 2}


@both()
def test_the_client_certificate_is_shown_and_only_on_its_own_pool(serve, transport, ca, ca_folder):
    certificate, key = issue(ca_folder, "client")
    identity = ClientIdentity(certificate.read_bytes(), key.read_bytes())
    server = serve(H2Server, client_ca=ca)
    assert reasons(
        transport.send_many(route(server.base, pool="a", identity=identity), pushes(3), 30)
    ) == {200: 3}
    assert reasons(transport.send_many(route(server.base, pool="b"), pushes(3), 30)) == {200: 3}
    assert [shown is not None for shown in server.log.certificates] == [True, False]


# ---------------------------------------------------------------- addresses and requests that can't

BASES = [
    "http://example.com",
    "ftp://localhost",
    "https://user:secret@localhost",
    "https://localhost/path",
    "https://",
    "localhost:443",
    "",
]


@both()
@pytest.mark.parametrize("base", BASES)
def test_an_unsound_address_is_an_error_that_does_not_repeat_it(transport, base):
    with pytest.raises(ValueError, match="APNS_PRODUCTION") as error:
        transport.send_many(route(base), [push(1)], 1)
    assert "secret" not in str(error.value)


@both()
def test_an_endpoint_the_route_does_not_know_is_an_error(transport):
    with pytest.raises(ValueError, match="APNS_PRODUCTION"):
        transport.send_many(Route("p", {}, True), [push(1)], 1)


@both()
def test_a_header_that_would_become_two_is_not_sent_and_stops_nobody(serve, transport):
    server = serve(H2Server)
    headers = {"apns-collapse-id": "a\r\nx-evil: 1"}
    bad = [push(1, headers=headers), push(2), push(3, path="/3/device/a b")]
    answers = transport.send_many(route(server.base), bad, 30)
    assert reasons(answers) == {("refused", False): 2, 200: 1}
    found = [isinstance(answer, NoAnswer) and answer.unsendable for answer in answers]
    assert found == [True, False, True]
    assert len(server.log.seen) == 1


@both()
def test_nothing_to_send_is_nothing_done(transport):
    assert list(transport.send_many(route("https://localhost:1"), [], 1)) == []


@both()
def test_no_words_and_no_log_line_holds_a_path_a_header_or_a_body(serve, transport, caplog):
    caplog.set_level(logging.DEBUG)
    server = serve(H2Server, lambda connection, seen: connection.transport.abort())
    answers = [
        *transport.send_many(route(server.base), [push(1, path="/3/device/tokentokentoken")], 1),
        *transport.send_many(
            route(f"https://localhost:{free_ports(1)}"),
            [push(1, path="/3/device/tokentokentoken")],
            1,
        ),
        *transport.send_many(route(server.base), [push(1, path="/3/device/token token")], 1),
    ]
    told = caplog.text + "".join(repr(a) + a.words for a in answers)
    assert not [secret for secret in ("token", "header.payload", "hello") if secret in told]


# ---------------------------------------------------------------- what is shared


@both()
def test_two_pools_never_share_a_connection(serve, transport):
    server = serve(H2Server)
    for turn in range(3):
        for pool in ("chat:apns:one:1", "chat:apns:two:1"):
            requests = [push(n, headers={"apns-id": f"{pool}-{turn}-{n}"}) for n in range(5)]
            found = reasons(transport.send_many(route(server.base, pool=pool), requests, 30))
            assert found == {200: 5}
    groups = by_connection(server.log)
    assert len(groups) == 2
    assert all(len({seen.id.split("-")[0] for seen in group}) == 1 for group in groups.values())


@both()
def test_an_idle_connection_is_used_again(serve, transport):
    server = serve(H2Server)
    for number in (1, 2, 3):
        assert reasons(transport.send_many(route(server.base), [push(number)], 30)) == {200: 1}
        time.sleep(0.1)
    assert server.log.connections == 1


@both()
def test_renew_makes_new_connections_and_lets_the_old_ones_finish(serve, transport):
    server = serve(
        H2Server,
        lambda c, seen: c.later(
            0.4, c.reply, seen.stream, 200, {"apns-id": seen.id, "by": str(c.number)}
        ),
    )
    warm(transport, route(server.base))
    with at_work(transport, route(server.base)) as old:
        transport.renew("chat:apns:main:1")
        transport.renew("a pool nobody knows")
        new = transport.send_many(route(server.base), pushes(5, 11), 30)
    assert {a.headers["by"] for a in old} == {"1"}
    assert {a.headers["by"] for a in new} == {"2"}


def test_an_idle_connection_that_ended_without_a_word_is_not_written_into(serve, either):
    server = serve(
        H2Server, lambda c, seen: (c.reply(seen.stream, 200), c.later(0.02, c.transport.abort))
    )
    for number in (1, 2, 3):
        assert reasons(either.send_many(route(server.base), [push(number)], 30)) == {200: 1}
        eventually(lambda: not server.live)
        time.sleep(0.1)
    assert len(server.log.ids) == server.log.connections == 3


@pytest.fixture
def looking_often(monkeypatch):
    """Idle transports look about every tenth of a second instead of every five."""
    monkeypatch.setattr(engine, "KEEPER_S", 0.1)
    monkeypatch.setattr(loop, "SWEEP_IDLE_S", 0.1)


@pytest.mark.usefixtures("looking_often")
@pytest.mark.parametrize("make", [CurlTransport, Engine], ids=["curl", "engine"])
def test_pools_are_bounded_and_idle_ones_closed(serve, ca, make):
    transport = make(ca, pools_max=3, pool_idle_s=600)
    server = serve(H2Server)
    try:
        for number in range(8):
            assert reasons(
                transport.send_many(route(server.base, pool=f"p{number}"), [push(number)], 30)
            ) == {200: 1}
        eventually(lambda: len(server.live) <= 3)
        assert len(server.live) == 3
        assert reasons(transport.send_many(route(server.base, pool="p7"), [push(9)], 30)) == {
            200: 1
        }
        assert server.log.connections == 8  # the youngest was kept
    finally:
        transport.close()


@pytest.mark.usefixtures("looking_often")
@pytest.mark.parametrize("make", [CurlTransport, Engine], ids=["curl", "engine"])
def test_a_pool_nobody_uses_is_closed(serve, ca, make):
    transport = make(ca, pool_idle_s=0.3)
    server = serve(H2Server)
    try:
        assert reasons(transport.send_many(route(server.base), [push(1)], 30)) == {200: 1}
        eventually(lambda: not server.live)
    finally:
        transport.close()


# ---------------------------------------------------------------- networks that fail


@pytest.fixture
def proxied(serve):
    server = serve(H2Server)
    proxy = ThreadedProxy(("127.0.0.1", server.port))
    yield server, proxy, f"https://localhost:{proxy.port}"
    proxy.blackhole(False)
    proxy.reset_all()
    proxy.stop()


@both()
def test_a_network_that_carries_nothing_is_a_timeout_and_is_left_when_it_carries_again(
    proxied, transport
):
    _server, proxy, base = proxied
    warm(transport, route(base))
    proxy.blackhole(True)
    begun = time.monotonic()
    assert reasons(transport.send_many(route(base), pushes(5), 4)) == {("timeout", True): 5}
    assert time.monotonic() - begun < 20
    proxy.blackhole(False)
    assert reasons(transport.send_many(route(base), pushes(5, 11), 30)) == {200: 5}


@both()
def test_a_half_open_peer_costs_one_deadline_and_no_more(proxied, transport):
    server, proxy, base = proxied
    warm(transport, route(base))
    proxy.orphan_all()
    assert reasons(transport.send_many(route(base), pushes(5), 4)) == {("timeout", True): 5}
    time.sleep(0.3)  # after a stall over the deadline libcurl's own thread may be the later one
    assert reasons(transport.send_many(route(base), pushes(5, 11), 30)) == {200: 5}
    assert len(set(server.log.ids)) == len(server.log.ids) == 5


@both()
def test_reset_connections_are_resets_and_the_next_batch_goes(proxied, transport):
    server, proxy, base = proxied
    server.behave = lambda connection, seen: len(server.log.ids) == 20 and proxy.reset_all()
    warm(transport, route(base))
    assert reasons(transport.send_many(route(base), pushes(20), 30)) == {("reset", True): 20}
    server.behave = lambda connection, seen: connection.reply(seen.stream, 200)
    assert reasons(transport.send_many(route(base), pushes(20, 101), 30)) == {200: 20}
    assert len(set(server.log.ids)) == len(server.log.ids) == 40


@both()
def test_a_connect_that_hangs_ends_at_the_deadline_unsent(transport):
    """A listener whose backlog is full answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        begun = time.monotonic()
        answers = transport.send_many(route(f"https://127.0.0.1:{address[1]}"), pushes(3), 0.8)
        assert time.monotonic() - begun < 20
        assert reasons(answers) == {("timeout", False): 3}
        for filler in fillers:
            filler.close()


@both()
def test_a_handshake_that_hangs_ends_at_the_deadline_unsent_and_others_go_on(serve, transport):
    server = serve(H2Server)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        hung = route(f"https://127.0.0.1:{listener.getsockname()[1]}", pool="hung")
        assert reasons(transport.send_many(hung, pushes(3), 1.0)) == {("timeout", False): 3}
        late: list[Any] = []
        thread = threading.Thread(
            target=lambda: late.extend(transport.send_many(hung, pushes(3), 60))
        )
        thread.start()
        # its connect ends after 5 s
        assert reasons(transport.send_many(route(server.base), pushes(10), 30)) == {200: 10}
        transport.close()
        thread.join(30)
    assert [answer.sent for answer in late] == [False] * 3


@pytest.mark.parametrize("make", [CurlTransport, Engine], ids=["curl", "engine"])
def test_connecting_has_a_limit_of_its_own(ca, make):
    transport = make(ca, connect_timeout_s=0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        begun = time.monotonic()
        (answer,) = transport.send_many(
            route(f"https://127.0.0.1:{listener.getsockname()[1]}"), [push(1)], 60
        )
        assert (answer.reason, answer.sent) == ("timeout", False)
        assert time.monotonic() - begun < 20
    transport.close()


@both()
def test_a_deadline_already_past_sends_nothing(serve, transport):
    server = serve(H2Server)
    assert reasons(transport.send_many(route(server.base), pushes(3), 0)) == {("timeout", False): 3}
    assert not server.log.seen


# ---------------------------------------------------------------- the end, and forks


@both()
def test_close_answers_those_who_wait_and_ends_the_thread(serve, transport):
    server = serve(H2Server, lambda connection, seen: None)
    before = {t for t in threading.enumerate() if t.name.startswith("transport")}
    warm(transport, route(server.base))
    with at_work(transport, route(server.base)) as answers:
        begun = time.monotonic()
        transport.close()
    assert time.monotonic() - begun < 15
    assert reasons(answers) == {("reset", True): 5}
    assert {t for t in threading.enumerate() if t.name.startswith("transport")} <= before
    assert reasons(transport.send_many(route(server.base), pushes(2), 30)) == {
        ("refused", False): 2
    }
    transport.close()


@pytest.mark.parametrize("make", [CurlTransport, Engine], ids=["curl", "engine"])
def test_nothing_starts_before_the_first_request(ca, make):
    count = threading.active_count()
    make(ca).close()
    transport = make(ca)
    transport.renew("nobody")
    assert threading.active_count() == count


@both()
def test_a_forked_child_uses_connections_of_its_own_and_leaves_the_parents_alone(serve, transport):
    server = serve(H2Server)
    assert reasons(transport.send_many(route(server.base), pushes(3), 30)) == {200: 3}
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = b"failed"
        try:
            told = str(
                sorted(reasons(transport.send_many(route(server.base), pushes(3, 11), 5)).items())
            ).encode()
            transport.close()
        finally:
            os.write(writer, told)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"[(200, 3)]"
    os.waitpid(child, 0)
    assert reasons(transport.send_many(route(server.base), pushes(3, 21), 30)) == {200: 3}
    assert server.log.connections == 2
    assert {seen.connection for seen in server.log.seen[-3:]} == {1}


def test_a_loop_that_breaks_answers_its_callers_and_is_replaced(serve, curl, caplog):
    server = serve(H2Server, lambda connection, seen: None)
    warm(curl, route(server.base))
    with at_work(curl, route(server.base)) as answers:
        curl._loop.post(("not a route", 7))
    assert reasons(answers) == {("reset", True): 5}
    assert "transport's thread failed" in caplog.text
    server.behave = lambda connection, seen: connection.reply(seen.stream, 200)
    assert reasons(curl.send_many(route(server.base), pushes(5, 11), 30)) == {200: 5}
