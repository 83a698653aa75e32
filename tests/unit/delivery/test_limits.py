"""An operator's limits over the vendor's own."""

from __future__ import annotations

import pytest

from common.model import Vendor
from workers.delivery.lane import limits_of
from workers.vendors import VENDORS


@pytest.mark.parametrize(("rate", "seconds"), [(None, 60), (20_000, 60), (10_000, 60), (5_000, 30), (100, 1)])
def test_a_ramp_is_a_slope(rate: float | None, seconds: int) -> None:
    """FCM: from nothing to 10,000 a second within a minute. A lane of 100 a second is below that slope from its first second on."""
    assert limits_of(VENDORS[Vendor.FCM], {} if rate is None else {"rate": rate}).ramp_s == seconds


def test_a_vendor_without_a_ramp_gets_none() -> None:
    assert limits_of(VENDORS[Vendor.APNS], {"rate": 10}).ramp_s == 0
