"""The few helpers that Xiaomi and OPPO share: total, and exact at their borders."""

import pytest
from hypothesis import given

from tests.unit.vendors.strategies import texts, values
from workers.vendors.answers import redact
from workers.vendors.form_texts import code_of, first_words, json_text, number, scalar
from workers.vendors.json_text import whole


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (" a ", "a"),
        (7, "7"),
        ("", None),
        (" ", None),
        ("abcd", None),
        (True, None),
        (1 << 70, None),
        (1.0, None),
        (None, None),
    ],
)
def test_an_override_is_a_short_text_or_nothing(value, expected):
    assert scalar(value, 3) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        ("5", 5),
        ("-1", None),
        ("x", None),
        (6, None),
        ("٣", None),
        (5.0, None),
        ("5" * 30, None),
    ],
)
def test_a_number_is_whole_and_within_its_borders(value, expected):
    assert number(value, 0, 5) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), ("-1", "-1"), (None, ""), (True, ""), ([], ""), ("x" * 33, ""), (1 << 64, "")],
)
def test_a_code_is_a_short_text(value, expected):
    assert code_of(value) == expected


def test_the_first_words_that_are_not_blank_are_shown():
    assert first_words(5, None, " \n", "abc", "d") == "abc"
    assert first_words(5, "", None) == ""
    assert first_words(2, "abc") == "a…"


@given(value=values, text=texts)
def test_anything_becomes_json_or_nothing_and_words_stay_short(value, text):
    shown = json_text(value)
    assert shown is None or shown.encode("utf-8").decode() == shown
    assert len(redact(text)) <= 200
    whole(text).encode("utf-8")
