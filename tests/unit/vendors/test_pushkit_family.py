"""What holds for Huawei, HarmonyOS and Honor alike: any answer gives one outcome a token, any text
fits, no note breaks build.
"""

import datetime
import json
from zoneinfo import ZoneInfo

import pytest

from common.model import Bucket
from tests.unit.vendors.pushkit_builders import ACCESS, batch, credential, note
from tests.unit.vendors.test_promises import shown_in, size_without_tokens
from workers.vendors.harmony import HARMONY
from workers.vendors.honor import HONOR
from workers.vendors.huawei import HUAWEI

SPECS = [HUAWEI, HARMONY, HONOR]
every_vendor = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.vendor)


def built(spec, one):
    return spec.build(batch(note_=one), credential(spec.vendor), ACCESS)


@every_vendor
def test_long_words_use_the_room_there_is(spec):
    body = json.loads(built(spec, note(title="题" * 3000, body="文" * 3000)).body)
    if spec is HONOR:  # its own limits are narrower
        shown = shown_in(spec, body)
        assert (len(shown["title"]), len(shown["body"])) == (40, 256)
    else:
        assert 4096 - 32 <= size_without_tokens(spec, body) <= 4096


@every_vendor
def test_what_stands_beside_the_words_goes_before_the_words_go(spec):
    image = "https://cdn.example.com/a.png"
    dropped = note(
        ext="x" * 200, payload={"big": "y" * 5000}, image=image, placement={"importance": "NORMAL"}
    )
    body = built(spec, dropped).body.decode()
    assert "x" * 200 in body
    assert "yyy" not in body
    assert "晚上一起吃饭吗？" in body
    nothing = built(spec, note(ext="x" * 5000)).body.decode()
    assert "xxx" not in nothing
    assert "晚上一起吃饭吗？" in nothing


@every_vendor
def test_retries_carry_the_same_ids_and_two_messages_never_overwrite_each_other(spec):
    def ids(**over):
        body = json.loads(built(spec, note(**over)).body)
        shown = shown_in(spec, body)
        return shown.get("notify_id", shown.get("notifyId")), shown.get("tag")

    assert ids() == ids()
    assert ids()[0] != ids(collapse_id="m-1002")[0]
    assert 1 <= ids()[0] <= 2**31 - 1
    assert ids(collapse_id="x" * 300)[1] is None or len(ids(collapse_id="x" * 300)[1]) <= 64


@every_vendor
def test_one_push_has_its_push_id_as_tag_and_a_batch_one_of_the_event(spec):
    def tag(sent):
        text = spec.build(sent, credential(spec.vendor), ACCESS).body.decode()
        names = ("bi_tag", "biTag")
        return next(text.split(f'"{name}":"')[1].split('"')[0] for name in names if name in text)

    assert tag(batch("a")) == "0123456789abcdef0123456789abcdef"
    many = tag(batch("a", "b"))
    assert many == tag(batch("c", "d", "e"))
    assert many != tag(batch("a", "b", note_=note(event_id="e-2")))
    assert len(many) == 32


#: V7 of Huawei's page, V4 of Honor's: the day of the quota is Shanghai's.
QUOTA_DAYS = {1_748_793_599_000: "20250601", 1_748_793_600_000: "20250602"}


@every_vendor
@pytest.mark.parametrize(("at_ms", "day"), QUOTA_DAYS.items())
def test_the_quota_day_is_that_of_the_vendors_calendar(spec, at_ms, day):
    at = datetime.datetime.fromtimestamp(at_ms / 1000, ZoneInfo(spec.limits.timezone))
    assert at.strftime("%Y%m%d") == day


@every_vendor
def test_limits_are_those_of_the_page(spec):
    assert spec.limits.rate_unit == "token"
    assert spec.limits.burst >= spec.request_tokens_max
    assert spec.limits.device_cap_public == 2
    assert spec.limits.device_cap_private == (3000 if spec is HUAWEI else None)
    assert set(spec.buckets) == set(Bucket)
