"""Push ids. Pure: the same push has the same id in every attempt, in every process, also on another
lane.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

from common.model import Kind


def push_id(app: str, event_id: str, user: str, device: str, kind: Kind) -> str:
    """32 hex digits of blake2b-128 over the five parts (contract §8a), each ended by a NUL.

    No part can contain a NUL.
    """
    identity = f"{app}\0{event_id}\0{user}\0{device}\0{kind}\0".encode("utf-8", "replace")
    return blake2b(identity, digest_size=16).hexdigest()


def push_ids(app: str, pushes: Iterable[tuple[str, str, str]], kind: Kind) -> list[str]:
    """The same for each (event id, user, device)."""
    head, tail = f"{app}\0", f"\0{kind}\0"
    identities = [f"{head}{event_id}\0{user}\0{device}{tail}" for event_id, user, device in pushes]
    return [
        blake2b(one.encode("utf-8", "replace"), digest_size=16).hexdigest() for one in identities
    ]


@lru_cache(maxsize=1024)
def event_tag(app: str, event_id: str, kind: str) -> str:
    """The tag that receipts of a request with several pushes echo: 32 hex digits.

    It is the same for every device and every attempt.
    """
    identity = f"{app}\0{event_id}\0{kind}".encode("utf-8", "replace")
    return blake2b(identity, digest_size=16).hexdigest()
