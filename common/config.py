"""All settings (contract §2): read once from the environment and `.env`, checked, frozen."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import ipaddress
import json
import logging
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from common import runfile
from common.model import Vendor
from common.settings_table import INTERNAL, PREFIX, SETTINGS, URL_NAMES, of_kubernetes, unknown

log = logging.getLogger(__name__)

EMBEDDED: Final = "embedded"
#: Which endpoints each vendor's traffic goes to: the names after PUSHFLEET_ENDPOINT_.
VENDOR_ENDPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    vendor.value: vendor.endpoints for vendor in Vendor
}
ENDPOINTS: Final = tuple(name for names in VENDOR_ENDPOINTS.values() for name in names)
APNS_CLIENTS: Final = ("curl", "aioapns", "libcurl")
PROXY_TAKES: Final = "http://[user:password@]host:port, of a proxy that knows CONNECT"
SHARDS_MAX: Final = 1024
SECRET_KEYS_NAME: Final = "secret.keys"
_BY_NAME: Final = {one.name: one for one in SETTINGS}


class SettingError(ValueError):
    """A wrong setting: one line with its name and accepted form, never the value. Exit code 2."""


class NothingRunning(RuntimeError):  # noqa: N818 - it reads as what it says
    """`embedded` is set but nothing is running. The command line's exit code 3."""

    def __init__(self) -> None:
        super().__init__("nothing is running: `pushfleet up`, or set PUSHFLEET_REDIS_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, one field each, named as the environment does without the prefix. Durations in
    seconds or days by name.

    endpoints: NAME -> scheme://host:port, only those that were overridden. proxies: vendor ->
    http://[user:password@]host:port. secret_keys: the warned-about way; see `secret_keys()`.
    """

    redis_url: str = field(repr=False)
    broker_url: str | None = field(default=None, repr=False)
    core_url: str = field(repr=False)
    database_url: str = field(repr=False)
    database_reports_url: str | None = field(default=None, repr=False)
    data_dir: Path
    event_streams: tuple[str, ...]
    key_prefix: str
    prefix: str
    shards: int = 1
    secret_keys_file: Path | None
    secret_keys: tuple[str, ...] = field(repr=False)
    endpoints: Mapping[str, str]
    proxies: Mapping[str, str] = field(repr=False)
    ca_file: Path | None
    apns_client: str
    send_timeout_s: float
    retry_first_s: float | None
    lane_bytes_max: int
    bytes_max_percent: int
    ledger_days: int
    ledger_bytes_max: int | None = None
    metrics_port: int
    metrics_addr: str | None = None
    metrics_advertise: str | None = None
    console_addr: str
    receipts_addr: str
    gateway_addr: str
    receipts_url: str | None
    trusted_proxies: tuple[str, ...] = ()
    console_url: str | None = None
    oidc_issuer: str | None = None
    oidc_client_id: str = ""
    oidc_secret_file: Path | None = field(default=None, repr=False)
    oidc_roles: tuple[str, ...] = ()
    log_level: str
    log_format: str

    @staticmethod
    def load(environ: Mapping[str, str] | None = None) -> Settings:
        """The checked settings. environ: exactly these variables; None = the process's own, over
        those of `./.env`.

        SettingError names the first setting that is wrong. A variable that is set but empty counts
        as unset.
        """
        if environ is None:
            environ = {**read_dotenv(Path(".env")), **os.environ}
        _check_names(environ)
        return _load(_Reader(_from_files(environ)))

    @property
    def embedded_redis(self) -> bool:
        return self.redis_url == EMBEDDED

    @property
    def embedded_broker(self) -> bool:
        """True when `up` starts a separate server for the wake-ups: beside a cluster."""
        return self.broker_url == EMBEDDED and not self.embedded_redis

    @property
    def embedded_database(self) -> bool:
        return self.database_url == EMBEDDED

    @property
    def key_root(self) -> str:
        """The prefix of all our keys.

        On a cluster it holds the shard's hash tag: one slot for all.
        """
        return f"{self.prefix}:{{s0}}" if is_cluster(self.redis_url) else self.prefix

    def root_of(self, shard: int) -> str:
        """The key root of one shard; `key_root` for shard 0, which also has fleet-wide keys."""
        return f"{self.prefix}:{{s{shard}}}" if shard else self.key_root


def environ_of(settings: Settings) -> dict[str, str]:
    """The variables that reproduce these settings; for child processes only: it holds passwords."""
    found = {f"{PREFIX}ENDPOINT_{name}": url for name, url in settings.endpoints.items()}
    found |= {f"{PREFIX}PROXY_{vendor.upper()}": url for vendor, url in settings.proxies.items()}
    found |= dict.fromkeys(
        (f"{PREFIX}{name}_FILE" for name in URL_NAMES), ""
    )  # read already: a child inherits ours
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if one.name not in ("endpoints", "proxies"):
            text = (
                ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
            )
            found[PREFIX + one.name.upper()] = text
    return found


def _load(read: _Reader) -> Settings:
    redis_url = read.text("REDIS_URL", _redis_url)
    # beside a cluster `up` and `demo` start a server for the wake-ups; all else needs the setting,
    # see resolve()
    broker_url = read.text("BROKER_URL", _broker_url(redis_url)) or (
        EMBEDDED if is_cluster(redis_url) else None
    )
    return Settings(
        redis_url=redis_url,
        broker_url=broker_url,
        core_url=read.text("CORE_URL", _core_url(redis_url)) or redis_url,
        database_url=read.text("DATABASE_URL", _database_url),
        database_reports_url=read.text("DATABASE_REPORTS_URL", _reports_url) or None,
        data_dir=Path(read.text("DATA_DIR", _folder)).absolute(),
        event_streams=_names(read.text("EVENT_STREAMS", _stream_list)),
        key_prefix=read.text("KEY_PREFIX", _key_part),
        prefix=read.text("PREFIX", _key_part),
        shards=read.whole("SHARDS", 1, SHARDS_MAX),
        secret_keys_file=read.file("SECRET_KEYS_FILE", _fernet_file),
        secret_keys=_names(read.text("SECRET_KEYS", _fernet_list)),
        endpoints=_endpoints(read),
        proxies=_proxies(read),
        ca_file=read.file("CA_FILE", _ca_file),
        apns_client=read.choice("APNS_CLIENT", APNS_CLIENTS),
        send_timeout_s=read.number("SEND_TIMEOUT_S", 0.1, 60.0),
        retry_first_s=None
        if read.unset("RETRY_FIRST_S")
        else read.number("RETRY_FIRST_S", 0.0, 86_400.0),
        lane_bytes_max=size_of(read.text("LANE_BYTES_MAX", _size)),
        bytes_max_percent=read.whole("BYTES_MAX_PERCENT", 1, 95),
        ledger_days=read.whole("LEDGER_DAYS", 1, 3650),
        ledger_bytes_max=None
        if read.unset("LEDGER_BYTES_MAX")
        else size_of(read.text("LEDGER_BYTES_MAX", _ledger_size)),
        metrics_port=read.whole("METRICS_PORT", 0, 65_535),
        metrics_addr=read.text("METRICS_ADDR", _host) or None,
        metrics_advertise=read.text("METRICS_ADVERTISE", _host) or None,
        console_addr=read.text("CONSOLE_ADDR", _addr),
        receipts_addr=read.text("RECEIPTS_ADDR", _addr),
        gateway_addr=read.text("GATEWAY_ADDR", _addr),
        receipts_url=read.text("RECEIPTS_URL", _base_url) or None,
        trusted_proxies=_names(read.text("TRUSTED_PROXIES", _networks)),
        console_url=read.text("CONSOLE_URL", _base_url) or None,
        oidc_issuer=_oidc_issuer(read),
        oidc_client_id=read.text("OIDC_CLIENT_ID", _client_id),
        oidc_secret_file=read.file("OIDC_SECRET_FILE", _one_line),
        oidc_roles=_names(read.text("OIDC_ROLES", _oidc_roles)),
        log_level=read.choice("LOG_LEVEL", ("info", "debug", "warning", "error")),
        log_format=read.choice("LOG_FORMAT", ("json", "console")),
    )


def known_names() -> frozenset[str]:
    """Every PUSHFLEET_ variable that means something, prefix and all."""
    names = (
        {one.name for one in SETTINGS}
        | {f"{name}_FILE" for name in URL_NAMES}
        | {f"ENDPOINT_{name}" for name in ENDPOINTS}
    )
    names |= {f"PROXY_{vendor.upper()}" for vendor in VENDOR_ENDPOINTS}
    return frozenset(PREFIX + name for name in names | INTERNAL)


def _check_names(environ: Mapping[str, str]) -> None:
    """Raises SettingError for the first unknown variable: a misspelt one must not be ignored."""
    for name, near in unknown(environ, known_names()):
        cure = f"did you mean {near}?" if near else "`pushfleet settings` lists them all"
        there = (
            f"; there are {', '.join(ENDPOINTS)}"
            if name.startswith(PREFIX + "ENDPOINT_") and not near
            else ""
        )
        raise SettingError(f"{name} is no setting{there}: {cure}")


def _from_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with each NAME_URL_FILE read into its NAME_URL. SettingError: unreadable, not
    one line, or both are set.
    """
    found = dict(environ)
    for name in URL_NAMES:
        variable, path = f"{PREFIX}{name}_FILE", environ.get(f"{PREFIX}{name}_FILE", "").strip()
        if not path:
            continue
        if environ.get(PREFIX + name, "").strip():
            raise SettingError(f"{variable} and {PREFIX}{name} are both set: it takes one of them")
        try:
            lines = Path(_home(path)).read_text(encoding="utf-8-sig").split()
        except (OSError, ValueError):
            lines = []
        if len(lines) != 1:
            raise SettingError(
                f"{variable} takes the path of a readable file with one URL on one line"
            )
        found[PREFIX + name] = lines[0]
    return found


class _Reader:
    """Reads single variables; a failed check becomes the one line of a SettingError.

    Defaults are in SETTINGS.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = {
            name: value.strip() for name, value in environ.items() if name.startswith(PREFIX)
        }

    def unset(self, name: str) -> bool:
        """Not there, empty, or Kubernetes' own for a service of that name."""
        value = self.environ.get(PREFIX + name)
        return not value or of_kubernetes(PREFIX + name, value)

    def text(self, name: str, check: Callable[[str], str], takes: str = "") -> str:
        """takes: only for a name that is not in SETTINGS; such a one has no default."""
        setting = _BY_NAME.get(name)
        if self.unset(name):
            return setting.default if setting else ""
        try:
            return check(self.environ[PREFIX + name])
        except ValueError:
            raise SettingError(
                f"{PREFIX}{name} takes {setting.takes if setting else takes}"
            ) from None

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """One of `known`, in any case."""

        def check(value: str) -> str:
            return _checked(value.lower(), value.lower() in known)

        return self.text(name, check)

    def number(self, name: str, least: float, most: float) -> float:
        def check(value: str) -> str:
            return _checked(value, least <= float(value) <= most)  # false for nan, too

        return float(self.text(name, check))

    def whole(self, name: str, least: int, most: int) -> int:
        def check(value: str) -> str:
            return _checked(
                value, bool(re.fullmatch(r"[0-9]{1,9}", value)) and least <= int(value) <= most
            )

        return int(self.text(name, check))

    def file(self, name: str, inside: Callable[[Path], object]) -> Path | None:
        """inside: checks the file; raises ValueError or OSError for wrong content."""

        def check(value: str) -> str:
            path = Path(_home(value)).absolute()
            try:
                inside(path)
            except OSError:
                raise ValueError from None
            return str(path)

        found = self.text(name, check)
        return Path(found) if found else None


def _home(value: str) -> str:
    """The path with `~` replaced; raises ValueError for an unknown user."""
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError from None


def _folder(value: str) -> str:
    """The existing part of the path must be a folder; the rest can be created."""
    path = Path(_home(value))
    there = next((one for one in (path, *path.absolute().parents) if os.path.lexists(one)), path)
    return _checked(str(path), there.is_dir())


def _ca_file(path: Path) -> None:
    """Raises OSError (also ssl.SSLError) when the file holds no certificate.

    Otherwise every request would fail without a stated reason.
    """
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)


