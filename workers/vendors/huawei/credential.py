"""An account with Huawei: what `credential add` checks, and the access token it is
exchanged for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workers.vendors.account_secrets import require, secret_text
from workers.vendors.huawei_classes import DEMO_RIGHTS
from workers.vendors.huawei_family import (
    read_access,
    token_request,
)
from workers.vendors.types import (
    APP_ID,
    APP_SECRET,
    AccessRefused,
    AccessToken,
    AccountField,
    Credential,
    CredentialError,
    DemoAccount,
    DemoKeys,
)
from workers.wire import HttpResponse, Request

#: error.sub_error of the token call. Source: OAuth error codes, read 2026-05.
ACCESS_REFUSED: Final = frozenset({"1101.12304", "1101.20002", "1101.20003", "1101.20171"})
_CLIENT_ID = re.compile(r"[0-9]{1,64}")


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """--app-id (the OAuth 2.0 client id) and --app-secret-file; no dates, so `now_ms` is unused."""
    del now_ms
    require(options, "app_id")
    if not _CLIENT_ID.fullmatch(options["app_id"]):
        raise CredentialError(
            "--app-id is not a Huawei client id: 1 to 64 digits (AppGallery Connect, project "
            "settings)"
        )
    return dict(options), {"app_secret": secret_text(files, "app_secret", ascii_only=True)}


def ask_access(credential: Credential, now_ms: int) -> Request:
    del now_ms
    secret = credential.secrets["app_secret"]
    return token_request("HUAWEI_OAUTH", "/oauth2/v3/token", credential.options["app_id"], secret)


def read_token(answer: HttpResponse, now_ms: int) -> AccessToken | AccessRefused:
    return read_access(answer, now_ms, ACCESS_REFUSED)


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "vendor_app_id": APP_ID,
    "app_secret_file": APP_SECRET,
}


def demo(keys: DemoKeys) -> DemoAccount:
    rights = tuple(f"huawei.{name}" for name in DEMO_RIGHTS)
    return DemoAccount({"vendor_app_id": "100000001", "app_secret_file": keys.secret}, rights)
