"""One connection without a network: what is written when, what a peer may not do, and what is told
as sent.
"""

import struct
from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from workers.transport import http2
from workers.transport.http2 import (
    BLOCK_BYTES_MAX,
    CONTROL_BYTES_MAX,
    IDLE_FRAMES_MAX,
    ConnectionFault,
    Http2Connection,
    StreamSending,
    frame,
)
from workers.wire import HttpResponse, NoAnswer, Request

NOW = 100.0


def push(number: int, body: bytes = b"{}") -> Request:
    return Request(
        "A", f"/3/device/{number:064x}", {"apns-topic": "t", "apns-id": f"{number:032x}"}, body
    )


class Peer:
    """A connection with requests on it, and a server that says what a test wants."""

    def __init__(
        self, count: int = 3, body: bytes = b"{}", settled: bool = True, streams_max: int = 100
    ) -> None:
        self.h2 = Http2Connection("h:443", streams_max)
        self.encoder = Encoder()
        self.requests = [push(number, body) for number in range(1, count + 1)]
        self.sending = StreamSending(self.requests, 1000.0)
        self.next = 0
        if settled:
            self.say(frame(4, 0, 0))
            self.begin()

    def begin(self) -> int:
        """Begins what there is room for; gives how many."""
        count = 0
        while self.next < len(self.requests) and self.h2.room(NOW) > 0:
            self.h2.begin(self.sending, self.next, self.requests[self.next], NOW)
            self.next, count = self.next + 1, count + 1
        return count

    def written(self) -> bytes:
        """What goes to the network; all of it arrives."""
        out = self.h2.take_out()
        self.h2.sent = self.h2.queued
        return out

    def say(self, *frames: bytes) -> None:
        self.h2.receive(b"".join(frames), NOW)

    def head(self, *pairs: tuple[str, str], stream: int = 1, flags: int = 5) -> bytes:
        block = self.encoder.encode([(name.encode(), value.encode()) for name, value in pairs])
        return frame(1, flags, stream, block)

    def told(self) -> list[Any]:
        return [
            (a.reason, a.sent)
            if isinstance(a, NoAnswer)
            else a.status
            if isinstance(a, HttpResponse)
            else None
            for a in self.sending.answers
        ]


OK = (":status", "200")


# ---------------------------------------------------------------- what is written


def test_one_request_alone_until_the_server_has_spoken() -> None:
    peer = Peer(settled=False)
    assert peer.begin() == 1
    peer.say(frame(4, 0, 0))
    assert peer.begin() == 2


def test_a_lane_for_many_streams_waits_for_the_first_answer_or_half_a_second() -> None:
    peer = Peer(count=300, streams_max=1000)
    assert peer.next == 1
    peer.say(frame(4, 0, 0, struct.pack(">HI", 3, 1000)))
    assert peer.begin() == 0
    assert peer.h2.room(NOW + http2.FIRST_ANSWER_S) == 999
    peer = Peer(count=300, streams_max=1000)
    peer.say(peer.head(OK))
    assert peer.begin() == 100  # the server has named no number: RFC 9113 says at least 100


@pytest.mark.parametrize("streams", [0, 1, 7])
def test_streams_are_never_more_than_the_server_allows(streams: int) -> None:
    peer = Peer(count=50, settled=False)
    peer.say(frame(4, 0, 0, struct.pack(">HI", 3, streams)))
    peer.begin()
    peer.begin()
    assert len(peer.h2.streams) == max(streams, 1)  # one was allowed before we knew


def test_stream_ids_run_out_and_never_turn_over() -> None:
    peer = Peer(count=3, settled=False)
    peer.say(frame(4, 0, 0))
    peer.h2._next_id = http2.STREAM_ID_MAX - 2
    assert peer.begin() == 2
    assert (max(peer.h2.streams), peer.h2.draining) == (2**31 - 1, True)


def test_a_long_body_waits_for_windows_and_is_not_sent_before_its_last_octet() -> None:
    peer = Peer(count=1, body=b"x" * 70_000)
    assert peer.written().count(b"x") == 65_535
    assert peer.h2.expire(peer.sending, NOW)
    assert peer.told() == [("timeout", False)]
    peer = Peer(count=1, body=b"x" * 70_000)
    out = peer.written()
    peer.say(frame(8, 0, 1, struct.pack(">I", 5_000)), frame(8, 0, 0, struct.pack(">I", 5_000)))
    assert (out + peer.written()).count(b"x") == 70_000
    assert peer.h2.expire(peer.sending, NOW)
    assert peer.told() == [("timeout", True)]


