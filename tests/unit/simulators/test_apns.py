"""APNs' checks, one request at a time: the reason, the status, and what stands in the record."""

import json
import time
import uuid

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from simulators.apns import Apns
from simulators.simulator import Record, VendorCall
from tests import simulator_keys as keys
from tests.tables import spaced

KEY = keys.ec_key()
JWT = keys.provider_token(KEY)
TOKEN = "0123456789abcdef" * 4
HEADERS = {"apns-topic": "com.example.chat", "apns-push-type": "alert"}
BODY = b'{"aps":{"alert":{"body":"hi"}}}'
ID = "0b0f8f0e-5a2c-4c1e-9a57-2f6f3c1d9e01"


@pytest.fixture
def apns(tmp_path):
    return Apns(Record(tmp_path / "apns.jsonl"))


def call(
    token=TOKEN,
    body=BODY,
    method="POST",
    path=None,
    connection=1,
    certificate=None,
    jwt=None,
    **headers,
) -> VendorCall:
    given = {"authorization": f"bearer {jwt or JWT}", **HEADERS}
    given.update({name.replace("_", "-"): value for name, value in headers.items()})
    given = {name: value for name, value in given.items() if value is not None}
    url = path if path is not None else f"/3/device/{token}"
    return VendorCall(method, url, "", given, body, connection, certificate)


def reason(apns, one: VendorCall, env="production") -> str:
    reply = apns.handle(one, env)
    return json.loads(reply.body)["reason"] if reply.body else "accepted"


def padded(size: int) -> bytes:
    return b'{"aps":{"alert":{"body":"' + b"a" * (size - 29) + b'"}}}'


REFUSALS = {
    "not POST": ({"method": "GET"}, "MethodNotAllowed", 405),
    "another path": ({"path": "/3/devices/aa"}, "BadPath", 404),
    "no token": ({"path": "/3/device/"}, "MissingDeviceToken", 400),
    "a header twice": ({":repeated": "apns-id"}, "DuplicateHeaders", 400),
    "no provider token": ({"authorization": None}, "MissingProviderToken", 403),
    "no bearer": ({"authorization": "basic eDp5"}, "InvalidProviderToken", 403),
    "no JWT": ({"authorization": "bearer a.b.c"}, "InvalidProviderToken", 403),
    "RS256": ({"jwt": keys.provider_token(KEY, alg="RS256")}, "InvalidProviderToken", 403),
    "a key that is wrong by its name": (
        {"jwt": keys.provider_token(KEY, kid="WRONG12345")},
        "InvalidProviderToken",
        403,
    ),
    "older than an hour": (
        {"jwt": keys.provider_token(KEY, iat=int(time.time()) - 3700)},
        "ExpiredProviderToken",
        403,
    ),
    "from the future": (
        {"jwt": keys.provider_token(KEY, iat=int(time.time()) + 36_000)},
        "ExpiredProviderToken",
        403,
    ),
    "no topic": ({"apns_topic": None}, "MissingTopic", 400),
    "a topic with a blank": ({"apns_topic": "com example"}, "BadTopic", 400),
    "voip without its suffix": ({"apns_push_type": "voip"}, "BadTopic", 400),
    "no hex": ({"token": "xyz"}, "BadDeviceToken", 400),
    "half a byte": ({"token": "012345678"}, "BadDeviceToken", 400),
    "prefix badd": ({"token": "badd" + TOKEN}, "BadDeviceToken", 400),
    "prefix 0e0e": ({"token": "0e0e" + TOKEN}, "DeviceTokenNotForTopic", 400),
    "prefix dead": ({"token": "DEAD" + TOKEN}, "Unregistered", 410),
    "a sandbox token": ({"token": "5a4d" + TOKEN}, "BadDeviceToken", 400),
    "prefix b05e": ({"token": "b05e" + TOKEN}, "TooManyRequests", 429),
    "an unknown push type": ({"apns_push_type": "shout"}, "InvalidPushType", 400),
    "priority 7": ({"apns_priority": "7"}, "BadPriority", 400),
    "background at once": (
        {"apns_push_type": "background", "apns_priority": "10"},
        "BadPriority",
        400,
    ),
    "an expiration in words": ({"apns_expiration": "soon"}, "BadExpirationDate", 400),
    "22 x 3 bytes of collapse id": ({"apns_collapse_id": "会" * 22}, "BadCollapseId", 400),
    "an id that is no UUID": ({"apns_id": "m-9f3c"}, "BadMessageId", 400),
    "nothing": ({"body": b""}, "PayloadEmpty", 400),
    "no JSON": ({"body": b"{aps}"}, "PayloadEmpty", 400),
    "one byte too many": ({"body": padded(4097)}, "PayloadTooLarge", 413),
}


