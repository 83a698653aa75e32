"""Answers to requests in columns are those that the same requests get one by one."""

import uuid

import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.transport.http2 import (
    FRAME_BYTES_MAX,
    ConnectionFault,
    Http2Connection,
    StreamSending,
    frame,
)
from workers.wire import (
    HttpResponse,
    NoAnswer,
    Request,
    RequestColumns,
    RequestForm,
    ResponseColumns,
)

NOW, SECONDS = 100.0, 2.0
OVERSIZED = frame(0, 0, 1, b"x" * (FRAME_BYTES_MAX + 1))


def columns(count: int) -> RequestColumns:
    form = RequestForm("A", ("/3/device/%s", ("token",)), {}, {}, ("{}", ()))
    return RequestColumns(form, {"token": [f"{n:064x}" for n in range(count)]}, count, {})


class Side:
    """A connection with requests on it, as columns or one by one, and their server."""

    def __init__(self, count: int, *, packed: bool) -> None:
        requests: RequestColumns | list[Request] = columns(count)
        self.sending = StreamSending(requests if packed else list(requests), 1000.0)
        self.h2, self.encoder = Http2Connection("h", 1000), Encoder()
        self.h2.receive(frame(4, 0, 0), NOW)
        self.h2.met = True
        for index, request in enumerate(requests):
            self.h2.begin(self.sending, index, request, NOW)
        self.h2.take_out()
        self.h2.sent, self.sending.begun = self.h2.queued, NOW

    def head(self, place: int, status: str = "200", **headers: str) -> bytes:
        pairs = [(":status", status), *((k.replace("_", "-"), v) for k, v in headers.items())]
        return frame(1, 5, 2 * place + 1, self.encoder.encode(pairs))

    def say(self, *frames: bytes) -> None:
        self.h2.receive(b"".join(frames), NOW + SECONDS)

    def answers(self) -> list[HttpResponse | NoAnswer]:
        assert None not in self.sending.answers
        return list(ResponseColumns([one for one in self.sending.answers if one is not None]))


SAID = st.lists(
    st.one_of(
        st.uuids().map(lambda one: {"apns_id": str(one)}),
        st.just({"apns_id": ""}),
        st.just({}),
        st.just({"apns_id": "a", "date": "now"}),
        st.sampled_from(["400", "410", "503"]).map(lambda one: {"status": one, "apns_id": "b"}),
    ),
    min_size=1,
    max_size=12,
)


@given(SAID, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_answers_to_columns_are_those_to_the_same_requests_one_by_one(
    said: list[dict[str, str]], chance: object
) -> None:
    order = list(range(len(said)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    both = Side(len(said), packed=True), Side(len(said), packed=False)
    for side in both:
        side.say(*[side.head(place, **said[place]) for place in order])
    assert both[0].answers() == both[1].answers()
    assert both[0].sending.left == both[1].sending.left == 0


def test_a_plain_answer_is_a_response_to_whoever_asks() -> None:
    found = ResponseColumns([("apns-id", "x", 0.5), NoAnswer("reset", True)])
    assert found[0] == HttpResponse(200, {"apns-id": "x"}, b"", 0.5)
    assert list(found[:1]) == [found[0]]
    assert found[-1] == NoAnswer("reset", True)
    assert len(found) == 2


@pytest.mark.parametrize("packed", [True, False])
def test_answers_before_a_fault_of_the_same_read_are_kept(packed: bool) -> None:
    side = Side(3, packed=packed)
    names = [str(uuid.uuid4()) for _ in range(2)]
    with pytest.raises(ConnectionFault):
        side.say(*[side.head(n, apns_id=name) for n, name in enumerate(names)], OVERSIZED)
    side.h2.lose("lost", NOW)
    told = [one.headers["apns-id"] for one in side.answers()[:2] if isinstance(one, HttpResponse)]
    assert told == names
    assert isinstance(side.answers()[2], NoAnswer)


@pytest.mark.parametrize("packed", [True, False])
def test_of_two_answers_to_one_request_in_one_read_the_first_counts(packed: bool) -> None:
    side = Side(2, packed=packed)
    side.say(
        side.head(0, apns_id="first"), side.head(0, apns_id="second"), side.head(1, apns_id="own")
    )
    told = [one.headers["apns-id"] for one in side.answers() if isinstance(one, HttpResponse)]
    assert told == ["first", "own"]
    assert side.sending.left == 0
