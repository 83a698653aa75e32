"""FCM's requests, as the vendor file makes them and the fleet's transport writes them, at servers
that none of us wrote.
"""

import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from common.clock import now_ms
from common.model import Vendor, Verdict
from tests.builders import present
from tests.integration.transport.conftest import NODE
from tests.simulator_keys import pem_of
from tests.unit.vendors.cases import asked, credential, note, target
from tests.unit.vendors.strategies import FAMILY
from workers.vendors.fcm import FCM
from workers.vendors.types import AccessToken, PushItem, RequestBatch
from workers.wire import HttpResponse, NoAnswer, Request, Route, Transport

pytestmark = NODE

ACCOUNT = credential(
    Vendor.FCM,
    {
        "project_id": "demo-im",
        "client_email": "push@demo-im.iam.gserviceaccount.com",
        "key_id": "k1",
    },
    {"private_key": pem_of(rsa.generate_private_key(public_exponent=65537, key_size=2048))},
)
NOTES = [
    note(ext='{"cid":"c2c_1001"}', payload={"k": "v", "n": 1}),
    note(title=FAMILY, body="\ud800 lone" + "很长" * 2000),
    note(
        body='"quoted" \\ \n\x00',
        badge_increment=2,
        placement={"priority": "HIGH", "channel_id": "chat"},
    ),
]


@pytest.fixture
def server(by_node) -> Callable[[str], Route]:
    """server(manner) -> route to a started server."""

    def start(manner: str) -> Route:
        base = by_node("fcm_server.mjs", manner)
        return Route("demo:fcm:b1:1", {"FCM": base, "GOOGLE_OAUTH": base}, True)

    return start


@pytest.mark.parametrize("manner", ["strict", "lenient"])
def test_every_push_is_taken_as_it_is_written(server, either: Transport, manner: str) -> None:
    route = server(manner)
    (answer,) = either.send_many(route, [asked(FCM, ACCOUNT, now_ms())], 10)
    assert isinstance(answer, HttpResponse), answer
    access = present(FCM.access).read(answer, now_ms())
    assert isinstance(access, AccessToken), access
    tokens = [f"live-{number}" for number in range(60)]
    batches = [
        RequestBatch(
            (
                PushItem(
                    NOTES[number % len(NOTES)],
                    target(token, push_id=f"{number:032x}"),
                    number % 5 or None,
                    600,
                ),
            ),
            now_ms(),
        )
        for number, token in enumerate(tokens)
    ]
    answers = either.send_many(route, [FCM.build(batch, ACCOUNT, access) for batch in batches], 20)
    assert [one for one in answers if isinstance(one, NoAnswer)] == []
    outcomes = [FCM.classify(batch, one)[0] for batch, one in zip(batches, answers, strict=True)]
    assert {(one.verdict, one.words) for one in outcomes} == {(Verdict.ACCEPTED, "")}
    assert all(
        present(one.vendor_message_id).startswith("projects/demo-im/messages/") for one in outcomes
    )
    (seen,) = either.send_many(route, [Request("FCM", "/_seen", {}, b"", method="GET")], 5)
    assert isinstance(seen, HttpResponse)
    assert sorted(json.loads(seen.body)) == sorted(tokens)


def test_the_strict_server_would_have_said_what_is_wrong(server, either: Transport) -> None:
    """Else the test above is about nothing."""
    route = server("strict")
    batch = RequestBatch((PushItem(NOTES[0], target("live-1"), None, 600),), now_ms())
    request = FCM.build(batch, ACCOUNT, AccessToken("another", now_ms() + 1000, now_ms() + 1000))
    (answer,) = either.send_many(route, [request], 10)
    assert isinstance(answer, HttpResponse)
    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (400, "authorization")
