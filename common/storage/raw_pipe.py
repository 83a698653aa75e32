"""Hundreds of small commands in one write, parsed by hiredis alone.

redis-py spends 3 to 5 µs of CPU on each answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

from hiredis import PushNotification, pack_command
from redis import Redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError, WatchError
from redis.sentinel import SentinelManagedConnection

from common.storage.cluster import SlotConnection


def bulk(value: str) -> str:
    """A string as Redis' protocol has it."""
    size = len(value) if value.isascii() else len(value.encode())
    return f"${size}\r\n{value}\r\n"


def command(*parts: str) -> str:
    """One command as Redis' protocol has it."""
    if "".join(parts).isascii():
        return "".join([f"*{len(parts)}\r\n", *[f"${len(part)}\r\n{part}\r\n" for part in parts]])
    return f"*{len(parts)}\r\n" + "".join(map(bulk, parts))


class RawPipe:
    """One connection of a client's pool for some exchanges in a row, which may begin with WATCH."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def ask(self, commands: str | bytes, count: int) -> list[Any]:
        """The answers to `count` commands in one write; raises the first error at the end."""
        answers = self.ask_each(commands, count)
        for one in answers:
            if isinstance(one, ResponseError):
                raise one
        return answers

    def ask_each(self, commands: str | bytes, count: int) -> list[Any]:
        """As `ask`, with errors of commands among the answers."""
        connection = self._connection
        connection.send_packed_command(
            [commands.encode() if isinstance(commands, str) else commands]
        )
        answers = _answers(connection, count)
        if isinstance(connection, SlotConnection):
            for one in answers:
                if isinstance(one, ResponseError):
                    connection.raise_elsewhere(one)
        elif isinstance(self._connection, SentinelManagedConnection) and any(
            isinstance(one, ReadOnlyError) for one in answers
        ):  # as redis-py has it
            connection.disconnect()
            raise RedisConnectionError("the master of before is a replica now")
        return answers


#: The types of nearly all answers.
_VALUES = frozenset({bytes, int, list, type(None)})


def _answers(connection: Any, count: int) -> list[Any]:
    parser = connection._parser  # noqa: SLF001 - redis-py has no way to read many answers but one by one
    reader: Any = getattr(parser, "_reader", None)
    if not hasattr(reader, "gets"):
        return [_one(connection) for _ in range(count)]
    found: list[Any] = []
    gets = reader.gets
    while len(found) < count:
        one = gets()
        if type(one) in _VALUES:
            found.append(one)
        elif one is NOT_ENOUGH_DATA:
            parser.read_from_socket()
        elif isinstance(one, PushNotification):
            parser.handle_push_response(one)
        else:
            # LOADING and its like: the server is away, as redis-py has it
            if isinstance(one, RedisConnectionError):
                raise one
            found.append(one)
    return found


def _one(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


@contextlib.contextmanager
def raw_pipe(client: Redis) -> Iterator[RawPipe]:
    """A connection for exclusive use. After an error it is closed, which ends WATCH and MULTI."""
    pool = cast(Any, client.connection_pool)
    connection = pool.get_connection()
    try:
        yield RawPipe(connection)
    except BaseException as error:
        _end(connection, error)
        raise
    finally:
        pool.release(connection)


def _end(connection: Any, error: BaseException) -> None:
    """Closes a connection whose exchange broke: answers may still be on their way."""
    if isinstance(connection, SlotConnection) and isinstance(error, (RedisError, OSError)):
        connection.failed()
    connection.disconnect()


def ask_watched(pipe: Pipeline, reads: Sequence[Sequence[Any]]) -> list[Any]:
    """The answers of reads on a pipeline that watches keys, in one exchange: in that state redis-py
    has one for each.
    """
    own = cast(Any, pipe)
    try:
        return RawPipe(own.connection).ask(
            b"".join(map(pack_command, map(tuple, reads))), len(reads)
        )
    except BaseException as error:
        own.watching = False
        _end(own.connection, error)
        raise


def execute_watched(pipe: Pipeline) -> None:
    """As `pipe.execute()` for a pipeline that watches keys; its answers are of no use.

    Scripts go last: of a slot that moves in one step Valkey 9.1 loses what a MULTI does behind a
    script, though it is acknowledged (findings/valkey-a-move-loses-behind-a-script.sh).
    WatchError: a key has changed, or the connection broke and it may be written.
    """
    own = cast(Any, pipe)
    if own.scripts:
        own.load_scripts()
    stack = sorted((args for args, _ in own.command_stack), key=lambda args: args[0] in _SCRIPTS)
    calls = [(*args[0].split(), *args[1:]) for args in stack]
    packed = b"".join([_MULTI, *map(pack_command, calls), _EXEC])
    own.watching = False  # whatever becomes of EXEC, it ends with it
    try:
        *queued, done = RawPipe(own.connection).ask_each(packed, len(calls) + 2)
    except BaseException as error:
        _end(own.connection, error)
        if isinstance(error, RedisConnectionError):
            raise WatchError("the connection broke while keys were watched") from error
        raise
    if done is None:
        raise WatchError("a watched key has changed")
    for answer in (*queued, *(done if isinstance(done, list) else [done])):
        if isinstance(answer, Exception):
            raise answer


_SCRIPTS = frozenset({"EVAL", "EVALSHA"})
_MULTI, _EXEC = command("MULTI").encode(), command("EXEC").encode()


def first_score(answer: Any) -> float:
    """The first member's score in a ZRANGE WITHSCORES, in either version of the protocol."""
    return float(answer[0][1] if isinstance(answer[0], list) else answer[1])


def read_all(client: Redis, commands: str, count: int) -> list[Any]:
    """The answers to `count` reads in one write; retries a broken connection as the client does."""

    answers = ask_all(client, commands, count)
    for one in answers:
        if isinstance(one, ResponseError):
            raise one
    return answers


def ask_all(client: Redis, commands: str | bytes, count: int) -> list[Any]:
    """As `read_all` for any commands, with errors of commands among the answers."""

    def ask() -> list[Any]:
        with raw_pipe(client) as pipe:
            return pipe.ask_each(commands, count)

    retry = cast(Any, client.connection_pool).connection_kwargs.get("retry")
    return (
        cast(list[Any], retry.call_with_retry(ask, lambda _error: None))
        if retry is not None
        else ask()
    )