@pytest.mark.parametrize(("given", "wanted", "status"), REFUSALS.values(), ids=REFUSALS)
def test_each_mistake_has_apples_reason_and_leaves_no_line(apns, given, wanted, status):
    reply = apns.handle(call(**given), "production")
    assert (reply.status, json.loads(reply.body)["reason"]) == (status, wanted)
    assert apns.record.lines() == []
    assert apns.record.counts == {wanted: 1}


def test_the_earlier_check_wins(apns):
    everything = {
        "method": "GET",
        "path": "/x",
        ":repeated": "x",
        "authorization": None,
        "apns_topic": None,
        "body": b"",
    }
    order = spaced("""
        MethodNotAllowed BadPath DuplicateHeaders MissingProviderToken MissingTopic PayloadEmpty
    """)
    seen = []
    for mistake in list(everything):
        seen.append(reason(apns, call(**everything)))
        del everything[mistake]
    assert seen == order


def test_what_is_accepted_stands_in_the_record(apns):
    whole = call(
        apns_id=ID,
        apns_collapse_id="会" * 21,
        apns_priority="5",
        apns_expiration="1700086400",
        body=padded(4096),
        connection=7,
    )
    reply = apns.handle(whole, "production")
    assert (reply.status, reply.body, dict(reply.headers)) == (200, b"", {"apns-id": ID})
    (line,) = apns.record.lines()
    assert abs(line.pop("at_ms") - time.time() * 1000) < 60_000
    assert line.pop("body")["aps"]["alert"]["body"] == "a" * 4067
    assert line == {
        "vendor": "apns",
        "account": "KEY1234567",
        "env": "production",
        "token": TOKEN,
        "id": ID,
        "collapse_id": "会" * 21,
        "topic": "com.example.chat",
        "push_type": "alert",
        "priority": 5,
        "expiration": 1700086400,
        "connection": 7,
    }


def test_apple_names_a_push_without_id_in_upper_case_and_the_sandbox_adds_its_own(apns):
    reply = apns.handle(call(), "sandbox")
    assert reply.headers["apns-id"] == str(uuid.UUID(reply.headers["apns-id"])).upper()
    assert uuid.UUID(reply.headers["apns-unique-id"])


def test_calls_may_be_larger(apns):
    voip = call(body=padded(5120), apns_push_type="voip", apns_topic="com.example.chat.voip")
    assert reason(apns, voip) == "accepted"
    voip = call(body=padded(5121), apns_push_type="voip", apns_topic="com.example.chat.voip")
    assert reason(apns, voip) == "PayloadTooLarge"


@pytest.mark.parametrize(
    ("prefix", "wanted"), [("fa11", ["InternalServerError"] * 2), ("5007", ["ServiceUnavailable"])]
)
def test_passing_trouble_ends_by_push_not_by_token(apns, prefix, wanted):
    for apns_id in (ID, ID.replace("0b", "0c")):
        numbers = range(len(wanted) + 1)
        tries = [reason(apns, call(token=prefix + TOKEN, apns_id=apns_id)) for _ in numbers]
        assert tries == [*wanted, "accepted"]


def test_a_token_belongs_to_one_environment(apns):
    found = [reason(apns, call(token="5a4d" + TOKEN), env) for env in ("sandbox", "production")]
    assert found == ["accepted", "BadDeviceToken"]
    seen = [reason(apns, call(token="9c0d" + TOKEN), env) for env in ("production", "sandbox")]
    assert seen == ["accepted", "BadDeviceToken"]


def test_a_told_token_answers_as_told(apns):
    apns.control(
        "tokens", {TOKEN.upper(): {"reason": "Unregistered", "timestamp_ms": 1700000123456}}
    )
    reply = apns.handle(call(), "production")
    found = (reply.status, reply.body)
    assert found == (410, b'{"reason":"Unregistered","timestamp":1700000123456}')
    apns.control("tokens", {TOKEN: {"reason": "ExpiredToken", "timestamp_ms": 1, "status": 410}})
    assert reason(apns, call()) == "ExpiredToken"
    apns.control("tokens", {TOKEN: None})
    assert reason(apns, call()) == "accepted"


