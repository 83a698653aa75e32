"""What a sender's wishes become before anybody's language is known. Pure."""

from __future__ import annotations

import msgspec

from common.contracts import PushFields


def is_text(text: str | None) -> bool:
    """True when a text holds visible characters; blanks count as not given."""
    return bool(text and text.strip())


def prefixed(push: PushFields, *, builds: bool = True) -> PushFields:
    """Resolves `auto`: the name precedes texts that we build, not the sender's own.

    builds: there is something to build a text of.
    """
    if push.display.nick_prefix != "auto":
        return push
    prefix = "on" if builds and not is_text(push.display.body) else "off"
    display = msgspec.structs.replace(push.display, nick_prefix=prefix)
    return msgspec.structs.replace(push, display=display)
