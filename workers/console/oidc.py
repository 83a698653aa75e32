"""Signing in by OpenID Connect: the authorization code flow with PKCE, state and nonce. The token's
checks are PyJWT's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import jwt

from common.config import Settings
from common.storage.users import ROLES

START, BACK = "/login/oidc", "/login/oidc/back"
#: Seconds that a person may spend at the provider.
AWAY_S: Final = 600
#: Seconds of a session by the provider; then the provider is asked again.
LIFE_S: Final = 3_600
#: Deadline of a request to the provider, seconds; bytes of its answer; how long its description is
#: kept.
ANSWER_S: Final = 4.0
ANSWER_BYTES_MAX: Final = 1 << 20
KEPT_S: Final = 600.0
#: The provider's clock and ours, seconds.
LEEWAY_S: Final = 60
#: Signatures that are taken: none by a shared secret, and never `none`.
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
)
#: Claims that may hold a person's groups, in this order.
GROUPS: Final = ("groups", "roles")
NAME_CHARACTERS_MAX: Final = 64


class OidcError(Exception):
    """The reason of a failed sign-in; for the log, never with a token."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The values that a sign-in must return."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class SignedInPerson:
    name: str
    role: str


class Provider:
    """One OpenID provider, by its issuer."""

    def __init__(self, settings: Settings) -> None:
        if settings.oidc_issuer is None:
            raise ValueError("no provider is set")
        self._settings = settings
        self.issuer = settings.oidc_issuer
        self._tls = ssl.create_default_context()
        if settings.ca_file is not None:
            self._tls.load_verify_locations(settings.ca_file)
        self._lock = threading.Lock()
        self._about: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, jwt.PyJWKSet] | None = None

    def begin(self) -> tuple[str, Pending]:
        """(where to send the browser, what to remember). OidcError: the provider is away."""
        pending = Pending(*(secrets.token_urlsafe(32) for _ in range(3)))
        digest = base64.urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest())
        challenge = digest.rstrip(b"=").decode()
        params = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self._back(),
            "scope": "openid profile email groups",
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        target = str(self._described()["authorization_endpoint"])
        return f"{target}{'&' if urlsplit(target).query else '?'}{urlencode(params)}", pending

    def finish(self, pending: Pending, given: Mapping[str, str]) -> SignedInPerson:
        """The returning person. Raises OidcError for nobody, or for one without rights."""
        if not secrets.compare_digest(given.get("state", "").encode(), pending.state.encode()):
            raise OidcError("the state is not this browser's")
        if "code" not in given:
            raise OidcError(f"the provider says {given.get('error', 'nothing')[:64]}")
        return self._person(
            self._claims(self._token(given["code"], pending.verifier), pending.nonce)
        )

    def _token(self, code: str, verifier: str) -> str:
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back(),
            "code_verifier": verifier,
        }
        client, secret = self._settings.oidc_client_id, self._secret()
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        if secret:
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            body["client_id"] = client
        grant = self._ask(
            str(self._described()["token_endpoint"]), urlencode(body).encode(), headers
        )
        token = grant.get("id_token")
        if not isinstance(token, str):
            raise OidcError("the provider gave no id_token")
        return token

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        """The token's claims, its signature, issuer, audience, times and nonce checked."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(token).key,
                algorithms=list(ALGORITHMS),
                audience=self._settings.oidc_client_id,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise OidcError(f"the id_token is refused: {type(error).__name__}") from None
        if not isinstance(claims.get("nonce"), str) or not secrets.compare_digest(
            claims["nonce"].encode(), nonce.encode()
        ):
            raise OidcError("the id_token is of another sign-in")
        azp = claims.get("azp")
        if azp is not None and azp != self._settings.oidc_client_id:
            raise OidcError("the id_token is for another client")
        return claims

    def _key(self, token: str) -> jwt.PyJWK:
        wanted = jwt.get_unverified_header(token).get("kid")
        for again in (False, True):  # the provider may have changed its keys since
            keys = self._jwks(again).keys
            found = [key for key in keys if wanted is None or key.key_id == wanted]
            if found:
                return found[0]
        raise OidcError("the id_token is signed with a key that the provider does not show")

    def _jwks(self, again: bool) -> jwt.PyJWKSet:
        with self._lock:
            known = self._keys
        if known is not None and not again and time.monotonic() < known[0]:
            return known[1]
        found = jwt.PyJWKSet.from_dict(self._ask(str(self._described()["jwks_uri"])))
        with self._lock:
            self._keys = (time.monotonic() + KEPT_S, found)
        return found

    def _person(self, claims: Mapping[str, Any]) -> SignedInPerson:
        named: list[Any] | str = next(
            (claims[name] for name in GROUPS if isinstance(claims.get(name), list | str)), []
        )
        groups = (
            {named} if isinstance(named, str) else {one for one in named if isinstance(one, str)}
        )
        role = role_of(groups, self._settings.oidc_roles)
        if role is None:
            raise OidcError("none of the person's groups may look: PUSHFLEET_OIDC_ROLES")
        name = next(
            (str(claims[one]) for one in ("preferred_username", "email", "sub") if claims.get(one)),
            "",
        )
        plain = "".join(one if one.isprintable() else "?" for one in name)
        return SignedInPerson(plain[:NAME_CHARACTERS_MAX], role)

    def _described(self) -> dict[str, Any]:
        """The provider's own description (OpenID Connect Discovery)."""
        with self._lock:
            known = self._about
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        found = self._ask(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise OidcError("the provider calls itself otherwise than PUSHFLEET_OIDC_ISSUER")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if urlsplit(str(found.get(name))).scheme not in ("https", urlsplit(self.issuer).scheme):
                raise OidcError(f"the provider's {name} is no https:// address")
        with self._lock:
            self._about = (time.monotonic() + KEPT_S, found)
        return found

    def _ask(
        self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """A JSON object of the provider. Raises OidcError when it is away or refuses."""
        request = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310 - http and https only, by _described
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S, context=self._tls) as answer:  # noqa: S310
                found = json.loads(answer.read(ANSWER_BYTES_MAX + 1)[:ANSWER_BYTES_MAX])
        except urllib.error.HTTPError as error:
            raise OidcError(f"the provider answers {error.code}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise OidcError(
                f"the provider does not answer as it should: {type(error).__name__}"
            ) from None
        if not isinstance(found, dict):
            raise OidcError("the provider's answer is no object")
        return found

    def _secret(self) -> str:
        file: Path | None = self._settings.oidc_secret_file
        return "" if file is None else file.read_text(encoding="utf-8-sig").strip()

    def _back(self) -> str:
        return (self._settings.console_url or "").rstrip("/") + BACK


def role_of(groups: set[str], roles: tuple[str, ...]) -> str | None:
    """The strongest role of `ROLE=GROUP` by these groups; `*` is every person of the provider."""
    given = {
        role
        for role, _, group in (one.partition("=") for one in roles)
        if group == "*" or group in groups
    }
    return next((role for role in reversed(ROLES) if role in given), None)
