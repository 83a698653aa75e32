"""APNs's provider token, signed here. Source: docs/vendors/apns.md."""

from __future__ import annotations

from typing import Final

from common.model import Verdict
from workers.vendors.json_text import base64url, jwt_input
from workers.vendors.types import AccessRefused, AccessToken, Credential
from workers.wire import ClientIdentity, HttpResponse

PROVIDER_TOKEN_S: Final = 2400  # a new one each 40 minutes: Apple wants 20 to 60
PROVIDER_TOKEN_S_MIN: Final = 1200
PROVIDER_TOKEN_LIFE_S: Final = 3600 - 60  # a minute for clocks that differ
FOR_EVER_MS: Final = 253_402_300_799_000  # the year 9999


def ask(credential: Credential, now_ms: int) -> AccessToken:
    """The current 40 minutes' provider token, the same everywhere; empty for a certificate."""
    return _signed(credential, now_ms, PROVIDER_TOKEN_S)


def ask_again(credential: Credential, now_ms: int) -> AccessToken:
    """In the second half of the 40 minutes a token that is 20 minutes younger; else the same.

    It is the same in every process.
    """
    return _signed(credential, now_ms, PROVIDER_TOKEN_S_MIN)


def _signed(credential: Credential, now_ms: int, step_s: int) -> AccessToken:
    options, now_s = credential.options, now_ms // 1000
    if "p8" not in credential.secrets:
        return AccessToken("", FOR_EVER_MS, FOR_EVER_MS)
    issued_s, ends_s = now_s // step_s * step_s, (now_s // PROVIDER_TOKEN_S + 1) * PROVIDER_TOKEN_S
    value = provider_token(
        credential.secrets["p8"], options["key_id"], options["team_id"], issued_s
    )
    return AccessToken(value, ends_s * 1000, (issued_s + PROVIDER_TOKEN_LIFE_S) * 1000)


def provider_token(p8: str, key_id: str, team_id: str, issued_s: int) -> str:
    """A JWT, ES256 with RFC 6979's deterministic k: all processes make the same one.

    Source: apns.md §2.1.
    """
    # a process without a p8 does without these: 9 MiB
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

    from workers.vendors.apns.credential import p8_key  # noqa: PLC0415

    signed = jwt_input({"alg": "ES256", "kid": key_id}, {"iss": team_id, "iat": issued_s})
    der = p8_key(p8).sign(signed.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = utils.decode_dss_signature(der)
    return f"{signed}.{base64url(r.to_bytes(32) + s.to_bytes(32))}"


def never_asked(_answer: HttpResponse, _now_ms: int) -> AccessRefused:
    """`ask` always gives the token itself, so there is never an answer to read."""
    return AccessRefused(Verdict.UNAVAILABLE, "", "APNs has no token endpoint")


def identity(credential: Credential) -> ClientIdentity | None:
    """The client certificate of a p12 credential, None with a p8 key."""
    if "certificate" not in credential.secrets:
        return None
    return ClientIdentity(
        credential.secrets["certificate"].encode(), credential.secrets["key"].encode()
    )
