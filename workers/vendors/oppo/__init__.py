"""OPPO Push (OPPO, OnePlus, realme): limits, codes, build, classify, access token. Pure. Sources:
docs/vendors/oppo.md.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors.form_texts import refuse
from workers.vendors.oppo.classes import place
from workers.vendors.oppo.codes import classify
from workers.vendors.oppo.credential import (
    ACCOUNT,
    ask_access,
    demo,
    demo_token,
    read_access,
    read_credential,
)
from workers.vendors.oppo.receipts import RECEIPTS
from workers.vendors.oppo.registration_ids import endpoint_of, group, token_valid
from workers.vendors.oppo.request import build
from workers.vendors.types import AccessSpec, Limits, VendorSpec

BATCH_MAX: Final = 1000  # (target, message) pairs of one unicast_batch
OPPO = VendorSpec(
    vendor=Vendor.OPPO,
    endpoints={
        "OPPO": "https://api.push.oppomobile.com",
        "OPPO_INTL": "https://api-intl.push.oppomobile.com",
        "OPPO_FEEDBACK": "https://feedback.push.oppomobile.com",
    },
    http2=False,
    request_tokens_max=BATCH_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({"template_params"}),
    demo=demo,
    demo_share=8,
    rights_want_channel=frozenset({"oppo.private", "oppo.strong"}),
    endpoints_used=lambda _account: ("OPPO",),
    endpoint_of=endpoint_of,
    demo_token=demo_token,
    place=place,
    overrides=frozenset({"category", "channel_id", "notify_level"}),
    raw_wishes=("notification", ("channel_id", "category", "notify_level")),
    receipts=RECEIPTS,
    # Under 10 million users 5,000 targets/s; under 50,000 users 100,000 public a day, 2 a device
    # (news apps 5); private unlimited.
    limits=Limits(
        rate_per_s=5000, burst=5000, rate_unit="token", quota_public=100_000, device_cap_public=2
    ),
    mixed=True,
    access=AccessSpec(ask=ask_access, read=read_access),
    token_valid=token_valid,
    rights=frozenset({"oppo.private", "oppo.strong"}),
    group=group,
    refuse=refuse,
    shows_silent=True,
)