def test_a_window_that_shrinks_below_nothing_is_waited_for() -> None:
    peer = Peer(count=1, body=b"x" * 70_000)
    peer.written()
    peer.say(frame(4, 0, 0, struct.pack(">HI", 4, 10)), frame(8, 0, 0, struct.pack(">I", 1 << 20)))
    assert b"x" not in peer.written()
    peer.say(frame(8, 0, 1, struct.pack(">I", 70_000)))
    assert peer.written().count(b"x") == 4_465


# ---------------------------------------------------------------- what is told as sent


def test_what_the_network_did_not_take_was_not_sent_and_is_done_elsewhere() -> None:
    peer = Peer(count=3)
    peer.h2.take_out()
    ends = sorted(one[3] for one in peer.h2.streams.values())
    peer.h2.sent = ends[1] - 1  # all of the first, all but an octet of the second
    peer.h2.lose("the connection was lost", NOW)
    assert peer.told() == [("reset", True), None, None]
    assert [index for _, index in peer.h2.returned] == [1, 2]


def test_at_the_deadline_what_was_not_taken_must_never_go() -> None:
    peer = Peer(count=3)
    peer.h2.take_out()
    peer.h2.sent = sorted(one[3] for one in peer.h2.streams.values())[0]
    assert not peer.h2.expire(peer.sending, NOW), "the owner closes the connection"
    assert peer.told() == [("timeout", True), ("timeout", False), ("timeout", False)]


def test_a_replay_comes_to_an_end() -> None:
    peer = Peer(count=1)
    for turn in range(http2.REPLAYS_MAX):
        peer.say(frame(3, 0, 1 + 2 * turn, struct.pack(">I", 7)))
        assert peer.h2.returned == [(peer.sending, 0)]
        peer.h2.returned.clear()
        peer.h2.begin(peer.sending, 0, peer.requests[0], NOW)
    peer.say(frame(3, 0, 1 + 2 * http2.REPLAYS_MAX, struct.pack(">I", 7)))
    assert not peer.h2.returned
    assert peer.told() == [("reset", False)]


def test_goaway_twice_names_fewer_the_second_time() -> None:
    peer = Peer(count=3)
    peer.say(frame(7, 0, 0, struct.pack(">II", 2**31 - 1, 0)))
    assert (peer.h2.draining, peer.h2.returned) == (True, [])
    peer.say(frame(7, 0, 0, struct.pack(">II", 1, 0)))
    assert [index for _, index in peer.h2.returned] == [1, 2]
    peer.say(peer.head(OK))
    assert peer.told() == [200, None, None]


# ---------------------------------------------------------------- answers


def test_padding_priority_continuation_interim_and_trailers() -> None:
    peer = Peer(count=1)
    early = peer.encoder.encode([(b":status", b"103"), (b"link", b"x")])
    block = peer.encoder.encode(
        [(b":status", b"400"), (b"apns-id", b"a"), (b"x", b"1"), (b"x", b"2")]
    )
    peer.say(
        frame(1, 4, 1, early),
        frame(1, 8 | 32, 1, b"\x03" + b"\x00\x00\x00\x00\x10" + block[:2] + b"\0\0\0"),
        frame(9, 0, 1, b""),
        frame(9, 4, 1, block[2:]),
        frame(0, 8, 1, b"\x02bo\0\0"),
        frame(0, 0, 1, b""),
        frame(0, 0, 1, b"dy"),
        peer.head(("x-trailer", "no")),
    )
    (answer,) = peer.sending.answers
    assert isinstance(answer, HttpResponse)
    found = (answer.status, answer.headers, answer.body)
    assert found == (400, {"apns-id": "a", "x": "1, 2"}, b"body")


def test_an_answer_before_the_body_is_sent_ends_the_upload() -> None:
    peer = Peer(count=1, body=b"x" * 70_000)
    peer.written()
    peer.say(peer.head((":status", "413")))
    assert peer.told() == [413]
    assert peer.written() == frame(3, 0, 1, struct.pack(">I", 8))


MALFORMED = {
    "no status": [("x", "1")],
    "a status that is no number": [(":status", "2e2")],
    "a status of four digits": [(":status", "2000")],
    "an interim answer that ends": [(":status", "100")],
}


