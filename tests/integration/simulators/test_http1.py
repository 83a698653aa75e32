"""The HTTP/1.1 server under the simulators: framing, bounds, every fault, the side door."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.error

import pytest

from simulators.http1 import BODY_BYTES_MAX
from simulators.misbehave import PADDING
from simulators.simulator import VendorReply
from tests.integration.simulators.clients.web import Web
from tests.integration.simulators.running import Running
from tests.waiting import eventually

PATH = "/garcia/api/server/push/varnished/pushByPushId"


@pytest.fixture
def meizu(tmp_path):
    with Running("meizu", tmp_path) as running:
        yield running


@pytest.fixture
def plain(tmp_path):
    with Running("meizu", tmp_path, tls=False) as running:
        yield running


def form(push_id="P1"):
    """A call that Meizu accepts: the account is not registered, so any well-formed signature will
    do.
    """
    message = '{"noticeBarInfo":{"noticeMsgType":1,"title":"t","content":"c"}}'
    return f"appId=110001&pushIds={push_id}&messageJson={message}&sign={'0' * 32}".encode()


def raw(running, data, until=b"", wait_s=5.0):
    """Writes bytes to the plain port; reads until `until` was seen or the other side closes."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=wait_s) as peer:
        peer.sendall(data)
        seen = b""
        while not until or seen.count(until) < 1:
            chunk = peer.recv(65536)
            if not chunk:
                break
            seen += chunk
        return seen


def head(path=PATH, length=None, extra=""):
    size = f"Content-Length: {length}\r\n" if length is not None else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{size}{extra}\r\n".encode()


# ---------------------------------------------------------------- framing


def test_a_connection_is_kept_and_answers_come_in_order(plain):
    bodies = [form(f"P{n}") for n in range(20)]
    pipelined = b"".join(head(length=len(body)) + body for body in bodies)
    with socket.create_connection(("127.0.0.1", plain.port), timeout=60) as peer:
        peer.sendall(pipelined)
        seen = b""
        while seen.count(b'"code":"200"') < 20:
            seen += peer.recv(65536)
    assert plain.tokens == [f"P{n}" for n in range(20)]
    assert plain.counts["requests"] == 20


def test_more_pipelined_requests_than_wait_at_once_are_all_answered(plain):
    plain.faults(delay_ms=1)
    body = form()
    with socket.create_connection(("127.0.0.1", plain.port), timeout=60) as peer:
        threading.Thread(target=peer.sendall, args=((head(length=len(body)) + body) * 300,)).start()
        seen = b""
        while seen.count(b"HTTP/1.1 200") < 300:
            seen += peer.recv(65536)
    plain.faults(delay_ms=0)
    assert plain.counts["requests"] == 300


def test_a_chunked_body_is_put_together(plain):
    body = form("CHUNKED")
    parts = b"".join(
        b"%x\r\n%s\r\n" % (len(body[n : n + 7]), body[n : n + 7]) for n in range(0, len(body), 7)
    )
    chunks = parts + b"0\r\n\r\n"
    assert b'"code":"200"' in raw(
        plain, head(extra="Transfer-Encoding: chunked\r\nConnection: close\r\n") + chunks
    )
    assert plain.tokens == ["CHUNKED"]


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(plain):
    seen = raw(plain, head(length=10, extra="Expect: 100-continue\r\n"), until=b"Continue\r\n\r\n")
    assert seen == b"HTTP/1.1 100 Continue\r\n\r\n"


