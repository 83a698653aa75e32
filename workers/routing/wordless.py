"""A sender's overrides without texts, names or pictures: for people who hide details, and what a
push has in common with the one that takes it back. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.contracts import PushFields
from common.model import Vendor

#: Overrides without words.
WORDLESS: Final = frozenset(
    {
        "add_badge",
        "badge",
        "category",
        "channel_id",
        "classification",
        "click_type",
        "content_available",
        "critical",
        "data_only",
        "ext_as_intent",
        "importance",
        "interruption_level",
        "mutable_content",
        "notice_msg_type",
        "notify_level",
        "notify_type",
        "priority",
        "push_mode",
        "push_type",
        "style",
        "target_user_type",
        "template_id",
        "test_message",
        "type",
    }
)
#: Of those, what tells of the moment of the push: a badge that is set, or counted once more, when
#: the push is taken back would be wrong by then.
_ONCE: Final = frozenset({"add_badge", "badge"})
#: Verbatim fields that choose class and channel, whatever object of the vendor's they stand in.
_PLACING: Final = frozenset(
    {
        "android_channel_id",
        "category",
        "channel_id",
        "classification",
        "importance",
        "notify_level",
    }
)
#: Objects inside one another: `huawei.message.android.notification` is the deepest.
_DEPTH_MAX: Final = 5
#: Characters of a value that is kept: no vendor's channel or template has a longer name.
VALUE_MAX: Final = 64
#: FCM's verbatim fields have two names, by API version (im-dialects §4.4).
_NAMES: Final = frozenset([*map(str, Vendor), "fcm_v1"])


def shared_wishes(push: PushFields) -> dict[str, dict[str, Any]]:
    """{"vendor": …, "vendor_raw": …} of the push, as far as they hold no words; no empty parts.

    A withdrawal has them too: it goes to its message's channel, and what the app drew is replaced
    by what the app draws.
    """
    named = {name: one for name, one in (push.vendor or {}).items() if name in _NAMES}
    verbatim = {name: one for name, one in (push.vendor_raw or {}).items() if name in _NAMES}
    found = {
        "vendor": _picked(named, WORDLESS - _ONCE, 2),
        "vendor_raw": placing(verbatim, _DEPTH_MAX),
    }
    return {name: part for name, part in found.items() if part}


def placing(verbatim: Mapping[str, Any], depth: int = _DEPTH_MAX - 1) -> dict[str, Any]:
    """What of a vendor's verbatim fields chooses class and channel. depth: of objects."""
    return _picked(verbatim, _PLACING, depth)


def _picked(part: Mapping[str, Any], names: frozenset[str], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, Mapping):
            inner = _picked(value, names, depth - 1) if depth > 1 else {}
            if inner:
                found[name] = inner
        elif name in names and isinstance(value, str | int) and len(str(value)) <= VALUE_MAX:
            found[name] = value
    return found
