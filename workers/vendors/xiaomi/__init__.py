"""Xiaomi Mi Push: limits, codes, build, classify. Pure. Sources and the day they were read:
docs/vendors/xiaomi.md.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from common.model import Vendor
from workers.vendors.form_texts import refuse
from workers.vendors.types import DEFAULT_RETRY, TOO_LONG, Limits, VendorSpec
from workers.vendors.xiaomi.classes import place
from workers.vendors.xiaomi.codes import checked, classify, quota_reported
from workers.vendors.xiaomi.credential import ACCOUNT, demo, read_credential
from workers.vendors.xiaomi.receipts import RECEIPTS
from workers.vendors.xiaomi.request import build, check, endpoint_of, group, token_valid

TOKENS_MAX: Final = 1000  # regids of one request, comma list
XIAOMI = VendorSpec(
    vendor=Vendor.XIAOMI,
    endpoints={
        "XIAOMI": "https://api.xmpush.xiaomi.com",
        "XIAOMI_GLOBAL": "https://api.xmpush.global.xiaomi.com",
    },
    http2=False,
    request_tokens_max=TOKENS_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({"intent_uri", "region"}),
    demo=demo,
    demo_share=10,
    rights_need_template={"xiaomi.private": ("chat", "call")},
    endpoints_used=lambda account: (endpoint_of(account),),
    place=place,
    overrides=frozenset({"channel_id", "channel_name", "template_id"}),
    raw_wishes=("extra", ("channel_id",)),
    receipts=RECEIPTS,
    # pId=1656 of 2026-02-04: a new app has 500 requests/s; public 2 x 10,000 a day and 5 a device;
    # private unlimited.
    limits=Limits(
        rate_per_s=500, burst=500, rate_unit="request", quota_public=20_000, device_cap_public=5
    ),
    retry=replace(
        DEFAULT_RETRY, delay_max_s=1024.0
    ),  # the SDK's own back-off: 1 s, doubling below 1024 s
    token_valid=token_valid,
    check=check,
    checked=checked,
    rights=frozenset({"xiaomi.private"}),
    group=group,
    quota_reported=quota_reported,
    refuse=refuse,
    shows_silent=True,
    too_long=TOO_LONG | {"10018", "65009", "65014", "65015"},
)
