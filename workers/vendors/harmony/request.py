"""The request that carries a batch to HarmonyOS. Source: docs/vendors/harmony.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.contracts import Notification
from common.model import Bucket, Kind, PushType
from workers.vendors.huawei_classes import SERVICE
from workers.vendors.huawei_family import (
    BODY_BYTES_MAX,
    TAG_HEX,
    Keep,
    badge_of,
    bearer,
    body_of,
    click_data,
    fitted,
    image_of,
    item_ttl_s,
    json_text,
    laid,
    note_tag,
    part,
    plain,
    raw_fields,
    refuse_long,
    text_option,
    title_of,
    ttl_of,
)
from workers.vendors.ids import base62, number_id, receipt_tag
from workers.vendors.json_text import compact
from workers.vendors.text import cut, short_call
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import Request

#: Source: 消息分类标准 and the v3 request page, read 2026-05.
CATEGORIES: Final = SERVICE
MARKETING: Final = "MARKETING"
MISSED_CALL: Final = "MISS_CALL"
NOTIFICATION, BACKGROUND, CALL = 0, 6, 10  # values of the header push-type that we send
#: Fields that vendor_raw.harmony (or its `notification`) may set. Ids on the screen, texts and
#: class are ours.
RAW_NOTIFICATION: Final = frozenset(
    {"badge", "clickAction", "foregroundShow", "image", "profileId", "sound", "soundDuration"}
)
NOISE: Final = frozenset({"sound", "soundDuration", "foregroundShow"})
RAW_WORDS: Final = frozenset({"inboxContent"})
TEST_TOKENS_MAX: Final = 10
RAW_OPTIONS: Final = frozenset({"backgroundMode", "collapseKey"})
INBOX_LINES_MAX: Final = 3
INBOX_LINE_MAX: Final = 1024


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    note = batch.items[0].note
    tokens = [item.target.token for item in batch.items]
    if note.kind is Kind.RECALL and (client_id := credential.options.get("app_id")):
        revoke = compact({"notifyId": number_id(note.collapse_id), "token": tokens})
        return Request(
            "HARMONY", f"/v1/{client_id}/messages:revoke", headers(access, NOTIFICATION), revoke
        )
    push_type = push_type_of(note, credential.rights)
    if push_type == NOTIFICATION:
        repeats = 2 if _inbox(note) else 1
        body = fitted(
            lambda title, text, keep: _alert(batch, credential, title, text, keep),
            title_of(note),
            body_of(note),
            repeats,
            note.prefix,
        )
    else:
        body = _background(batch, credential, push_type)
    body["target"]["token"] = tokens
    path = f"/v3/{credential.options['project_id']}/messages:send"
    return Request("HARMONY", path, headers(access, push_type), compact(body))


def headers(access: AccessToken | None, push_type: int) -> dict[str, str]:
    return {**bearer(access), "push-type": str(push_type)}


def push_type_of(note: Notification, rights: frozenset[str]) -> int:
    """0 notification; 6 for the app's process only; 10 in-app call, with the right for calls."""
    wanted = plain(note.vendor.get("push_type"))
    call = note.kind is Kind.CALL_INVITE and (
        note.push_type is PushType.VOIP or wanted == str(CALL)
    )
    if call and note.bucket is Bucket.PRIVATE and "harmony.voip" in rights:
        return CALL
    silent = note.push_type is PushType.SILENT or wanted == str(BACKGROUND)
    return BACKGROUND if silent else NOTIFICATION


def refuse(item: PushItem, credential: Credential) -> str | None:
    """`payload_too_large` where the data of a silent push does not fit, even without payload."""
    note = item.note
    if note.kind is Kind.RECALL or push_type_of(note, frozenset()) != BACKGROUND:
        return None
    data = json_text(click_data(note, Keep.EXT if note.ext is not None else Keep.ALL))
    ttl = item_ttl_s(item)
    options = {"ttl": ttl, "biTag": "0" * TAG_HEX, **_test(note, 1), **_receipt(credential)}
    least = {"payload": {"extraData": data}, "target": {"token": []}, "pushOptions": options}
    return refuse_long(least)


def _background(batch: RequestBatch, credential: Credential, push_type: int) -> dict[str, Any]:
    """Types 6 and 10: one text for the app's process. A silent push goes without raw options
    and a payload that do not fit beside ext (`refuse` knows what never fits), a call without all
    data that does not fit: payload first, then ext.
    """
    note = batch.items[0].note
    raw = note.vendor_raw if push_type == BACKGROUND else {}
    call = short_call(note.voip) or {} if push_type == CALL else {}
    body: dict[str, Any] = {
        "payload": {},
        "target": {"token": []},
        "pushOptions": {},
    }
    stages = sorted(Keep, reverse=True)
    if push_type != CALL:
        stages = [Keep.ALL, Keep.PAYLOAD] + ([Keep.EXT] if note.ext is not None else [])
    for keep in stages:
        # The payload must not change the call.
        data = {**call, **click_data(note, keep), **call}
        body["payload"] = {"extraData": json_text(data)}
        fields = raw if keep is Keep.ALL else {}
        body["pushOptions"] = _options(batch, credential, fields, frozenset({"backgroundMode"}))
        if len(compact(body)) <= BODY_BYTES_MAX:
            break
    return body


