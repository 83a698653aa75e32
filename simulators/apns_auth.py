"""Authentication at APNs: provider tokens (JWT, ES256) and client certificates.

Source: Apple, "Establishing a token-based connection to APNs" and "Establishing a certificate-based
connection to APNs".
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asn1crypto import core as asn1
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from simulators import jwt as jwts

TOKEN_LIFE_S = 3600
TOKEN_UPDATE_S_MIN = 1200  # "no more than once every 20 minutes"
JWTS_MAX = 10_000
CONNECTIONS_MAX = 10_000

#: The list of topics; the second is VoIP's.
TOPICS_OIDS = (
    ObjectIdentifier("1.2.840.113635.100.6.3.6"),
    ObjectIdentifier("1.2.840.113635.100.6.3.4"),
)
ENVIRONMENT_OIDS = {
    "sandbox": ObjectIdentifier("1.2.840.113635.100.6.3.1"),
    "production": ObjectIdentifier("1.2.840.113635.100.6.3.2"),
}


class RefusedError(Exception):
    """A refusal of APNs. reason: Apple's word.

    status and timestamp_ms: only where they are not implied by the reason.
    """

    def __init__(
        self, reason: str, status: int | None = None, timestamp_ms: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.status, self.timestamp_ms = reason, status, timestamp_ms


@dataclass(frozen=True, slots=True)
class AppleAccount:
    """A registered key, which is checked strictly. topics, env None: all."""

    key_id: str
    team_id: str
    key: ec.EllipticCurvePublicKey
    topics: frozenset[str] | None
    env: str | None

    @staticmethod
    def of(wanted: Mapping[str, Any]) -> AppleAccount:
        """Raises KeyError or ValueError for a missing or wrong field."""
        unknown = set(wanted) - {"key_id", "team_id", "public_key_pem", "topics", "env"}
        if unknown:
            raise ValueError(f"no such field of an account: {', '.join(sorted(unknown))}")
        key = jwts.public_key(wanted["public_key_pem"])
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("public_key_pem: APNs keys are EC P-256")  # noqa: TRY004
        topics, env = wanted.get("topics"), wanted.get("env")
        if env not in (None, "both", *ENVIRONMENT_OIDS):
            raise ValueError("env: sandbox, production or both")
        return AppleAccount(
            str(wanted["key_id"]),
            str(wanted["team_id"]),
            key,
            frozenset(topics) if topics else None,
            None if env == "both" else env,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """account: key id, or serial number of the certificate in hex. topics None:
    not known, so any.
    """

    account: str
    topics: frozenset[str] | None
    default_topic: str | None = None
    certificate: bool = False

    def may_push(self, topic: str) -> bool:
        """A certificate lists each topic with its suffix; a key's bundle ids include them."""
        if self.topics is None or topic in self.topics:
            return True
        return not self.certificate and any(topic.startswith(f"{base}.") for base in self.topics)


@dataclass(slots=True)
class _Bound:
    """The values fixed by the first valid provider token of a connection."""

    team: str
    kid: str
    token: str
    iat: float


