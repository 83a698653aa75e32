"""An account of APNs as the command line asks for it; its files are read in credential.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from workers.vendors.types import AccountField, Credential, DemoAccount, DemoKeys

#: Option of a credential: the bundle id itself ends like a topic of another kind (`.voip` …).
EXACT: Final = "bundle_id_exact"
#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "p12": AccountField("file", "certificate with its key"),
    "password_file": AccountField("secret", "password of the p12"),
    "p8": AccountField("file", "signing key", as_given=True),
    "key_id": AccountField("text"),
    "team_id": AccountField("text"),
    "topic": AccountField("text", "bundle id"),
    "env": AccountField("env", "environment"),
}


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """As credential.read_credential."""
    # X.509 and its library take 9 MiB, and no worker reads an operator's files
    from workers.vendors.apns.credential import read_credential as read  # noqa: PLC0415

    return read(options, files, now_ms)


def demo(keys: DemoKeys) -> DemoAccount:
    fields = {
        "p8": keys.p256,
        "key_id": "DEMOKEY001",
        "team_id": "DEMOTEAM01",
        "topic": "com.example.chat",
        "env": "production",
    }
    return DemoAccount(fields)


def demo_token(outcome: str, digits: str) -> str:
    starts = {"": "a1", "dead": "dead", "fail": "5007"}
    return starts[outcome] + digits[4:] + ("00" if outcome == "" else "")


def endpoints_used(credential: Credential) -> Sequence[str]:
    """Its own environment's only."""
    return ("APNS_SANDBOX",) if credential.options.get("env") == "sandbox" else ("APNS_PRODUCTION",)
