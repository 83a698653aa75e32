"""Each device's current token (Redis hashes, 9 days), compared at the moment of sending.

A hash holds digests, never a token. An absent device was unchanged for longer than any push may
wait.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis

from common.storage.keys import Keys
from common.storage.raw_pipe import command, read_all

#: Longer than a push may wait (7 days) and be routed before.
KEEP_S = 9 * 86_400
#: In place of a binding: the device has no token that may be sent to.
LEFT = "-"
#: Devices of one write.
LOOK_MAX = 1_000
_DIGEST_CHARS = 12

#: (app, user, device, binding): what a device may be sent to from now on. binding: `bound` or LEFT.
Binding = tuple[str, str, str, str]


def digest_of(vendor: str, business_id: str, token: str) -> str:
    """A digest of twelve characters for a token on one lane."""
    text = f"{vendor}\0{business_id}\0{token}"
    return b64encode(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=9).digest()
    ).decode()


def bound(vendor: str, business_id: str, token: str, voip_token: str | None) -> str:
    """The binding of a device that may be sent to."""
    tokens = (token,) if not voip_token else (token, voip_token)
    return "".join(digest_of(vendor, business_id, one) for one in tokens)


def holds(binding: str, vendor: str, business_id: str, token: str) -> bool:
    """True when the device with this binding may still be sent to under this token."""
    digest = digest_of(vendor, business_id, token)
    return digest in (binding[:_DIGEST_CHARS], binding[_DIGEST_CHARS:])


class Bindings:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def put(self, bindings: Iterable[Binding], pipe: Any = None) -> None:
        """Stores the bindings. pipe: the pipeline that carries them.

        A writer calls it before its SQL transaction ends: a reader that finds the new binding here
        and the old row there gets the old owner, who has the token until that moment.
        """
        given = list(bindings)
        if not given:
            return
        if pipe is None:
            with self._redis.pipeline(transaction=False) as own:
                self._put(given, own)
                own.execute()
        else:
            self._put(given, pipe)

    def _put(self, bindings: Sequence[Binding], pipe: Any) -> None:
        for app, user, device, binding in bindings:
            key = self._keys.bindings(app, user)
            pipe.hset(key, device, binding)
            pipe.expire(key, KEEP_S)

    def own(self, people: Iterable[tuple[str, str]]) -> bool:  # noqa: ARG002
        """True when all of these people's devices are known on this server."""
        return True

    def look(self, devices: Sequence[tuple[str, str, str]]) -> list[str | None]:
        """The binding of each (app, user, device), None where unchanged for days.

        Mostly nobody's devices have changed: one command for all tells.
        """
        found: list[str | None] = []
        for start in range(0, len(devices), LOOK_MAX):
            part = devices[start : start + LOOK_MAX]
            names = [self._keys.bindings(app, user) for app, user, _ in part]
            (changed,) = read_all(self._redis, command("EXISTS", *names), 1)
            if not changed:
                found += [None] * len(part)
                continue
            looks = [
                command("HGET", name, device)
                for name, (_, _, device) in zip(names, part, strict=True)
            ]
            found += [
                one.decode() if one else None
                for one in read_all(self._redis, "".join(looks), len(looks))
            ]
        return found