_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def size_of(text: str) -> int:
    """Bytes of `268435456` or `256MiB`; raises ValueError for any other text."""
    found = re.fullmatch(r"([0-9]{1,13})\s*(|[KMGT]iB)", text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * _UNITS[found[2]]


def _size(value: str) -> str:
    return _checked(value, 1024 <= size_of(value) <= 1024**4)


def _ledger_size(value: str) -> str:
    return _checked(value, 64 * 1024**2 <= size_of(value) <= 1024**5)


def _names(comma_list: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in comma_list.split(",") if part.strip())


def _stream_list(value: str) -> str:
    names = _names(value)
    if not names or len(set(names)) != len(names) or any(not _key_part(name) for name in names):
        raise ValueError
    return value


def _key_part(value: str) -> str:
    """The prefix of a Redis key before our own parts. Braces would make hash tags of it."""
    if not re.fullmatch(r"[!-z|~]{1,128}", value):
        raise ValueError
    return value


def _redis_url(value: str) -> str:
    if value == EMBEDDED:
        return value
    if is_cluster(value):
        cluster_of(value)
        return value
    parts = urlsplit(value)
    if parts.scheme == "unix":
        return _checked(value, bool(parts.path.strip("/")))
    if parts.scheme == "sentinel":
        sentinel_of(value)
        return value
    known = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
    return _checked(
        value, known and _port_ok(parts.port) and bool(re.fullmatch(r"(/[0-9]{0,4})?", parts.path))
    )


def _core_url(redis_url: str) -> Callable[[str], str]:
    """`embedded` for the core only where the fleet's own Redis is: there is one embedded server."""

    def check(value: str) -> str:
        return _checked(_redis_url(value), value != EMBEDDED or redis_url == EMBEDDED)

    return check


def _broker_url(redis_url: str) -> Callable[[str], str]:
    """Never a cluster, kombu knows none. `embedded` only where the fleet's own Redis is, or beside
    a cluster.
    """

    def check(value: str) -> str:
        good = not is_cluster(value) and (
            value != EMBEDDED or redis_url == EMBEDDED or is_cluster(redis_url)
        )
        return _checked(_redis_url(value), good)

    return check


def _checked(value: str, good: bool) -> str:
    if not good:
        raise ValueError
    return value


def _port_ok(port: int | None) -> bool:
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
    bare = all(part.hostname and not part.path and _port_ok(part.port) for part in parts)
    if (
        scheme not in CLUSTER_SCHEMES or not bare or db not in ("", "0")
    ):  # a cluster has one database
        raise ValueError("not a cluster URL")
    return Cluster(
        tuple((part.hostname or "", part.port or 6379) for part in parts),
        scheme == "rediss+cluster",
        login,
        query,
    )


def _database_url(value: str) -> str:
    if value == EMBEDDED:
        return value
    parts = urlsplit(value)
    known = parts.scheme in ("postgresql", "postgresql+psycopg")
    good = _checked(
        value, known and _port_ok(parts.port) and bool(parts.path.strip("/") or parts.query)
    )
    return good.replace(
        "postgresql://", "postgresql+psycopg://", 1
    )  # as SQLAlchemy names the driver


def _reports_url(value: str) -> str:
    return _database_url(_checked(value, value != EMBEDDED))


def _fernet_list(value: str) -> str:
    for key in _names(value):
        check_fernet_key(key)
    return value


def check_fernet_key(key: str) -> str:
    """The key itself; ValueError unless it is 32 bytes in URL-safe base64."""
    try:
        good = len(base64.urlsafe_b64decode(key)) == 32
    except binascii.Error:
        good = False
    return _checked(key, good)


def _endpoints(read: _Reader) -> Mapping[str, str]:
    found = {}
    for variable in sorted(read.environ):
        name = variable.removeprefix(PREFIX + "ENDPOINT_")
        if name == variable or name not in ENDPOINTS or read.unset("ENDPOINT_" + name):
            continue
        found[name] = read.text(
            f"ENDPOINT_{name}",
            _endpoint,
            "https://host:port (http:// for loopback only), without a path",
        )
    return MappingProxyType(found)


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    bare = (
        parts.path in ("", "/")
        and not parts.query
        and not parts.fragment
        and "@" not in parts.netloc
    )
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    return _checked(
        value.rstrip("/"), bare and safe and bool(parts.hostname) and _port_ok(parts.port)
    )


def _proxies(read: _Reader) -> Mapping[str, str]:
    names = {vendor: f"PROXY_{vendor.upper()}" for vendor in VENDOR_ENDPOINTS}
    found = {
        vendor: read.text(name, _proxy, PROXY_TAKES)
        for vendor, name in names.items()
        if not read.unset(name)
    }
    if "apns" in found and read.choice("APNS_CLIENT", APNS_CLIENTS) == "aioapns":
        raise SettingError(
            "PUSHFLEET_PROXY_APNS needs PUSHFLEET_APNS_CLIENT=curl: aioapns goes through no proxy"
        )
    return MappingProxyType(found)


def _proxy(value: str) -> str:
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
    return _checked(value.rstrip("/"), parts.scheme == "http" and bare and named)


def is_loopback(host: str) -> bool:
    """True when a host name or address cannot leave this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _addr(value: str) -> str:
    host_port(value)
    return value


def host_port(addr: str) -> tuple[str, int]:
    """Splits `host:port` or `[v6]:port`; port 0 takes a free one. ValueError when it is none."""
    parts = urlsplit(f"//{addr}")
    if parts.hostname is None or parts.port is None or parts.netloc != addr or "@" in addr:
        raise ValueError("not host:port")
    return parts.hostname, parts.port


def _host(value: str) -> str:
    """A host name or an address, without port."""
    if ":" in value:
        return str(ipaddress.ip_address(value))
    return _checked(value, bool(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})", value)))


def _networks(value: str) -> str:
    for part in _names(value):
        ipaddress.ip_network(part, strict=False)
    return value


def _oidc_issuer(read: _Reader) -> str | None:
    """SettingError: a provider without what signing in needs beside it."""
    found = read.text("OIDC_ISSUER", _issuer) or None
    missing = [
        f"{PREFIX}{name}"
        for name in ("OIDC_CLIENT_ID", "OIDC_ROLES", "CONSOLE_URL")
        if found and read.unset(name)
    ]
    if missing:
        raise SettingError(f"{PREFIX}OIDC_ISSUER needs {', '.join(missing)}, too")
    return found


def _issuer(value: str) -> str:
    """As it was given: it is compared letter by letter."""
    parts = urlsplit(_base_url(value) and value)
    return _checked(value, parts.scheme == "https" or is_loopback(parts.hostname or ""))


def _client_id(value: str) -> str:
    return _checked(value, bool(re.fullmatch(r"[!-~]{1,256}", value)))


def _one_line(path: Path) -> str:
    text = path.read_text(encoding="utf-8-sig").strip()
    return _checked(text, bool(text) and "\n" not in text and len(text) <= 1024)


def _oidc_roles(value: str) -> str:
    pairs = [one.partition("=") for one in _names(value)]
    return _checked(
        value,
        bool(pairs)
        and all(role in ("viewer", "operator", "admin") and group for role, _, group in pairs),
    )


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    good = (
        parts.scheme in ("https", "http")
        and bool(parts.hostname)
        and _port_ok(parts.port)
        and not parts.query
        and not parts.fragment
    )
    return _checked(value.rstrip("/"), good)


def read_dotenv(path: Path) -> dict[str, str]:
    """NAME=value a line; `#` starts a comment line, `export ` and one pair of quotes are dropped.
    {} without a file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError):
        raise SettingError(".env can't be read: it takes lines NAME=value in UTF-8") from None
    found = {}
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = re.sub(r"""^(['"])(.*)\1$""", r"\2", value.strip())
    return found


