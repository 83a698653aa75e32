"""Huawei Push Kit, v1: Android, EMUI and HarmonyOS up to 4. Later ones: harmony/. Limits, classes,
codes: docs/vendors/huawei.md.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors import huawei_codes
from workers.vendors.huawei.credential import ACCOUNT, ask_access, demo, read_credential, read_token
from workers.vendors.huawei.request import CATEGORIES, build, check, refuse
from workers.vendors.huawei_classes import place
from workers.vendors.huawei_family import (
    token_valid,
)
from workers.vendors.huawei_receipts import HUAWEI_RECEIPTS
from workers.vendors.types import AccessSpec, Limits, VendorSpec

ENDPOINTS: Final = {
    "HUAWEI": "https://push-api.cloud.huawei.com",
    "HUAWEI_OAUTH": "https://oauth-login.cloud.huawei.com",
}
HUAWEI: Final = VendorSpec(
    vendor=Vendor.HUAWEI,
    endpoints=ENDPOINTS,
    http2=False,  # unconfirmed, so HTTP/1.1
    request_tokens_max=1000,
    build=build,
    refuse=refuse,
    classify=huawei_codes.classified,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({"badge_class", "package", "receipt_id"}),
    demo=demo,
    demo_share=14,
    place=place,
    overrides=frozenset(
        {"category", "channel_id", "ext_as_intent", "importance", "target_user_type"}
    ),
    receipts=HUAWEI_RECEIPTS,
    #: 6000 devices a second is the floor of the published formula; 3000 and 2 a device and day.
    #: Sources: docs/vendors/huawei.md, 2026-05.
    limits=Limits(
        rate_per_s=6000, burst=6000, rate_unit="token", device_cap_private=3000, device_cap_public=2
    ),
    badge_in_body=True,
    badge_alone=True,
    badge_option="badge_class",
    access=AccessSpec(ask_access, read_token),
    token_valid=token_valid,
    check=check,
    checked=huawei_codes.checked,
    too_long=huawei_codes.TOO_LONG_CODES,
    rights=frozenset(f"huawei.{category.lower()}" for category in CATEGORIES),
)
