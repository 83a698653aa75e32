"""HPACK: what we write a foreign decoder reads, what a foreign encoder writes we read, and nothing
a peer sends grows without bound.
"""

import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from workers.transport.header_codec import (
    LIST_BYTES_MAX,
    TABLE_BYTES,
    HeaderDecoder,
    HeaderEncoder,
    UnsendableError,
    integer,
)
from workers.transport.huffman import HeaderError
from workers.wire import Request


def push(number: int, token: str = "t" * 180, **headers: str) -> Request:
    usual = {
        "authorization": "bearer " + token,
        "apns-topic": "com.example.chat",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(1_900_000_000 + number),
        "apns-id": f"{number:032x}",
        "apns-collapse-id": f"m-{number}",
    }
    return Request("A", f"/3/device/{number:064x}", usual | headers, b"{}")


def plain(request: Request) -> list[tuple[str, str]]:
    method = (":method", request.method)
    pseudo = [method, (":scheme", "https"), (":authority", "h:443"), (":path", request.path)]
    return [*pseudo, *request.headers.items()]


def read(decoder: Decoder, block: bytes) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in decoder.decode(block)]


def test_what_repeats_costs_an_octet() -> None:
    encoder, decoder = HeaderEncoder("h:443"), Decoder()
    sizes = []
    for number in range(50):
        block = encoder.block(push(number))
        assert read(decoder, block) == plain(push(number))
        sizes.append(len(block))
    assert sizes[0] > 350
    # path 74, id 32, expiration 10, collapse id 4, and a few octets of places
    assert max(sizes[2:]) < 140


def test_a_path_that_repeats_is_put_into_the_table_too() -> None:
    """FCM: all requests of a project go to one path."""
    encoder, decoder = HeaderEncoder("h:443"), Decoder()
    headers = {"authorization": "Bearer x", "content-type": "application/json"}
    request = Request("A", "/v1/projects/demo/messages:send", headers, b"{}")
    blocks = [encoder.block(request) for _ in range(3)]
    assert all(read(decoder, block) == plain(request) for block in blocks)
    assert len(blocks[2]) == 6


@settings(max_examples=examples(50), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.integers(0, 400),
            st.sampled_from([None, 0, 60, 500, 4096, 70_000]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_a_foreign_decoder_reads_it_whatever_rotates_and_whatever_table_it_allows(
    steps: list[tuple[int, int, int | None]],
) -> None:
    encoder, decoder = HeaderEncoder("h:443"), Decoder()
    for number, (token, length, table) in enumerate(steps):
        if table is not None:
            encoder.limit(table)
            decoder.max_allowed_table_size = min(table, TABLE_BYTES)
        request = push(number, token=str(token) * (length + 1))
        if token == 3:
            request = Request("A", "/same", {"x-other": "y" * length}, b"", method="GET")
        assert read(decoder, encoder.block(request)) == plain(request)


def test_the_provider_token_may_change_for_ever() -> None:
    encoder, decoder = HeaderEncoder("h:443"), Decoder()
    sizes = []
    for turn in range(100):
        for number in range(3):
            request = push(number, token=f"{turn}-" + "t" * 180)
            assert read(decoder, encoder.block(request)) == plain(request)
        sizes.append(len(encoder.block(push(9, token=f"{turn}-" + "t" * 180))))
    found = sum(size < 140 for size in sizes)
    assert found > 80, "a new one is put into the table, and the table is emptied now and then"


@pytest.mark.parametrize(
    "headers", [{"apns-id": "a\nb"}, {"apns-topic": "é"}, {"x": " y"}, {"x:": "y"}]
)
def test_what_can_not_be_written_changes_nothing(headers: dict[str, str]) -> None:
    encoder, decoder = HeaderEncoder("h:443"), Decoder()
    for _ in range(2):
        with pytest.raises(UnsendableError):
            encoder.block(push(1, **headers))
        assert read(decoder, encoder.block(push(2))) == plain(push(2))


names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=80)
values = st.text(st.characters(max_codepoint=255), max_size=80)
heads = st.lists(st.tuples(names, values), max_size=6)


@settings(max_examples=examples(50), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(names, values), max_size=6),
            st.booleans(),
            st.sampled_from([None, 0, 100, 4096]),
        ),
        max_size=30,
    )
)
def test_we_read_what_a_foreign_encoder_writes(
    blocks: list[tuple[list[tuple[str, str]], bool, int | None]],
) -> None:
    encoder, decoder = Encoder(), HeaderDecoder()
    for headers, huffman, table in blocks:
        if table is not None:
            encoder.header_table_size = table
        sent = [(":status", "200"), *headers]
        block = encoder.encode(
            [(name.encode(), value.encode("latin-1")) for name, value in sent], huffman=huffman
        )
        assert decoder.decode(block) == sent


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=80))
def test_any_octets_are_headers_or_an_error(block: bytes) -> None:
    try:
        HeaderDecoder().decode(block)
    except (HeaderError, IndexError):
        pass


JUNK = {
    "an index of nothing": b"\x80",
    "an index beyond the table": b"\xff\x00",
    "an integer without end": b"\xff\xff\xff\xff\xff\xff\xff\x0f",
    "an integer too large": b"\x7f\xff\xff\xff\x7f",
    "half an integer": b"\xff\xff",
    "a name that is not there": b"\x40",
    "a string longer than the block": b"\x00\x05abc",
    "a table larger than offered": b"\x3f\xe2\x1f",
    "a table size in the middle": b"\x88\x20",
    "the end of string inside a string": b"\x00\x01a\x84\xff\xff\xff\xff",
    "padding of zeros": b"\x00\x01a\x81\x00",
    "padding of a whole octet": b"\x00\x01a\x82\x1f\xff",
}


@pytest.mark.parametrize("block", JUNK.values(), ids=JUNK)
def test_each_thing_that_the_rfc_forbids_is_an_error(block: bytes) -> None:
    with pytest.raises((HeaderError, IndexError)):
        HeaderDecoder().decode(block)


def test_a_few_octets_can_not_become_a_great_many() -> None:
    """An entry of 4,000 octets, named again by one octet each time: what comes out is bounded, not
    only what goes in.
    """
    decoder = HeaderDecoder()
    decoder.decode(b"\x40\x01x" + integer(4_000, 7, 0) + b"y" * 4_000)
    decoder.decode(b"\xbe" * (LIST_BYTES_MAX // 4_040))
    with pytest.raises(HeaderError):
        decoder.decode(b"\xbe" * 100)
    with pytest.raises(HeaderError):
        HeaderDecoder().decode(b"\x88" * 2_000)


def test_the_table_never_outgrows_what_we_offered() -> None:
    decoder = HeaderDecoder()
    for number in range(2_000):
        decoder.decode(b"\x40\x04" + f"{number:04}".encode() + b"\x01y")
    assert len(decoder._entries) <= TABLE_BYTES // 32
