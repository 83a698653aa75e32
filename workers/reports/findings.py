"""One line of doctor, and what an error of a server means: its words, and the cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from sqlalchemy.exc import DBAPIError

from common.logs import scrub


@dataclass(frozen=True, slots=True)
class Finding:
    """cure: what to do, "" where all is well. fix: does it, only where nothing can be lost by it."""

    check: str
    ok: bool
    found: str
    cure: str = ""
    unreachable: bool = False
    fix: Callable[[], object] | None = field(default=None, compare=False)


def good(check: str, found: str) -> Finding:
    return Finding(check, True, found)


def bad(check: str, found: str, cure: str, fix: Callable[[], object] | None = None) -> Finding:
    return Finding(check, False, found, cure, fix=fix)


def words_of(error: BaseException) -> str:
    """An error's first line, without what may be a secret."""
    lines = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines() if line.strip()]
    return scrub(lines[0])[:200] if lines else type(error).__name__


_LOGIN: Final = r"NOAUTH|WRONGPASS|invalid username-password|no password is set|without any password"
#: (pattern of the words, what it means, the cure). {setting}: the setting that names the server.
_REDIS: Final = (
    (r"CERTIFICATE_VERIFY_FAILED|self.signed", "its certificate is not trusted", "{setting}=rediss://…?ssl_ca_certs=/path/of/its/ca.pem"),
    (
        r"WRONG_VERSION_NUMBER|record layer|wrong version",
        "it does not speak TLS on this port",
        "{setting} with redis:// in place of rediss://",
    ),
    (
        r"Name or service|getaddrinfo|not known|nodename",
        "its host name is not found",
        "is the host of {setting} spelt right, and does DNS know it?",
    ),
    (r"refused", "nothing listens there", "is it running, and is {setting} right?"),
    (r"closed by server|reset by peer", "it closes the connection", "TLS port? then {setting} begins with rediss://; else look at its log"),
    (r"max number of clients", "it takes no more clients", "CONFIG SET maxclients, or fewer processes"),
    (r"LOADING", "it reads its data from disk", "wait until it is loaded"),
)
_DATABASE: Final = (
    (
        r"password authentication failed|no password supplied|role .* does not exist",
        "user or password is refused",
        "the user and password of PUSHFLEET_DATABASE_URL",
    ),
    (r"database .* does not exist", "the server has no such database", "CREATE DATABASE, or another name in PUSHFLEET_DATABASE_URL"),
    (
        r"too many (clients|connections)|remaining connection slots|no more connections",
        "it has no connections left",
        "raise max_connections (4 for each process), or a pooler",
    ),
    (r"no pg_hba\.conf entry", "its pg_hba.conf does not let us in", "a line for this host, user and database in pg_hba.conf"),
    (
        r"could not translate host name|Name or service|not known",
        "its host name is not found",
        "is the host of PUSHFLEET_DATABASE_URL spelt right?",
    ),
    (
        r"certificate verify failed|root certificate",
        "its certificate is not trusted",
        "PUSHFLEET_DATABASE_URL=…?sslmode=verify-full&sslrootcert=/path/of/ca.pem",
    ),
    (r"starting up|shutting down|recovery", "it is starting or stopping", "wait, or look at its log"),
    (
        r"permission denied",
        "this user may not do that",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO <user>; GRANT CREATE, USAGE ON SCHEMA public TO <user>",
    ),
    (
        r"read-only transaction",
        "it takes no writes",
        "the primary in PUSHFLEET_DATABASE_URL, or ALTER ROLE <user> SET default_transaction_read_only = off",
    ),
    (r"refused|could not connect|timeout", "nothing answers there", "is it running, and is PUSHFLEET_DATABASE_URL right?"),
)


def redis_error(name: str, error: BaseException, setting: str = "PUSHFLEET_REDIS_URL") -> Finding:
    """What an error of Redis means. unreachable: no command of ours can be done there."""
    said = words_of(error)
    if isinstance(error, AuthenticationError) or re.search(
        r"NOAUTH|WRONGPASS|invalid username-password|no password is set|without any password", said
    ):
        return Finding(name, False, f"user or password is refused: {said}", f"the user and password of {setting}", unreachable=True)
    if isinstance(error, ReadOnlyError):
        return Finding(name, False, "it is a replica and takes no writes", f"the primary in {setting}, or sentinel://…?master=NAME")
    if isinstance(error, NoPermissionError):
        cure = (
            "ACL SETUSER <user> ~push:* ~im:* +@all -@admin +info (with PUSHFLEET_PREFIX, PUSHFLEET_KEY_PREFIX and EVENT_STREAMS of yours)"
        )
        return Finding(name, False, f"this user may not do all that the fleet needs: {said}", cure)
    if isinstance(error, OutOfMemoryError) or "OOM" in said:
        return Finding(
            name,
            False,
            "it is full and takes no more writes (maxmemory)",
            "CONFIG SET maxmemory with more, then find out below what has grown",
        )
    if isinstance(error, ResponseError):
        return Finding(
            name, False, f"it refuses what the fleet needs: {said}", "look at its configuration (rename-command, ACL, disk) and log"
        )
    meaning, cure = next(
        ((m, c) for p, m, c in _REDIS if re.search(p, said, re.IGNORECASE)),
        ("it does not answer", "is it running, and is {setting} right?"),
    )
    found = f"can't be reached: {meaning} ({type(error).__name__})"
    return Finding(name, False, found, cure.replace("{setting}", setting), unreachable=True)


def database_error(error: BaseException) -> Finding:
    """What an error of PostgreSQL means."""
    said = str(getattr(error, "orig", None) or error)
    meaning, cure = next(
        ((m, c) for p, m, c in _DATABASE if re.search(p, said, re.IGNORECASE)),
        ("it does not answer", "is it running, and is PUSHFLEET_DATABASE_URL right?"),
    )
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    there = state is not None and state[:2] in ("25", "42")  # it has read a statement of ours
    found = meaning if there else f"can't be reached: {meaning} ({type(getattr(error, 'orig', None) or error).__name__})"
    return Finding("postgresql", False, found, cure, unreachable=not there)


REDIS_ERRORS: Final = (RedisError, OSError)