class ProviderTokens:
    """Every key and certificate seen; bounded by the number of connections and JWTs remembered."""

    def __init__(self) -> None:
        self.accounts: dict[str, AppleAccount] = {}
        self._read: OrderedDict[str, jwts.Jwt] = OrderedDict()
        self._bound: OrderedDict[int, _Bound] = OrderedDict()
        self._wedged: set[int] = set()
        self._seen: dict[str, set[bytes]] = {}
        self._expired: set[bytes] = set()

    def know(self, account: AppleAccount) -> None:
        self.accounts[account.key_id] = account
        self._read.clear()

    def distinct_jwts(self) -> dict[str, int]:
        return {kid: len(seen) for kid, seen in self._seen.items()}

    def expire_all_seen(self) -> None:
        self._expired = {digest for seen in self._seen.values() for digest in seen}

    # ---- provider tokens

    def by_token(
        self, authorization: str | None, env: str, connection: int, now: float, wedge: bool
    ) -> Identity:
        """now: seconds. Raises RefusedError."""
        if not authorization:
            raise RefusedError("MissingProviderToken")
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise RefusedError("InvalidProviderToken")
        token = self._genuine(text)
        kid = str(token.header["kid"])
        team = str(token.claims["iss"])
        iat = float(token.claims["iat"])
        account = self.accounts.get(kid)
        if account and account.env not in (None, env):
            raise RefusedError("BadEnvironmentKeyInToken")
        if (
            connection in self._wedged
            or abs(now - iat) > TOKEN_LIFE_S
            or (self._expired and _digest(text) in self._expired)
        ):
            if wedge and len(self._wedged) < CONNECTIONS_MAX:
                self._wedged.add(connection)
            raise RefusedError("ExpiredProviderToken")
        self._bind(connection, team, kid, text, iat)
        return Identity(kid, account.topics if account else None)

    def _genuine(self, text: str) -> jwts.Jwt:
        """The JWT read and, for a known key, its signature checked; remembered, as a fleet sends
        the same one all the time.
        """
        known = self._read.get(text)
        if known is not None:
            return known
        try:
            token = jwts.read(text)
        except (ValueError, RecursionError):
            raise RefusedError("InvalidProviderToken") from None
        kid, iat = token.header.get("kid"), token.claims.get("iat")
        right = (
            token.header.get("alg") == "ES256"
            and isinstance(kid, str)
            and isinstance(token.claims.get("iss"), str)
        )
        if (
            not right
            or not isinstance(iat, int)
            or len(token.signature) != 64
            or str(kid).startswith("WRONG")
        ):
            raise RefusedError("InvalidProviderToken")
        account = self.accounts.get(str(kid))
        if account and not (
            token.claims["iss"] == account.team_id and jwts.signature_holds(token, account.key)
        ):
            raise RefusedError("InvalidProviderToken")
        self._seen.setdefault(str(kid), set()).add(_digest(text))
        self._read[text] = token
        if len(self._read) > JWTS_MAX:
            self._read.popitem(last=False)
        return token

    def _bind(self, connection: int, team: str, kid: str, text: str, iat: float) -> None:
        """Allows one team and key per connection, and a new JWT at least 20 minutes after the last.

        The times are their `iat`.
        """
        bound = self._bound.get(connection)
        if bound is None:
            self._bound[connection] = _Bound(team, kid, text, iat)
            if len(self._bound) > CONNECTIONS_MAX:
                self._bound.popitem(last=False)
        elif bound.team != team:
            raise RefusedError("Forbidden")
        elif bound.kid != kid:
            raise RefusedError("UnrelatedKeyIdInToken")
        elif bound.token != text:
            if abs(iat - bound.iat) < TOKEN_UPDATE_S_MIN:
                raise RefusedError("TooManyProviderTokenUpdates")
            bound.token, bound.iat = text, iat

    # ---- certificates

    def by_certificate(self, der: bytes, env: str, now: float) -> Identity:
        """Raises RefusedError. now: seconds. Source of the fields: pushy's apns-extensions.cnf,
        node-apn's oids.js.
        """
        identity, environments, (begins, ends) = _read_certificate(der)
        if not begins <= now <= ends:
            raise RefusedError("BadCertificate")
        if environments and env not in environments:
            raise RefusedError("BadCertificateEnvironment")
        return identity


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


@lru_cache(maxsize=1024)
def _read_certificate(der: bytes) -> tuple[Identity, frozenset[str], tuple[float, float]]:
    """(identity, environments; none marked: both, life in s). Raises RefusedError BadCertificate
    for one that names no topic.
    """
    certificate = x509.load_der_x509_certificate(der)
    uids = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.USER_ID)]
    try:
        listed = _topics(certificate)
    except ValueError:
        raise RefusedError("BadCertificate") from None
    topics = frozenset(uids) | frozenset(listed)
    if not topics:
        raise RefusedError("BadCertificate")
    default = next(iter(topics)) if len(topics) == 1 else None
    present = {extension.oid for extension in certificate.extensions}
    environments = frozenset(env for env, oid in ENVIRONMENT_OIDS.items() if oid in present)
    begins = certificate.not_valid_before_utc.timestamp()
    life = (begins, certificate.not_valid_after_utc.timestamp())
    identity = Identity(f"{certificate.serial_number:x}", topics, default, certificate=True)
    return (identity, environments, life)


def _topics(certificate: x509.Certificate) -> list[str]:
    """SEQUENCE of a topic (UTF8String) and its kinds (SEQUENCE of UTF8String), by turns."""
    found = []
    for extension in certificate.extensions:
        if extension.oid in TOPICS_OIDS and isinstance(extension.value, x509.UnrecognizedExtension):
            parts = asn1.SequenceOf.load(extension.value.value, spec=asn1.Any)
            found += [
                part.native
                for part in (one.parse() for one in parts)
                if isinstance(part, asn1.UTF8String)
            ]
    return found
