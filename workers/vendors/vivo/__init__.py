"""vivo Push: single and list push with an access token; rules about what a text may look like.
Sources: docs/vendors/vivo.md.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors.types import TOO_LONG, AccessSpec, Limits, VendorSpec
from workers.vendors.vivo.classes import place
from workers.vendors.vivo.codes import PUBLIC_HOURS, classify
from workers.vendors.vivo.credential import ACCOUNT, ask, demo, read_access, read_credential
from workers.vendors.vivo.receipts import RECEIPTS
from workers.vendors.vivo.request import build, follow, refuse, token_valid

LIST_TOKENS_MAX: Final = 1000
#: vivo takes 2; a list costs two requests and one of the day's list bodies.
LIST_TOKENS_MIN: Final = 20
VIVO: Final = VendorSpec(
    vendor=Vendor.VIVO,
    endpoints={"VIVO": "https://api-push.vivo.com.cn"},
    http2=False,
    request_tokens_max=LIST_TOKENS_MAX,
    build=build,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({"callback_id"}),
    demo=demo,
    demo_share=7,
    place=place,
    overrides=frozenset({"add_badge", "category", "classification", "notify_type", "push_mode"}),
    raw_wishes=("", ("classification", "category")),
    receipts=RECEIPTS,
    limits=Limits(
        rate_per_s=500.0,
        burst=500.0,
        rate_unit="token",
        quota_public=20_000,
        device_cap_public=2,
        public_hours=PUBLIC_HOURS,
    ),
    access=AccessSpec(ask=ask, read=read_access),
    token_valid=token_valid,
    follow=follow,
    rights=frozenset({"vivo.system"}),
    refuse=refuse,
    refuses_silent=True,
    request_tokens_min_list=LIST_TOKENS_MIN,
    brackets=False,
    too_long=TOO_LONG | {"10067"},  # clientCustomMap
)
