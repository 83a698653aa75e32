"""HarmonyOS looks at an image before it is sent. Source: docs/vendors/harmony.md."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from common.model import Kind
from workers.vendors.answers import read
from workers.vendors.harmony.request import NOTIFICATION, headers, push_type_of
from workers.vendors.huawei_family import (
    image_of,
)
from workers.vendors.json_text import compact
from workers.vendors.types import AccessToken, Credential, RequestBatch
from workers.wire import HttpResponse, Request

IMAGE_CHECKED: Final = "83010000"
IMAGE_TOO_FAST: Final = "83010002"
#: Milliseconds after which an image that Huawei refused (no picture at the address, content) is
#: submitted again.
IMAGE_REFUSED_MS: Final = 600_000
#: Huawei's key in the address that it gave: such a one needs no second look.
VERIFY_KEY: Final = re.compile(r"[?&]verifyKey=")


class ImageReply(msgspec.Struct):
    code: str = ""
    downloadUrl: str = ""  # noqa: N815 (Huawei's name)
    expireTime: str | int = 0  # noqa: N815 (s since the epoch)


def image_wanted(batch: RequestBatch, credential: Credential) -> str | None:
    """The image of a notification, unless it is an address that Huawei gave itself."""
    note = batch.items[0].note
    if note.kind is Kind.RECALL or push_type_of(note, credential.rights) != NOTIFICATION:
        return None
    image = image_of(batch)
    return None if image is None or VERIFY_KEY.search(image) else image


def ask_image(image: str, credential: Credential, access: AccessToken | None) -> Request:
    """Source: 图片风控, read 2026-11-23; push-type 0: the large icon of a notification."""
    path = f"/v2/{credential.options['project_id']}/images:verify"
    return Request("HARMONY", path, headers(access, NOTIFICATION), compact({"imageUrl": image}))


def read_image(answer: HttpResponse, now_ms: int) -> tuple[str, int] | None:
    """Huawei's address and its expiry; ("", …) for a refused image; None: no answer."""
    reply = read(answer, ImageReply)
    if reply is None or not reply.code.startswith("8301") or reply.code == IMAGE_TOO_FAST:
        return None
    if reply.code != IMAGE_CHECKED:
        return "", now_ms + IMAGE_REFUSED_MS
    ends = str(reply.expireTime)
    https = reply.downloadUrl.startswith("https://")
    good = https and ends.isascii() and ends.isdigit() and len(ends) <= 11
    return (reply.downloadUrl, int(ends) * 1000) if good and int(ends) * 1000 > now_ms else None
