"""Addresses, requests and heads that a transport takes or refuses, and the waiting for a batch."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.setting_checks import is_loopback
from tests.tables import spaced
from workers.transport.exchange import SendBatch, base_of, fault_of, read_head
from workers.wire import HttpResponse, NoAnswer, Request, Route

ADDRESSES = {
    "https://api.push.apple.com": "https://api.push.apple.com",
    "https://api.push.apple.com:2197/": "https://api.push.apple.com:2197",
    "http://localhost:8080": "http://localhost:8080",
    "http://127.0.0.1:1": "http://127.0.0.1:1",
    "http://[::1]:8080": "http://[::1]:8080",
}


@pytest.mark.parametrize(("base", "wanted"), ADDRESSES.items())
def test_sound_addresses_are_taken(base, wanted):
    assert base_of(Route("p", {"FCM": base}, True), "FCM") == wanted


UNSOUND = spaced("""
    http://10.0.0.1 http://localhost.example.com https://a@b https://h:99999 https://h:0 https://h/p
    https://h?q //h https://ü
""")


@pytest.mark.parametrize("base", UNSOUND)
def test_unsound_addresses_are_errors(base):
    with pytest.raises(ValueError, match="FCM"):
        base_of(Route("p", {"FCM": base}, True), "FCM")


@pytest.mark.parametrize(
    ("host", "own"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("x", False)],
)
def test_loopback_is_told_without_a_look_up(host, own):
    assert is_loopback(host) is own


FAULTS = {
    "sound": (Request("A", "/3/device/ab?x=1%20", {"a": "b", "empty": ""}, b""), False),
    "no slash": (Request("A", "3/device", {}, b""), True),
    "empty path": (Request("A", "", {}, b""), True),
    "a line break in the path": (Request("A", "/a\r\nHost: b", {}, b""), True),
    "not ASCII": (Request("A", "/ü", {}, b""), True),
    "a line break in a value": (Request("A", "/", {"a": "b\nc"}, b""), True),
    "a line break in a name": (Request("A", "/", {"a\n": "b"}, b""), True),
    "a colon in a name": (Request("A", "/", {"a:b": "c"}, b""), True),
    "an empty name": (Request("A", "/", {"": "c"}, b""), True),
    "a NUL": (Request("A", "/", {"a": "\0"}, b""), True),
    "a value that is not ASCII": (Request("A", "/", {"a": "你"}, b""), True),
    "a method of two words": (Request("A", "/", {}, b"", method="GET /"), True),
}


@pytest.mark.parametrize(("request_", "refused"), FAULTS.values(), ids=FAULTS)
def test_what_would_change_the_wire_is_refused(request_, refused):
    assert (fault_of(request_) is not None) is refused


@given(st.text(), st.text())
def test_no_fault_repeats_what_it_found(name, value):
    fault = fault_of(Request("A", "/", {"x-" + name: value + "\n"}, b"")) or ""
    assert fault == "a header of the request is not printable ASCII"


HEADS = {
    "HTTP/2": ([b"HTTP/2 200 \r\n", b"apns-id: a\r\n", b"\r\n"], 200, {"apns-id": "a"}),
    "HTTP/1.1": (
        [b"HTTP/1.1 404 Not Found\r\n", b"Retry-After:7\r\n", b"\r\n"],
        404,
        {"retry-after": "7"},
    ),
    "interim first": (
        [b"HTTP/2 103 \r\n", b"link: x\r\n", b"\r\n", b"HTTP/2 429 \r\n", b"a: b\r\n", b"\r\n"],
        429,
        {"a": "b"},
    ),
    "trailers left out": ([b"HTTP/2 200 \r\n", b"\r\n", b"late: x\r\n", b"\r\n"], 200, {}),
    "repeats joined": ([b"HTTP/2 200 \r\n", b"A: 1\r\n", b"a: 2\r\n", b"\r\n"], 200, {"a": "1, 2"}),
    "a colon in a value": (
        [b"HTTP/2 200 \r\n", b"location: https://x:1/\r\n", b"\r\n"],
        200,
        {"location": "https://x:1/"},
    ),
    "bytes that are no text": ([b"HTTP/2 200 \r\n", b"a: \xff\r\n", b"\r\n"], 200, {"a": "\xff"}),
    "nothing": ([], 0, {}),
    "no end": ([b"HTTP/2 200 \r\n", b"a: b\r\n"], 0, {}),
    "no number": ([b"HTTP/2 abc \r\n", b"\r\n"], 0, {}),
}


@pytest.mark.parametrize(("lines", "status", "headers"), HEADS.values(), ids=HEADS)
def test_the_last_head_is_read(lines, status, headers):
    assert read_head(lines) == (status, headers)


@given(
    st.lists(
        st.binary()
        | st.sampled_from([b"HTTP/2 200 \r\n", b"HTTP/1.1 ", b"a: b\r\n", b"\r\n", b"\n", b"HTTP/"])
    )
)
def test_any_lines_give_a_head(lines):
    status, headers = read_head(lines)
    assert 0 <= status <= 999
    assert all(name == name.lower() for name in headers)


def test_a_batch_gives_its_answers_in_order():
    batch = SendBatch(2, 5)
    first, second = HttpResponse(200, {}, b""), NoAnswer("reset", True)

    def answered() -> None:
        batch.put(1, second)
        batch.put(0, first)

    threading.Timer(0.02, answered).start()
    assert list(batch.wait(lambda index: False)) == [first, second]


def test_what_is_missing_when_a_batch_ends_is_a_timeout_that_knows_whether_it_was_begun():
    batch = SendBatch(3, 0)
    batch.put(1, HttpResponse(200, {}, b""))
    begun = time.monotonic()
    answers = batch.wait(lambda index: index == 2)
    found = [(a.reason, a.sent) for a in answers if isinstance(a, NoAnswer)]
    assert found == [("timeout", False), ("timeout", True)]
    assert time.monotonic() - begun < 60


def test_the_first_answer_counts():
    batch = SendBatch(1, 1)
    batch.put(0, HttpResponse(200, {}, b""))
    batch.put(0, HttpResponse(500, {}, b""))
    assert list(batch.wait(lambda index: False)) == [HttpResponse(200, {}, b"")]
