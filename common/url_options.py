"""What may stand behind the `?` of a store's URL. Any other option would end every process at its
first connection, or be waited for as a store that is away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

_SECONDS: Final = r"(?!0*(\.0*)?$)[0-9]{1,6}(\.[0-9]{1,6})?"
_COUNT: Final = r"[1-9][0-9]{0,6}"
_YES_NO: Final = r"(?i:true|false|yes|no|0|1)"
_ANY: Final = r".+"

#: Of redis-py's connections (8.1), but for those that change what our stores read.
REDIS_OPTIONS: Final[Mapping[str, str]] = {
    "db": r"[0-9]{1,4}",
    "username": _ANY,
    "password": _ANY,
    "client_name": r"[!-~]+",
    "protocol": r"[23]",
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _YES_NO,
    "health_check_interval": r"[0-9]{1,6}",
    "max_connections": _COUNT,
    "retry_on_timeout": _YES_NO,
}
REDISS_OPTIONS: Final[Mapping[str, str]] = {
    **REDIS_OPTIONS,
    "ssl_cert_reqs": r"none|optional|required",
    "ssl_check_hostname": _YES_NO,
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"), _ANY),
    **dict.fromkeys(("ssl_certfile", "ssl_keyfile", "ssl_password"), _ANY),
}
#: Of a socket's file: there is no connecting to a host.
UNIX_OPTIONS: Final[Mapping[str, str]] = {
    name: takes
    for name, takes in REDIS_OPTIONS.items()
    if name not in ("socket_connect_timeout", "socket_keepalive")
}
SENTINEL_OPTIONS: Final[Mapping[str, str]] = {"master": _ANY, "sentinel_password": _ANY}

_DATABASE_TEXTS: Final = frozenset(
    {
        *("service", "user", "password", "passfile", "channel_binding", "dbname", "host"),
        *("hostaddr", "client_encoding", "options", "application_name", "sslnegotiation"),
        *("fallback_application_name", "sslcompression", "sslcert", "sslkey", "sslcertmode"),
        *("sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "requirepeer"),
        *("require_auth", "min_protocol_version", "max_protocol_version", "gssencmode"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
        *("gssdelegation", "target_session_attrs", "load_balance_hosts", "sslkeylogfile"),
        *("scram_client_key", "scram_server_key", "oauth_issuer", "oauth_client_id"),
        *("oauth_client_secret", "oauth_scope"),
    }
)
_DATABASE_NUMBERS: Final = frozenset(
    {
        *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
        *("keepalives_count", "tcp_user_timeout"),
    }
)
#: Of libpq 18, but for `replication`, which is no connection for statements.
DATABASE_OPTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_DATABASE_TEXTS, _ANY),
    **dict.fromkeys(_DATABASE_NUMBERS, r"[0-9]{1,9}"),
    "port": r"[0-9]{0,5}(,[0-9]{0,5})*",
    "sslmode": r"disable|allow|prefer|require|verify-ca|verify-full",
}


def options_ok(
    query: str, known: Mapping[str, str], repeated: frozenset[str] = frozenset()
) -> bool:
    """True where each option is known, once (but for those `repeated`), and of its form."""
    try:
        found = parse_qs(query, keep_blank_values=True, strict_parsing=True) if query else {}
    except ValueError:
        return False
    return all(
        name in known
        and (len(values) == 1 or name in repeated)
        and all(re.fullmatch(known[name], value) for value in values)
        for name, values in found.items()
    )


def ports_ok(query: str) -> bool:
    """PostgreSQL's `port`: one, or as many as there are hosts."""
    found = parse_qs(query)
    hosts, ports = (",".join(found.get(name, [""])).split(",") for name in ("host", "port"))
    return len(ports) in (1, len(hosts)) and all(int(one or 1) in range(1, 65_536) for one in ports)
