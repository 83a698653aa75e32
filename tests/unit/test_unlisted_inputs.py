"""Inputs beside those that were reported, of each kind of fault: what they are, and the right
value. Pure and quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from common.model import MessageClass, PushType, Vendor, Verdict
from common.tokens import all_canonical, canonical
from tests.unit.vendors.cases import answer, batch, credential
from workers.intake.decoding import Passed, Refused, read_entry
from workers.routing.classes import place
from workers.vendors import VENDORS
from workers.vendors.account_secrets import secret_text
from workers.vendors.honor import receipts as honor
from workers.vendors.ids import header_id
from workers.vendors.meizu import receipts as meizu
from workers.vendors.oppo import receipts as oppo
from workers.vendors.types import CredentialError
from workers.vendors.vivo import receipts as vivo
from workers.vendors.xiaomi import receipts as xiaomi

NOW = 1_800_000_000_000
TOKENS = ("r1", "r2", "r3")


# ---------------------------------------------------------------- one token, one person

SPELLINGS = {
    "mixed case": ("apns", "aB" * 32, "ab" * 32),  # a phone's plug-in may mix both
    "longer than 64 digits": ("apns", "AB" * 50, "ab" * 50),  # Apple gives no length
    "another vendor's": ("fcm", "aB:Cd", "aB:Cd"),  # there case is a part of the token
}


@pytest.mark.parametrize(("vendor", "token", "kept"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_token_is_the_same_in_every_spelling_that_its_vendor_takes(
    vendor: str, token: str, kept: str
) -> None:
    assert canonical(vendor, token) == kept
    for beside in ([], ["0102"], ["ab01"]):
        assert all_canonical(vendor, [*beside, token]) == (token == kept)


APPLE_TOKENS = {
    "half a byte at the end": ("ab" * 32 + "a", False),  # a token is bytes in hex
    "one digit": ("a", False),
    "one byte": ("0f", True),  # Apple gives no length
    "an end of line": ("ab" * 32 + "\n", False),
    "digits of another script": ("\u0661\u0661" * 32, False),
    "as NSData was printed": ("<" + "ab" * 32 + ">", False),
}


@pytest.mark.parametrize(("token", "valid"), APPLE_TOKENS.values(), ids=APPLE_TOKENS)
def test_a_token_that_cannot_be_apples_is_never_sent_to_apple(token: str, valid: bool) -> None:
    assert VENDORS[Vendor.APNS].token_valid(token) is valid


# ---------------------------------------------------------------- answers and receipts

BAD_REGIDS = {
    "blanks and an end of line": (" r2 ,\tr3\n", {"r2", "r3"}),  # a list that somebody wrapped
    "a list": (["r1", "r3"], {"r1", "r3"}),  # JSON has one, and a vendor may remember it
    "one that was not asked": ("r9,r2,r2", {"r2"}),  # repeated and foreign ones change nothing
    "no list at all": (7, set()),
}


@pytest.mark.parametrize(("told", "dead"), BAD_REGIDS.values(), ids=BAD_REGIDS)
def test_xiaomi_names_dead_tokens_in_a_success(told: Any, dead: set[str]) -> None:
    body = {"result": "ok", "code": 0, "data": {"id": "s", "bad_regids": told}}
    outcomes = VENDORS[Vendor.XIAOMI].classify(batch(tokens=TOKENS), answer(200, body))
    assert {
        token
        for token, one in zip(TOKENS, outcomes, strict=True)
        if one.verdict is Verdict.TOKEN_DEAD
    } == dead


def _nested(**fields: Any) -> dict[str, Any]:
    return {"code": "80100000", "msg": json.dumps(fields), "requestId": "q"}


#: A success that names what it refused in a form that the vendor's page does not show. A form that
#: is not read would make a refused token an accepted one.
REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "huawei, one text": ("huawei", _nested(illegal_tokens="r2", failure=1), {"r2": "token_dead"}),
    "huawei, commas": (
        "huawei",
        _nested(illegal_tokens="r2, r3"),
        {"r2": "token_dead", "r3": "token_dead"},
    ),
    "harmony, a reason with one text": (
        "harmony",
        _nested(illegalTokens={"tokenFormatError": "r2", "zork": ["r3"]}),
        {"r2": "token_dead", "r3": "unknown"},
    ),
    "honor, texts": (
        "honor",
        {"code": 200, "data": {"sendResult": True, "failTokens": "r1", "expireTokens": "r2,r3"}},
        {"r1": "unavailable", "r2": "token_dead", "r3": "token_dead"},
    ),
    "meizu, commas": (
        "meizu",
        {"code": "200", "value": {"110002": "r1,r2"}, "msgId": "m"},
        {"r1": "token_dead", "r2": "token_dead"},
    ),
    "vivo, one user": (
        "vivo",
        {"result": 0, "taskId": "t", "invalidUsers": {"status": "1", "userid": "r2"}},
        {"r2": "token_dead"},
    ),
    "vivo, a list under the other name": (
        "vivo",
        {"result": 0, "taskId": "t", "invalidUser": [{"status": 1, "userid": "r3"}]},
        {"r3": "token_dead"},
    ),
    # refused for a reason that was left out: neither accepted nor dead
    "vivo, no status": (
        "vivo",
        {"result": 0, "taskId": "t", "invalidUsers": [{"userid": "r2"}]},
        {"r2": "unknown"},
    ),
}


@pytest.mark.parametrize(("vendor", "body", "refused"), REFUSED.values(), ids=REFUSED)
def test_a_token_that_a_success_refuses_is_never_accepted(
    vendor: str, body: dict[str, Any], refused: dict[str, str]
) -> None:
    outcomes = VENDORS[Vendor(vendor)].classify(batch(tokens=TOKENS), answer(200, body))
    verdicts = {token: str(one.verdict) for token, one in zip(TOKENS, outcomes, strict=True)}
    assert verdicts == dict.fromkeys(TOKENS, "accepted") | refused


RECEIPTS: dict[
    str, tuple[Callable[[bytes, dict[str, str]], Any], bytes, list[tuple[str, Verdict | None]]]
] = {
    # the first name holds a code that nobody knows, the second one the truth, as a number; and
    # targets are a list
    "vivo, both names": (
        vivo.read_receipts,
        json.dumps(
            {"1": {"targets": ["a", "b"], "ackType": 104, "subStatus": "99", "subAckType": 2183}}
        ).encode(),
        [("token_dead", Verdict.TOKEN_DEAD)] * 2,
    ),
    # a detail "0" says nothing, so that the kind does
    "vivo, no detail": (
        vivo.read_receipts,
        json.dumps({"1": {"targets": "a", "ackType": "103", "subStatus": "0"}}).encode(),
        [("replaced", None)],
    ),
    "honor, a code as text and no tag": (
        honor.read_receipts,
        json.dumps({"statuses": [{"token": "t", "status": "40000009", "timestamp": "1"}]}).encode(),
        [("quota_spent", Verdict.QUOTA_SPENT)],
    ),
    # the kind stands in the key alone, and one target is no list
    "meizu, the kind in the key": (
        meizu.read_receipts,
        b"cb=%7B%22m-2%22%3A%7B%22targets%22%3A%22t%22%7D%7D",
        [("clicked", None)],
    ),
    "oppo, a hole in the list": (
        oppo.read_receipts,
        b'[{"registrationIds":"r1,,r2","eventType":"regid_invalid"}]',
        [("invalid", Verdict.TOKEN_DEAD)] * 2,
    ),
    # 16 of an alias is not a word on a token
    "xiaomi, an alias": (
        xiaomi.read_receipts,
        b'data={"m1":{"type":"16","targets":"a , b,","errorCode":"2"}}',
        [("invalid", None)] * 2,
    ),
}


@pytest.mark.parametrize(("read", "body", "told"), RECEIPTS.values(), ids=RECEIPTS)
def test_a_receipt_is_read_in_each_shape(
    read: Any, body: bytes, told: list[tuple[str, Verdict | None]]
) -> None:
    assert [(one.status, one.verdict) for one in read(body, {})] == told


MANY = [f"token-{number}" for number in range(300)]
TARGETS = {"a text": ", ".join(MANY), "a list": MANY}
#: A receipt of many targets in each vendor's shape.
SHAPES: dict[str, Callable[[Any], tuple[Any, bytes]]] = {
    "vivo": lambda told: (vivo, json.dumps({"t": {"targets": told}}).encode()),
    "xiaomi": lambda told: (xiaomi, json.dumps({"m": {"type": 1, "targets": told}}).encode()),
    "oppo": lambda told: (oppo, json.dumps([{"registrationIds": told}]).encode()),
    "meizu": lambda told: (meizu, json.dumps({"cb": {"m-1": {"targets": told}}}).encode()),
}


@pytest.mark.parametrize("told", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_targets_of_a_receipt_are_one_text_or_a_list(
    shape: Callable[[Any], tuple[Any, bytes]], told: Any
) -> None:
    vendor, body = shape(told)
    assert [one.token for one in vendor.read_receipts(body, {})] == MANY


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1",
        b'"x"',
        b"\xff\xfe",
        b"<html>",
        b'{"code":[1]}',
        b'{"a":' + b"[" * 3000,
    ],
)
@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 404, 429, 500, 503, 600])
@pytest.mark.parametrize("vendor", Vendor)
def test_no_answer_whatever_takes_a_token_away_or_breaks_its_round(
    vendor: Vendor, status: int, body: bytes
) -> None:
    """But what the status itself says: FCM's 404."""
    (outcome,) = VENDORS[vendor].classify(batch(), answer(status, body))
    assert outcome.verdict is not Verdict.TOKEN_DEAD or (vendor, status) == (Vendor.FCM, 404)


