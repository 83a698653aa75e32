"""Honor Push: phones with Magic UI 4.0 and later.

Much of the API is unconfirmed: docs/vendors/honor.md describes our choices.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors.honor.classes import place
from workers.vendors.honor.codes import classify
from workers.vendors.honor.credential import ACCOUNT, ask_access, demo, read_credential, read_token
from workers.vendors.honor.receipts import RECEIPTS
from workers.vendors.honor.request import build, refuse
from workers.vendors.huawei_family import (
    token_valid,
)
from workers.vendors.types import TOO_LONG, AccessSpec, Limits, VendorSpec

ENDPOINTS: Final = {
    "HONOR": "https://push-api.cloud.honor.com",
    "HONOR_OAUTH": "https://iam.developer.honor.com",
}
HONOR: Final = VendorSpec(
    vendor=Vendor.HONOR,
    endpoints=ENDPOINTS,
    http2=False,  # unconfirmed, so HTTP/1.1
    request_tokens_max=1000,  # unconfirmed, Huawei's figure
    build=build,
    refuse=refuse,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({"badge_class"}),
    demo=demo,
    demo_share=8,
    place=place,
    overrides=frozenset({"importance"}),
    receipts=RECEIPTS,
    #: 80 % of the published 3000 a second, counted in devices; 2 marketing messages a device and
    #: day.
    #: Sources: docs/vendors/honor.md, 2026-05.
    limits=Limits(rate_per_s=2400, burst=2400, rate_unit="token", device_cap_public=2),
    badge_in_body=True,
    badge_alone=True,
    badge_option="badge_class",
    access=AccessSpec(ask_access, read_token),
    token_valid=token_valid,
    rights=frozenset({"honor.service"}),
    too_long=TOO_LONG | {"80300008"},
)