# ---------------------------------------------------------------- what a running `up` adds


def resolve(settings: Settings) -> Settings:
    """The settings with `embedded` replaced by what `up` has started (run.json).

    Its simulators become endpoints, but only for a fleet on the same Redis, and never for a vendor
    with an endpoint of its own. Raises NothingRunning when `embedded` is set and no live process
    wrote run.json.
    """
    run = runfile.read(settings.data_dir)
    running = run if runfile.alive(run) else {}
    redis_url = running.get("redis_url") if settings.embedded_redis else settings.redis_url
    database_url = (
        running.get("database_url") if settings.embedded_database else settings.database_url
    )
    if not redis_url or not database_url:
        raise NothingRunning
    core_url = redis_url if settings.core_url == EMBEDDED else settings.core_url
    broker_url = _resolved_broker(settings, redis_url, running)
    found = dataclasses.replace(
        settings,
        redis_url=redis_url,
        broker_url=broker_url,
        core_url=core_url,
        database_url=database_url,
    )
    return _with_simulators(found, running) if running.get("redis_url") == redis_url else found


def _resolved_broker(settings: Settings, redis_url: str, run: runfile.Run) -> str | None:
    """The server of the wake-ups; raises SettingError for a cluster without one."""
    if settings.broker_url != EMBEDDED:
        return settings.broker_url
    if settings.embedded_redis:
        return redis_url
    started = run.get("broker_url")
    if not started:
        raise SettingError(
            "PUSHFLEET_BROKER_URL must be set with a cluster: it takes a plain Redis for "
            "Celery's wake-ups, redis://host:port/0"
        )
    return str(started)


