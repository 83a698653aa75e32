"""Google FCM, HTTP v1: one HTTP/2 request a token; OAuth by a service account's key. Sources:
docs/vendors/fcm.md.
"""

from __future__ import annotations

from typing import Final

from common.model import Vendor
from workers.vendors.fcm.classes import place
from workers.vendors.fcm.codes import RETRY, accepted_id, checked, classify
from workers.vendors.fcm.credential import ACCOUNT, ask, demo, read_access, read_credential
from workers.vendors.fcm.request import (
    WORDS_CHARACTERS_MAX,
    build,
    check,
    prepare,
    refuse,
    token_valid,
    tokens_valid,
)
from workers.vendors.types import AccessSpec, AlikeSpec, Limits, VendorSpec

FCM: Final = VendorSpec(
    vendor=Vendor.FCM,
    endpoints={
        "FCM": "https://fcm.googleapis.com",
        "GOOGLE_OAUTH": "https://oauth2.googleapis.com",
    },
    http2=True,
    request_tokens_max=1,
    build=build,
    classify=classify,
    read_credential=read_credential,
    account=ACCOUNT,
    options=frozenset({"data_only"}),
    demo=demo,
    demo_share=12,
    place=place,
    overrides=frozenset({"channel_id", "data_only", "image", "priority", "type"}),
    limits=Limits(
        rate_per_s=10_000.0,
        burst=10_000.0,
        rate_unit="token",
        timezone="America/Los_Angeles",
        ramp_s=60,
    ),
    retry=RETRY,
    badge_in_body=True,
    badge_alone=True,
    access=AccessSpec(ask=ask, read=read_access),
    token_valid=token_valid,
    check=check,
    checked=checked,
    refuse=refuse,
    prepare=prepare,
    alike=AlikeSpec(WORDS_CHARACTERS_MAX, tokens_valid, accepted_id),
)
