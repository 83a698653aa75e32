"""Meizu (Flyme) push: a signed form for up to 100 tokens; the answer names those that failed.
Sources: docs/vendors/meizu.md.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors.meizu.classes import place
from workers.vendors.meizu.codes import checked, classify
from workers.vendors.meizu.credential import ACCOUNT, demo, read_credential
from workers.vendors.meizu.receipts import RECEIPTS
from workers.vendors.meizu.request import build, check, refuse, token_valid
from workers.vendors.types import Limits, VendorSpec

TOKENS_MAX: Final = 100
MEIZU: Final = VendorSpec(
    vendor=Vendor.MEIZU,
    endpoints={"MEIZU": "https://server-api-push.meizu.com"},
    http2=False,
    request_tokens_max=TOKENS_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    demo=demo,
    demo_share=5,
    place=place,
    overrides=frozenset({"notice_msg_type"}),
    receipts=RECEIPTS,
    limits=Limits(rate_per_s=200.0, burst=200.0, rate_unit="request", device_cap_public=3),
    token_valid=token_valid,
    check=check,
    checked=checked,
    rights=frozenset({"meizu.private"}),
    refuse=refuse,
    refuses_silent=True,
)
