"""What a sender's wishes become before anybody's language is known. Pure."""

from __future__ import annotations

import msgspec

from common.contracts import PushFields
from common.visible_text import shows


def prefixed(push: PushFields, *, builds: bool = True) -> PushFields:
    """Resolves `auto`: the name precedes texts that we build, not the sender's own.

    builds: there is something to build a text of.
    """
    if push.display.nick_prefix != "auto":
        return push
    prefix = "on" if builds and not shows(push.display.body) else "off"
    display = msgspec.structs.replace(push.display, nick_prefix=prefix)
    return msgspec.structs.replace(push, display=display)