def test_a_body_before_its_headers_costs_its_stream_only() -> None:
    peer = Peer(count=2)
    peer.say(frame(0, 0, 1, b"x"), peer.head(OK, stream=3))
    assert peer.told() == [("reset", True), 200]


@pytest.mark.parametrize("pairs", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_costs_its_stream_only(pairs: list[tuple[str, str]]) -> None:
    peer = Peer(count=2)
    peer.say(peer.head(*pairs), peer.head(OK, stream=3))
    assert peer.told() == [("reset", True), 200]


def test_a_malformed_answer_ends_an_upload_and_a_reset_after_it_says_nothing_new() -> None:
    peer = Peer(count=1, body=b"x" * 70_000)
    peer.written()
    peer.say(peer.head(("x", "1")), frame(3, 0, 1, struct.pack(">I", 8)))
    assert peer.told() == [("reset", True)]


@pytest.mark.parametrize("code", [0, 2, 7, 8])
def test_a_reset_in_the_middle_of_an_answer_is_never_begun_again(code: int) -> None:
    peer = Peer(count=1)
    peer.say(
        peer.head(OK, flags=4), frame(0, 0, 1, b"half"), frame(3, 0, 1, struct.pack(">I", code))
    )
    assert peer.told() == [("reset", True)]
    assert not peer.h2.returned


def test_half_a_body_by_its_own_count_is_no_answer() -> None:
    peer = Peer(count=1)
    peer.say(peer.head(OK, ("content-length", "9"), flags=4), frame(0, 1, 1, b"half"))
    assert peer.told() == [("reset", True)]


def test_bodies_of_one_call_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "SENDING_BYTES_MAX", 40_000)
    peer = Peer(count=8)
    for number in range(8):
        stream = 1 + 2 * number
        head = peer.head(OK, stream=stream, flags=4)
        peer.say(head, *[frame(0, 0, stream, b"z" * 10_000)] * 3, frame(0, 1, stream, b""))
    assert peer.told() == [200] * 8
    sizes = [
        len(answer.body) for answer in peer.sending.answers if isinstance(answer, HttpResponse)
    ]
    assert sizes[0] == 30_000
    assert sum(sizes) < 40_000 + 30_000 + 8 * http2.SPARSE_BYTES


# ---------------------------------------------------------------- peers that play

