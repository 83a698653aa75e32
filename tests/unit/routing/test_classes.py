"""How each class travels on each lane, as a table to read; and two promises: never up, never an
error.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.model import PRIVATE_CLASSES, Bucket, MessageClass, PushType, Vendor
from tests.examples import examples
from tests.tables import spaced
from workers.routing.classes import place
from workers.vendors import VENDORS
from workers.vendors.types import Credential, Placement, Template

TABLE = Path(__file__).parent / "data" / "placements.txt"

CHANNELS: dict[Any, str] = {name: f"ch-{name}" for name in MessageClass}
TEMPLATES: dict[Any, Template] = {name: Template(f"T-{name}") for name in MessageClass}
#: Rights worth telling apart: none at all, each that changes something, all of them.
RIGHTS: Mapping[Vendor, Mapping[str, frozenset[str]]] = {
    Vendor.HUAWEI: {
        "none": frozenset(),
        "huawei.im": frozenset({"huawei.im"}),
        "all": VENDORS[Vendor.HUAWEI].rights,
    },
    Vendor.HARMONY: {
        "none": frozenset(),
        "harmony.voip": frozenset({"harmony.voip"}),
        "all": VENDORS[Vendor.HARMONY].rights,
    },
    Vendor.OPPO: {
        "none": frozenset(),
        "oppo.private": frozenset({"oppo.private"}),
        "all": VENDORS[Vendor.OPPO].rights,
    },
}


def credential(vendor: Vendor, rights: frozenset[str], *, bare: bool = False) -> Credential:
    """bare: without channels and templates."""
    channels, templates = ({}, {}) if bare else (CHANNELS, TEMPLATES)
    return Credential("demo", vendor, "b", 1, {}, {}, rights, channels, templates)


def cases() -> Iterator[tuple[str, str, Credential, MessageClass]]:
    for vendor in Vendor:
        both = (
            {"none": frozenset[str](), "all": VENDORS[vendor].rights}
            if VENDORS[vendor].rights
            else {"none": frozenset[str]()}
        )
        for name, rights in RIGHTS.get(vendor, both).items():
            for message_class in MessageClass:
                yield vendor, name, credential(vendor, rights), message_class


def line(vendor: str, rights: str, message_class: str, placed: Placement) -> str:
    fields = " ".join(f"{name}={value}" for name, value in sorted(placed.fields.items()))
    down = " (downgraded)" if placed.downgraded else ""
    return (
        f"{vendor} | {rights} | {message_class} -> {placed.bucket} {placed.class_sent}{down} | "
        f"{fields}"
    ).rstrip(" |")


def table() -> list[str]:
    return [
        line(vendor, rights, name, place(name, PushType.ALERT, account, {}))
        for vendor, rights, account, name in cases()
    ]


def test_each_class_travels_as_the_table_says() -> None:
    assert table() == TABLE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("message_class", sorted(set(MessageClass) - PRIVATE_CLASSES))
@pytest.mark.parametrize("vendor", Vendor)
def test_marketing_never_travels_as_system(vendor: Vendor, message_class: MessageClass) -> None:
    placed = place(message_class, PushType.ALERT, credential(vendor, VENDORS[vendor].rights), {})
    assert (placed.bucket, placed.downgraded) == (Bucket.PUBLIC, False)


#: Words that the overrides of a sender know, and some that nobody knows.
KEYS = spaced("""
    category importance classification notice_msg_type notify_level priority channel_id template_id
    nonsense
""")
VALUES = st.one_of(
    st.sampled_from(
        [*spaced("IM im VOIP MARKETING NEWS HIGH LOW normal 0 1 2 16"), 0, 1, 16, "", None, True]
    ),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
#: What would say "system" on the wire, by vendor.
SYSTEM: Mapping[Vendor, Any] = {
    Vendor.HUAWEI: lambda fields: fields["category"] != "MARKETING",
    Vendor.HARMONY: lambda fields: fields["category"] != "MARKETING",
    Vendor.HONOR: lambda fields: fields["importance"] != "LOW",
    Vendor.XIAOMI: lambda fields: "template_id" in fields,
    Vendor.OPPO: lambda fields: (
        fields["category"] in ("IM", "ACCOUNT", "ORDER", "TODO", "DEVICE_REMINDER", "SUBSCRIPTION")
        or fields["notify_level"] != "1"
    ),
    Vendor.VIVO: lambda fields: fields["classification"] != "0",
    Vendor.MEIZU: lambda fields: fields["notice_msg_type"] != "0",
    Vendor.FCM: lambda fields: fields["priority"] != "NORMAL",
    Vendor.APNS: lambda fields: fields["priority"] != "5",
}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=examples(100))
@given(
    vendor=st.sampled_from(Vendor),
    message_class=st.sampled_from(MessageClass),
    push_type=st.sampled_from(PushType),
    over=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
    data=st.data(),
)
def test_no_override_ever_raises_a_class_or_an_error(
    vendor: Vendor,
    message_class: MessageClass,
    push_type: PushType,
    over: dict[str, Any],
    data: st.DataObject,
) -> None:
    rights = (
        frozenset(data.draw(st.sets(st.sampled_from(sorted(VENDORS[vendor].rights)))))
        if VENDORS[vendor].rights
        else frozenset[str]()
    )
    account = credential(vendor, rights, bare=data.draw(st.booleans()))
    usual = place(message_class, push_type, account, {})
    placed = place(message_class, push_type, account, over)
    assert not (usual.bucket == Bucket.PUBLIC and placed.bucket == Bucket.PRIVATE), (
        "a wish can only lower"
    )
    if placed.bucket == Bucket.PUBLIC:
        assert placed.class_sent not in PRIVATE_CLASSES
        assert not SYSTEM[vendor](placed.fields), "what counts as public says so on the wire"
    else:
        assert placed.class_sent == message_class
        assert message_class in PRIVATE_CLASSES
        assert vendor in (Vendor.APNS, Vendor.FCM) or rights, "private only with the vendor's right"
    assert not (placed.downgraded and placed.bucket == Bucket.PRIVATE)
    assert all(isinstance(value, str) for value in placed.fields.values())


@pytest.mark.parametrize("category", ["IM", "im", "ACCOUNT"])
def test_a_call_without_its_right_is_public_though_the_sender_names_another_category(
    category: str,
) -> None:
    account = credential(Vendor.HUAWEI, frozenset({"huawei.im", "huawei.account"}))
    placed = place(MessageClass.CALL, PushType.ALERT, account, {"category": category})
    found = (placed.bucket, placed.downgraded, placed.fields["category"])
    assert found == (Bucket.PUBLIC, True, "MARKETING")
