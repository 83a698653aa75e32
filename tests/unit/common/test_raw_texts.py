"""A person is found in bytes of any form, whatever escapes their writer likes."""

import pytest

from common.raw_texts import names


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b'{"data":{"user":"\\u5F20\\u4E09"},"x":', "\u5f20\u4e09"),
        (b'{"data":{"user":"\\uD83D\\uDE00"},"x":', "\U0001f600"),
        (b'{"data":{"user":"a\\/b"},"x":', "a/b"),
        (b'{"data":{"user":"a\\u002Bb@c"},"x":', "a+b@c"),
        (b'{"data":{"user":"a\\u0026b"},"x":', "a&b"),
        (b'{"data":"{\\"user\\":\\"a\\\\u0026b\\"}","x":', "a&b"),
        (b'{"user":"bob"', "bob"),
        (b'{"user":"bob"}', "bob"),
    ],
)
def test_whatever_its_spelling(raw: bytes, wanted: str) -> None:
    assert names(raw, wanted)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b'{"user":"bobby"', "bob"),
        (b'{"user":"a\\\\b"}', "ab"),
        (b'{"user":"a\\nb"}', "anb"),
        (b"\xff\xfe junk", "bob"),
    ],
)
def test_nobody_else(raw: bytes, wanted: str) -> None:
    assert not names(raw, wanted)