# ---------------------------------------------------------------- what files and texts hold

SECRETS = {
    "UTF-16 with its mark, as a text editor writes it": ("s3cret".encode("utf-16"), "s3cret"),
    "a soft hyphen at the end": ("s3cret\u00ad".encode(), "s3cret"),
    "an end of line of Unicode's own": ("s3cret\u2028\r\n".encode(), "s3cret"),
    "ideographic blanks around": ("\u3000s3cret\u00a0".encode(), "s3cret"),
    "an invisible character inside": ("s3\u2060cret".encode(), None),
    "NUL": (b"s3cret\0", None),
    "an old Mac's two lines": (b"one\rtwo", None),
}


@pytest.mark.parametrize(("raw", "secret"), SECRETS.values(), ids=SECRETS)
def test_a_secret_file_is_cleaned_or_refused(raw: bytes, secret: str | None) -> None:
    if secret is not None:
        assert secret_text({"app_secret": raw}, "app_secret") == secret
        return
    with pytest.raises(CredentialError):
        secret_text({"app_secret": raw}, "app_secret")


def entry(push: dict[str, Any], **data: Any) -> Passed | Refused:
    known = {
        "message_id": "m",
        "conversation": {"type": "c2c", "id": "a"},
        "sender": {"id": "a"},
        "recipients": ["b"],
    }
    body = {
        "v": 1,
        "id": "e",
        "type": "message.stored",
        "app": "A",
        "ts": NOW,
        "data": {**known, "push": push, **data},
    }
    return read_entry("im:events", f"{NOW}-0", {b"e": json.dumps(body).encode("ascii")}, ["A"], NOW)