def test_a_second_acceptance_of_an_id_is_counted_as_doubled(apns):
    for apns_id in (ID, ID.upper(), str(uuid.uuid4())):
        assert reason(apns, call(apns_id=apns_id)) == "accepted"
    assert apns.stats() == {"distinct_ids": 2, "doubled": 1, "distinct_jwts": {"KEY1234567": 1}}
    assert len(apns.record.lines()) == 3


# ---------------------------------------------------------------- provider tokens


def told(apns, key=KEY, **more):
    pem = keys.public_pem(key)
    account = {"key_id": "KEY1234567", "team_id": "TEAM123456", "public_key_pem": pem, **more}
    apns.control("accounts", account)


def test_a_key_it_was_not_told_of_is_taken_at_its_word_and_a_known_one_is_not(apns):
    stranger = keys.provider_token(keys.ec_key())
    assert reason(apns, call(jwt=stranger)) == "accepted"
    told(apns)
    assert reason(apns, call(jwt=stranger, connection=2)) == "InvalidProviderToken"
    found = reason(apns, call(jwt=keys.provider_token(KEY, team="OTHERTEAM1"), connection=3))
    assert found == "InvalidProviderToken"
    assert reason(apns, call(connection=4)) == "accepted"


def test_a_known_key_has_its_topics_and_its_environment(apns):
    told(apns, topics=["com.example.chat"], env="sandbox")
    assert reason(apns, call()) == "BadEnvironmentKeyInToken"
    assert reason(apns, call(), "sandbox") == "accepted"
    found = reason(apns, call(apns_push_type="voip", apns_topic="com.example.chat.voip"), "sandbox")
    assert found == "accepted"
    assert reason(apns, call(apns_topic="com.example.other"), "sandbox") == "TopicDisallowed"


def test_a_connection_belongs_to_one_team_and_one_key(apns):
    other = {
        "UnrelatedKeyIdInToken": keys.provider_token(KEY, kid="KEY7654321"),
        "Forbidden": keys.provider_token(KEY, team="OTHERTEAM1"),
    }
    assert reason(apns, call()) == "accepted"
    assert [reason(apns, call(jwt=jwt)) for jwt in other.values()] == list(other)
    found = [reason(apns, call(jwt=jwt, connection=n)) for n, jwt in enumerate(other.values(), 2)]
    assert found == ["accepted"] * 2


def test_a_new_token_within_twenty_minutes_is_one_too_many_and_after_them_it_is_not(apns):
    now = int(time.time())
    minted = [keys.provider_token(KEY, iat=now - age) for age in (2400, 1201, 1199, 0)]
    outcomes = [reason(apns, call(jwt=jwt)) for jwt in minted]
    assert outcomes == spaced("""
        accepted TooManyProviderTokenUpdates accepted TooManyProviderTokenUpdates
    """)
    assert apns.stats()["distinct_jwts"] == {"KEY1234567": 4}


def test_expire_access_refuses_what_was_seen_and_takes_what_is_new(apns):
    old = keys.provider_token(KEY)
    assert reason(apns, call(jwt=old)) == "accepted"
    apns.faults.expire_access = True
    assert reason(apns, call(jwt=old, connection=2)) == "ExpiredProviderToken"
    assert reason(apns, call(jwt=keys.provider_token(KEY), connection=3)) == "accepted"


def test_an_expired_token_wedges_its_connection_where_that_is_wanted(apns):
    expired = keys.provider_token(KEY, iat=int(time.time()) - 4000)
    found = [reason(apns, call(jwt=expired)), reason(apns, call())]
    assert found == ["ExpiredProviderToken", "accepted"]
    apns.control("options", {"wedge_on_expired": True})
    seen = [reason(apns, call(jwt=expired, connection=2)), reason(apns, call(connection=2))]
    assert seen == ["ExpiredProviderToken"] * 2
    assert reason(apns, call(connection=3)) == "accepted"


@pytest.mark.parametrize("switch", ["over_rate", "over_quota"])
def test_over_rate_and_over_quota_are_too_many_requests(apns, switch):
    apns.faults.change({switch: True, "only_first": 2})
    found = [reason(apns, call()) for _ in range(3)]
    assert found == ["TooManyRequests", "TooManyRequests", "accepted"]


