"""URLs of several servers, read: Sentinel and Redis Cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit


def port_ok(port: int | None) -> bool:
    return port is None or port > 0


@dataclass(frozen=True, slots=True)
class Sentinel:
    """A sentinel URL, read. hosts: (host, port) each. The user and password are the master's;
    `sentinel_password` the sentinels'.
    """

    hosts: tuple[tuple[str, int], ...]
    master: str
    db: int
    username: str | None
    password: str | None = field(repr=False)
    sentinel_password: str | None = field(default=None, repr=False)


def sentinel_of(url: str) -> Sentinel:
    """Reads sentinel://[user:password@]h1:26379,h2:26379/<db>?master=NAME[&sentinel_password=…].

    Raises ValueError for any other URL.
    """
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    userinfo, _, hosts_db = address.rpartition("@")
    hosts, _, db = hosts_db.partition("/")
    login = urlsplit(f"//{userinfo}@host")
    options = parse_qs(query)
    pairs = tuple(
        (part.hostname or "", part.port or 26_379)
        for part in (urlsplit(f"//{host}") for host in hosts.split(","))
    )
    if (
        scheme != "sentinel"
        or not all(host for host, _ in pairs)
        or not options.get("master")
        or not re.fullmatch(r"[0-9]{0,4}", db)
    ):
        raise ValueError("not a sentinel URL")
    secret = options.get("sentinel_password", [None])[0]
    return Sentinel(
        pairs,
        options["master"][0],
        int(db or 0),
        unquote(login.username or "") or None,
        unquote(login.password or "") or None,
        secret,
    )


CLUSTER_SCHEMES: Final = ("redis+cluster", "rediss+cluster")


def is_cluster(url: str) -> bool:
    return url.partition("://")[0] in CLUSTER_SCHEMES


@dataclass(frozen=True, slots=True)
class Cluster:
    """A parsed cluster URL. hosts: (host, port) of some nodes.

    login: `user:password` as in the URL; query: options of TLS.
    """

    hosts: tuple[tuple[str, int], ...]
    tls: bool
    login: str = field(repr=False)
    query: str = field(default="", repr=False)

    def node_url(self, host: str, port: int) -> str:
        """The plain URL of one node."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"redis{'s' * self.tls}://{self.login}{'@' * bool(self.login)}{place}{'?' * bool(self.query)}{self.query}"  # noqa: E501


def cluster_of(url: str) -> Cluster:
    """Reads redis+cluster://[user:password@]h1:6379,h2:6379 (rediss+cluster:// with TLS).

    Raises ValueError for any other URL.
    """
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    login, _, hosts_db = address.rpartition("@")
    hosts, _, db = hosts_db.partition("/")
    parts = [urlsplit(f"//{host}") for host in hosts.split(",")]
    bare = all(part.hostname and not part.path and port_ok(part.port) for part in parts)
    # a cluster has one database
    if scheme not in CLUSTER_SCHEMES or not bare or db not in ("", "0"):
        raise ValueError("not a cluster URL")
    nodes = tuple((part.hostname or "", part.port or 6379) for part in parts)
    return Cluster(nodes, scheme == "rediss+cluster", login, query)
