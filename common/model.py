"""Small closed sets and values that every floor of the house shares."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self


class Vendor(StrEnum):
    """The nine lanes' kinds; the values of `vendor` everywhere (contract, words)."""

    #: Which endpoints the vendor's traffic goes to: the names after PUSHFLEET_ENDPOINT_.
    endpoints: tuple[str, ...]

    def __new__(cls, value: str, *endpoints: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.endpoints = endpoints
        return member

    APNS = "apns", "APNS_PRODUCTION", "APNS_SANDBOX"
    FCM = "fcm", "FCM", "GOOGLE_OAUTH"
    HUAWEI = "huawei", "HUAWEI", "HUAWEI_OAUTH"
    HARMONY = "harmony", "HARMONY"
    HONOR = "honor", "HONOR", "HONOR_OAUTH"
    XIAOMI = "xiaomi", "XIAOMI", "XIAOMI_GLOBAL"
    OPPO = "oppo", "OPPO", "OPPO_INTL", "OPPO_FEEDBACK"
    VIVO = "vivo", "VIVO"
    MEIZU = "meizu", "MEIZU"


#: Types of the core's events that may lead to pushes.
PUSHED_EVENTS: Final = frozenset({"message.stored", "call.invited", "push.direct"})


class MessageClass(StrEnum):
    """What a message is (im-dialects §1); decides bucket, wire fields and urgency."""

    CHAT = "chat"
    CALL = "call"
    ACCOUNT = "account"
    ORDER = "order"
    TODO = "todo"
    DEVICE = "device"
    SUBSCRIPTION = "subscription"
    NEWS = "news"
    CONTENT = "content"
    MARKETING = "marketing"
    SOCIAL = "social"


#: Classes that may travel as private (system) where the credential has the right. The others never
#: do.
PRIVATE_CLASSES: Final = frozenset(
    {
        MessageClass.CHAT,
        MessageClass.CALL,
        MessageClass.ACCOUNT,
        MessageClass.ORDER,
        MessageClass.TODO,
        MessageClass.DEVICE,
        MessageClass.SUBSCRIPTION,
    }
)


class Bucket(StrEnum):
    """The two daily quotas a vendor counts in."""

    PRIVATE = "private"
    PUBLIC = "public"


class Kind(StrEnum):
    """The subject of a push; part of the push id, so that a recall differs from its message."""

    MESSAGE = "message"
    CALL_INVITE = "call_invite"
    CALL_CANCEL = "call_cancel"
    RECALL = "recall"
    BADGE = "badge"  # nothing but the number on the icon
    CLEAR = "clear"  # a conversation was read elsewhere: the app takes away what it shows of it


class PushType(StrEnum):
    ALERT = "alert"
    VOIP = "voip"
    SILENT = "silent"


class Urgency(StrEnum):
    """Order in which a vendor's streams are served: call > chat (c2c, mention) > group > bulk."""

    CALL = "call"
    CHAT = "chat"
    GROUP = "group"
    BULK = "bulk"


class BadgeMode(StrEnum):
    INCREMENT = "increment"
    SET = "set"  # an absolute number, given with the push
    KEEP = "keep"
    NONE = "none"


class Verdict(StrEnum):
    """The meaning of a vendor's answer for one token (style §2)."""

    ACCEPTED = "accepted"
    TOKEN_DEAD = "token_dead"
    SILENCED = "silenced"
    TOKEN_FOREIGN = "token_foreign"
    REJECTED = "rejected"
    ACCESS_EXPIRED = "access_expired"
    CREDENTIAL_REFUSED = "credential_refused"
    THROTTLED = "throttled"
    QUOTA_SPENT = "quota_spent"
    DEVICE_CAP = "device_cap"
    FOLDED = "folded"  # the vendor shows a newer push in its place: says nothing of the day
    UNAVAILABLE = "unavailable"
    UNCERTAIN = "uncertain"
    UNKNOWN = "unknown"


class Again(StrEnum):
    """The required change of the next attempt at the same push."""

    SINGLY = "singly"  # alone in its request: the vendor judged the whole batch
    FALLBACK_TEXT = "fallback_text"  # the vendor refused the words (vivo 10085, 10104)
    SHORTEST = "shortest"  # the vendor found it too long: without data, the words cut short
    WITHOUT_IMAGE = "without_image"
    WITHOUT_NOTIFY_LEVEL = "without_notify_level"
    NEW_CONNECTION = "new_connection"
    SAVE_AGAIN = "save_again"  # a stored body is gone (vivo 10155)


class Decision(StrEnum):
    """The final result for a recipient (contract §7)."""

    PUSH_DISABLED = "push_disabled"
    ONLINE_ONLY = "online_only"
    NO_TEXT = "no_text"
    EXPIRED = "expired"
    ONLINE = "online"
    ONLINE_ELSEWHERE = "online_elsewhere"
    SENDER = "sender"
    NO_DEVICE = "no_device"
    NO_CREDENTIAL = "no_credential"
    MUTED = "muted"
    DND = "dnd"
    BLOCKED = "blocked"
    NOT_FRIEND = "not_friend"
    ACCEPTED = "accepted"
    TOKEN_DEAD = "token_dead"
    SILENCED = "silenced"
    TOKEN_FOREIGN = "token_foreign"
    REJECTED = "rejected"
    CREDENTIAL_REFUSED = "credential_refused"
    QUOTA_SPENT = "quota_spent"
    DEVICE_CAP = "device_cap"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    UNCERTAIN = "uncertain"
    UNKNOWN = "unknown"
    FOLDED = "folded"
    READ_ELSEWHERE = "read_elsewhere"
    RECALLED = "recalled"
    CALL_ENDED = "call_ended"
    LANE_PAUSED = "lane_paused"
