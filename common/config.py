"""All settings (contract §2): read once from the environment and `.env`, checked, frozen."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from common import setting_checks as takes
from common.model import Vendor
from common.redis_urls import is_cluster
from common.setting_checks import EMBEDDED
from common.settings_table import INTERNAL, PREFIX, SETTINGS, URL_NAMES, of_kubernetes, unknown

#: Which endpoints each vendor's traffic goes to: the names after PUSHFLEET_ENDPOINT_.
VENDOR_ENDPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    vendor.value: vendor.endpoints for vendor in Vendor
}
ENDPOINTS: Final = tuple(name for names in VENDOR_ENDPOINTS.values() for name in names)
APNS_CLIENTS: Final = ("curl", "aioapns", "libcurl")
SHARDS_MAX: Final = 1024
_BY_NAME: Final = {one.name: one for one in SETTINGS}


class SettingError(ValueError):
    """A wrong setting: one line with its name and accepted form, never the value. Exit code 2."""


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
    #: False: nobody said so, and a command asks the fleet (storage/shards.py, known_shards).
    shards_named: bool = field(default=True, compare=False)
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
    # read already: a child inherits ours
    found |= dict.fromkeys((f"{PREFIX}{name}_FILE" for name in URL_NAMES), "")
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if one.name not in ("endpoints", "proxies", "shards_named"):
            text = (
                ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
            )
            found[PREFIX + one.name.upper()] = text
    return found


def _load(read: _Reader) -> Settings:
    redis_url = read.text("REDIS_URL", takes.redis_server)
    # beside a cluster `up` and `demo` start a server for the wake-ups; all else needs the setting,
    # see resolve()
    broker_url = read.text("BROKER_URL", takes.broker_server(redis_url)) or (
        EMBEDDED if is_cluster(redis_url) else None
    )
    return Settings(
        redis_url=redis_url,
        broker_url=broker_url,
        core_url=read.text("CORE_URL", takes.core_server(redis_url)) or redis_url,
        database_url=read.text("DATABASE_URL", takes.database_server),
        database_reports_url=read.text("DATABASE_REPORTS_URL", takes.reports_server) or None,
        data_dir=Path(read.text("DATA_DIR", takes.folder)).absolute(),
        event_streams=takes.name_list(read.text("EVENT_STREAMS", takes.stream_list)),
        key_prefix=read.text("KEY_PREFIX", takes.key_part),
        prefix=read.text("PREFIX", takes.key_part),
        shards=read.whole("SHARDS", 1, SHARDS_MAX),
        shards_named=not read.unset("SHARDS"),
        secret_keys_file=read.file("SECRET_KEYS_FILE", takes.fernet_file),
        secret_keys=takes.name_list(read.text("SECRET_KEYS", takes.fernet_list)),
        endpoints=_endpoints(read),
        proxies=_proxies(read),
        ca_file=read.file("CA_FILE", takes.ca_file),
        apns_client=read.choice("APNS_CLIENT", APNS_CLIENTS),
        send_timeout_s=read.number("SEND_TIMEOUT_S", 0.1, 60.0),
        retry_first_s=None
        if read.unset("RETRY_FIRST_S")
        else read.number("RETRY_FIRST_S", 0.0, 86_400.0),
        lane_bytes_max=takes.size_of(read.text("LANE_BYTES_MAX", takes.size)),
        bytes_max_percent=read.whole("BYTES_MAX_PERCENT", 1, 95),
        ledger_days=read.whole("LEDGER_DAYS", 1, 3650),
        ledger_bytes_max=None
        if read.unset("LEDGER_BYTES_MAX")
        else takes.size_of(read.text("LEDGER_BYTES_MAX", takes.ledger_size)),
        metrics_port=read.whole("METRICS_PORT", 0, 65_535),
        metrics_addr=read.text("METRICS_ADDR", takes.host) or None,
        metrics_advertise=read.text("METRICS_ADVERTISE", takes.host) or None,
        console_addr=read.text("CONSOLE_ADDR", takes.addr),
        receipts_addr=read.text("RECEIPTS_ADDR", takes.addr),
        gateway_addr=read.text("GATEWAY_ADDR", takes.addr),
        receipts_url=read.text("RECEIPTS_URL", takes.base_url) or None,
        trusted_proxies=takes.name_list(read.text("TRUSTED_PROXIES", takes.networks)),
        console_url=read.text("CONSOLE_URL", takes.base_url) or None,
        oidc_issuer=_oidc_issuer(read),
        oidc_client_id=read.text("OIDC_CLIENT_ID", takes.client_id),
        oidc_secret_file=read.file("OIDC_SECRET_FILE", takes.one_line),
        oidc_roles=takes.name_list(read.text("OIDC_ROLES", takes.oidc_roles)),
        log_level=read.choice("LOG_LEVEL", ("info", "debug", "warning", "error")),
        log_format=read.choice("LOG_FORMAT", ("json", "console")),
    )


def known_names() -> frozenset[str]:
    """Every PUSHFLEET_ variable that means something, prefix and all."""
    named = {one.name for one in SETTINGS} | {f"{name}_FILE" for name in URL_NAMES}
    names = named | {f"ENDPOINT_{name}" for name in ENDPOINTS}
    names |= {f"PROXY_{vendor.upper()}" for vendor in VENDOR_ENDPOINTS}
    return frozenset(PREFIX + name for name in names | INTERNAL)


def _check_names(environ: Mapping[str, str]) -> None:
    """Raises SettingError for the first unknown variable: a misspelt one must not be ignored."""
    for name, near in unknown(environ, known_names()):
        shown = re.split(r"\W", name, maxsplit=1, flags=re.ASCII)[0]
        if shown != name:  # behind the name there may be a secret
            raise SettingError(f"{shown} takes NAME=value")
        cure = f"did you mean {near}?" if near else "`pushfleet settings` lists them all"
        endpoint = name.startswith(PREFIX + "ENDPOINT_")
        there = f"; there are {', '.join(ENDPOINTS)}" if endpoint and not near else ""
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
            lines = Path(takes.home(path)).read_text(encoding="utf-8-sig").split()
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
            return takes.checked(value.lower(), value.lower() in known)

        return self.text(name, check)

    def number(self, name: str, least: float, most: float) -> float:
        def check(value: str) -> str:
            plain = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", value)
            return takes.checked(value, bool(plain) and least <= float(value) <= most)

        return float(self.text(name, check))

    def whole(self, name: str, least: int, most: int) -> int:
        def check(value: str) -> str:
            return takes.checked(
                value, bool(re.fullmatch(r"[0-9]{1,9}", value)) and least <= int(value) <= most
            )

        return int(self.text(name, check))

    def file(self, name: str, inside: Callable[[Path], object]) -> Path | None:
        """inside: checks the file; raises ValueError or OSError for wrong content."""

        def check(value: str) -> str:
            path = Path(takes.home(value)).absolute()
            try:
                inside(path)
            except OSError:
                raise ValueError from None
            return str(path)

        found = self.text(name, check)
        return Path(found) if found else None


def _endpoints(read: _Reader) -> Mapping[str, str]:
    found = {}
    for variable in sorted(read.environ):
        name = variable.removeprefix(PREFIX + "ENDPOINT_")
        if name == variable or name not in ENDPOINTS or read.unset("ENDPOINT_" + name):
            continue
        found[name] = read.text(
            f"ENDPOINT_{name}",
            takes.endpoint,
            "https://host:port (http:// for loopback only), without a path",
        )
    return MappingProxyType(found)


def _proxies(read: _Reader) -> Mapping[str, str]:
    names = {vendor: f"PROXY_{vendor.upper()}" for vendor in VENDOR_ENDPOINTS}
    found = {
        vendor: read.text(name, takes.proxy, takes.PROXY_TAKES)
        for vendor, name in names.items()
        if not read.unset(name)
    }
    if "apns" in found and read.choice("APNS_CLIENT", APNS_CLIENTS) == "aioapns":
        raise SettingError(
            "PUSHFLEET_PROXY_APNS needs PUSHFLEET_APNS_CLIENT=curl: aioapns goes through no proxy"
        )
    return MappingProxyType(found)


def _oidc_issuer(read: _Reader) -> str | None:
    """SettingError: a provider without what signing in needs beside it."""
    found = read.text("OIDC_ISSUER", takes.issuer) or None
    wanted = ("OIDC_CLIENT_ID", "OIDC_ROLES", "CONSOLE_URL")
    missing = [f"{PREFIX}{name}" for name in wanted if found and read.unset(name)]
    if missing:
        raise SettingError(f"{PREFIX}OIDC_ISSUER needs {', '.join(missing)}, too")
    return found


#: A value in quotes or without, and a comment behind it, as shells and Docker read them.
_VALUE: Final = re.compile(
    r"""(?P<quote>['"])(?P<quoted>.*)(?P=quote)(?:\s+#.*)?|(?P<bare>.*?)(?:\s+#.*)?"""
)


def read_dotenv(path: Path) -> dict[str, str]:
    """NAME=value a line; comments, `export ` and one pair of quotes are dropped.

    {} without a file. Raises SettingError for a line of ours that is not NAME=value, or with
    a quote without its pair; the message has the name alone, as a secret may stand before the sign.
    `export NAME` alone is skipped.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError):
        if not os.access(path.parent, os.X_OK):
            return {}  # a service's user in a folder of another's: what is in it is not for him
        raise SettingError(".env can't be read: it takes lines NAME=value in UTF-8") from None
    found = {}
    for line in lines:
        assignment = re.sub(r"^export\s+", "", line.strip())
        name, equals, value = (part.strip() for part in assignment.partition("="))
        whole = re.fullmatch(r"[A-Za-z0-9_]+", name)
        exported = whole and assignment != line.strip()
        ours = re.search(rf"(?:^|\s){PREFIX}[A-Za-z0-9_]*", name)
        if ours and not name.startswith("#"):
            shown = ours.group().strip()
            if not (whole and (equals or exported)):
                raise SettingError(f"{shown} in .env takes NAME=value")
            if value[:1] in ("'", '"') and _value(value)[:1] == value[:1]:
                raise SettingError(f"{shown} in .env takes a value with both quotes, or none")
        if equals and not name.startswith("#"):
            found[name] = _value(value)
    return found


def _value(text: str) -> str:
    parts = _VALUE.fullmatch(text)
    if parts is None:
        return text
    return parts["quoted"] if parts["quote"] else parts["bare"]
