"""The short way to an alert's body gives the bytes of the general way, or nothing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.contracts import Localized
from common.model import Kind, PushType
from tests.unit.vendors.cases import note
from workers.vendors.apns import request as apns_request
from workers.vendors.text import fitting

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", '"', "\\", "\x07", "\ud800", "会议改到八点", "x" * 600]),
)
SHAPES = st.fixed_dictionaries(
    {
        "title": TEXTS,
        "body": TEXTS,
        "ext": st.none() | TEXTS,
        "thread_id": st.none() | TEXTS,
        "conversation_id": TEXTS,
        "sound_ios": st.sampled_from([None, "", "none", "ring.caf", '"']),
        "subtitle": st.sampled_from([None, None, "sub"]),
        "placement": st.sampled_from(
            [{}, {"interruption_level": "passive"}, {"interruption_level": "?"}, {"priority": "5"}]
        ),
        "kind": st.sampled_from([Kind.MESSAGE, Kind.MESSAGE, *Kind]),
        "push_type": st.sampled_from([PushType.ALERT, PushType.ALERT, *PushType]),
        "vendor": st.sampled_from([{}, {}, {"category": "c"}, {"badge": 4}]),
        "payload": st.sampled_from([None, None, {"k": 1}]),
        "loc": st.sampled_from([None, None, Localized(key="K", args=("a",))]),
    }
)


@given(SHAPES)
def test_both_ways_give_the_same_bytes(shape: dict[str, Any]) -> None:
    about = note(**shape)
    quick = apns_request._usual_body(about)
    assert quick is None or quick == fitting(apns_request._whole_body, about)


def test_a_usual_chat_takes_the_short_way() -> None:
    assert apns_request._usual_body(note(title="", body="Meeting moved to 20:00")) is not None
