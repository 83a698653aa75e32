"""The request that carries a batch to Honor. Source: docs/vendors/honor.md."""

from __future__ import annotations

from typing import Any, Final

from common.contracts import Notification
from common.model import Bucket, PushType
from workers.vendors.huawei_family import (
    TAG_HEX,
    Keep,
    badge_of,
    bearer,
    body_of,
    click_data,
    fitted,
    group_of,
    image_of,
    item_ttl_s,
    json_text,
    laid,
    part,
    plain,
    raw_fields,
    refuse_long,
    silent_body,
    text_id,
    text_option,
    title_of,
    ttl_of,
)
from workers.vendors.ids import number_id, receipt_tag
from workers.vendors.json_text import compact
from workers.vendors.text import body_within, cut
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.wire import Request

TITLE_MAX: Final = 40  # code points; policy, docs/vendors/honor.md
BODY_MAX: Final = 256
SERVICE, MARKETING = "NORMAL", "LOW"  # android.notification.importance is Honor's class
RAW_NOTIFICATION: Final = frozenset({"badge", "clickAction", "image", "when"})
RAW_WORDS: Final = frozenset({"buttons"})


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    note = batch.items[0].note
    if note.push_type is PushType.SILENT:
        body = _data_message(note, ttl_of(batch), receipt_tag(batch))
    else:
        title = cut(title_of(note), TITLE_MAX)
        text = cut(body_within(note, BODY_MAX) or body_of(note), BODY_MAX)
        repeats = 2 if _big_text(note) else 1
        body = fitted(
            lambda head, tail, keep: _alert(batch, credential, head, tail, keep),
            title,
            text,
            repeats,
        )
    body["token"] = [item.target.token for item in batch.items]
    headers = {**bearer(access), "timestamp": str(batch.now_ms)}
    return Request(
        "HONOR", f"/api/v1/{credential.options['app_id']}/sendMessage", headers, compact(body)
    )


def refuse(item: PushItem, _credential: Credential) -> str | None:
    """`payload_too_large` where the data of a silent push does not fit."""
    if item.note.push_type is not PushType.SILENT:
        return None
    return refuse_long(_data_message(item.note, item_ttl_s(item), "0" * TAG_HEX))


def _data_message(note: Notification, ttl_s: int, tag: str) -> dict[str, Any]:
    """No notification in it, so the app's process gets it and nothing is shown."""
    android = {"ttl": f"{ttl_s}s", "biTag": tag}
    return silent_body(
        note,
        lambda data: {"data": data, "android": android, "token": []},
        part(note.vendor_raw, "message").get("data"),
    )


def _alert(
    batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep
) -> dict[str, Any]:
    note = batch.items[0].note
    raw = part(part(note.vendor_raw, "android"), "notification") if keep is Keep.ALL else {}
    allowed = raw_fields(batch, RAW_NOTIFICATION, RAW_WORDS)
    if importance_of(note) != SERVICE:  # a picture or an icon may cost the push (honor.md §3)
        allowed -= {"image"}
    shown = laid(_notification(batch, credential, title, text, keep), raw, allowed)
    data = {"data": json_text(fields)} if (fields := click_data(note, keep)) else {}
    if keep is Keep.ALL:
        data = _with_data(data, note)
    timing = {"ttl": f"{ttl_of(batch)}s", "biTag": receipt_tag(batch)}
    return {**data, "android": {**timing, "notification": shown}, "token": []}


def _with_data(data: dict[str, Any], note: Notification) -> dict[str, Any]:
    """vendor_raw.honor.message.data, a text, takes the place of ours."""
    raw = part(note.vendor_raw, "message").get("data")
    return {"data": raw} if isinstance(raw, str) else data


def _notification(
    batch: RequestBatch, credential: Credential, title: str, text: str, keep: Keep
) -> dict[str, Any]:
    note = batch.items[0].note
    importance = importance_of(note)
    shown: dict[str, Any] = {
        "title": title,
        "body": text,
        "clickAction": {"type": 3},
        "importance": importance,
        "notifyId": number_id(note.collapse_id),
        "tag": text_id(note.collapse_id),
        "group": group_of(note),
    }
    if _big_text(note):
        shown |= {"style": 1, "bigTitle": title, "bigBody": text}
    if (image := image_of(batch)) and importance == SERVICE and keep is Keep.ALL:
        shown["image"] = image
    # Without the launcher activity's name Honor refuses the badge, so no name means no badge.
    if (badge := badge_of(batch)) is not None and (
        activity := text_option(credential.options, "badge_class")
    ):
        shown["badge"] = {"setNum": badge, "badgeClass": activity}
    return shown


def _big_text(note: Notification) -> bool:
    raw = part(part(note.vendor_raw, "android"), "notification")
    return plain(raw.get("style", note.vendor.get("style"))) == "1"


def importance_of(note: Notification) -> str:
    """NORMAL (service) only where the class policy placed it so; `vendor` and `vendor_raw` may
    lower it, never raise it.

    A quiet push takes the silent level, which is the marketing class: Honor has no other.
    """
    raw = part(part(note.vendor_raw, "android"), "notification")
    wanted = plain(raw.get("importance", note.vendor.get("importance"))).upper()
    placed = note.bucket is Bucket.PRIVATE and note.placement.get("importance") == SERVICE
    return SERVICE if placed and wanted != MARKETING and not quiet(note) else MARKETING
