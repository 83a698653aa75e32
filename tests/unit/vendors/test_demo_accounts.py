"""The demo's throw-away accounts and tokens: each vendor's own reader takes them."""

from pathlib import Path

import pytest

from common.model import Vendor
from workers.cli.demo import account
from workers.cli.demo_data import account_options, made_up
from workers.vendors import VENDORS


def test_a_vendors_reader_takes_its_demo_account(tmp_path: Path) -> None:
    for vendor, options in account_options(tmp_path):
        stored = account(vendor, options, app="demo", business_id="b-1")
        assert (stored.app, stored.vendor, stored.business_id) == ("demo", vendor, "b-1")
        assert stored.secrets, vendor
        assert all(right.partition(".")[0] == vendor for right in stored.rights), vendor
        wants_channel = VENDORS[vendor].rights_want_channel & stored.rights
        assert stored.channels or not wants_channel, "doctor finds nothing wrong with it"


@pytest.mark.parametrize("mood", ["", "dead", "fail"])
@pytest.mark.parametrize("vendor", Vendor)
def test_a_demo_token_is_one_that_can_be_sent_to(vendor: Vendor, mood: str) -> None:
    assert VENDORS[vendor].token_valid(made_up(vendor, "0123456789" * 6 + "abcd", mood))
