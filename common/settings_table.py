"""Name, form and meaning of every setting.

Used by the check of names, `pushfleet settings` and docs/settings.md.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "PUSHFLEET_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting without the prefix. default: as in the environment, "" for none.

    secret: not printed.
    """

    name: str
    default: str
    takes: str
    means: str
    secret: bool = False


ENCODED: Final = (
    "options behind a ? are known ones, and of a password @ : / ? # % are written as "
    "%40 %3A %2F %3F %23 %25"
)
DATABASE_TAKES: Final = (
    f"postgresql://user:password@host:port/name or postgresql+psycopg://…; {ENCODED}"
)
REDIS_TAKES: Final = (
    "'embedded', redis://, rediss://, unix:///path, sentinel://h1:26379,"
    "h2:26379/<db>?master=NAME or redis+cluster://h1:6379,h2:6379 "
    "(rediss+cluster:// with TLS); a server with a private CA: "
    f"rediss://…?ssl_ca_certs=/path/of/ca.pem; {ENCODED}"
)
#: In the order of the settings page.
SETTINGS: Final = (
    Setting(
        "REDIS_URL",
        "embedded",
        REDIS_TAKES,
        "The fleet's Redis: streams, limits, lanes. `embedded`: `pushfleet up` starts one.",
        True,
    ),
    Setting(
        "BROKER_URL",
        "",
        "as PUSHFLEET_REDIS_URL, but never a cluster",
        "Redis of Celery's wake-ups; PUSHFLEET_REDIS_URL when unset. Must be set with a cluster.",
        True,
    ),
    Setting(
        "CORE_URL",
        "",
        "as PUSHFLEET_REDIS_URL",
        "Redis of the IM core's events, presence, members; PUSHFLEET_REDIS_URL when unset.",
        True,
    ),
    Setting(
        "DATABASE_URL",
        "embedded",
        f"'embedded', {DATABASE_TAKES}",
        "PostgreSQL: devices, credentials, the ledger.",
        True,
    ),
    Setting(
        "DATABASE_REPORTS_URL",
        "",
        DATABASE_TAKES,
        "A read replica that `why`, the console and its API ask instead; while it is away, "
        "and when unset, PUSHFLEET_DATABASE_URL.",
        True,
    ),
    Setting(
        "DATA_DIR",
        "./var",
        "the path of a folder, or of one to be made",
        "Files of embedded servers, generated keys, run.json, reports.",
    ),
    Setting(
        "EVENT_STREAMS",
        "im:events",
        "names of streams, separated by commas, each once",
        "The streams that the IM core writes.",
    ),
    Setting(
        "KEY_PREFIX",
        "im:",
        "1 to 128 of printable ASCII without spaces and braces",
        "Prefix of the core's presence, member and friend keys.",
    ),
    Setting(
        "PREFIX",
        "push",
        "1 to 128 of printable ASCII without spaces and braces",
        "Prefix of the fleet's own keys; two fleets on one Redis differ here and in EVENT_STREAMS.",
    ),
    Setting(
        "SHARDS",
        "1",
        "a whole number from 1 to 1024",
        "Shards of the fleet's keys, fixed at the first start; `pushfleet reshard` changes it.",
    ),
    Setting(
        "SECRET_KEYS_FILE",
        "",
        "the path of a readable file with Fernet keys, one a line",
        "Keys of stored credentials; the first encrypts. Generated in DATA_DIR for an "
        "embedded database only. Keep a copy elsewhere.",
    ),
    Setting(
        "SECRET_KEYS",
        "",
        "Fernet keys (32 bytes in URL-safe base64), separated by commas",
        "Deprecated: use SECRET_KEYS_FILE.",
        True,
    ),
    Setting(
        "CA_FILE",
        "",
        "the path of a readable file with CA certificates in PEM",
        "Extra CA bundle for the vendors' servers.",
    ),
    Setting(
        "APNS_CLIENT",
        "curl",
        "one of curl, aioapns, libcurl",
        "Who speaks HTTP/2: `curl` our engine for APNs and FCM with libcurl behind it, "
        "`aioapns` that library for APNs, `libcurl` alone.",
    ),
    Setting(
        "SEND_TIMEOUT_S",
        "10",
        "a number of seconds from 0.1 to 60",
        "Deadline of one request to a vendor.",
    ),
    Setting(
        "RETRY_FIRST_S",
        "",
        "a number of seconds from 0 to 86400",
        "Caps the first retry delay of every vendor; unset: the vendor page's.",
    ),
    Setting(
        "LANE_BYTES_MAX",
        "256MiB",
        "a size from 1KiB to 1TiB, as 64MiB or in bytes",
        "Bound of one lane's queue: over it its marketing ends as `throttled`, then its groups.",
    ),
    Setting(
        "BYTES_MAX_PERCENT",
        "60",
        "a whole number from 1 to 95",
        "Bound of all lanes' queues in percent of Redis' maxmemory: over it marketing, "
        "groups, then chats end as `throttled`.",
    ),
    Setting(
        "LEDGER_DAYS",
        "7",
        "a whole number from 1 to 3650",
        "How long what became of each push is kept.",
    ),
    Setting(
        "LEDGER_BYTES_MAX",
        "",
        "a size from 64MiB to 1024TiB, as 200GiB or in bytes",
        "Bound of the ledger's days in PostgreSQL: over it the oldest day is dropped, never "
        "today's. Unset: LEDGER_DAYS alone.",
    ),
    Setting(
        "METRICS_PORT",
        "0",
        "a whole number from 0 to 65535",
        "First port of /metrics, /healthz, /readyz; each process takes the first free one of "
        "100. 0: off. `up` and the Procfile set 17300.",
    ),
    Setting(
        "METRICS_ADDR",
        "",
        "a host name or address of this machine",
        "Where metrics listen; unset: the host of PUSHFLEET_CONSOLE_ADDR.",
    ),
    Setting(
        "METRICS_ADVERTISE",
        "",
        "a host name or address that Prometheus reaches this process by",
        "The host in /metrics/targets; unset: this machine's name, or the bound address.",
    ),
    Setting(
        "CONSOLE_ADDR",
        "127.0.0.1:8080",
        "host:port",
        "The console, the read-only API and /metrics/targets.",
    ),
    Setting(
        "GATEWAY_ADDR",
        "127.0.0.1:8082",
        "host:port",
        "Where IM servers and clouds deliver their events over HTTP (docs/doors).",
    ),
    Setting("RECEIPTS_ADDR", "127.0.0.1:8081", "host:port", "Where vendors' receipts arrive."),
    Setting(
        "RECEIPTS_URL",
        "",
        "the public base URL of the receipts service, https:// or http://",
        "Unset: no callback is asked for.",
    ),
    Setting(
        "TRUSTED_PROXIES",
        "",
        "addresses or networks (10.0.0.0/8), separated by commas",
        "Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; unset: "
        "nobody's.",
    ),
    Setting(
        "CONSOLE_URL",
        "",
        "the public base URL of the console, https:// or http://",
        "Where people reach it; OpenID needs it.",
    ),
    Setting(
        "OIDC_ISSUER",
        "",
        "the issuer's https:// address, as the provider spells it",
        "OpenID provider that people sign in with (docs/sign-in.md).",
    ),
    Setting(
        "OIDC_CLIENT_ID",
        "",
        "the client id that the provider gave",
        "This console's name with the provider.",
    ),
    Setting(
        "OIDC_SECRET_FILE",
        "",
        "the path of a readable file with one line",
        "The client's secret; unset: PKCE alone.",
    ),
    Setting(
        "OIDC_ROLES",
        "",
        "ROLE=GROUP pairs, separated by commas; roles are viewer, operator, admin, the group "
        "* is everybody",
        "What the provider's groups may do; the strongest counts.",
    ),
    Setting(
        "LOG_LEVEL",
        "info",
        "one of info, debug, warning, error",
        "The least level that is logged, in every process.",
    ),
    Setting(
        "LOG_FORMAT", "json", "one of json, console", "One JSON object a line, or words for people."
    ),
)
#: Settings that are also read from a file: NAME_FILE.
URL_NAMES: Final = tuple(one.name for one in SETTINGS if one.name.endswith("_URL"))
#: Set by the starter of a process, not by people.
INTERNAL: Final = frozenset({"PROCESS"})
TEST_PREFIX: Final = PREFIX + "TEST_"
#: Variables that Kubernetes sets in each pod for a service whose name begins with `pushfleet`.
_SERVICE_NAMES: Final = re.compile(
    r"PUSHFLEET_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://[^\s/]+:\d+")


def of_kubernetes(name: str, value: str) -> bool:
    """True for a variable that Kubernetes sets for a service.

    One of its own, too: PUSHFLEET_METRICS_PORT=tcp://10.0.0.1:80.
    """
    return bool(_SERVICE_NAMES.fullmatch(name)) or (
        name.endswith("_PORT") and bool(_SERVICE_URL.fullmatch(value))
    )


def unknown(environ: Mapping[str, str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """(name, nearest right name or "") of each PUSHFLEET_ variable that is no setting. known: with
    the prefix.
    """
    for name in sorted(environ):
        if (
            not name.upper().startswith(PREFIX)
            or name in known
            or name.startswith(TEST_PREFIX)
            or of_kubernetes(name, environ[name])
        ):
            continue
        yield name, nearest(name, known)


def nearest(name: str, known: Collection[str]) -> str:
    """The most similar known name, by letters without prefix and underscores; "" for none."""
    by_letters = {_letters(one): one for one in sorted(known, reverse=True)}
    near = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.6)
    return by_letters[near[0]] if near else ""


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper().removeprefix(PREFIX))
