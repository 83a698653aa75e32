"""Tenants, accounts and presets as values, and their copy in Redis (until they change).

A process that finds the copy starts without PostgreSQL and its libraries. The copy is of one
version of the configuration: it holds only while the version's number in Redis is its own. It is
signed, for one database, with a key of the vault; secrets in it are encrypted, as they are in SQL.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, cast
from urllib.parse import parse_qs

import msgspec
from redis import Redis

from common.clock import now_ms
from common.storage.keys import Keys
from common.storage.scripts import script
from common.storage.vault import Vault

log = logging.getLogger(__name__)

#: The characters of a tenant's name (contract §6): our keys join names by colons, which are not
#: among them.
APP = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: A larger copy is not kept: every process reads it whole after each change.
ACCOUNTS_BYTES_MAX: Final = 16 * 1024 * 1024
#: Raised when a field changes its meaning: a copy of another form is not read.
FORM: Final = 1
PURPOSE: Final = "accounts"
_DIGEST_BYTES: Final = 32
#: Digits of a version; a longer number is none of ours (lua/accounts_move.lua).
VERSION_DIGITS_MAX: Final = 15
#: For so long after a comparison with SQL a process that starts believes the copy. Upkeep compares
#: once a minute.
COMPARED_MS: Final = 150_000
#: As SQLAlchemy divides an address (sqlalchemy/engine/url.py): a password may have signs at which
#: urllib ends the host.
_ADDRESS: Final = re.compile(
    r"[^:]+://(?:[^:/]*(?::[^@]*)?@)?(?P<host>\[[^/?]*\]|[^/:?]*)(?::(?P<port>[^/?]*))?"
    r"(?:/(?P<dbname>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)


def is_app(name: str) -> bool:
    return APP.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Tenant:
    """options: hidden-content mode and the texts of content keys."""

    app: str
    name: str
    lang: str
    tz: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """One version of an account. secrets: encrypted by the vault. templates: class -> [id, sender
    variable, text variable]; limits: quota, device_cap, reserve, rate.
    """

    app: str
    vendor: str
    business_id: str
    version: int
    options: Mapping[str, str]
    secrets: bytes = field(repr=False)
    rights: Sequence[str]
    channels: Mapping[str, str]
    templates: Mapping[str, Sequence[str]]
    limits: Mapping[str, Any]
    paused: bool
    created_ms: int
    expires_ms: int | None


class AccountSet(msgspec.Struct, frozen=True, array_like=True):
    """version: of the configuration. tables: the database's (common/storage/migrations)."""

    form: int
    version: int
    tables: str | None
    tenants: list[Tenant]
    credentials: list[SealedCredential]
    strategies: list[tuple[str, str, dict[str, Any]]]

    def same(self, other: AccountSet) -> bool:
        """True where both are equal in all but the version. What no copy can hold has no equal."""
        try:
            return _encode(msgspec.structs.replace(self, version=other.version)) == _encode(other)
        except (TypeError, ValueError, OverflowError):
            return False


#: Of this release's accounts: another one may know other fields.
_SHAPE: Final = hashlib.blake2b(
    repr(
        [
            *AccountSet.__struct_fields__,
            *(one.name for one in (*fields(Tenant), *fields(SealedCredential))),
        ]
    ).encode(),
    digest_size=8,
).hexdigest()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AccountSet).decode


