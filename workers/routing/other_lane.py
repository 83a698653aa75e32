"""A waiting push rebuilt for another vendor or account of its device. Pure.

Its text and data stay. What was made for the first lane is made again: placement, push type, title.
The sender's overrides for the first vendor do not apply to another one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from common.contracts import Device, Notification
from common.model import Kind, PushType, Vendor
from workers.routing import classes
from workers.vendors.types import Credential


def for_lane(
    note: Notification, before: Vendor, device: Device, credential: Credential
) -> Notification:
    """The notification as the device's lane of now takes it; before: the vendor it was made for."""
    same = before == credential.vendor
    over = classes.with_raw(before, note.vendor, note.vendor_raw) if same else {}
    push_type = _push_type(note, device)
    placed = classes.place(note.message_class, push_type, credential, over)
    others: dict[str, Any] = {} if same else {"title": _title(note, device.vendor), **_OF_A_VENDOR}
    return msgspec.structs.replace(
        note,
        push_type=push_type,
        placement=dict(placed.fields),
        bucket=placed.bucket,
        class_sent=placed.class_sent,
        downgraded=placed.downgraded,
        voip=note.voip if push_type is PushType.VOIP else None,
        **others,
    )


#: A picture's address, a template's number and a vendor's own fields are one vendor's.
_OF_A_VENDOR: Final[dict[str, Any]] = {
    "image": None,
    "template": None,
    "vendor": {},
    "vendor_raw": {},
}


def _push_type(note: Notification, device: Device) -> PushType:
    """A call stays a VoIP push where the device can take one; else people see an alert."""
    can = device.vendor == Vendor.HARMONY or (
        device.vendor == Vendor.APNS and bool(device.voip_token)
    )
    return PushType.ALERT if note.push_type is PushType.VOIP and not can else note.push_type


def _title(note: Notification, vendor: Vendor) -> str:
    """Apple shows the app's name by itself, and no name twice; the others need a title."""
    if vendor == Vendor.APNS:
        return "" if _made_up(note) else note.title
    return note.title or note.sender_name or note.app_name or note.body


def _made_up(note: Notification) -> bool:
    """True when the sender set no title: it is the text's leading name, or the app's."""
    named = bool(note.prefix) and note.prefix.startswith(note.title)
    return named or note.title == note.app_name or note.kind in (Kind.RECALL, Kind.CALL_CANCEL)
