"""Ids in the forms that vendors take: numbers, base62, UUID, short texts, and a receipt's tag."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from common.push_ids import event_tag
from workers.vendors.json_text import whole
from workers.vendors.types import RequestBatch


def number_id(value: str, bits: int = 31) -> int:
    """A stable positive number of `value` for a vendor's notify id: 1 to 2**bits - 1."""
    digest = int.from_bytes(
        hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8).digest()
    )
    return 1 + digest % ((1 << bits) - 1)


def are_made_of(characters: bytes, most: int, tokens: Sequence[str]) -> bool:
    """True when each has 1 to `most` characters, all of them ASCII and among these.

    A pattern asked for each of a round's tokens costs many times as much.
    """
    whole, lengths = "".join(tokens), [*map(len, tokens)]
    return (
        min(lengths, default=1) > 0
        and max(lengths, default=1) <= most
        and whole.isascii()
        and not whole.encode().translate(None, characters)
    )


_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def base62(hex_id: str, length: int) -> str:
    """The first `length` base62 digits (of 22, zero-padded) of a 128-bit id (contract §8a).

    hex_id: 32 hex digits.
    """
    number, digits = int(hex_id, 16), []
    for _ in range(22):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits))[:length]


def uuid_text(push_id: str) -> str:
    """32 hex digits as a lower-case UUID 8-4-4-4-12."""
    return f"{push_id[:8]}-{push_id[8:12]}-{push_id[12:16]}-{push_id[16:20]}-{push_id[20:]}"


def text_id(value: str, bytes_max: int = 64) -> str:
    """`value` if printable and within `bytes_max` bytes of UTF-8, else its SHA-256 in hex.

    The hash has 64 bytes.
    """
    raw = whole(value).encode()
    return (
        value
        if len(raw) <= bytes_max and value.isprintable() and value == value.strip()
        else hashlib.sha256(raw).hexdigest()
    )


def header_id(value: str, bytes_max: int = 64) -> str:
    """As text_id, for a header: printable ASCII within `bytes_max`, else the SHA-256 in hex."""
    if value.isascii() and len(value) <= bytes_max and value.isprintable() and " " not in value:
        return value
    plain = value.isascii()
    return text_id(value, bytes_max) if plain else hashlib.sha256(whole(value).encode()).hexdigest()


def receipt_tag(batch: RequestBatch) -> str:
    """The tag that a vendor echoes in receipts, 32 hex digits.

    It is the push id of a single push, else a digest of (app, event, kind), as one request has one
    tag only.
    """
    if len(batch.items) == 1:
        return batch.items[0].target.push_id
    note = batch.items[0].note
    return event_tag(note.app, note.event_id, note.kind)