class AccountsCopy:
    """The copy in Redis, and the version's number beside it."""

    def __init__(self, redis: Redis, keys: Keys, vault: Vault, database: str) -> None:
        """database: the address of the one that the copy is of."""
        self._redis = redis
        self._vault = vault
        self._database = f"{place_of(database)}\0".encode()
        self._names = [keys.config_version, keys.accounts]
        self._marked = [keys.config_version, keys.accounts_mark]
        self._compared = keys.accounts_compared
        self._keep = script(redis, "accounts_keep")
        self._move = script(redis, "accounts_move")
        self._mark = script(redis, "accounts_mark")

    def version(self) -> int:
        """The version of now; 0: nothing was ever changed."""
        return _number(cast(Any, self._redis.get(self._names[0])))

    def move(self) -> None:
        """The next version, without a copy: everybody reads SQL."""
        log.info("the accounts have a new version without a copy: every process reads SQL")
        self._move(keys=self._names, args=[now_ms(), VERSION_DIGITS_MAX])

    def look(self) -> tuple[int, AccountSet | None]:
        """The version of now, and its copy. None: there is no copy of this version and form, or
        none that one of our keys has signed for our database.
        """
        version, blob = cast(Any, self._redis.mget(self._names))
        found = self._opened(blob) if blob is not None else None
        now = _number(version)
        return now, found if found is not None and found.version == now else None

    def keep(self, accounts: AccountSet, seen: int) -> bool:
        """Keeps what was read from SQL after the version `seen`, and makes the version its own.

        False, and nothing is changed: the version is another one by now, or it is too much to keep,
        or has a value that a copy can't hold.
        """
        try:
            payload = _encode(accounts)
            if len(payload) > ACCOUNTS_BYTES_MAX:
                return False
            _decode(payload)
        except (TypeError, ValueError, OverflowError) as error:  # msgspec's are ValueErrors
            log.warning(
                "a value of the accounts fits into no copy: every process reads them from SQL",
                extra={"reason": type(error).__name__},
            )
            return False
        blob = self._seal(self._vault.derived(PURPOSE)[0], payload) + payload
        return bool(self._keep(keys=self._names, args=[seen, accounts.version, blob]))

    def mark(self, accounts: AccountSet, version: int) -> bool:
        """False: others were read of SQL as of this version, so they have changed without a notice.

        Told also by what no copy can hold.
        """
        told = repr(msgspec.structs.replace(accounts, version=0)).encode("utf-8", "replace")
        digest = hashlib.blake2b(told, digest_size=_DIGEST_BYTES).hexdigest()
        return bool(self._mark(keys=self._marked, args=[version, _SHAPE, digest]))

    def compared(self) -> None:
        """The copy was found to be what SQL has, just now."""
        self._redis.set(self._compared, 1, px=COMPARED_MS)

    def compared_lately(self) -> bool:
        return bool(self._redis.exists(self._compared))

    def _opened(self, blob: bytes) -> AccountSet | None:
        seal, payload = blob[:_DIGEST_BYTES], blob[_DIGEST_BYTES:]
        keys = self._vault.derived(PURPOSE)
        if not any(hmac.compare_digest(seal, self._seal(key, payload)) for key in keys):
            return None
        try:
            found = _decode(payload)
        except msgspec.MsgspecError:  # of another release
            return None
        return found if found.form == FORM else None

    def _seal(self, key: bytes, payload: bytes) -> bytes:
        """Another database's copy has another one."""
        return hmac.digest(key, self._database + payload, "sha256")


def drawn(seen: int) -> int:
    """A version after `seen`. The clock is in it: after a loss of Redis no number comes twice."""
    return max(seen + 1, now_ms())


def _number(raw: bytes | None) -> int:
    if raw is None:
        return 0
    if raw.isdigit() and len(raw) <= VERSION_DIGITS_MAX:
        return int(raw)
    log.warning("the configuration's version in Redis is no number: it counts as 0")
    return 0


def place_of(url: str) -> str:
    """host:port/name: a password may change. Those of the query go first, as they do for
    SQLAlchemy.
    """
    parts = _ADDRESS.match(url)
    named = parts.groupdict() if parts is not None else {"host": url}
    params = parse_qs(named.get("query") or "")
    host, port, dbname = (
        ",".join(params[name]) if name in params else named.get(name) or ""
        for name in ("host", "port", "dbname")
    )
    return f"{host}:{port}/{dbname}"
