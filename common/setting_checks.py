"""What each setting takes. Any other value is a ValueError."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from common.redis_urls import cluster_of, is_cluster, port_ok, sentinel_of
from common.url_options import (
    DATABASE_OPTIONS,
    REDIS_OPTIONS,
    REDISS_OPTIONS,
    SENTINEL_OPTIONS,
    UNIX_OPTIONS,
    options_ok,
    ports_ok,
)

EMBEDDED: Final = "embedded"


PROXY_TAKES: Final = "http://[user:password@]host:port, of a proxy that knows CONNECT"


def home(value: str) -> str:
    """The path with `~` replaced; raises ValueError for an unknown user."""
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError from None


def folder(value: str) -> str:
    """The existing part of the path must be a folder; the rest can be created."""
    path = Path(home(value))
    there = next((one for one in (path, *path.absolute().parents) if os.path.lexists(one)), path)
    return checked(str(path), there.is_dir())


def ca_file(path: Path) -> None:
    """Raises OSError (also ssl.SSLError) when the file holds no certificate.

    Otherwise every request would fail without a stated reason.
    """
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)


UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def size_of(text: str) -> int:
    """Bytes of `268435456` or `256MiB`; raises ValueError for any other text."""
    found = re.fullmatch(r"([0-9]{1,13})\s*(|[KMGT]iB)", text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * UNITS[found[2]]


def size(value: str) -> str:
    return checked(value, 1024 <= size_of(value) <= 1024**4)


def ledger_size(value: str) -> str:
    return checked(value, 64 * 1024**2 <= size_of(value) <= 1024**5)


def name_list(comma_list: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in comma_list.split(",") if part.strip())


def stream_list(value: str) -> str:
    names = name_list(value)
    if not names or len(set(names)) != len(names) or any(not key_part(name) for name in names):
        raise ValueError
    return value


def key_part(value: str) -> str:
    """The prefix of a Redis key before our own parts. Braces would make hash tags of it."""
    if not re.fullmatch(r"[!-z|~]{1,128}", value):
        raise ValueError
    return value


def redis_server(value: str) -> str:
    if value == EMBEDDED:
        return value
    scheme, query = checked(value, value.isprintable()).partition("://")[0], value.partition("?")[2]
    if is_cluster(value):
        tls = cluster_of(value).tls
        return checked(value, options_ok(query, REDISS_OPTIONS if tls else REDIS_OPTIONS))
    if scheme == "sentinel":
        sentinel_of(value)
        return checked(value, options_ok(query, SENTINEL_OPTIONS))
    parts = urlsplit(value)
    if scheme == "unix":  # of unix://tmp/x redis-py would take /x
        good = bool(parts.path.strip("/")) and not parts.hostname
        return checked(value, good and options_ok(parts.query, UNIX_OPTIONS))
    options = REDISS_OPTIONS if scheme == "rediss" else REDIS_OPTIONS
    known = scheme in ("redis", "rediss") and bool(parts.hostname) and not parts.fragment
    path = bool(re.fullmatch(r"(/[0-9]{0,4})?", parts.path))
    return checked(
        value, known and port_ok(parts.port) and path and options_ok(parts.query, options)
    )


def core_server(redis_url: str) -> Callable[[str], str]:
    """`embedded` for the core only where the fleet's own Redis is: there is one embedded server."""

    def check(value: str) -> str:
        return checked(redis_server(value), value != EMBEDDED or redis_url == EMBEDDED)

    return check


def broker_server(redis_url: str) -> Callable[[str], str]:
    """Never a cluster, kombu knows none. `embedded` only where the fleet's own Redis is, or beside
    a cluster.
    """

    def check(value: str) -> str:
        good = not is_cluster(value) and (
            value != EMBEDDED or redis_url == EMBEDDED or is_cluster(redis_url)
        )
        return checked(redis_server(value), good)

    return check


def checked(value: str, good: bool) -> str:
    if not good:
        raise ValueError
    return value


