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
from workers.transport.huffman import HeaderError, decode

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


def test_an_id_of_many_texts_in_a_row_is_its_own() -> None:
    ids = [str(uuid.uuid4()) for _ in range(200)]
    assert [decode(encoded(one.encode())) for one in ids] == ids
