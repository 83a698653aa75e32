"""Reading a callback as the receipts process does: what can't be read gives none."""

from collections.abc import Callable, Mapping

from workers.vendors.receipt_bodies import Receipt, ReceiptsError


def read_any(
    read: Callable[[bytes, Mapping[str, str]], list[Receipt]], body: bytes
) -> list[Receipt]:
    try:
        return read(body, {})
    except ReceiptsError:
        return []