def database_server(value: str) -> str:
    if value == EMBEDDED:
        return value
    parts = urlsplit(checked(value, value.isprintable()))
    known = value.partition("://")[0] in ("postgresql", "postgresql+psycopg")
    place = parts.netloc  # SQLAlchemy ends the password at its first @
    named = bool(parts.path.strip("/") or parts.query) and not parts.fragment
    fits = place.count("@") <= 1 and not place.endswith(":") and port_ok(parts.port)
    options = options_ok(parts.query, DATABASE_OPTIONS, frozenset({"host"})) and ports_ok(
        parts.query
    )
    return checked(value, known and named and fits and options).replace(
        "postgresql://", "postgresql+psycopg://", 1
    )  # as SQLAlchemy names the driver


def reports_server(value: str) -> str:
    return database_server(checked(value, value != EMBEDDED))


def fernet_list(value: str) -> str:
    for key in name_list(value):
        check_fernet_key(key)
    return value


def check_fernet_key(key: str) -> str:
    """The key itself; ValueError unless it is 32 bytes in URL-safe base64."""
    try:
        good = len(base64.urlsafe_b64decode(key)) == 32
    except binascii.Error:
        good = False
    return checked(key, good)


def endpoint(value: str) -> str:
    parts = urlsplit(value)
    bare = (
        parts.path in ("", "/")
        and not parts.query
        and not parts.fragment
        and "@" not in parts.netloc
    )
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    return checked(
        value.rstrip("/"), bare and safe and bool(parts.hostname) and port_ok(parts.port)
    )


def proxy(value: str) -> str:
    parts = urlsplit(value)
    bare = (
        parts.path in ("", "/")
        and not parts.query
        and not parts.fragment
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )
    login = unquote(parts.username or "") + unquote(parts.password or "")
    named = (
        bool(parts.hostname) and bool(parts.port) and (parts.username != "" and login.isprintable())
    )
    return checked(value.rstrip("/"), parts.scheme == "http" and bare and named)


def is_loopback(host: str) -> bool:
    """True when a host name or address cannot leave this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def addr(value: str) -> str:
    host(host_port(value)[0])
    return value


def host_port(addr: str) -> tuple[str, int]:
    """Splits `host:port` or `[v6]:port`; port 0 takes a free one. ValueError when it is none."""
    parts = urlsplit(f"//{addr}")
    if parts.hostname is None or parts.port is None or parts.netloc != addr or "@" in addr:
        raise ValueError("not host:port")
    return parts.hostname, parts.port


def host(value: str) -> str:
    """A host name or an address, without port."""
    if ":" in value:
        return str(ipaddress.ip_address(value))
    return checked(value, bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", value)))


def networks(value: str) -> str:
    for part in name_list(value):
        ipaddress.ip_network(part, strict=False)
    return value


def issuer(value: str) -> str:
    """As it was given: it is compared letter by letter."""
    parts = urlsplit(base_url(value) and value)
    return checked(value, parts.scheme == "https" or is_loopback(parts.hostname or ""))


def client_id(value: str) -> str:
    return checked(value, bool(re.fullmatch(r"[!-~]{1,256}", value)))


def one_line(path: Path) -> str:
    text = path.read_text(encoding="utf-8-sig").strip()
    return checked(text, bool(text) and "\n" not in text and len(text) <= 1024)


def oidc_roles(value: str) -> str:
    pairs = [one.partition("=") for one in name_list(value)]
    return checked(
        value,
        bool(pairs)
        and all(role in ("viewer", "operator", "admin") and group for role, _, group in pairs),
    )


def base_url(value: str) -> str:
    parts = urlsplit(value)
    good = (
        parts.scheme in ("https", "http")
        and bool(parts.hostname)
        and port_ok(parts.port)
        and not parts.query
        and not parts.fragment
    )
    return checked(value.rstrip("/"), good)


def fernet_file(path: Path) -> tuple[str, ...]:
    """The keys in it, at least one; ValueError or OSError."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    keys = tuple(check_fernet_key(line) for line in lines if line and not line.startswith("#"))
    checked("", bool(keys))
    return keys
