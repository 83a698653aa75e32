"""An account with Honor: what `credential add` checks, and the access token it is exchanged for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workers.vendors.account_secrets import require, secret_text
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

ACCESS_REFUSED: Final = frozenset({"invalid_client", "unauthorized_client"})
_APP_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_CLIENT_ID = re.compile(r"[!-~]{1,128}")


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """--app-id (App ID), --app-key (Client ID) and --app-secret-file (Client Secret).

    App Secret is another value and is refused later.
    """
    del now_ms
    require(options, "app_id", "app_key")
    if not _APP_ID.fullmatch(options["app_id"]):
        raise CredentialError("--app-id is not an Honor App ID: 1 to 64 letters and digits")
    if not _CLIENT_ID.fullmatch(options["app_key"]):
        raise CredentialError(
            "--app-key is not an Honor Client ID: 1 to 128 printable characters without blanks"
        )
    return dict(options), {"app_secret": secret_text(files, "app_secret", ascii_only=True)}


def ask_access(credential: Credential, now_ms: int) -> Request:
    del now_ms
    secret = credential.secrets["app_secret"]
    return token_request("HONOR_OAUTH", "/auth/token", credential.options["app_key"], secret)


def read_token(answer: HttpResponse, now_ms: int) -> AccessToken | AccessRefused:
    return read_access(answer, now_ms, ACCESS_REFUSED)


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "vendor_app_id": APP_ID,
    "app_key": AccountField("text"),
    "app_secret_file": APP_SECRET,
}


def demo(keys: DemoKeys) -> DemoAccount:
    fields = {"vendor_app_id": "104000001", "app_key": "205000001", "app_secret_file": keys.secret}
    return DemoAccount(fields, ("honor.service",))
