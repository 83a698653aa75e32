"""Google's token endpoint: a service account's signed assertion becomes an access token that ends.
RFC 7523, RS256.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from simulators import jwt as jwts
from simulators.simulator import VendorCall, VendorReply

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
ASSERTION_S_MAX = 3600
CLOCK_SKEW_S = 300


@dataclass(frozen=True, slots=True)
class GoogleAccount:
    """project_id None: any project. key None: the signature is not checked."""

    email: str
    project_id: str | None = None
    key: jwts.PublicKey | None = None


class DeniedError(Exception):
    """error, error_description of the token endpoint."""

    def __init__(self, error: str, words: str) -> None:
        super().__init__(words)
        self.error, self.words = error, words


class OAuth:
    def __init__(self) -> None:
        self.calls = self.given = 0
        self._accounts: dict[str, GoogleAccount] = {}
        self._tokens: dict[str, tuple[GoogleAccount, float]] = {}

    def know(self, wanted: Mapping[str, Any]) -> list[str]:
        """Registers an account; returns all known e-mails.

        Raises KeyError or ValueError for a missing or wrong field.
        """
        unknown = set(wanted) - {"client_email", "public_key_pem", "project_id"}
        if unknown:
            raise ValueError(f"no such field of an account: {', '.join(sorted(unknown))}")
        email = str(wanted["client_email"])
        self._accounts[email] = GoogleAccount(
            email, wanted.get("project_id"), jwts.public_key(wanted["public_key_pem"])
        )
        return sorted(self._accounts)

    def expire_all(self) -> None:
        self._tokens.clear()

    def alive(self, now: float) -> int:
        return sum(ends > now for _, ends in self._tokens.values())

    def bearer(self, authorization: str | None, now: float) -> GoogleAccount | None:
        """The account behind `Authorization: Bearer …`; None when the token is missing, unknown or
        over.
        """
        scheme, _, token = (authorization or "").partition(" ")
        account, ends = self._tokens.get(token, (None, 0.0))
        return account if scheme.lower() == "bearer" and now < ends else None

    def token(self, call: VendorCall, now: float, life_s: int) -> VendorReply:
        self.calls += 1
        try:
            account = self._account(call, now)
        except DeniedError as denied:
            return VendorReply.json(400, {"error": denied.error, "error_description": denied.words})
        token = f"ya29.c.{secrets.token_urlsafe(96)}"
        self._tokens = {one: (who, ends) for one, (who, ends) in self._tokens.items() if ends > now}
        self._tokens[token] = (account, now + life_s)
        self.given += 1
        given = {"access_token": token, "expires_in": life_s, "token_type": "Bearer"}
        return VendorReply.json(200, given, {"cache-control": "no-store"})

    def _account(self, call: VendorCall, now: float) -> GoogleAccount:
        if call.method != "POST":
            raise DeniedError("invalid_request", "POST only")
        kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise DeniedError("invalid_request", "The body is to be a form")
        form = parse_qs(call.body.decode("latin-1"))
        if form.get("grant_type") != [GRANT]:
            raise DeniedError(
                "unsupported_grant_type",
                f"Invalid grant_type: {''.join(form.get('grant_type', []))}",
            )
        try:
            assertion = jwts.read((form.get("assertion") or [""])[0])
        except (ValueError, RecursionError):
            raise DeniedError("invalid_grant", "Bad Request") from None
        self._check_claims(assertion, now)
        email = str(assertion.claims["iss"])
        account = self._accounts.get(email, GoogleAccount(email))
        if account.key is not None and not jwts.signature_holds(assertion, account.key):
            raise DeniedError("invalid_grant", "Invalid JWT Signature.")
        return account

    @staticmethod
    def _check_claims(assertion: jwts.Jwt, now: float) -> None:
        claims = assertion.claims
        alg = assertion.header.get("alg")
        if alg != "RS256" or not assertion.signature or not isinstance(claims.get("iss"), str):
            raise DeniedError("invalid_grant", "Invalid JWT: alg, signature or iss")
        if claims.get("aud") != AUDIENCE:
            raise DeniedError("invalid_grant", "Invalid JWT: Failed audience check.")
        scopes = str(claims.get("scope", "")).split()
        if not scopes or not SCOPES.intersection(scopes):
            raise DeniedError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        iat, exp = claims.get("iat"), claims.get("exp")
        if not isinstance(iat, int) or not isinstance(exp, int) or exp - iat > ASSERTION_S_MAX:
            raise DeniedError(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a "
                "reasonable timeframe.",
            )
        if iat > now + CLOCK_SKEW_S or exp <= now:
            raise DeniedError(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token and in a reasonable "
                "timeframe: iat, exp.",
            )
