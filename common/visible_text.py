"""Which texts show anything."""

from __future__ import annotations

import re
from typing import Final, TypeGuard

#: Unicode's default-ignorable characters, controls, and letters whose picture is a blank. Chats are
#: full of them: editors, keyboards and bots leave zero-width spaces where nothing was typed.
_VISIBLE: Final = re.compile(
    r"[^\s\0-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def shows(text: str | None) -> TypeGuard[str]:
    """True when a text has a character to see; any other counts as not given."""
    if not text:
        return False
    # as a rule the first character tells
    return "!" <= text[0] <= "~" or _VISIBLE.search(text) is not None
