"""The vendors that send receipts, by their specs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common.model import Vendor
from workers.vendors import VENDORS
from workers.vendors.receipt_bodies import ReceiptsSpec

READERS: Final[Mapping[Vendor, ReceiptsSpec]] = {
    vendor: spec.receipts for vendor, spec in VENDORS.items() if spec.receipts
}

#: Every status of a receipt, so that a label stays within a closed set; `code <n>` becomes `other`.
STATUSES: Final = frozenset().union(*(reader.statuses for reader in READERS.values()))


def label_of(status: str) -> str:
    return status if status in STATUSES else "other"
