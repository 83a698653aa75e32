"""Push ids. Pure: the same push has the same id in every attempt, in every process, also on another lane."""

from __future__ import annotations

from hashlib import blake2b

from common.model import Kind


def push_id(app: str, event_id: str, user: str, device: str, kind: Kind) -> str:
    """32 hex digits of blake2b-128 over the five parts (contract §8a), each ended by a NUL, which none of them can hold."""
    identity = f"{app}\0{event_id}\0{user}\0{device}\0{kind}\0".encode("utf-8", "replace")
    return blake2b(identity, digest_size=16).hexdigest()
