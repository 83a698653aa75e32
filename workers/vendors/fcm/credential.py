"""An account with FCM: what `credential add` checks, and the access token it is exchanged for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec

from common.model import Verdict
from workers.vendors.account_secrets import secret_file_text
from workers.vendors.answers import read, redact, retry_after_s
from workers.vendors.fcm.codes import text
from workers.vendors.json_text import base64url, compact, jwt_input
from workers.vendors.types import (
    AccessRefused,
    AccessToken,
    AccountField,
    Credential,
    CredentialError,
    DemoAccount,
    DemoKeys,
)
from workers.wire import HttpResponse, Request

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
AUDIENCE: Final = "https://oauth2.googleapis.com/token"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S: Final = 3600
ACCESS_S_DEFAULT: Final = 3600
ACCESS_S_MIN: Final = 60
ACCESS_S_MAX: Final = 86_400
_PASSING_ERRORS: Final = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})
_PASSING_STATUS: Final = frozenset({408, 500, 502, 503, 504})


class Granted(msgspec.Struct):
    access_token: str
    expires_in: float = ACCESS_S_DEFAULT


def ask(credential: Credential, now_ms: int) -> Request:
    """The service account's signed assertion for an access token. Source: fcm.md §2."""
    token = assertion(credential.options, credential.secrets["private_key"], now_ms // 1000)
    form = urlencode({"grant_type": GRANT_TYPE, "assertion": token})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return Request("GOOGLE_OAUTH", "/token", headers, form.encode())


def assertion(options: Mapping[str, str], private_key: str, now_s: int) -> str:
    """A JWT, RS256; `aud` is Google's address wherever the request really goes."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - 9 MiB, see _rsa_key
    from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415

    header = {"alg": "RS256", "typ": "JWT", "kid": options["key_id"]}
    claims = {
        "iss": options["client_email"],
        "scope": SCOPE,
        "aud": AUDIENCE,
        "iat": now_s,
        "exp": now_s + ASSERTION_S,
    }
    signed = jwt_input(header, claims)
    signature = _rsa_key(private_key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{base64url(signature)}"


def read_access(answer: HttpResponse, now_ms: int) -> AccessToken | AccessRefused:
    """The access token, to be renewed at 85 % of its life; else why there is none."""
    granted = read(answer, Granted) if answer.status == 200 else None
    if (
        granted is not None
        and granted.access_token
        and granted.access_token.isascii()
        and granted.access_token.isprintable()
    ):
        # NaN is not itself
        given = granted.expires_in if granted.expires_in == granted.expires_in else 0.0
        life_ms = int(min(max(given, ACCESS_S_MIN), ACCESS_S_MAX) * 1000)
        return AccessToken(granted.access_token, now_ms + life_ms * 85 // 100, now_ms + life_ms)
    body = read(answer, dict[str, Any]) or {}
    code = text(body.get("error"))[:64]
    return AccessRefused(
        _no_access(answer.status, code),
        code or str(answer.status),
        redact(body.get("error_description")),
        retry_after_s(answer),
    )


def _no_access(status: int, code: str) -> Verdict:
    """The verdict of a failed login: google-auth retries what may pass.

    Other errors of Google concern the key or the clock.
    """
    if status == 429:
        return Verdict.THROTTLED
    if status in _PASSING_STATUS or code in _PASSING_ERRORS or not code:
        return Verdict.UNAVAILABLE
    return Verdict.CREDENTIAL_REFUSED


KEY_FILE_BYTES_MAX: Final = 65_536
_PROJECT: Final = re.compile(r"[A-Za-z0-9:._-]{1,128}")


class ServiceAccount(msgspec.Struct):
    """The fields we use of a service account's key file. Its token_uri is not among them: the
    endpoint is Google's or the operator's.
    """

    client_email: str
    private_key: str
    private_key_id: str
    project_id: str
    type: str = "service_account"


def read_credential(
    _options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """files: service_account. Gives options {project_id, client_email, key_id} and
    the private key.
    """
    if "service_account" not in files:
        raise CredentialError(
            "--service-account is missing: the JSON key file of a service account of the "
            "Firebase project"
        )
    if len(files["service_account"]) > KEY_FILE_BYTES_MAX:
        raise CredentialError(
            f"--service-account has more than {KEY_FILE_BYTES_MAX} bytes: not a key file"
        )
    try:
        account = msgspec.json.decode(
            secret_file_text(files["service_account"], "--service-account"), type=ServiceAccount
        )
    except (msgspec.DecodeError, RecursionError) as error:
        missing = re.search(r"missing required field `\w+`", str(error))
        raise CredentialError(
            "--service-account is not a service account's JSON key "
            f"file{': ' + missing.group() if missing else ''}"
        ) from None
    if account.type != "service_account":
        raise CredentialError(
            "--service-account must be the key file of a service account (its type is another)"
        )
    for name in ("client_email", "private_key_id"):
        if not re.fullmatch(r"[!-~]{1,256}", getattr(account, name)):
            raise CredentialError(f"--service-account: {name} is empty or not ASCII")
    if not _PROJECT.fullmatch(account.project_id):
        raise CredentialError("--service-account: project_id is not a Firebase project's id")
    _rsa_key(account.private_key)
    options = {
        "project_id": account.project_id,
        "client_email": account.client_email,
        "key_id": account.private_key_id,
    }
    return options, {"private_key": account.private_key}


def _rsa_key(pem: str) -> rsa.RSAPrivateKey:
    # a process without an account does without these
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(pem.encode("utf-8", "replace"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError(
            "--service-account: private_key does not parse as a private key in PEM"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CredentialError("--service-account: private_key is of another kind: Google wants RSA")
    return key


#: Options of `credential add`.
ACCOUNT: Final[Mapping[str, AccountField]] = {"service_account": AccountField("file", "key file")}


def demo(keys: DemoKeys) -> DemoAccount:
    account = {
        "type": "service_account",
        "project_id": "demo-im-project",
        "private_key_id": keys.key_id,
        "private_key": keys.rsa,
        "client_email": "push@demo-im-project.iam.gserviceaccount.com",
        "token_uri": AUDIENCE,
    }
    return DemoAccount({"service_account": compact(account).decode()})
