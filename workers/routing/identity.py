"""Push id and collapse id. Pure: the same push has the same ids in every attempt, in every process,
also on another lane.
"""

from __future__ import annotations

from common.contracts import Message
from common.push_ids import push_id

__all__ = ["collapse_id", "push_id"]


def collapse_id(message: Message) -> str:
    """The id by which a later push replaces this one: the sender's collapse key, or the message."""
    return message.push.collapse_key or message.message_id
