"""How each vendor's callback is read and what it wants to hear: the explicit table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from common.model import Vendor
from workers.receipts import honor, huawei, meizu, oppo, vivo, xiaomi
from workers.receipts.base import Receipt

Read = Callable[[bytes, Mapping[str, str]], list[Receipt]]


@dataclass(frozen=True, slots=True)
class Reader:
    """read: raises ReceiptsError, and nothing else. ack: body of the 200. signed: the callback may carry Huawei's signature.

    strict: nothing proves who sends it, so the vendor's message id and the device's token must fit, too (docs/vendors/honor.md, receipts).
    """

    read: Read
    ack: bytes
    signed: bool = False
    strict: bool = False


#: Bodies that no page asks for are what a working public receiver answers. Source: docs/vendors/<vendor>.md, receipts.
READERS: Final[Mapping[Vendor, Reader]] = {
    Vendor.HUAWEI: Reader(huawei.read_receipts, huawei.ACK, signed=True),
    Vendor.HARMONY: Reader(huawei.read_receipts, huawei.ACK, signed=True),
    Vendor.HONOR: Reader(honor.read_receipts, honor.ACK, strict=True),
    Vendor.XIAOMI: Reader(xiaomi.read_receipts, b'{"errno":0,"errmsg":"success"}'),
    Vendor.OPPO: Reader(oppo.read_receipts, b"{}"),
    Vendor.VIVO: Reader(vivo.read_receipts, b"0"),
    Vendor.MEIZU: Reader(meizu.read_receipts, b"{}"),
}

#: Every word that a receipt's status can be, so that a label stays within a closed set; `code <n>` becomes `other`.
STATUSES: Final = frozenset(
    {
        *(word for word, _ in huawei.CODES.values()),
        *(word for word, _ in honor.CODES.values()),
        *(word for word, _ in oppo.EVENTS.values()),
        *xiaomi.STATUS.values(),
        *(word for word, _ in vivo.DETAILS.values()),
        *(word for word, _ in vivo.KINDS.values()),
        *meizu.STATUS.values(),
    }
)


def label_of(status: str) -> str:
    return status if status in STATUSES else "other"
