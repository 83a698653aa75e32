"""Which pushes share a request: as many as the vendor takes, apart only where
their bodies differ.
"""

import pytest

from common.model import Again, Vendor
from tests.unit.vendors.cases import NOW_MS, credential, note, target
from workers.delivery.request_batches import pack
from workers.vendors import VENDORS
from workers.vendors.types import PushItem

WORDS = note()


def sizes(
    vendor: Vendor, items: list[PushItem], options: dict[str, str] | None = None
) -> list[int]:
    batches = pack(items, VENDORS[vendor], credential(vendor, options), NOW_MS, None)
    return sorted(len(one.items) for one in batches)


@pytest.mark.parametrize(
    ("vendor", "options", "requests"),
    [
        (Vendor.HUAWEI, {}, [6]),
        (Vendor.HUAWEI, {"badge_class": "a.Main"}, [2, 2, 2]),
        (Vendor.HONOR, {}, [6]),
        (Vendor.HONOR, {"badge_class": "a.Main"}, [2, 2, 2]),
        (Vendor.HARMONY, {}, [2, 2, 2]),
        (Vendor.FCM, {}, [1] * 6),
    ],
)
def test_badges_part_those_only_whose_bodies_carry_them(
    vendor: Vendor, options: dict[str, str], requests: list[int]
) -> None:
    items = [PushItem(WORDS, target(f"t{n}"), n % 3, 60) for n in range(6)]
    assert sizes(vendor, items, options) == requests


def test_a_token_stands_in_a_request_once_and_what_was_judged_in_a_batch_goes_alone() -> None:
    twice = [PushItem(WORDS, target(name), 1, 60) for name in ("a", "b", "a")]
    assert sizes(Vendor.HUAWEI, twice) == [1, 2]
    singly = [PushItem(WORDS, target(name, again=Again.SINGLY), 1, 60) for name in ("a", "b")]
    assert sizes(Vendor.HUAWEI, singly) == [1, 1]


def test_a_request_holds_no_more_tokens_than_the_vendor_takes() -> None:
    found = sizes(Vendor.HUAWEI, [PushItem(WORDS, target(f"t{n}"), 1, 60) for n in range(1001)])
    assert found == [1, 1000]