# ---------------------------------------------------------------- certificates


def shown(certificate) -> dict:
    return {"certificate": certificate[0].public_bytes(Encoding.DER), "authorization": None}


def test_a_certificate_speaks_for_its_one_topic_unasked(apns):
    cert = shown(keys.push_certificate())
    assert reason(apns, call(apns_topic=None, **cert)) == "accepted"
    assert reason(apns, call(apns_topic="com.example.other", **cert)) == "TopicDisallowed"
    found = (apns.record.lines()[0]["account"], apns.record.lines()[0]["topic"])
    assert found == ("a11ce", "com.example.chat")


def test_a_certificate_of_many_topics_names_each(apns):
    topics = ["com.example.chat", "com.example.chat.voip", "com.example.chat.complication"]
    cert = shown(keys.push_certificate(topics=topics))
    assert reason(apns, call(apns_topic=None, **cert)) == "MissingTopic"
    found = reason(apns, call(apns_topic="com.example.chat.voip", apns_push_type="voip", **cert))
    assert found == "accepted"
    talk = call(apns_topic="com.example.chat.voip-ptt", apns_push_type="pushtotalk", **cert)
    assert reason(apns, talk) == "TopicDisallowed"


def test_a_token_that_everybody_makes_up_lives(apns):
    assert reason(apns, call("deadbeef" * 8)) == "accepted"
    assert reason(apns, call("dead" * 16)) == "Unregistered"


def test_a_certificate_may_list_its_topic_for_calls_apart(apns):
    cert = shown(keys.push_certificate(voip_topics=["com.example.chat.voip"]))
    found = reason(apns, call(apns_topic="com.example.chat.voip", apns_push_type="voip", **cert))
    assert found == "accepted"


def test_a_certificate_that_is_over_is_none(apns):
    assert reason(apns, call(**shown(keys.push_certificate(days=-1)))) == "BadCertificate"


@pytest.mark.parametrize(
    ("marks", "allowed"),
    [((), {"production", "sandbox"}), ((keys.DEVELOPMENT,), {"sandbox"}), ((keys.PRODUCTION,), {"production"}),  # noqa: E501
     ((keys.DEVELOPMENT, keys.PRODUCTION), {"production", "sandbox"})],
)  # fmt: skip
def test_a_certificate_is_for_the_environments_it_is_marked_for(apns, marks, allowed):
    cert = shown(keys.push_certificate(marks=marks))
    for env in ("production", "sandbox"):
        found = reason(apns, call(**cert), env)
        assert found == ("accepted" if env in allowed else "BadCertificateEnvironment")


def test_a_certificate_makes_the_authorization_header_meaningless(apns):
    given = {**shown(keys.push_certificate()), "authorization": "bearer nonsense"}
    assert reason(apns, call(**given)) == "accepted"


def test_location_takes_no_certificate(apns):
    cert = shown(keys.push_certificate(topics=["com.example.chat.location-query"]))
    query = call(apns_topic="com.example.chat.location-query", apns_push_type="location", **cert)
    assert reason(apns, query) == "Forbidden"


WRONG_CONTROL = {
    "an unknown door": ("doors", {}),
    "an account without key": ("accounts", {"key_id": "A", "team_id": "B"}),
    "an account with a key of another kind": (
        "accounts",
        {
            "key_id": "A",
            "team_id": "B",
            "public_key_pem": "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n",
        },
    ),
    "an unknown field": (
        "accounts",
        {"key_id": "A", "team_id": "B", "public_key_pem": keys.public_pem(KEY), "topic": "x"},
    ),
    "an unknown environment": (
        "accounts",
        {"key_id": "A", "team_id": "B", "public_key_pem": keys.public_pem(KEY), "env": "x"},
    ),
    "an unknown option": ("options", {"colour": "red"}),
    "a token told nothing": ("tokens", {TOKEN: {}}),
}


@pytest.mark.parametrize(("action", "wanted"), WRONG_CONTROL.values(), ids=WRONG_CONTROL)
def test_the_side_door_says_what_is_wrong(apns, action, wanted):
    with pytest.raises((ValueError, KeyError, TypeError)):
        apns.control(action, wanted)
