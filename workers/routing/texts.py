"""What the fleet itself says to people, by language. Pure. A further language is a further column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEFAULT_LANG: Final = "zh"

#: By key, then by language. Element texts: im-dialects §2.2; the hidden text: contract §8.
TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "sound": {"zh": "[语音]", "en": "[Voice]"},
    "file": {"zh": "[文件]", "en": "[File]"},
    "image": {"zh": "[图片]", "en": "[Image]"},
    "video": {"zh": "[视频]", "en": "[Video]"},
    "face": {"zh": "[表情]", "en": "[Face]"},
    "location": {"zh": "[位置]", "en": "[Location]"},
    "merger": {"zh": "[聊天记录]", "en": "[Chat history]"},
    "hidden": {"zh": "您收到一条新消息", "en": "You have a new message"},
    "call_invite": {"zh": "邀请您通话", "en": "Incoming call"},
    "call_cancel": {"zh": "通话已结束", "en": "The call has ended"},
    "recall": {"zh": "此消息已撤回", "en": "This message was recalled"},
    "folded": {"zh": "{count}条新消息", "en": "{count} new messages"},
}
LANGS: Final = frozenset(TEXTS["hidden"])


def lang_of(wish: str | None, fallback: str) -> str:
    """The language of ours that fits a device's wish (`en-US`, `zh-Hans-CN`), else the tenant's, else the default."""
    for name in (wish, fallback):
        primary = (name or "").replace("_", "-").split("-")[0].lower()
        if primary in LANGS:
            return primary
    return DEFAULT_LANG


def say(key: str, lang: str) -> str:
    return TEXTS[key].get(lang, TEXTS[key][DEFAULT_LANG])
