"""An account with Meizu: what `credential add` checks; requests are signed, so there is no access
token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workers.vendors.account_secrets import require, secret_text
from workers.vendors.types import (
    APP_ID,
    APP_SECRET,
    AccountField,
    CredentialError,
    DemoAccount,
    DemoKeys,
)


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """options: app_id (digits); files: app_secret, the server secret, not the appKey."""
    require(options, "app_id")
    if not re.fullmatch(r"[0-9]{1,18}", options["app_id"]):
        raise CredentialError("--app-id must be the number that Flyme's console shows as AppId")
    return {"app_id": options["app_id"]}, {
        "app_secret": secret_text(files, "app_secret", ascii_only=True)
    }


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "vendor_app_id": APP_ID,
    "app_secret_file": APP_SECRET,
}


def demo(keys: DemoKeys) -> DemoAccount:
    return DemoAccount(
        {"vendor_app_id": "110001", "app_secret_file": keys.secret}, ("meizu.private",)
    )
