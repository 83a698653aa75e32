"""People of the console (SQL, until removed): name, role, and the password's scrypt hash."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from common.clock import now_ms
from common.storage.tables import users

NAME: Final = re.compile("[!-~]{1,64}")
ROLES: Final = ("viewer", "operator", "admin")
#: May pause and resume lanes and replay dead letters.
OPERATORS: Final = frozenset({"operator", "admin"})
PASSWORD_CHARACTERS_MIN: Final = 8
PASSWORD_BYTES_MAX: Final = 1024
#: scrypt's cost: 32 MiB and some 80 ms a hash. A hash carries its own, so that a later change
#: leaves old ones valid.
COST: Final = (2**15, 8, 1)
SCRYPT_BYTES_MAX: Final = 128 * 1024 * 1024
#: Hashes at the same time: a flood of logins must not take the machine's memory.
_slots = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class User:
    """mark: changes with the password, so that a session from before it ends."""

    name: str
    role: str
    mark: str = field(repr=False)


class Users:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def any(self) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.execute(select(func.count()).select_from(users)).scalar())

    def add(self, name: str, role: str, password: str) -> bool:
        """True for a new person, False where role and password of a known one were replaced."""
        values = {"role": role, "password": hashed(password)}
        statement = insert(users).values(name=name, created_ms=now_ms(), **values)
        with self._engine.begin() as connection:
            known = connection.execute(select(users.c.name).where(users.c.name == name)).first()
            connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_=values)
            )
        return known is None

    def get(self, name: str) -> User | None:
        row = self._row(name)
        return None if row is None else User(row["name"], row["role"], mark_of(row["password"]))

    def check(self, name: str, password: str) -> User | None:
        """The person, if the password matches. An unknown name takes as long."""
        row = self._row(name)
        good = matches(password, row["password"] if row is not None else _NOBODY)
        return (
            User(row["name"], row["role"], mark_of(row["password"]))
            if row is not None and good
            else None
        )

    def listed(self) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(users.c.name, users.c.role, users.c.created_ms).order_by(users.c.name)
            ).mappings()
            return [dict(row) for row in rows]

    def remove(self, name: str) -> bool:
        with self._engine.begin() as connection:
            return bool(connection.execute(delete(users).where(users.c.name == name)).rowcount)

    def _row(self, name: str) -> Any:
        """None also for what is no name: nothing else may stand for a person's own."""
        if NAME.fullmatch(name) is None:
            return None
        with self._engine.connect() as connection:
            return connection.execute(select(users).where(users.c.name == name)).mappings().first()


def hashed(password: str) -> str:
    """`scrypt$n$r$p$salt$hash`, salt and hash in base64."""
    salt = os.urandom(16)
    return "$".join(["scrypt", *map(str, COST), _text(salt), _text(_scrypt(password, salt, *COST))])


def matches(password: str, stored: str) -> bool:
    try:
        kind, n, r, p, salt, wanted = stored.split("$")
        found = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
        return kind == "scrypt" and hmac.compare_digest(found, base64.b64decode(wanted))
    except (ValueError, binascii.Error):
        return False


def mark_of(stored: str) -> str:
    return hashlib.sha256(stored.encode()).hexdigest()[:16]


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    with _slots:
        raw = password.encode("utf-8", "replace")[:PASSWORD_BYTES_MAX]
        return hashlib.scrypt(raw, salt=salt, n=n, r=r, p=p, maxmem=SCRYPT_BYTES_MAX, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


#: The hash compared for an unknown name; no password matches it.
_NOBODY: Final = "$".join(["scrypt", *map(str, COST), _text(bytes(16)), _text(bytes(32))])
