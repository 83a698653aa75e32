"""Loads the Lua files beside it. Each file says at its head what it takes, gives and why."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from redis import Redis
from redis.commands.core import Script

_FOLDER = Path(__file__).parent / "lua"


@cache
def source(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def script(redis: Redis, name: str, *shared: str) -> Script:
    """The script as a callable (EVALSHA, loaded again when the server forgot it). shared: files with functions that it uses."""
    return redis.register_script("".join(source(one) for one in (*shared, name)))