HALF = "x\ud83d"
STATES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a conversation's name in a read report": (
        "message.read",
        {
            "user": "u",
            "conversation": {"type": "group", "id": "g", "name": HALF},
            "message_id": "m",
        },
        True,
    ),
    "in a recall": (
        "message.recalled",
        {"message_id": "m", "conversation": {"type": "group", "id": "g", "name": HALF}},
        True,
    ),
    "in a mute": (
        "settings.updated",
        {
            "user": "u",
            "mute": {"conversation": {"type": "c2c", "id": "a", "name": HALF}, "mode": "all"},
        },
        True,
    ),
    "a field that we do not know": (
        "app.background",
        {"user": "u", "device_id": "d", "badge": 1, "screen": {HALF: [HALF]}},
        True,
    ),
    "the phone's own name": (
        "device.registered",
        {
            "user": "u",
            "device_id": "d",
            "platform": "ios",
            "vendor": "apns",
            "business_id": "b",
            "token": "t",
            "model": HALF,
        },
        True,
    ),
    "a conversation's id": (
        "message.recalled",
        {"message_id": "m", "conversation": {"type": "group", "id": HALF}},
        False,
    ),
    "whom somebody blocks": ("settings.updated", {"user": "u", "blocked": ["a", HALF]}, False),
    "a platform": ("session.logout", {"user": "u", "platform": HALF}, False),
    "whose call it was": ("call.ended", {"call_id": "c", "reason": "no", "users": [HALF]}, False),
}