PING, SETTINGS_, WINDOW = frame(6, 0, 0, b"pingping"), frame(4, 0, 0), frame(8, 0, 0, b"\0\0\0\x01")
FAULTS = {
    "PING of five octets": [frame(6, 0, 0, b"hello")],
    "PING on a stream": [frame(6, 0, 1, b"pingping")],
    "SETTINGS of five octets": [frame(4, 0, 0, b"hello")],
    "SETTINGS on a stream": [frame(4, 0, 1)],
    "an acknowledgement with something in it": [frame(4, 1, 0, b"\0\3\0\0\0\1")],
    "a window over 2^31": [frame(4, 0, 0, struct.pack(">HI", 4, 2**31))],
    "a frame size too small": [frame(4, 0, 0, struct.pack(">HI", 5, 100))],
    "WINDOW_UPDATE of nothing": [frame(8, 0, 0, b"\0\0\0\0")],
    "windows that add up to too much": [frame(8, 0, 0, struct.pack(">I", 2**31 - 1))],
    "RST_STREAM of five octets": [frame(3, 0, 1, b"hello")],
    "RST_STREAM on stream 0": [frame(3, 0, 0, b"\0\0\0\0")],
    "GOAWAY of five octets": [frame(7, 0, 0, b"hello")],
    "PUSH_PROMISE": [frame(5, 4, 1, b"\0\0\0\2\x88")],
    "an answer on a stream that nobody opened": [frame(1, 5, 99, b"\x88")],
    "an answer on an even stream": [frame(1, 5, 2, b"\x88")],
    "data on stream 0": [frame(0, 0, 0, b"x")],
    "data on a stream that nobody opened": [frame(0, 0, 99, b"x")],
    "padding longer than its frame": [frame(1, 4, 1, b"\x88"), frame(0, 8, 1, b"\x09hi")],
    "CONTINUATION of nothing": [frame(9, 4, 1, b"\x88")],
    "a frame inside a header block": [frame(1, 0, 1, b"\x88"), PING],
    "another stream's CONTINUATION": [frame(1, 0, 1, b"\x88"), frame(9, 4, 3, b"")],
    "headers that make no sense": [frame(1, 5, 1, b"\xff\xff\xff\xff\xff")],
    "a frame over the size": [b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"],
    "no HTTP/2 at all": [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3],
}


@pytest.mark.parametrize("frames", FAULTS.values(), ids=FAULTS)
def test_what_the_rfc_forbids_ends_the_connection_and_what_was_written_is_uncertain(
    frames: list[bytes],
) -> None:
    peer = Peer(count=2)
    peer.written()
    with pytest.raises(ConnectionFault):
        peer.say(*frames)
    peer.h2.lose("lost", NOW)
    assert set(peer.told()) == {("reset", True)}


FLOODS = {
    "SETTINGS": SETTINGS_,
    "PING": PING,
    "WINDOW_UPDATE": WINDOW,
    "acknowledgements": frame(4, 1, 0),
    "empty data": frame(0, 0, 1),  # of a stream that nobody waits for
    "unknown frames": frame(190, 0, 0, b"x"),
    "PRIORITY": frame(2, 0, 1, b"\0\0\0\0\0"),
    "interim answers": frame(1, 4, 3, b"\x08\x03103"),
}


@pytest.mark.parametrize("one", FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_soon_and_nothing_piles_up(one: bytes) -> None:
    peer = Peer(count=2)
    peer.say(peer.head(OK))
    peer.written()
    with pytest.raises(ConnectionFault):
        peer.say(*[one] * (IDLE_FRAMES_MAX + 2))
    assert len(peer.h2.take_out()) <= CONTROL_BYTES_MAX
    peer = Peer(count=2)
    peer.say(peer.head(OK))
    # a flood for some is upkeep for others: an answer now and then, and it goes on
    for _ in range(50):
        peer.say(*[one] * 100)
        peer.written()
    peer.say(peer.head(OK, stream=3))
    assert peer.told() == [200, 200]


def test_headers_without_end_end_the_connection() -> None:
    for piece in (b"", b"x" * 16_000):
        peer = Peer(count=1)
        with pytest.raises(ConnectionFault):
            peer.say(frame(1, 0, 1, b"\x88"), *[frame(9, 0, 1, piece)] * 70)
        assert len(peer.h2._block) <= BLOCK_BYTES_MAX + 16_384


def test_a_head_that_unpacks_to_too_much_ends_the_connection() -> None:
    peer = Peer(count=2)
    peer.say(frame(1, 5, 1, b"\x88\x40\x01x" + b"\x7f\xa1\x1e" + b"y" * 4_000))
    with pytest.raises(ConnectionFault):
        peer.say(frame(1, 5, 3, b"\x88" + b"\xbe" * 200))


def test_a_body_without_end_is_cut_and_the_stream_reset() -> None:
    peer = Peer(count=1)
    peer.written()
    peer.say(peer.head(OK, flags=4))
    for _ in range(70):
        if not peer.sending.left:
            break
        peer.say(frame(0, 0, 1, b"z" * 16_000))
    (answer,) = peer.sending.answers
    assert isinstance(answer, HttpResponse)
    assert len(answer.body) == 1 << 20
    assert frame(3, 0, 1, struct.pack(">I", 8)) in peer.written()


kinds = st.integers(0, 12)
frames = st.builds(
    frame,
    kinds,
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 7, 99, 2**31 + 1]),
    st.binary(max_size=40)
    | st.sampled_from(
        [b"\x88", b"\x88\xbe", b"\0\0\0\0", b"\0\0\0\7", b"\0\3\0\0\0\1", b"pingping"]
    ),
)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(frames | st.binary(max_size=60), max_size=25), st.integers(1, 50))
def test_any_octets_in_any_pieces_end_in_answers_or_a_fault_and_each_request_ends_once(
    pieces: list[bytes], size: int
) -> None:
    peer = Peer(count=3, body=b"x" * 30_000)
    peer.written()
    stream = b"".join(pieces)
    try:
        for at in range(0, len(stream), size):
            peer.say(stream[at : at + size])
            peer.written()
    except ConnectionFault:
        pass
    peer.h2.lose("lost", NOW)
    waiting = {index for _, index in peer.h2.returned}
    told = {index for index, answer in enumerate(peer.sending.answers) if answer is not None}
    assert waiting | told == {0, 1, 2}
    assert not waiting & told
    assert not peer.h2.streams