def _alert(
    batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep
) -> dict[str, Any]:
    note = batch.items[0].note
    raw = note.vendor_raw if keep is Keep.ALL else {}
    fields = part(raw, "notification") or raw
    shown = _notification(batch, credential, title, text, keep)
    allowed = RAW_NOTIFICATION - NOISE if quiet(note) else RAW_NOTIFICATION
    shown = laid(shown, fields, raw_fields(batch, allowed, RAW_WORDS))
    if "inboxContent" in shown:
        shown["style"] = 3
    options = _options(batch, credential, raw, frozenset({"collapseKey"}))
    return {"payload": {"notification": shown}, "target": {"token": []}, "pushOptions": options}


def _options(
    batch: RequestBatch, credential: Credential, raw: Mapping[str, Any], allowed: frozenset[str]
) -> dict[str, Any]:
    note = batch.items[0].note
    options: dict[str, Any] = {
        "ttl": ttl_of(batch),
        "biTag": receipt_tag(batch),
        **_test(note, len(batch.items)),
        **_receipt(credential),
    }
    return laid(options, part(raw, "pushOptions"), RAW_OPTIONS & allowed)


def _receipt(credential: Credential) -> dict[str, str]:
    """The callback that Huawei is to use, where the account names one."""
    receipt_id = text_option(credential.options, "receipt_id", 64)
    return {} if receipt_id is None else {"receiptId": receipt_id}


def _test(note: Notification, count: int) -> dict[str, Any]:
    """Test message, of up to TEST_TOKENS_MAX tokens; Huawei refuses one with more, so that it goes
    as a usual one.
    """
    wanted = note.vendor.get("test_message") in (True, 1, "1", "true")
    return {"testMessage": True} if wanted and count <= TEST_TOKENS_MAX else {}


def _notification(
    batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep
) -> dict[str, Any]:
    note = batch.items[0].note
    shown: dict[str, Any] = {
        "category": category_of(note, credential.rights),
        "title": title,
        "body": text,
        "clickAction": _click(note, keep),
        "notifyId": number_id(note.collapse_id),
        "appMessageId": _shown_once(batch),
    }
    if (badge := _badge(batch)) is not None:
        shown["badge"] = {"setNum": badge}
    if note.sound_android not in (None, "", "default", "none") and not quiet(note):
        shown["sound"] = str(note.sound_android)[:128]
    if _inbox(note):
        shown |= {"style": 3, "inboxContent": _lines(text)}
    if (image := image_of(batch)) and keep is Keep.ALL:
        shown["image"] = image
    return shown


def _shown_once(batch: RequestBatch) -> str:
    """The phone shows an id once in 24 h, so a repeat is not seen. In a group the event's own: who
    was one of many in the first attempt may be alone in the next. In a chat of two the push id, or
    the event's for several phones.
    """
    note = batch.items[0].note
    return base62(receipt_tag(batch) if note.conversation_type == "c2c" else note_tag(note), 22)


def _click(note: Notification, keep: Keep) -> dict[str, Any]:
    """0 opens the app's first page, 1 the page of `vendor.harmony.uri`; the data goes to either."""
    uri = text_option(note.vendor, "uri", 512)
    page = uri if plain(note.vendor.get("click_type")) == "1" else None
    action: dict[str, Any] = {"actionType": 1, "uri": page} if page else {"actionType": 0}
    data = click_data(note, keep)
    return {**action, "data": data} if data else action


def _badge(batch: RequestBatch) -> int | None:
    """`vendor.harmony.badge`: a number is shown, false or "none" leaves the icon alone.

    Without it: the number taken for this push.
    """
    wanted = batch.items[0].note.vendor.get("badge")
    if wanted is False or wanted == "none":
        return None
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return min(max(wanted, 0), 99)
    return badge_of(batch)


def _inbox(note: Notification) -> bool:
    return plain(note.vendor.get("style")) == "3"


def _lines(text: str) -> list[str]:
    """At most three lines; the rest is appended to the last, if it fits.

    Huawei refuses the whole push for a longer line.
    """
    return [cut(line, INBOX_LINE_MAX) for line in text.split("\n", INBOX_LINES_MAX - 1)]


def category_of(note: Notification, rights: frozenset[str]) -> str:
    """The placed category, or an override that does not raise it.

    Marketing stays marketing, and a category needs its right. The end of a call is no invitation:
    where it may, it travels as a missed call.
    """
    if note.bucket is Bucket.PUBLIC:
        return MARKETING
    if note.kind is Kind.CALL_CANCEL and "harmony.miss_call" in rights:
        return MISSED_CALL
    raw = part(note.vendor_raw, "notification") or note.vendor_raw
    wanted = plain(raw.get("category", note.vendor.get("category"))).upper()
    granted = wanted in CATEGORIES and f"harmony.{wanted.lower()}" in rights
    return wanted if granted or wanted == MARKETING else note.placement.get("category", MARKETING)


def check(credential: Credential, access: AccessToken | None) -> Request:
    """A push to no token, as v3 has no dry run: Huawei checks JWT and project first (80300010)."""
    action = {"actionType": 0}
    shown = {"category": MARKETING, "title": "check", "body": "check", "clickAction": action}
    body = compact({"payload": {"notification": shown}, "target": {"token": []}})
    path = f"/v3/{credential.options['project_id']}/messages:send"
    return Request("HARMONY", path, headers(access, NOTIFICATION), body)