def _with_simulators(settings: Settings, run: runfile.Run) -> Settings:
    there = simulated_endpoints(settings.data_dir / "simulators")
    vendors = [
        vendor
        for vendor in run.get("simulators") or {}
        if vendor in VENDOR_ENDPOINTS and not own_endpoints(settings, vendor)
    ]
    endpoints = {
        name: there[name]
        for vendor in vendors
        for name in VENDOR_ENDPOINTS[vendor]
        if name in there
    }
    ca_file = settings.ca_file or (
        Path(run["ca_file"]) if run.get("ca_file") and endpoints else None
    )
    return dataclasses.replace(
        settings, endpoints=MappingProxyType({**endpoints, **settings.endpoints}), ca_file=ca_file
    )


def own_endpoints(settings: Settings, vendor: str) -> bool:
    """True when any endpoint of the vendor is overridden: then it has no simulator."""
    return any(name in settings.endpoints for name in VENDOR_ENDPOINTS[vendor])


def simulated_endpoints(folder: Path) -> dict[str, str]:
    """NAME -> URL of all simulators that have written their <vendor>.json into the folder.

    One simulator may serve two vendors.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found |= json.loads(path.read_bytes())["endpoints"]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ):  # it has just ended, or is no simulator's
            continue
    return {name: url for name, url in found.items() if name in ENDPOINTS}


def secret_keys(settings: Settings) -> tuple[str, ...]:
    """The Fernet keys; the first one encrypts. The result must never be logged.

    They come from the file, from the variable, or are generated in DATA_DIR for embedded use.
    Raises SettingError when there is none, or one is invalid.
    """
    if settings.secret_keys_file is not None:
        return _keys_in(settings.secret_keys_file)
    if settings.secret_keys:
        log.warning(
            "PUSHFLEET_SECRET_KEYS is readable by whoever sees the environment: use "
            "PUSHFLEET_SECRET_KEYS_FILE"
        )
        return settings.secret_keys
    generated = settings.data_dir / SECRET_KEYS_NAME
    if generated.is_file():
        return _keys_in(generated)
    if (
        not settings.embedded_database
        and runfile.read(settings.data_dir).get("database_url") != settings.database_url
    ):
        raise SettingError(
            "PUSHFLEET_SECRET_KEYS_FILE takes the path of a readable file with Fernet keys, "
            "one a line; it has no default here"
        )
    return _generate_key(generated)


def _generate_key(path: Path) -> tuple[str, ...]:
    """Two processes may come here at once: the first one's file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    runfile.write_private(new, base64.urlsafe_b64encode(os.urandom(32)) + b"\n")
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()
    return _keys_in(path)


def _fernet_file(path: Path) -> tuple[str, ...]:
    """The keys in it, at least one; ValueError or OSError."""
    lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    keys = tuple(check_fernet_key(line) for line in lines if line and not line.startswith("#"))
    _checked("", bool(keys))
    return keys


def _keys_in(path: Path) -> tuple[str, ...]:
    try:
        keys = _fernet_file(path)
    except (OSError, ValueError):
        raise SettingError(
            "PUSHFLEET_SECRET_KEYS_FILE takes the path of a readable file with Fernet keys, "
            "one a line"
        ) from None
    if path.stat().st_mode & 0o007:  # a mounted secret may belong to a group of ours
        log.warning(
            "the file of PUSHFLEET_SECRET_KEYS_FILE can be read by every user of this host: "
            "chmod o= it"
        )
    return keys