REFUSED = {
    "not HTTP at all": (b"\x16\x03\x01 hello\r\n\r\n", b" 400 "),
    "two lengths": (head(length=3, extra="Content-Length: 4\r\n") + b"abcd", b" 400 "),
    "a head over its bound": (head(extra="X: " + "y" * 70_000 + "\r\n"), b" 431 "),
    "a body over its bound": (
        head(length=BODY_BYTES_MAX + 1) + b"x" * (BODY_BYTES_MAX + 1),
        b" 413 ",
    ),
    "an upgrade, which is not taken": (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b" 404 ",
    ),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_and_the_connection_closed(plain, data, status):
    try:
        seen = raw(plain, data)
    except ConnectionError:  # closed while we were still writing
        seen = status
    assert status in seen.split(b"\r\n")[0]
    assert plain.lines == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_below_1_2_is_refused_and_the_certificate_is_the_throw_away_cas(meizu):
    context = meizu.context()
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", meizu.port)) as peer, pytest.raises(ssl.SSLError):
        context.wrap_socket(peer, server_hostname="localhost")
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        Web(meizu.base).call("POST", PATH, form())


# ---------------------------------------------------------------- faults


def send(running, timeout_s=3.0):
    return Web(running.base, running.ca, timeout_s).call("POST", PATH, form())


def test_a_reset_and_a_silence_do_nothing_and_end_after_their_hits(meizu):
    for fault in ("reset", "no_answer"):
        meizu.faults(**{fault: 1, "only_first": 2})
        for _ in range(2):
            with pytest.raises((ConnectionError, TimeoutError, urllib.error.URLError)):
                send(meizu, 0.3)
        assert send(meizu)[0] == 200
        meizu.faults(**{fault: 0, "only_first": 0})
    assert len(meizu.lines) == 2


def test_a_spoilt_answer_is_an_accepted_message_all_the_same(meizu):
    meizu.faults(garbage=1)
    status, body = send(meizu)
    assert status == 200
    assert body.startswith(b"<html>")
    meizu.faults(garbage=0, empty=1)
    assert send(meizu) == (200, b"")
    meizu.faults(empty=0, huge=1)
    status, body = send(meizu)
    assert len(body) > len(PADDING)
    assert json.loads(body)["code"] == "200"
    assert len(meizu.lines) == 3


def test_a_slow_answer_drips_byte_by_byte(plain):
    plain.faults(slow_drip=1)
    with socket.create_connection(("127.0.0.1", plain.port), timeout=60) as peer:
        peer.sendall(head(length=len(form())) + form())
        sizes = [len(peer.recv(65536)) for _ in range(10)]
    assert max(sizes) <= 3


def test_a_delay_comes_before_the_record_so_that_who_gave_up_was_not_accepted(meizu):
    def gave_up_in_time() -> bool:
        before = len(meizu.lines)
        with contextlib.suppress(ConnectionError, TimeoutError, urllib.error.URLError):
            send(meizu, 0.1)
            return False
        time.sleep(0.5)
        return len(meizu.lines) == before

    meizu.faults(delay_ms=400)
    # while all stand still the delay ends, too
    assert any(gave_up_in_time() for _ in range(5))
    started = time.monotonic()
    assert send(meizu)[0] == 200
    assert time.monotonic() - started >= 0.4


def asked_again(kept):
    kept.request("POST", PATH, form())
    return kept.getresponse()


def test_down_refuses_connections_and_the_door_that_was_open_brings_it_up_again(meizu):
    door = http.client.HTTPSConnection("127.0.0.1", meizu.port, context=meizu.context())

    def switch(down):
        door.request("POST", "/_sim/faults", json.dumps({"down": down}))
        assert json.loads(door.getresponse().read())["down"] is down

    kept = http.client.HTTPSConnection("127.0.0.1", meizu.port, context=meizu.context(), timeout=60)
    kept.request("POST", PATH, form())
    kept.getresponse().read()
    switch(True)
    with pytest.raises(urllib.error.URLError, match="refused"):
        send(meizu)
    with pytest.raises((ConnectionError, http.client.HTTPException, ssl.SSLError)):
        asked_again(kept)
    switch(False)
    assert send(meizu)[0] == 200
    door.close()
    kept.close()


def test_down_thrown_in_process_is_seen_too(meizu):
    meizu.simulator.faults.down = True
    eventually(lambda: "refused" in tried(meizu), what="it is down")
    meizu.simulator.faults.down = False
    eventually(lambda: tried(meizu) == "200", what="it is up again")


def tried(meizu) -> str:
    """What became of a push."""
    try:
        return str(send(meizu)[0])
    except OSError as error:
        return str(error)


# ---------------------------------------------------------------- the door


def test_the_door_gives_stats_and_record_and_names_what_is_no_switch(meizu):
    send(meizu)
    web = Web(meizu.base, meizu.ca)
    stats = json.loads(web.call("GET", "/_sim/stats")[1])
    assert stats["vendor"] == "meizu"
    assert stats["counts"]["accepted"] == stats["counts"]["per_second_max_targets"] == 1
    assert json.loads(web.call("GET", "/_sim/record")[1])["token"] == "P1"
    for action, body, word in (
        ("faults", b'{"gremlin":1}', "gremlin"),
        ("limits", b'{"warp":1}', "warp"),
        ("dance", b"{}", "no such action"),
        ("faults", b"{", "Expecting"),
    ):
        status, told = web.call("POST", f"/_sim/{action}", body)
        assert status == 400
        assert word in json.loads(told)["error"]
    assert meizu.counts["requests"] == 1, "the door is no vendor traffic"


def test_a_simulators_own_mistake_is_a_500_and_counted_and_the_connection_lives(
    plain, monkeypatch, capsys
):
    def broken(_call):
        raise ZeroDivisionError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(plain.simulator, "answer", broken)
        assert Web(plain.base).call("POST", PATH, form()) == (500, b"the simulator failed")
    assert Web(plain.base).call("POST", PATH, form())[0] == 200
    assert plain.counts["simulator_error"] == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_reply_with_a_status_nobody_knows_still_goes_out(plain, monkeypatch):
    monkeypatch.setattr(plain.simulator, "handle", lambda call: VendorReply(590, b"x"))
    assert raw(plain, head(length=0, extra="Connection: close\r\n")).startswith(b"HTTP/1.1 590 ")
