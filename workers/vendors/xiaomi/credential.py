"""An account with Xiaomi: what `credential add` checks; its secret is the access key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workers.vendors.account_secrets import require, secret_text
from workers.vendors.types import APP_SECRET, AccountField, CredentialError, DemoAccount, DemoKeys

_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)+")


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """package (Android package), app_secret (AppSecret, not AppKey); optional region `cn` or
    `global`, intent_uri.
    """
    require(options, "package")
    if not _PACKAGE.fullmatch(options["package"]):
        raise CredentialError("--package takes an Android package name, such as com.example.im")
    if options.get("region", "cn") not in ("cn", "global"):
        raise CredentialError("--region takes cn or global")
    secret = secret_text(files, "app_secret", ascii_only=True)
    if len(secret) > 256:
        raise CredentialError("the file of --app-secret-file holds more than the AppSecret")
    kept = {
        name: options[name] for name in ("package", "region", "intent_uri") if options.get(name)
    }
    return kept, {"app_secret": secret}


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "package": AccountField("text", "Android package"),
    "app_secret_file": APP_SECRET,
}


def demo(keys: DemoKeys) -> DemoAccount:
    return DemoAccount(
        {"app_secret_file": keys.secret, "package": "com.example.chat"}, ("xiaomi.private",)
    )
