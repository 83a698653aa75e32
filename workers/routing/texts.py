"""The fleet's own texts, by language. Pure.

A further language is a column here, or a tenant's own catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from workers.vendors.text import GENERIC

DEFAULT_LANG: Final = "zh"
#: The fallback language of a key that a catalogue lacks.
LINGUA_FRANCA: Final = "en"

#: By key, then by language. Element texts: im-dialects §2.2; the hidden text: contract §8.
TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "sound": {"zh": "[语音]", "en": "[Voice]"},
    "file": {"zh": "[文件]", "en": "[File]"},
    "image": {"zh": "[图片]", "en": "[Image]"},
    "video": {"zh": "[视频]", "en": "[Video]"},
    "face": {"zh": "[表情]", "en": "[Face]"},
    "location": {"zh": "[位置]", "en": "[Location]"},
    "merger": {"zh": "[聊天记录]", "en": "[Chat history]"},
    "hidden": GENERIC,
    "call_invite": {"zh": "邀请您通话", "en": "Incoming call"},
    "call_cancel": {"zh": "通话已结束", "en": "The call has ended"},
    "call_accepted": {"zh": "已在其他设备接听", "en": "Answered on another device"},
    "call_rejected": {"zh": "已在其他设备拒接", "en": "Declined on another device"},
    "call_cancelled": {"zh": "对方已取消通话", "en": "The call was cancelled"},
    "call_missed": {"zh": "未接来电", "en": "Missed call"},
    "recall": {"zh": "此消息已撤回", "en": "This message was recalled"},
    "read_elsewhere": {"zh": "已在其他设备阅读", "en": "Read on another device"},
    "folded": {"zh": "{count}条新消息", "en": "{count} new messages"},
}
LANGS: Final = frozenset(TEXTS["hidden"])


#: An element alone where a vendor refuses brackets (vivo.md, request fields).
SAID: Final[Mapping[str, Mapping[str, str]]] = {
    "sound": {"zh": "发来一段语音", "en": "sent a voice message"},
    "file": {"zh": "发来一个文件", "en": "sent a file"},
    "image": {"zh": "发来一张图片", "en": "sent an image"},
    "video": {"zh": "发来一段视频", "en": "sent a video"},
    "face": {"zh": "发来一个表情", "en": "sent a sticker"},
    "location": {"zh": "分享了一个位置", "en": "shared a location"},
    "merger": {"zh": "发来一段聊天记录", "en": "sent a chat history"},
}
_ROUND: Final = str.maketrans("[]{}", "()()")

#: Reason of a withdrawal without a recall: the conversation was read.
READ: Final = "read_elsewhere"


class CallEnding(StrEnum):
    """The end of a call, as far as its text differs; the values are keys of TEXTS."""

    ACCEPTED = "call_accepted"
    REJECTED = "call_rejected"
    CANCELLED = "call_cancelled"
    MISSED = "call_missed"
    OTHER = "call_cancel"


#: Reasons of `call.ended` from cores and clouds: ZEGO's own, and the usual ones. Compared in lower
#: case, letters and digits only.
_ENDINGS: Final[Mapping[CallEnding, frozenset[str]]] = {
    CallEnding.ACCEPTED: frozenset(
        {
            "accepted",
            "accept",
            "answered",
            "answer",
            "answeredelsewhere",
            "acceptedelsewhere",
            "connected",
            "pickedup",
        }
    ),
    CallEnding.REJECTED: frozenset(
        {
            "rejected",
            "reject",
            "declined",
            "decline",
            "refused",
            "rejectedelsewhere",
            "declinedelsewhere",
        }
    ),
    CallEnding.CANCELLED: frozenset(
        {"cancelled", "canceled", "cancel", "callercancel", "callercancelled", "callercanceled"}
    ),
    CallEnding.MISSED: frozenset(
        {
            "timeout",
            "timedout",
            "timeoutcancel",
            "missed",
            "noanswer",
            "unanswered",
            "noresponse",
            "expired",
            "busy",
        }
    ),
}


def ending_of(reason: str) -> CallEnding:
    """The ending of a core's reason; OTHER for an unknown one."""
    word = "".join(letter for letter in reason.lower() if letter.isalnum())
    return next((ending for ending, words in _ENDINGS.items() if word in words), CallEnding.OTHER)


