"""Apple APNs: one HTTP/2 request a token; provider token (p8) or client certificate (p12). Sources:
docs/vendors/apns.md.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors.apns.access import ask, ask_again, identity, never_asked
from workers.vendors.apns.account import (
    ACCOUNT,
    EXACT,
    demo,
    demo_token,
    endpoints_used,
    read_credential,
)
from workers.vendors.apns.classes import place
from workers.vendors.apns.codes import RETRY, accepted_id, checked, classify, header_id
from workers.vendors.apns.request import (
    SHORT_CHARACTERS_MAX,
    build,
    check,
    prepare,
    refuse,
    token_valid,
    tokens_valid,
)
from workers.vendors.types import TOO_LONG, AccessSpec, AlikeSpec, Limits, VendorSpec

APNS: Final = VendorSpec(
    vendor=Vendor.APNS,
    endpoints={
        "APNS_PRODUCTION": "https://api.push.apple.com",
        "APNS_SANDBOX": "https://api.sandbox.push.apple.com",
    },
    http2=True,
    request_tokens_max=1,
    build=build,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({EXACT}),
    demo=demo,
    demo_share=28,
    platform="ios",
    endpoints_used=endpoints_used,
    demo_token=demo_token,
    place=place,
    overrides=frozenset(
        {
            "category",
            "content_available",
            "critical",
            "interruption_level",
            "mutable_content",
            "priority",
            "push_type",
            "title",
            "voip",
        }
    ),
    limits=Limits(
        rate_per_s=100_000.0, burst=100_000.0, rate_unit="token", timezone="UTC"
    ),  # Apple publishes none: a fuse
    retry=RETRY,
    badge_in_body=True,
    badge_alone=True,
    access=AccessSpec(ask=ask, read=never_asked, again=ask_again),
    token_valid=token_valid,
    identity=identity,
    check=check,
    checked=checked,
    refuse=refuse,
    prepare=prepare,
    alike=AlikeSpec(SHORT_CHARACTERS_MAX, tokens_valid, accepted_id, header_id),
    too_long=TOO_LONG | {"PayloadTooLarge"},
)
