"""Loads the Lua files beside it. The head of each file states input, output and reason."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

from common.storage.raw_pipe import ask_all

_FOLDER = Path(__file__).parent / "lua"


@cache
def source(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def script(redis: Redis, name: str, *shared: str) -> Script:
    """The script as a callable (EVALSHA, loaded again when the server forgot it). shared: files
    with functions that it uses.
    """
    return redis.register_script("".join(source(one) for one in (*shared, name)))


#: One call of a script: it, its keys, its arguments.
Call = tuple[Script, Sequence[str], Sequence[Any]]


def run_all(
    redis: Redis, calls: Sequence[Call], commands: Sequence[Sequence[Any]] = ()
) -> list[Any]:
    """Runs scripts, and plain commands after them, in one round trip; one answer each.

    redis-py would ask in a second round trip which scripts the server has, and its pipeline costs
    more CPU than most of them cost the server.
    """
    if not calls and not commands:
        return []
    packed = b"".join(
        [pack_command(("EVALSHA", one.sha, len(keys), *keys, *args)) for one, keys, args in calls]
    )
    packed += b"".join([pack_command(tuple(one)) for one in commands])
    answers = ask_all(redis, packed, len(calls) + len(commands))
    for index, answer in enumerate(answers):
        if isinstance(answer, NoScriptError):
            one, keys, args = calls[index]
            answers[index] = one(keys=list(keys), args=list(args))
        elif isinstance(answer, Exception):
            raise answer
    return answers
