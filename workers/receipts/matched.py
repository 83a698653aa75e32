"""Receipts and the rows they speak of -> what to write, whom to retire, what to look for again.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from common.model import Bucket, Vendor, Verdict
from workers.vendors.receipt_bodies import Receipt

#: A receipt may precede its push in the ledger: it is looked up again after these seconds, then it
#: is lost.
LOOK_AGAIN_S: Final = (1.0, 5.0, 30.0)
PUSH_ID_CHARACTERS: Final = 32


class Callback(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the stream `receipts`: one callback's receipts.

    looks: the lookups of their rows so far.
    """

    vendor: Vendor
    app: str
    business_id: str
    received_ms: int
    receipts: tuple[Receipt, ...]
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """The row of a receipt's push. day_ms: some time of the row's day.

    message_ids: the vendor's ids; bucket: in which it counted.
    """

    app: str
    event_id: str
    day_ms: int
    user: str
    device: str
    decided_ms: int
    message_ids: frozenset[str] = frozenset()
    bucket: Bucket = Bucket.PRIVATE


@dataclass(slots=True)
class MatchedReceipts:
    """noted: (row, receipt), each with a status for the ledger. capped: of devices that had enough
    of the row's bucket that day;
    spent: of pushes over the app's day. lost: receipts that fit no push of ours.
    """

    noted: list[tuple[Sent, Receipt]] = field(default_factory=list)
    dead: list[tuple[Sent, Receipt]] = field(default_factory=list)
    foreign: list[tuple[Sent, Receipt]] = field(default_factory=list)
    silenced: list[tuple[Sent, Receipt]] = field(default_factory=list)
    replaced: list[tuple[Sent, Receipt]] = field(default_factory=list)
    capped: list[tuple[Sent, Receipt]] = field(default_factory=list)
    spent: list[tuple[Sent, Receipt]] = field(default_factory=list)
    again: list[Receipt] = field(default_factory=list)
    lost: list[Receipt] = field(default_factory=list)


def settle(
    receipts: Sequence[Receipt], sent: Mapping[int, Sent], looks: int, *, strict: bool
) -> MatchedReceipts:
    """sent: by a receipt's number, the row it may speak of. strict: the vendor's message id must
    fit, too.
    """
    settled = MatchedReceipts()
    for number, receipt in enumerate(receipts):
        row = sent.get(number)
        if row is not None and (not strict or receipt.request_id in row.message_ids):
            _tell(row, receipt, settled)
        elif row is None and looks < len(LOOK_AGAIN_S):
            settled.again.append(receipt)
        else:
            settled.lost.append(receipt)
    return settled


def _tell(row: Sent, receipt: Receipt, settled: MatchedReceipts) -> None:
    settled.noted.append((row, receipt))
    if receipt.replacement:
        settled.replaced.append((row, receipt))
    elif receipt.verdict == Verdict.TOKEN_DEAD:
        settled.dead.append((row, receipt))
    elif receipt.verdict == Verdict.TOKEN_FOREIGN:
        settled.foreign.append((row, receipt))
    elif receipt.verdict == Verdict.SILENCED:
        settled.silenced.append((row, receipt))
    elif receipt.verdict == Verdict.DEVICE_CAP:
        settled.capped.append((row, receipt))
    elif receipt.verdict == Verdict.QUOTA_SPENT:
        settled.spent.append((row, receipt))


def is_tag(tag: str) -> bool:
    """True for 32 hex digits: a push id, or the tag of a request with several pushes."""
    return len(tag) == PUSH_ID_CHARACTERS and all(digit in "0123456789abcdef" for digit in tag)
