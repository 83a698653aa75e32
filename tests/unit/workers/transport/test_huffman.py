"""Texts in the Huffman code of HPACK: beside another implementation of it, and at its edges."""

import uuid

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from workers.transport.huffman import HeaderError, decode, decode_alike

encoded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode


def by_another(raw: bytes) -> str | None:
    try:
        return decode_huffman(raw).decode("latin-1")
    except HPACKDecodingError:
        return None


def by_us(raw: bytes) -> str | None:
    try:
        return decode(raw)
    except HeaderError:
        return None


@given(st.one_of(st.uuids().map(lambda one: str(one).encode()), st.binary(max_size=600)))
@settings(deadline=None)
def test_every_text_comes_out_as_it_went_in(text: bytes) -> None:
    assert decode(encoded(text)) == text.decode("latin-1")


@given(st.binary(max_size=12), st.sampled_from([b"", b"\xff", b"\xff\xff", b"\xfe", b"\x7f"]))
@settings(deadline=None, max_examples=examples(200))
def test_any_octets_are_what_another_implementation_says(raw: bytes, end: bytes) -> None:
    assert by_us(raw + end) == by_another(raw + end)


@pytest.mark.parametrize("length", range(9))
def test_padding_is_of_seven_bits_at_most(length: int) -> None:
    """Texts of `0`, five bits each, with all the padding that fits, and an octet of it too much."""
    raw = encoded(b"0" * length)
    assert decode(raw) == "0" * length
    assert by_us(raw + b"\xff") is None


def test_ids_are_read_together_whatever_their_padding() -> None:
    """Texts of `0` and `b`, of five and of six bits, end in each number of bits."""
    raws = [encoded(b"0" * (8 - sixes) + b"b" * sixes) for sixes in range(8)]
    assert {8 * len(raw) - 40 - sixes for sixes, raw in enumerate(raws)} == set(range(8))
    assert decode_alike(raws) == list(map(decode, raws))
    ids = [str(uuid.uuid4()) for _ in range(200)]
    assert decode_alike([encoded(one.encode()) for one in ids]) == ids
    assert [decode(encoded(one.encode())) for one in ids] == ids


@given(
    st.lists(
        st.one_of(
            st.text("0b-", min_size=4, max_size=4).map(lambda one: encoded(one.encode())),
            st.text("0i16:=*", min_size=1, max_size=8).map(lambda one: encoded(one.encode())),
            st.binary(min_size=1, max_size=6),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=examples(300))
def test_what_is_read_together_is_what_is_read_one_by_one(raws: list[bytes]) -> None:
    found = decode_alike(raws)
    assert found is None or found == list(map(by_us, raws))


def test_nothing_else_is_read_together() -> None:
    alike = [encoded(b"0b0b"), encoded(b"bb00")]
    assert decode_alike(alike) == ["0b0b", "bb00"]
    assert decode_alike([b"\xff\xfe"]) is None  # read as nothing at all
    for odd in (encoded(b"0"), encoded(b"i160"), alike[0] + b"\xff", b"\xff\xff\xff\xff"):
        assert decode_alike([*alike, odd]) is None
