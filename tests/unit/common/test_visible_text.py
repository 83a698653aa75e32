"""A text whose first character is seen is told without the long look."""

import sys

from common.visible_text import _VISIBLE, shows


def test_no_text_shows_nothing() -> None:
    assert not shows(None)
    assert not shows("")


def test_each_character_shows_as_the_long_look_has_it() -> None:
    for number in range(sys.maxunicode + 1):
        assert shows(chr(number)) == (_VISIBLE.search(chr(number)) is not None)


def test_what_stands_behind_blanks_shows() -> None:
    assert shows("\u200b \u3164a")
    assert not shows("\u200b \u3164")
