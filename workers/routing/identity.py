"""Push id and collapse id. Pure: the same push has the same ids in every attempt, in every process, also on another lane."""

from __future__ import annotations

import hashlib

from common.contracts import Message
from common.model import Kind


def push_id(app: str, event_id: str, user: str, device: str, kind: Kind) -> str:
    """32 hex digits of blake2b-128 over the five parts (contract §8a), each ended by a NUL, which none of them can hold."""
    told = f"{app}\0{event_id}\0{user}\0{device}\0{kind}\0".encode("utf-8", "replace")
    return hashlib.blake2b(told, digest_size=16).hexdigest()


def collapse_id(message: Message) -> str:
    """What makes a later push replace an earlier one on the screen: the sender's collapse key, or the message itself."""
    return message.push.collapse_key or message.message_id
