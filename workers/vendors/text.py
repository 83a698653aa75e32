"""Texts cut between graphemes to fit a limit, and notifications without what need not travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from common.contracts import Localized, Notification
from common.model import PushType

ELLIPSIS = "…"
CHARACTERS_KEPT = 10  # of a text that must make room (im-dialects §5)


@cache
def graphemes() -> Any:
    """The pattern of what people take for one character. Loaded where a text has to be cut."""
    import regex  # noqa: PLC0415

    return regex.compile(r"\X")


def characters(text: str) -> int:
    """Length as most vendors count it: Unicode code points."""
    return len(text)


def utf8_bytes(text: str) -> int:
    """Length in UTF-8 bytes; a lone surrogate counts as the three bytes of U+FFFD
    that replace it.
    """
    return len(text.encode("utf-8", "surrogatepass"))


def cut(text: str, most: int, measure: Callable[[str], int] = characters) -> str:
    """`text`, or its longest prefix of whole graphemes with an ellipsis within `most`.

    `most` is in units of `measure`. Never cuts inside a grapheme (emoji families, flags, combining
    marks). "" when not even the ellipsis fits.
    """
    if measure(text) <= most:
        return text
    room = most - measure(ELLIPSIS)
    if room < 0:
        return ""
    used, end = 0, 0
    for match in graphemes().finditer(
        text
    ):  # pragma: no branch - all of it has no room: the loop breaks
        size = measure(match.group())
        if used + size > room:
            break
        used, end = used + size, match.end()
    return text[:end].rstrip() + ELLIPSIS


def body_within(note: Notification, most: int, measure: Callable[[str], int] = characters) -> str:
    """The note's body, uncut, with its leading name shortened for `cut`.

    `cut` then keeps CHARACTERS_KEPT characters of the text.
    """
    return named_within(note.body, note.prefix, most, measure)


def named_within(
    body: str, prefix: str, most: int, measure: Callable[[str], int] = characters
) -> str:
    """The same for a `body` that begins with a name, `prefix`."""
    if not prefix or not body.startswith(prefix) or measure(body) <= most:
        return body
    rest = body[len(prefix) :]
    least = min(measure(rest), measure(_beginning(rest) + ELLIPSIS))
    if measure(prefix) + least <= most:
        return body
    name = cut(prefix.rstrip(":"), most - least - measure(":"), measure)
    return f"{name}:{rest}" if name else rest


#: The text and title of a message that shows nothing of its own, by language (contract §8).
GENERIC: Final = {"zh": "您收到一条新消息", "en": "You have a new message"}
GENERIC_TITLE: Final = "新消息"

SHORTEST_CHARACTERS = 40  # of title and body, where the vendor found our measure too long


def shortest(note: Notification) -> Notification:
    """`note` without what need not travel, title and body of at most SHORTEST_CHARACTERS."""
    *_, bare = leaner(note)
    title = cut(note.title, SHORTEST_CHARACTERS)
    body = cut(body_within(note, SHORTEST_CHARACTERS), SHORTEST_CHARACTERS)
    return msgspec.structs.replace(bare, title=title, body=body, subtitle=None, prefix="")


WISH_CHARACTERS_MAX = 256  # of one of a sender's overrides that is kept where room is wanted


def leaner(note: Notification) -> Iterator[Notification]:
    """`note`, then with fewer and fewer data: picture, raw options and long names; payload; ext.

    Source: contract §7. An opaque payload is all that there is to send: it stays. So does the ext
    of a silent push.
    """
    yield note
    if note.blob:
        return
    if note.push_type is PushType.SILENT:
        if note.ext is not None:
            yield msgspec.structs.replace(note, payload=None, vendor_raw={})
        return
    bare = msgspec.structs.replace(
        note,
        image=None,
        vendor=_short(note.vendor),
        vendor_raw={},
        placement=_short(note.placement),
        thread_id=_short_text(note.thread_id),
        sound_ios=_short_text(note.sound_ios),
        sound_android=_short_text(note.sound_android),
        loc=note.loc if _is_short(note.loc) else None,
        voip=short_call(note.voip),
    )
    yield bare
    bare = msgspec.structs.replace(bare, payload=None)
    yield bare
    yield msgspec.structs.replace(bare, ext=None)


def fitting(
    render: Callable[[Notification], tuple[bytes, bytes, bool]], note: Notification
) -> tuple[bytes, bytes, bool]:
    """As `render`, without the data beside the text that does not fit. True: still too large."""
    body = b"", b"", True
    for lean in leaner(note):
        body = render(lean)
        if not body[2]:
            break
    return body


def _short(wishes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wishes.items() if _is_short(value)}


def short_call(voip: dict[str, Any] | None) -> dict[str, Any] | None:
    """The data of a call; its id stays, whatever its length."""
    call = (voip or {}).get("call")
    if voip is None or not isinstance(call, dict):
        return voip
    kept = {name: value for name, value in call.items() if name == "id" or _is_short(value)}
    return {**voip, "call": kept}


def _short_text(name: str | None) -> str | None:
    return name if _is_short(name) else None


def _is_short(value: Any) -> bool:
    """True for a name, or a text with its arguments, of a usual length."""
    if isinstance(value, Localized):
        return sum(map(len, value.args)) <= WISH_CHARACTERS_MAX
    return not isinstance(value, str) or len(value) <= WISH_CHARACTERS_MAX


def shrink(
    texts: Mapping[str, str], excess: int, measure: Callable[[str], int], prefix: str = ""
) -> dict[str, str]:
    """Cuts `texts` in order until `excess` units of `measure` are saved or nothing is left.

    Each keeps its first CHARACTERS_KEPT characters (whole graphemes), unless one grapheme alone is
    a screenful. A leading name, `prefix`, is kept too, and shortened only when the others have
    nothing more to give.
    """
    result = dict(texts)
    for kept in (prefix, "") if prefix else ("",):
        for name, text in texts.items():
            if excess <= 0:
                return result
            size, named = measure(result[name]), bool(prefix) and text.startswith(prefix)
            head = kept if named else ""
            start = len(prefix) if named else 0
            most = max(size - excess, measure(head + _beginning(text[start:]) + ELLIPSIS))
            result[name] = cut(
                text if kept else named_within(text, prefix, most, measure), most, measure
            )
            excess -= size - measure(result[name])
    return result


def _beginning(text: str) -> str:
    """The shortest prefix of whole graphemes with CHARACTERS_KEPT characters; "" if too long.

    Stacked marks can make it a screenful.
    """
    end = 0
    for match in graphemes().finditer(text):
        end = match.end()
        if end >= CHARACTERS_KEPT:
            break
    return text[:end] if end <= 5 * CHARACTERS_KEPT else ""