@pytest.mark.parametrize("bad", ["\ud83d", "\0"])
@pytest.mark.parametrize(("kind", "data", "taken"), STATES.values(), ids=STATES)
def test_what_is_no_character_stops_a_state_event_in_its_ids_only(
    kind: str, data: dict[str, Any], taken: bool, bad: str
) -> None:
    body = {"v": 1, "id": "e", "type": kind, "app": "A", "ts": NOW, "data": data}
    raw = json.dumps(body).replace("\\ud83d", json.dumps(bad)[1:-1]).encode("ascii")
    assert isinstance(read_entry("im:events", f"{NOW}-0", {b"e": raw}, ["A"], NOW), Passed) is taken


TEXTS: dict[str, tuple[dict[str, Any], bool]] = {
    "half an emoji in a key of the payload": ({"data": {"payload": {"a\ud83d": 1}}}, True),
    "the other half in a subtitle": ({"display": {"subtitle": "\ude00!"}}, True),
    "NUL in a template": ({"template": {"oppo": {"id": "t", "title_params": "a\0"}}}, True),
    "half an emoji in a collapse key": (
        {"collapse_key": "\ud83d"},
        False,
    ),  # an id: two of them may be one afterwards
    "both halves": ({"display": {"body": "\ud83d\ude00"}}, True),
}


@pytest.mark.parametrize(("push", "sent"), TEXTS.values(), ids=TEXTS)
def test_what_is_no_character_in_a_text_costs_no_message(push: dict[str, Any], sent: bool) -> None:
    found = entry(push)
    assert isinstance(found, Passed) is sent
    if isinstance(found, Passed):
        assert found.mended == (push.get("display", {}).get("body") is None)


# ---------------------------------------------------------------- values of ours that become header

HEADERS = {
    "a blank before": (" m", True),
    "a tab inside": ("a\tb", True),
    "DEL": ("a\x7f", True),
    "64 bytes": ("a" * 64, False),
    "65 bytes": ("a" * 65, True),
    "a blank inside": ("a b", False),
    "32 letters of three bytes": ("日" * 32, True),
}


@pytest.mark.parametrize(("value", "hashed"), HEADERS.values(), ids=HEADERS)
def test_a_collapse_id_is_sent_as_it_is_or_as_its_hash(value: str, hashed: bool) -> None:
    sent = header_id(value)
    assert (sent != value) is hashed
    assert sent.isascii()
    assert sent.isprintable()
    assert 0 < len(sent) <= 64


# ---------------------------------------------------------------- what it stands on

WAITS = {
    "a fraction": ("12.5", 12.5),
    "blanks around": (" 30 ", 30.0),
    "below zero": ("-5", None),
    "full-width digits": ("３０", None),  # no digits of HTTP
    "two values": ("30, 60", None),
    "an exponent": ("1e3", None),
    "thousands of digits": ("9" * 4000, None),
}


@pytest.mark.parametrize(("told", "seconds"), WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("vendor", [Vendor.FCM, Vendor.HUAWEI, Vendor.VIVO])
def test_a_wait_is_a_number_or_nothing(vendor: Vendor, told: str, seconds: float | None) -> None:
    (outcome,) = VENDORS[vendor].classify(batch(), answer(503, {}, retry_after=told))
    assert outcome.retry_after_s == seconds


@pytest.mark.parametrize("wish", ["IM", "im", " VOIP ", "ACCOUNT", "", "NOPE", "\u0130M"])
@pytest.mark.parametrize("vendor", Vendor)
def test_no_wish_makes_marketing_a_system_message(vendor: Vendor, wish: str) -> None:
    rights = frozenset(
        {
            "huawei.im",
            "harmony.im",
            "honor.service",
            "xiaomi.private",
            "oppo.private",
            "oppo.strong",
            "vivo.system",
            "meizu.private",
        }
    )
    account = type(credential(vendor))(
        "demo", vendor, "b", 1, {}, {}, rights, {MessageClass.CHAT: "c"}, {}
    )
    over = {
        "category": wish,
        "importance": "NORMAL",
        "classification": 1,
        "notice_msg_type": 1,
        "notify_level": 16,
        "priority": "high",
    }
    placed = place(MessageClass.MARKETING, PushType.ALERT, account, over)
    assert (placed.bucket, placed.class_sent) == ("public", MessageClass.MARKETING)
