"""An image on a HarmonyOS phone: Huawei looks at it first, for the whole fleet once, and its
address is what goes out.
"""

import uuid

import pytest

from tests.e2e import operator
from tests.e2e.conftest import Core
from tests.e2e.operator import register, send, simulator
from tests.e2e.tenant import device_token as token

pytestmark = [pytest.mark.e2e]

lanes = operator.lanes
Lanes = tuple[str, dict[str, list[str]]]


def push_with(fleet: Core, app: str, image: str) -> tuple[int, dict[str, object]]:
    """(attempts, the notification in the simulator's record) of a push to somebody new."""
    user = "u-" + uuid.uuid4().hex[:10]
    address = register(fleet, app, user, "harmony", "harmony-1", token("harmony"))
    row = send(fleet, app, user, push={"image": {"harmony": image}})
    assert row["decision"] == "accepted"
    (line,) = fleet.pushes_to("huawei", address)
    return len(row["attempts"]), line["body"]["payload"]["notification"]


def test_an_image_is_shown_to_huawei_once_and_arrives_with_its_key(
    fleet: Core, lanes: Lanes
) -> None:
    app, _ = lanes
    image = f"https://cdn.example.com/{uuid.uuid4().hex}.png"
    before = simulator(fleet, "harmony", "stats")["counts"].get("images", 0)
    told = [push_with(fleet, app, image) for _ in range(3)]
    assert [attempts for attempts, _ in told] == [1, 1, 1]
    assert len({str(shown["image"]) for _, shown in told}) == 1
    assert str(told[0][1]["image"]).startswith(f"{image}?verifyKey=")
    assert simulator(fleet, "harmony", "stats")["counts"]["images"] == before + 1


def test_an_image_that_huawei_refuses_does_not_hold_up_the_words(fleet: Core, lanes: Lanes) -> None:
    app, _ = lanes
    attempts, shown = push_with(
        fleet, app, f"https://cdn.example.com/broken-{uuid.uuid4().hex}.png"
    )
    assert attempts == 1
    assert "image" not in shown


def test_an_image_that_huawei_has_no_time_for_goes_as_the_sender_named_it(
    fleet: Core, lanes: Lanes
) -> None:
    app, _ = lanes
    limit = simulator(fleet, "harmony", "limits")["images_per_min"]
    simulator(fleet, "harmony", "limits", {"images_per_min": 1})
    try:
        told = [
            push_with(fleet, app, f"https://cdn.example.com/{uuid.uuid4().hex}.png")
            for _ in range(3)
        ]
    finally:
        simulator(fleet, "harmony", "limits", {"images_per_min": limit})
    late = [(attempts, shown) for attempts, shown in told if attempts == 2]
    assert late, "80100022, then without the image"
    assert all("image" not in shown for _, shown in late)


#: The wishes; whether APNs' and FCM's phones get a picture.
INSECURE = {
    "ios": ({"image": {"ios": "http://cdn.example.com/a.png"}}, [False, False]),
    "fcm's own": ({"vendor": {"fcm": {"image": "ftp://cdn.example.com/a.png"}}}, [False, False]),
    "one of two": (
        {"image": {"ios": "HTTPS://cdn.example.com/a.png", "fcm": "//cdn.example.com/a.png"}},
        [True, False],
    ),
}


@pytest.mark.parametrize(("push", "pictures"), INSECURE.values(), ids=INSECURE)
def test_a_picture_that_is_not_https_is_left_out_counted_and_told(
    fleet: Core, lanes: Lanes, push: dict[str, object], pictures: list[bool]
) -> None:
    app, _ = lanes
    user, addresses = "u-" + uuid.uuid4().hex[:10], {}
    for vendor in ("apns", "fcm"):
        device = f"{vendor}-phone"
        addresses[vendor] = register(fleet, app, user, vendor, f"{vendor}-1", token(vendor), device)
    before = operator.metric(fleet, "pushfleet_ignored_total", reason="insecure_image")
    data = operator.message(user, push=push)
    fleet.publish("message.stored", data, app=app)
    told = fleet.why(data["message_id"], app, rows=2)["recipients"]
    for row in told:
        notes = [step["note"] for step in row["steps"]]
        assert "the address of a picture is not https: sent without it" in notes
        assert row["decision"] == "accepted"
    sent = [str(fleet.pushes_to(vendor, address)) for vendor, address in addresses.items()]
    assert ["cdn.example.com" in body for body in sent] == pictures
    after = operator.metric(fleet, "pushfleet_ignored_total", reason="insecure_image")
    assert after == before + 1
