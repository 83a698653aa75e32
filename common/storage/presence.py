"""Presence (the core's Redis, written by its gateways with their expiry): live connections."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from common.ports import AwayError, Session
from common.storage import cluster
from common.storage.raw_pipe import bulk, command, raw_pipe
from common.storage.sparse import Sparse

STATES = (b"foreground", b"background")
PLATFORMS = frozenset(
    {b"ios", b"android", b"harmony", b"windows", b"mac", b"linux", b"web", b"ipad"}
)

#: People of one write.
LOOK_MAX = 2_000
#: Of so few the server's time is asked only where one has a connection: mostly they are away.
FEW = 4
MILLIS_DIGITS_MAX = 18


class Presence:
    """One write for hundreds of users: the server's time and each one's hash.

    Plain commands cost the server less than a script. While hardly anybody has a hash, a first
    write asks whose may be there.
    """

    def __init__(self, redis: Redis, key_prefix: str) -> None:
        self._redis = redis
        self._prefix = key_prefix
        self._sparse = Sparse()

    def sessions(self, people: Sequence[tuple[str, str]]) -> tuple[list[list[Session] | None], int]:
        """The live sessions of each (app, user), and the number of malformed fields and keys.

        None: unknown, as the node of a cluster that has them is away.
        """
        found: list[list[Session] | None] = []
        malformed = 0
        for start in range(0, len(people), LOOK_MAX):
            sessions, passed_over = self._look(people[start : start + LOOK_MAX])
            found += sessions
            malformed += passed_over
        return found, malformed

    def _look(self, people: Sequence[tuple[str, str]]) -> tuple[list[list[Session] | None], int]:
        keys = [f"{self._prefix}presence:{{{app}:{user}}}" for app, user in people]
        now_ms, hashes = (
            _cluster_hashes(self._redis, keys)
            if cluster.is_core(self._redis)
            else _hashes(self._redis, keys, self._sparse)
        )
        malformed = 0
        found: list[list[Session] | None] = []
        for fields in hashes:
            if fields is cluster.AWAY:
                found.append(None)
                continue
            live: list[Session] = []
            found.append(live)
            if not fields:
                malformed += fields is None
                continue
            for pair in (
                fields.items() if type(fields) is dict else zip(*[iter(fields)] * 2, strict=True)
            ):
                session = _session(pair)
                if session is None:
                    malformed += 1
                elif session[1] > now_ms:
                    live.append(session[0])
        return found, malformed


def _hashes(redis: Redis, keys: Sequence[str], sparse: Sparse) -> tuple[int, list[Any]]:
    """The server's time in ms, and each key's fields and values; None where it is no hash.

    The fields are in the protocol's form. Without any key the time is 0.
    """
    found: list[Any] = [()] * len(keys)
    existing = 0
    with raw_pipe(redis) as pipe:
        places = sparse.places(pipe, keys)
        if not places:
            return 0, found
        gets, when = _gets([keys[place] for place in places]), command("TIME")
        if len(places) > FEW:
            (seconds, micros), *reply = pipe.ask_each(when + gets, 1 + len(places))
        else:
            reply = pipe.ask_each(gets, len(places))
            ((seconds, micros),) = pipe.ask(when, 1) if any(reply) else ((0, 0),)
    for place, answer in zip(places, reply, strict=True):
        if not isinstance(answer, Exception):
            found[place] = answer
            existing += bool(answer)
        elif str(answer).startswith(
            "WRONGTYPE"
        ):  # one person's broken key must not cost all others their answer
            found[place] = None
            existing += 1
        else:
            raise answer
    sparse.found(existing, len(keys))
    return int(seconds) * 1000 + int(micros) // 1000, found


def _cluster_hashes(core: Redis, keys: Sequence[str]) -> tuple[int, list[Any]]:
    """As `_hashes`, in one exchange a node: redis-py's own way costs several times as much, and
    finds the keys whose slot is on its way to another node.
    """
    found: list[Any] = [()] * len(keys)
    now: Any = None
    try:
        for client, places in cluster.by_node(core, keys):
            asked = command("TIME") + _gets([keys[place] for place in places])
            try:
                with raw_pipe(client) as pipe:
                    time_now, *reply = pipe.ask_each(asked, 1 + len(places))
            except AwayError:
                time_now, reply = None, [cluster.AWAY] * len(places)
            now = now or time_now
            for place, answer in zip(places, reply, strict=True):
                if not isinstance(answer, Exception):
                    found[place] = answer
                elif str(answer).startswith("WRONGTYPE"):
                    found[place] = None
                else:
                    return cluster.hashes(core, keys)
    except (RedisConnectionError, OSError):  # a node has gone: another one may have its slots
        return cluster.hashes(core, keys)
    if isinstance(now, Exception):
        raise now
    seconds, micros = now or (0, 0)  # none: all of them are away
    return int(seconds) * 1000 + int(micros) // 1000, found


def _gets(keys: Sequence[str]) -> str:
    get = "*2\r\n$7\r\nHGETALL\r\n"
    if "".join(keys).isascii():
        return "".join([f"{get}${len(key)}\r\n{key}\r\n" for key in keys])
    return "".join([get + bulk(key) for key in keys])


@lru_cache(4096)
def _session(pair: tuple[bytes, bytes]) -> tuple[Session, int] | None:
    """The session of a field (device) and its value, and its end, ms; None if malformed.

    Cached: browser clients often share a name, and a gateway writes one value for many at once.
    """
    device, value = pair
    state = _state(value)
    if state is None:
        return None
    try:
        name = device.decode()
    except UnicodeDecodeError:
        return None
    return Session(name, state[0], state[1], state[2]), state[3]


@lru_cache(4096)
def _state(value: bytes) -> tuple[bool, str, int | None, int] | None:
    """A field's value: in front, platform, since when, until when.

    A gateway writes one value for many sessions at once.
    """
    state, _, rest = value.partition(b"|")
    platform, _, rest = rest.partition(b"|")
    until, more, since = rest.partition(b"|")
    if (
        state not in STATES
        or platform not in PLATFORMS
        or not _is_millis(until)
        or (more and not _is_millis(since))
    ):
        return None
    return state == b"foreground", platform.decode(), int(since) if more else None, int(until)


def until_ms(value: bytes) -> int | None:
    """Until when a field's value holds; None if malformed."""
    state = _state(value)
    return state and state[3]


def _is_millis(number: bytes) -> bool:
    return number.isdigit() and len(number) <= MILLIS_DIGITS_MAX
