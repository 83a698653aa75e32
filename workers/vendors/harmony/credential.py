"""An account with HarmonyOS: what `credential add` checks, and the access token it is exchanged
for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from common.model import Verdict
from workers.vendors.account_secrets import secret_file_text
from workers.vendors.huawei_classes import DEMO_RIGHTS
from workers.vendors.json_text import base64url, compact, jwt_input
from workers.vendors.types import (
    APP_ID,
    AccessRefused,
    AccessToken,
    AccountField,
    Credential,
    CredentialError,
    DemoAccount,
    DemoKeys,
)
from workers.wire import HttpResponse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

#: Fixed in every JWT, whatever PUSHFLEET_ENDPOINT_HARMONY or the key file's token_uri contain.
AUDIENCE: Final = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
JWT_LIFE_S: Final = 3600
#: iat is floored to this, so that all processes sign the same claims without talking and a token
#: has 30 min left when renewed.
JWT_STEP_S: Final = 1800
CLOCK_SPARE_S: Final = 60
KEY_BITS_MIN: Final = 2048
_PATH_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """--service-account: the key file's ids become options, its private key the secret. --app-id
    (client id), optional, lets us revoke.
    """
    del now_ms
    if "service_account" not in files:
        raise CredentialError("--service-account is missing")
    try:
        account = msgspec.json.decode(
            secret_file_text(files["service_account"], "--service-account")
        )
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CredentialError(
            "the file of --service-account is not JSON: take it from the console unchanged"
        ) from None
    fields = {}
    for name in ("project_id", "key_id", "sub_account", "private_key"):
        value = account.get(name) if isinstance(account, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise CredentialError(
                f"the service account has no {name}: take the file from the console unchanged"
            )
        fields[name] = value.strip()
    if not _PATH_ID.fullmatch(fields["project_id"]):
        raise CredentialError("project_id of the service account is not an id")
    if options.get("app_id") and not _PATH_ID.fullmatch(options["app_id"]):
        raise CredentialError("--app-id is not a client id")
    private_key = fields.pop("private_key")
    _rsa_key(private_key)
    return {**options, **fields}, {"private_key": private_key}


def _rsa_key(pem: str) -> rsa.RSAPrivateKey:
    # a process without an account does without these
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError(
            "private_key of the service account does not parse as an unencrypted PEM key"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < KEY_BITS_MIN:
        raise CredentialError(
            f"private_key of the service account is not an RSA key of at least {KEY_BITS_MIN} bits"
        )
    return key


def signing_input(key_id: str, sub_account: str, iat_s: int) -> str:
    """Header and claims of the JWT as it is signed: base64url without padding, joined by a dot."""
    header = {"kid": key_id, "typ": "JWT", "alg": "PS256"}
    claims = {"aud": AUDIENCE, "iss": sub_account, "exp": iat_s + JWT_LIFE_S, "iat": iat_s}
    return jwt_input(header, claims)


def sign_access(credential: Credential, now_ms: int) -> AccessToken:
    """The JWT is the access token itself; no call is made."""
    return _signed(credential, now_ms // 1000 // JWT_STEP_S * JWT_STEP_S)


def sign_again(credential: Credential, now_ms: int) -> AccessToken:
    """One of this very moment, a minute back for clocks that differ."""
    return _signed(credential, now_ms // 1000 - CLOCK_SPARE_S)


def _signed(credential: Credential, iat_s: int) -> AccessToken:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - 9 MiB, see _rsa_key
    from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415

    text = signing_input(credential.options["key_id"], credential.options["sub_account"], iat_s)
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    signature = _rsa_key(credential.secrets["private_key"]).sign(
        text.encode(), pss, hashes.SHA256()
    )
    return AccessToken(
        f"{text}.{base64url(signature)}", (iat_s + JWT_STEP_S) * 1000, (iat_s + JWT_LIFE_S) * 1000
    )


def read_token(answer: HttpResponse, now_ms: int) -> AccessRefused:
    """Always a refusal: the token is signed here, no request exists."""
    del now_ms
    return AccessRefused(
        Verdict.UNAVAILABLE, str(answer.status), "HarmonyOS tokens are signed here"
    )


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {
    "service_account": AccountField("file", "key file"),
    "vendor_app_id": APP_ID,
}


def demo(keys: DemoKeys) -> DemoAccount:
    account = {
        "project_id": "388421841221",
        "key_id": "k1",
        "private_key": keys.rsa,
        "sub_account": "1001",
        "auth_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/authorize",
        "token_uri": AUDIENCE,
    }
    service_account = compact(account).decode()
    return DemoAccount(
        {"service_account": service_account}, tuple(f"harmony.{name}" for name in DEMO_RIGHTS)
    )
