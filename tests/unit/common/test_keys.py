"""Two different things never share a key of ours, whatever the names from outside hold."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.storage.keys import CALL, Keys
from common.storage.tenants import is_app
from tests.examples import examples

KEYS = Keys("push")
#: As the doors let them pass: ids hold anything but U+0000; a tenant's name and a business id are
#: bounded.
IDS = st.text(st.sampled_from("ab:{}|/\\.-_ 1é"), min_size=1, max_size=6)
APPS = st.text(st.sampled_from("ab._-1"), min_size=1, max_size=4)
BUSINESS = st.text(st.sampled_from("ab:|.1"), min_size=1, max_size=8)
VENDORS = st.sampled_from(("apns", "fcm", "huawei", "harmony"))
NUMBERS = st.integers(0, 20_300_000)
LANES = st.builds("{}:{}:{}".format, APPS, VENDORS, BUSINESS)
CONVERSATIONS = st.one_of(
    st.just(CALL), st.builds("{}:{}".format, st.sampled_from(("c2c", "group")), IDS)
)

#: Every key that is joined from more than one part, and its parts.
JOINED: dict[str, tuple[Callable[..., str], tuple[Any, ...]]] = {
    "badges": (KEYS.badges, (APPS, IDS)),
    "gone": (KEYS.revoked, (APPS, CONVERSATIONS, IDS)),
    "read": (KEYS.read, (APPS, IDS)),
    "bindings": (KEYS.bindings, (APPS, IDS)),
    "silent": (KEYS.silent, (APPS, IDS, IDS)),
    "parked": (KEYS.parked, (LANES, st.sampled_from(("call", "chat")))),
    "access": (KEYS.access, (LANES, NUMBERS)),
    "images_shown": (KEYS.images_shown, (LANES, NUMBERS)),
    "guard_accepted": (KEYS.guard_accepted, (LANES, NUMBERS)),
    "guard": (lambda lane, minute: f"{KEYS.guard(lane)}:{minute}", (LANES, NUMBERS)),
    "quota": (lambda lane, day: f"{KEYS.quota(lane)}{day}", (LANES, NUMBERS)),
    "lane": (KEYS.lane, (LANES,)),
    "rate": (KEYS.rate, (LANES,)),
    "held_tokens": (KEYS.held_tokens, (LANES,)),
}


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_two_different_things_never_share_a_key(data: st.DataObject) -> None:
    made: dict[str, Any] = {}
    names = data.draw(st.lists(st.sampled_from(sorted(JOINED)), min_size=2, max_size=6))
    for name in names:
        make, parts = JOINED[name]
        given_parts = tuple(data.draw(part) for part in parts)
        key = make(*given_parts)
        assert made.setdefault(key, (name, given_parts)) == (name, given_parts), key


#: Pairs that shared a key, or would with colons alone.
TWINS = {
    "a tenant's name with a colon is refused, so this can't be": (lambda: not is_app("a:b")),
    "a silent device": (lambda: KEYS.silent("a", "u}:x", "d") != KEYS.silent("a", "u", "x}:d")),
    "a call and a chat of that name": (
        lambda: KEYS.revoked("a", CALL, "m") != KEYS.revoked("a", "c2c:call", "m")
    ),
    "a conversation's id that ends like a message's": (
        lambda: KEYS.revoked("a", "c2c:x", "y:m") != KEYS.revoked("a", "c2c:x:y", "m")
    ),
}


@pytest.mark.parametrize("apart", TWINS.values(), ids=TWINS)
def test_what_looks_alike_is_told_apart(apart: Callable[[], bool]) -> None:
    assert apart()


NAMES = {
    "1400000001": True,
    "com.example_im-2": True,
    "a" * 64: True,
    "": False,
    "a" * 65: False,
    "a:b": False,
    "a b": False,
    "{a}": False,
}


@pytest.mark.parametrize(
    ("name", "good"), [*NAMES.items(), ("é", False), ("a\n", False), ("a/b", False), ("a|b", False)]
)
def test_a_tenants_name_is_of_letters_digits_points_underscores_and_hyphens(
    name: str, good: bool
) -> None:
    assert is_app(name) is good
