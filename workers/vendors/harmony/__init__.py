"""HarmonyOS Push Kit, v3: HarmonyOS 5 and later. Older Huawei devices: huawei/. Limits, classes,
codes: docs/vendors/harmony.md.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors import huawei_codes
from workers.vendors.harmony.codes import classify
from workers.vendors.harmony.credential import (
    ACCOUNT,
    demo,
    read_credential,
    read_token,
    sign_access,
    sign_again,
)
from workers.vendors.harmony.images import ask_image, image_wanted, read_image
from workers.vendors.harmony.request import CATEGORIES, build, check, refuse
from workers.vendors.huawei_classes import place
from workers.vendors.huawei_family import (
    token_valid,
)
from workers.vendors.huawei_receipts import HUAWEI_RECEIPTS
from workers.vendors.types import AccessSpec, ImageSpec, Limits, VendorSpec

ENDPOINTS: Final = {"HARMONY": "https://push-api.cloud.huawei.com"}
HARMONY: Final = VendorSpec(
    vendor=Vendor.HARMONY,
    endpoints=ENDPOINTS,
    http2=False,  # unconfirmed, so HTTP/1.1
    request_tokens_max=1000,
    build=build,
    refuse=refuse,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({"receipt_id"}),
    demo=demo,
    demo_share=8,
    platform="harmony",
    place=place,
    overrides=frozenset({"category", "click_type", "push_type", "test_message", "uri", "voip"}),
    receipts=HUAWEI_RECEIPTS,
    #: 6000 devices a second is the floor of the published formula; no number of all messages a
    #: device, 2 of marketing.
    #: Sources: docs/vendors/harmony.md, 2026-05.
    limits=Limits(rate_per_s=6000, burst=6000, rate_unit="token", device_cap_public=2),
    badge_in_body=True,
    badge_alone=True,
    access=AccessSpec(sign_access, read_token, sign_again),
    token_valid=token_valid,
    check=check,
    checked=huawei_codes.checked,
    too_long=huawei_codes.TOO_LONG_CODES,
    rights=frozenset(f"harmony.{category.lower()}" for category in CATEGORIES),
    images=ImageSpec(image_wanted, ask_image, read_image, per_minute=60),
)
