"""Whatever a core or a sender puts into an event, the request that any vendor file makes of it can
be written on a wire.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.model import Kind, PushType, Vendor
from tests.tables import spaced
from tests.unit.vendors.cases import NOW_MS, note, target
from workers.transport.exchange import fault_of
from workers.vendors import VENDORS
from workers.vendors.types import AccessToken, Credential, PushItem, RequestBatch

ACCESS = AccessToken("t" * 40, NOW_MS + 60_000, NOW_MS + 60_000)
OPTIONS = {
    "app_id": "100",
    "app_key": "k",
    "package": "com.example.im",
    "topic": "com.example.im",
    "project_id": "p",
    "region": "cn",
}
TOKENS = {Vendor.APNS: "a1" * 32, Vendor.OPPO: "CN_" + "a1" * 16, Vendor.VIVO: "1" * 23}
odd = st.text(max_size=90) | st.sampled_from(
    ["é", " m", "m ", "\t", "a\r\nx: y", "\x00", "\x7f", "\ud800", "会" * 30, "x" * 5_000, "a b"]
)


def credential(vendor: Vendor) -> Credential:
    return Credential("demo", vendor, "b1", 1, OPTIONS, {"app_secret": "s" * 30})


@pytest.mark.parametrize("vendor", Vendor)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    words=st.lists(odd, min_size=9, max_size=9),
    kind=st.sampled_from([Kind.MESSAGE, Kind.RECALL, Kind.CALL_INVITE]),
)
@example(words=["é"] * 9, kind=Kind.MESSAGE)
@example(words=["a\r\nx: y"] * 9, kind=Kind.RECALL)
@example(words=["\ud800"] * 9, kind=Kind.CALL_INVITE)
def test_every_request_can_be_written(vendor: Vendor, words: list[str], kind: Kind) -> None:
    spec, account = VENDORS[vendor], credential(vendor)
    fields = spaced("""
        message_id collapse_id conversation_id thread_id event_id title body ext app_name
    """)
    push_type = (
        PushType.VOIP if kind == Kind.CALL_INVITE and vendor == Vendor.APNS else PushType.ALERT
    )
    given_note = note(**dict(zip(fields, words, strict=True)), kind=kind, push_type=push_type)
    token = TOKENS.get(vendor, "r" * 32)
    assert spec.token_valid(token)
    one = target(token, push_id="0123456789abcdef" * 2)
    batch = RequestBatch(
        (PushItem(given_note, one, 3, 600),), NOW_MS, "https://push.example.com/r?k=1"
    )
    if spec.prepare is not None:
        batch = batch_with(batch, spec.prepare(given_note, account))
    for ready in (batch, RequestBatch(batch.items, NOW_MS)):
        request = spec.build(ready, account, ACCESS if spec.access is not None else None)
        assert fault_of(request) is None
        assert isinstance(request.body, bytes)


def batch_with(batch: RequestBatch, prepared: Any) -> RequestBatch:
    return (
        msgspec.structs.replace(batch, prepared=prepared)
        if isinstance(batch, msgspec.Struct)
        else batch
    )


@pytest.mark.parametrize("vendor", Vendor)
@given(token=odd)
def test_no_token_that_passes_can_break_a_request(vendor: Vendor, token: str) -> None:
    spec = VENDORS[vendor]
    if spec.token_valid(token):
        items = (PushItem(note(), target(token), None, 600),)
        request = spec.build(RequestBatch(items, NOW_MS), credential(vendor), ACCESS)
        assert fault_of(request) is None