#: A tenant's own texts: language tag in lower case -> key of TEXTS -> text. They override ours.
Catalogue = Mapping[str, Mapping[str, str]]
NOTHING: Final[Catalogue] = MappingProxyType({})


def lang_of(wish: str | None, fallback: str, own: Catalogue = NOTHING) -> str:
    """The best available language for a device's wish (`en-US`, `zh-Hans-CN`).

    Without a match: the tenant's, else the default.
    """
    return _lang_of(wish, fallback, own) if own else _built_in_lang_of(wish, fallback)


@lru_cache(4096)
def _built_in_lang_of(wish: str | None, fallback: str) -> str:
    return _lang_of(wish, fallback, NOTHING)


def _lang_of(wish: str | None, fallback: str, own: Catalogue) -> str:
    for name in (wish, fallback):
        parts = (name or "").replace("_", "-").lower().split("-")
        for length in range(len(parts), 0, -1):
            tag = "-".join(parts[:length])
            if tag in LANGS or tag in own:
                return tag
    return DEFAULT_LANG


def translate(key: str, lang: str, own: Catalogue = NOTHING) -> str:
    """The text of `key`: the tenant's, ours, the bare language's (`zh` for `zh-hant`), English."""
    mine = own.get(lang, NOTHING)
    # A tenant text for a call's end, set before endings had texts of their own, applies to all
    # endings.
    text = mine.get(key) or (mine.get(CallEnding.OTHER) if key in _OF_ENDS else None)
    if isinstance(text, str) and text:
        return text
    ours = TEXTS[key]
    return ours.get(lang) or ours.get(lang.split("-", maxsplit=1)[0]) or ours[LINGUA_FRANCA]


def unbracketed(key: str, lang: str, own: Catalogue, *, alone: bool) -> str:
    """An element's text without brackets: what was sent, or among others its name in parentheses.

    A tenant's own text keeps its words.
    """
    if alone and not own.get(lang, NOTHING).get(key):
        said = SAID[key]
        return said.get(lang) or said.get(lang.split("-", maxsplit=1)[0]) or said[LINGUA_FRANCA]
    return translate(key, lang, own).translate(_ROUND)


_OF_ENDS: Final = frozenset(str(ending) for ending in CallEnding)


class CatalogueError(ValueError):
    """An invalid catalogue; the message shows none of its texts."""


TEXT_CHARS_MAX: Final = 200


def read_catalogue(value: Any) -> dict[str, dict[str, str]]:
    """A checked catalogue from JSON types: `{"ja": {"hidden": "…", "image": "…"}, …}`.

    Raises CatalogueError with the accepted form.
    """
    if not isinstance(value, dict) or not value:
        raise CatalogueError("a catalogue is an object: language -> texts")
    read: dict[str, dict[str, str]] = {}
    for lang, texts in value.items():
        tag = lang.replace("_", "-").lower()
        if not all(part.isalnum() and part.isascii() for part in tag.split("-")) or len(tag) > 16:
            raise CatalogueError("a language is a tag such as ja, fr or zh-Hant")
        if not isinstance(texts, dict) or any(
            not isinstance(text, str) or not 0 < len(text) <= TEXT_CHARS_MAX
            for text in texts.values()
        ):
            raise CatalogueError(
                f"the texts of {lang} are an object: key -> text of 1 to {TEXT_CHARS_MAX} "
                "characters"
            )
        unknown = sorted(set(texts) - set(TEXTS))
        if unknown:
            raise CatalogueError(
                f"{lang} has texts that nobody says ({len(unknown)}); there are {', '.join(TEXTS)}"
            )
        read[tag] = dict(texts)
    return read
