"""The day of quotas: the vendor's calendar, or the zone that the operator names."""

import pytest

from common.model import Bucket, Vendor
from tests.integration.web.conftest import APP
from workers.adapters.catalog import lane_of
from workers.delivery.hours import shut_for_s
from workers.delivery.lane import limits_of
from workers.gate import terms_of
from workers.vendors import VENDORS

#: By the vendors' pages: APNs publishes no quota, Google's days are Pacific ones, the Chinese
#: vendors' Beijing's.
DEFAULTS = {
    **dict.fromkeys(Vendor, "Asia/Shanghai"),
    Vendor.APNS: "UTC",
    Vendor.FCM: "America/Los_Angeles",
}


@pytest.mark.parametrize("vendor", Vendor)
def test_the_day_is_the_vendors_unless_a_zone_is_named(vendor):
    spec = VENDORS[vendor]
    assert limits_of(spec, {}).timezone == DEFAULTS[vendor]
    assert limits_of(spec, {"quota_tz": "Europe/Berlin"}).timezone == "Europe/Berlin"


def test_another_day_does_not_move_the_vendors_hours():
    night = 1_767_222_000_000  # 2026-01-01 07:00 in Beijing is an hour away
    for wishes in ({}, {"quota_tz": "America/Los_Angeles"}):
        limits = limits_of(VENDORS[Vendor.VIVO], wishes)
        assert shut_for_s(limits, Bucket.PUBLIC, night - 8 * 3_600_000) > 0


def lane(runtime, business_id):
    stored = runtime.credentials.all()
    [found] = [lane_of(one, runtime.settings) for one in stored if one.business_id == business_id]
    return found


def test_a_zone_is_kept_through_a_rotation_and_shown(runtime, tenant, cli, tmp_path):
    (tmp_path / "secret").write_text("another-secret")
    new = f"credential add meizu --app {APP} --business-id west --app-id 110007".split()
    secret = ("--app-secret-file", "secret")
    assert cli(*new, *secret, "--quota-tz", "America/New_York").code == 0
    assert cli("credential", "rotate", APP, "meizu", "west", *secret).code == 0
    runtime.catalog.changed()
    shown = {row["business_id"]: row["tz"] for row in cli("quota", "--app", APP, "--json").json}
    assert (shown["west"], shown["meizu-1"]) == ("America/New_York", "Asia/Shanghai")
    assert "America/New_York" in cli("quota", "--app", APP).out
    assert terms_of(lane(runtime, "west"), 1_767_225_600_000).offset_s == -5 * 3600
    assert cli("credential", "rotate", APP, "meizu", "west", "--quota-tz", "UTC").code == 0
    assert terms_of(lane(runtime, "west"), 1_767_225_600_000).offset_s == 0


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "../etc/passwd", "Europe", "+08:00", "Asia/Shanghai\n"]
)
def test_what_is_no_zone_is_refused(tenant, cli, zone):
    said = cli("credential", "rotate", APP, "meizu", "meizu-1", "--quota-tz", zone)
    assert said.code == 2
    assert "--quota-tz takes a zone name" in said.err
