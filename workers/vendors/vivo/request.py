"""The request that carries a batch to vivo. Source: docs/vendors/vivo.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from common.contracts import Notification
from common.model import Bucket, PushType
from workers.vendors.answers import read
from workers.vendors.ids import number_id
from workers.vendors.json_text import compact, whole
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch, quiet
from workers.vendors.vivo.codes import number, replaced_parts
from workers.vendors.vivo.texts import (
    CUSTOM_CHARACTERS_MAX,
    TOKEN,
    all_custom,
    characters,
    custom_with,
    receipt,
    words,
)
from workers.wire import HttpResponse, Request

TTL_S_MIN: Final = 60
TTL_S_MAX: Final = 86_400
_SYSTEM_CATEGORIES: Final = frozenset(
    {"IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"}
)
_OPERATIONAL_CATEGORIES: Final = frozenset({"NEWS", "CONTENT", "MARKETING", "SOCIAL"})
#: Keys of the body that a sender may lay over ours (NIM's vivoField), with the values that vivo
#: takes: any other would cost the person the message. classification and category go their own,
#: guarded way.
RAW_NUMBERS: Final = {"notifyType": (1, 2, 3, 4), "networkType": (-1, 1)}
RAW_SWITCHES: Final = ("foregroundShow", "sendOnline", "addBadge")
SKIP_CONTENT_CHARACTERS_MAX: Final = 1024
SKIP_HOME: Final = 1
SKIP_TO: Final = (2, 3, 4)  # an address, the app's own, a page: each needs its skipContent


def build(batch: RequestBatch, credential: Credential, access: AccessToken | None) -> Request:
    """/message/send for one item; for more the body is saved first, and `follow`
    sends it to them.
    """
    body = _message(batch, credential)
    if len(batch.items) == 1:
        item = batch.items[0]
        body |= {"regId": item.target.token, "requestId": f"{item.target.push_id}-{item.attempt}"}
        return request("/message/send", body, access)
    return request(
        "/message/saveListPayload", body | {"requestId": _list_request_id(batch, "s")}, access
    )


def follow(
    batch: RequestBatch, answer: HttpResponse, credential: Credential, access: AccessToken | None
) -> Request | None:
    """/message/pushToList with the taskId that saveListPayload gave. Call it once, with the first
    answer; None: that one is final.
    """
    if len(batch.items) == 1 or answer.status != 200:
        return None
    reply = read(answer, dict[str, Any]) or {}
    task_id = reply.get("taskId")
    if (
        number(reply.get("result")) != 0
        or isinstance(task_id, bool)
        or not isinstance(task_id, str | int)
        or task_id == ""
    ):
        return None
    body = {
        "appId": app_id(credential),
        "taskId": str(task_id),
        "regIds": [item.target.token for item in batch.items],
        "requestId": _list_request_id(batch, "p"),
        "pushMode": _push_mode(batch.items[0].note),
    }
    return request("/message/pushToList", body, access)


def refuse(item: PushItem, _credential: Credential) -> str | None:
    """`silent_not_supported`: vivo only shows things. `payload_too_large`: an opaque payload
    exceeds clientCustomMap.
    """
    if item.note.push_type is PushType.SILENT:
        return "silent_not_supported"
    return (
        "payload_too_large"
        if item.note.blob and characters(all_custom(item.note)) > CUSTOM_CHARACTERS_MAX
        else None
    )


def request(path: str, body: Mapping[str, Any], access: AccessToken | None) -> Request:
    headers = {"content-type": "application/json"}
    if access is not None:
        headers["authtoken"] = access.value
    return Request("VIVO", path, headers, compact(body))


def _list_request_id(batch: RequestBatch, letter: str) -> str:
    """Unique a request, the same when it is built again: of whom it is for and of the attempt. At
    most 64 characters.
    """
    digest = hashlib.blake2b(digest_size=16)
    for item in batch.items:
        digest.update(item.target.push_id.encode())
    return f"{letter}-{digest.hexdigest()}-{max(item.attempt for item in batch.items)}"


def app_id(credential: Credential) -> int:
    return number(credential.options.get("app_id")) or 0


def _push_mode(note: Notification) -> int:
    return 1 if number(note.vendor.get("push_mode")) == 1 else 0


def _message(batch: RequestBatch, credential: Credential) -> dict[str, Any]:
    """The common part of single and list bodies."""
    note = batch.items[0].note
    refused = frozenset[str]().union(*(replaced_parts(item) for item in batch.items))
    title, content, replaced = words(note, refused)
    classification, category = _class(note)
    wanted = number(note.vendor.get("notify_type"))
    silent = note.sound_android == "none" or quiet(note)
    body: dict[str, Any] = {
        "appId": app_id(credential),
        "notifyType": wanted if wanted in (1, 2, 3, 4) and not quiet(note) else 1 if silent else 4,
        "title": title,
        "content": content,
        "timeToLive": min(max(min(item.ttl_s for item in batch.items), TTL_S_MIN), TTL_S_MAX),
        "skipType": 1,
        "classification": classification,
        "pushMode": _push_mode(note),
        "notifyId": number_id(note.collapse_id),
        "foregroundShow": False,
    }
    optional = {
        "category": category,
        "clientCustomMap": custom_with(note, replaced),
        "extra": receipt(batch, credential),
        "addBadge": True if note.vendor.get("add_badge") in (True, 1, "1") else None,
    }
    body |= {name: value for name, value in optional.items() if value}
    raw = _raw(note.vendor_raw)
    if quiet(note):
        raw.pop("notifyType", None)
    return body | raw


def _raw(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A sender's own fields as far as vivo would take them."""
    fields: dict[str, Any] = {
        name: value for name in RAW_NUMBERS if (value := number(raw.get(name))) in RAW_NUMBERS[name]
    }
    fields |= {name: raw[name] for name in RAW_SWITCHES if isinstance(raw.get(name), bool)}
    skip, content = number(raw.get("skipType")), raw.get("skipContent")
    if skip == SKIP_HOME:
        fields["skipType"] = skip
    elif (
        skip in SKIP_TO
        and isinstance(content, str)
        and 0 < len(content) <= SKIP_CONTENT_CHARACTERS_MAX
    ):
        fields |= {"skipType": skip, "skipContent": whole(content)}
    return fields


def _class(note: Notification) -> tuple[int, str | None]:
    """(classification, category), which must match (10097). A public message is never lifted; a
    category that doesn't fit is left out.
    """
    system = (
        note.bucket is Bucket.PRIVATE and number(note.placement.get("classification", "1")) == 1
    )
    wishes = (note.vendor, note.vendor_raw)
    for wish in wishes:
        if number(wish.get("classification")) == 0:
            system = False
    fitting = _SYSTEM_CATEGORIES if system else _OPERATIONAL_CATEGORIES
    category = None
    for source in (note.placement, *wishes):
        value = source.get("category")
        if isinstance(value, str) and value in fitting:
            category = value
    return int(system), category


def token_valid(token: str) -> bool:
    """Printable ASCII without blanks and commas.

    vivo's own SDK broke on a newer token by counting its characters.
    """
    return TOKEN.fullmatch(token) is not None and "," not in token
