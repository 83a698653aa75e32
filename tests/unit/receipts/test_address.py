"""Addresses of the receipts service: each account's own, unguessable, the same in every process
with the same keys.
"""

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from common.model import Vendor
from common.storage.vault import Vault
from tests.builders import present
from workers.receipts.address import PURPOSE, path_of, proven, read_path

KEY, OTHER = b"k" * 32, b"o" * 32
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)


@given(st.sampled_from(Vendor), NAMES, NAMES)
def test_what_we_give_to_a_vendor_is_what_we_take_back(vendor, app, business_id):
    address = present(read_path(path_of(vendor, app, business_id, KEY).encode()))
    assert (address.vendor, address.app, address.business_id) == (vendor, app, business_id)
    assert proven(address, [KEY])
    assert proven(address, [OTHER, KEY]), "a rotated key is still taken"
    assert not proven(address, [OTHER])


WRONG = {
    "another account's secret": lambda path, other: (
        path.rpartition("/")[0] + "/" + other.rpartition("/")[2]
    ),
    "no secret": lambda path, other: path.rpartition("/")[0] + "/",
    "one letter off": lambda path, other: path[:-1] + ("A" if path[-1] != "A" else "B"),
    "cut short": lambda path, other: path[:-1],
    "another vendor": lambda path, other: path.replace("meizu", "vivo"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_an_address_that_we_did_not_make_proves_nothing(change):
    path = path_of(Vendor.MEIZU, "1400000001", "b1", KEY)
    other = path_of(Vendor.MEIZU, "1400000001", "b2", KEY)
    address = read_path(change(path, other).encode())
    assert address is None or not proven(address, [KEY])


@given(st.binary(max_size=200))
def test_any_path_is_an_address_or_none(raw):
    address = read_path(b"/" + raw)
    assert address is None or not proven(address, [KEY])


def test_the_address_fits_what_vendors_take():
    longest = "https://push.example.com" + path_of(Vendor.XIAOMI, "1400000001", "b" * 32, KEY)
    assert len(longest) <= 128


def test_a_path_before_ours_is_the_proxys():
    found = read_path(b"/some/where" + path_of(Vendor.OPPO, "a", "b", KEY).encode())
    assert present(found).vendor == Vendor.OPPO


def test_derived_keys_differ_by_purpose_and_by_key():
    keys = [Fernet.generate_key().decode() for _ in range(2)]
    found = Vault(keys).derived(PURPOSE)
    assert len({*found, *Vault(keys).derived("another")}) == 4
    assert Vault(keys[1:]).derived(PURPOSE) == found[1:]
