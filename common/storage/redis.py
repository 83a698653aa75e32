"""Connections to Redis: for the stores (`connect`) and for Celery's broker (`kombu_url`)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel as SentinelClient

from common.config import SettingError
from common.redis_urls import is_cluster, sentinel_of
from common.storage.away import SlotsAway
from common.storage.cluster import ClusterCore, SlotRetry, as_redis, slot_client
from common.storage.pool import LeanPool

log = logging.getLogger(__name__)

#: Longest wait for any answer, seconds. A blocking read must ask for less. On half-open connections
#: a worker stops for this long and a little more: with 10 s it took 16 s and more until all stages
#: continued, with 5 s it takes 5 to 10 (tests/chaos/test_streams.py).
SOCKET_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5.0
#: A connection that was idle for longer is asked PING before it is used, seconds.
HEALTH_CHECK_INTERVAL_S: Final = 5
#: Further tries after a connection error, with pauses from RETRY_BASE_S to RETRY_CAP_S seconds:
#: about a second altogether.
RETRIES_MAX: Final = 4
RETRY_BASE_S: Final = 0.05
RETRY_CAP_S: Final = 0.5
#: Keys of one EXISTS.
EXISTING_AT_ONCE: Final = 500
#: Values that one step of a scan looks at.
SCANNED_AT_ONCE: Final = 500
#: The form of a cluster's address.
CLUSTER_FORM: Final = "its form is redis+cluster://h1:6379,h2:6379"
#: The wake-ups' server, which is never a cluster: its setting, and what that takes.
BROKER_SETTING: Final = "PUSHFLEET_BROKER_URL"
BROKER_FORM: Final = "it takes a plain Redis, redis://host:port/0"


def connect(
    url: str,
    setting: str = "PUSHFLEET_REDIS_URL",
    shard: int = 0,
    away: SlotsAway | None = None,
) -> redis.Redis:
    """A client with its own pool, bytes in and out, after a first answer (with `away`: of shard 0).

    Commands are repeated only after a broken connection, never after silence: the caller decides
    about a hanging server. On a cluster it is a client of the shard's slot, and a command that a
    node refuses for now is repeated for NOT_NOW_S. away: what a process that serves several shards
    knows of them: commands of one that is away fail at once. Raises SettingError with `setting` for
    a server in cluster mode behind a plain URL, and redis.exceptions.ConnectionError or
    TimeoutError for an unreachable one.
    """
    if is_cluster(url):
        # a shard's keys share its tag (Settings.root_of)
        found = slot_client(url, f"{{s{shard}}}", _options(url), away)
        if away is None or not shard:  # else a process begins without the shards that are away
            _answered(found)
        return found
    client = (
        _sentinel_client(url)
        if url.startswith("sentinel://")
        else redis.Redis.from_pool(LeanPool.from_url(url, **_options(url)))
    )
    try:
        refuse_cluster(client, setting)
    except BaseException:
        client.close()
        raise
    return client


def connect_core(
    url: str, setting: str = "PUSHFLEET_CORE_URL", away: SlotsAway | None = None
) -> redis.Redis:
    """As `connect`, for the core's keys, which have a slot each on a cluster. away: of a process
    whose own keys are on the same one.

    See common/storage/cluster.py.
    """
    if not is_cluster(url):
        return connect(url, setting)
    core = ClusterCore(url, _options(url), away)
    _answered(core)
    return as_redis(core)


def _answered(client: Any) -> None:
    try:
        client.ping()
    except BaseException:
        client.close()
        raise


def refuse_cluster(client: redis.Redis, setting: str = "PUSHFLEET_REDIS_URL") -> None:
    """Raises SettingError for a server in cluster mode: a plain client would be redirected."""
    try:
        info: Any = client.info("cluster")
    except ResponseError:  # INFO forbidden to this user: then only a MOVED would tell
        return
    if int(info.get("cluster_enabled", 0)):
        form = BROKER_FORM if setting == BROKER_SETTING else CLUSTER_FORM
        raise SettingError(f"{setting} names a server in cluster mode: {form}")


def existing(client: redis.Redis, names: Sequence[str]) -> set[str]:
    """Those of these keys that exist; hundreds that do not cost one command."""
    found: set[str] = set()
    for start in range(0, len(names), EXISTING_AT_ONCE):
        found |= _existing(client, names[start : start + EXISTING_AT_ONCE])
    return found


def _existing(client: redis.Redis, names: Sequence[str]) -> set[str]:
    """Few among many are found by halves, many by asking for each."""
    count = int(client.exists(*names))
    if count in (0, len(names)):
        return set(names) if count else set()
    if count * 8 < len(names):
        middle = len(names) // 2
        return _existing(client, names[:middle]) | _existing(client, names[middle:])
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.exists(name)
        return {name for name, reply in zip(names, pipe.execute(), strict=True) if reply}


def scanned(
    client: redis.Redis,
    command: str,
    *key: str | bytes,
    match: str = "*",
    count: int = SCANNED_AT_ONCE,
) -> Iterator[Any]:
    """What a SCAN, HSCAN, SSCAN or ZSCAN finds, some of it twice.

    A server that was restarted, or a promoted replica, hashes in another order, and a scan that
    goes on there passes over some: it begins anew.
    """
    cursor, process = 0, None
    while True:
        with client.pipeline(transaction=False) as pipe:  # one connection, and so one process
            pipe.info("server")
            cast(Any, pipe).execute_command(command, *key, cursor, "MATCH", match, "COUNT", count)
            about, found = cast(Any, pipe.execute(raise_on_error=False))
        if isinstance(found, Exception):
            raise found
        # INFO forbidden to this user: then nothing tells
        asked, process = process, about["run_id"] if isinstance(about, dict) else None
        if cursor and process != asked:
            cursor = 0
            continue
        cursor, some = int(found[0]), found[1]
        yield from some.items() if isinstance(some, dict) else some
        if not cursor:
            return


@contextlib.contextmanager
def best_effort(what: str) -> Iterator[None]:
    """For reports on pushes that a vendor has answered: the answers must be written in any case."""
    try:
        yield
    except (RedisError, OSError) as error:
        log.warning("Redis is away: %s is lost", what, extra={"reason": type(error).__name__})


def _retry(url: str) -> Retry:
    return (SlotRetry if is_cluster(url) else Retry)(
        ExponentialWithJitterBackoff(base=RETRY_BASE_S, cap=RETRY_CAP_S),
        RETRIES_MAX,
        supported_errors=(RedisConnectionError,),
    )


def _options(url: str) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "retry": _retry(url),
    }
    if url.startswith("unix://"):
        return shared
    return {**shared, "socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_keepalive": True}


def _sentinel_client(url: str) -> redis.Redis:
    wanted = sentinel_of(url)
    asking = {"password": wanted.sentinel_password, "socket_timeout": CONNECT_TIMEOUT_S}
    options = _options(url)
    make: Any = SentinelClient  # untyped in redis-py
    sentinels = make(list(wanted.hosts), sentinel_kwargs=asking, **options)
    client: redis.Redis = sentinels.master_for(
        wanted.master, db=wanted.db, username=wanted.username, password=wanted.password
    )
    return client


@dataclass(frozen=True, slots=True)
class Broker:
    """Celery's form of a Redis URL. transport: the name of the class in workers/broker.py.

    options: its transport options.
    """

    url: str = field(repr=False)
    transport: str
    options: dict[str, Any] = field(repr=False, default_factory=dict)


def kombu_url(url: str) -> Broker:
    """The same server in kombu's form."""
    parts = urlsplit(url)
    if parts.scheme == "sentinel":
        return _kombu_sentinel(url)
    if parts.scheme == "unix":
        query = dict(parse_qsl(parts.query))
        login = (
            f"{parts.netloc}"
            if parts.netloc
            else (f":{quote(query['password'], safe='')}@" if "password" in query else "")
        )
        return Broker(
            f"redis+socket://{login}{parts.path}?{urlencode({'virtual_host': query.get('db', '0')})}",  # noqa: E501
            "RedisTransport",
        )
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in parts.query:
        return Broker(
            url + ("&" if parts.query else "?") + "ssl_cert_reqs=required", "RedisTransport"
        )
    return Broker(url, "RedisTransport")


def _kombu_sentinel(url: str) -> Broker:
    wanted = sentinel_of(url)
    login = (
        f"{quote(wanted.username or '', safe='')}:{quote(wanted.password, safe='')}@"
        if wanted.password
        else ""
    )
    hosts = ";".join(f"sentinel://{login}{host}:{port}/{wanted.db}" for host, port in wanted.hosts)
    asking = {"password": wanted.sentinel_password, "socket_timeout": CONNECT_TIMEOUT_S}
    return Broker(
        hosts, "SentinelTransport", {"master_name": wanted.master, "sentinel_kwargs": asking}
    )
