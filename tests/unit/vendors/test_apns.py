"""APNs: every reason, every vector of its page, what a credential is refused for, and the bodies of
each class.
"""

import base64
import datetime
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asn1crypto import pkcs12 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from common.contracts import Localized
from common.model import Again, Bucket, Kind, PushType, Vendor, Verdict
from tests.builders import present
from tests.simulator_keys import pem_of, rsa_key
from tests.unit.vendors.cases import ACCESS, NOW_MS, answer, batch, credential, note
from workers.transport.exchange import fault_of
from workers.vendors.apns import APNS
from workers.vendors.apns import access as apns_access
from workers.vendors.apns import codes as apns_codes
from workers.vendors.apns import credential as apple_account
from workers.vendors.apns import request as apns_request
from workers.vendors.apns.credential import read_credential
from workers.vendors.ids import text_id
from workers.vendors.types import CredentialError
from workers.wire import NoAnswer

SECOND_CONNECTION = {"ExpiredProviderToken", "UnrelatedKeyIdInToken", "IdleTimeout", "Shutdown"}
#: Answers without a reason that we know, (status, reason) -> verdict; those with one:
#: test_pages.py.
WITHOUT_REASON = {
    (413, ""): Verdict.REJECTED,
    (429, ""): Verdict.THROTTLED,
    (502, ""): Verdict.UNAVAILABLE,
    (400, "SomethingNew"): Verdict.UNKNOWN,
    (403, ""): Verdict.UNKNOWN,
    (410, ""): Verdict.UNKNOWN,
}
REASONS = {
    **{(400, reason): verdict for reason, verdict in apns_codes.REASONS.items()},
    **WITHOUT_REASON,
}


def told(*said, sent=None, **headers):
    """The outcome of one push."""
    [outcome] = apns_codes.classify(sent or batch(), answer(*said, **headers))
    return outcome


@pytest.mark.parametrize(
    ("said", "verdict"), REASONS.items(), ids=[f"{status} {reason}" for status, reason in REASONS]
)
def test_each_reason_has_its_verdict(said, verdict):
    status, reason = said
    outcome = told(status, {"reason": reason}, apns_id="ID-1")
    found = (outcome.verdict, outcome.status, outcome.code, outcome.vendor_message_id)
    assert found == (verdict, str(status), reason, "ID-1")
    assert outcome.again == (Again.NEW_CONNECTION if reason in SECOND_CONNECTION else None)
    assert outcome.token_only == (reason == "TooManyRequests")
    assert outcome.alarm == (verdict is Verdict.UNKNOWN or reason == "TooManyProviderTokenUpdates")


def test_accepted_keeps_the_id_that_apns_names():
    outcome = told(200, b"", apns_id="0B0F8F0E")
    assert (outcome.verdict, outcome.vendor_message_id) == (Verdict.ACCEPTED, "0B0F8F0E")


@pytest.mark.parametrize(
    ("timestamp", "verdict"),
    [
        (NOW_MS, Verdict.TOKEN_DEAD),
        (NOW_MS - 1000, Verdict.TOKEN_DEAD),  # the moment of registration itself
        (NOW_MS - 1001, Verdict.REJECTED),
        (None, Verdict.TOKEN_DEAD),
        ("soon", Verdict.TOKEN_DEAD),
        (True, Verdict.TOKEN_DEAD),
    ],
)
def test_a_410_older_than_the_registration_keeps_the_token(timestamp, verdict):
    push = batch(registered_ms=NOW_MS - 1000)
    outcome = told(410, {"reason": "Unregistered", "timestamp": timestamp}, sent=push)
    assert outcome.verdict is verdict


def test_waits_are_a_quarter_of_an_hour_only_where_apple_says_so():
    assert APNS.retry.first_s[Verdict.UNAVAILABLE] == 900
    first = {
        "ServiceUnavailable": None,
        "Shutdown": 1.0,
        "IdleTimeout": 1.0,
        "UnrelatedKeyIdInToken": 1.0,
        "TooManyProviderTokenUpdates": 1200.0,
    }
    assert {reason: told(503, {"reason": reason}).first_s for reason in first} == first
    assert apns_codes.classify(batch(), NoAnswer("refused", sent=False))[0].first_s == 1.0
    assert apns_codes.classify(batch(), NoAnswer("timeout", sent=True))[0].first_s is None
    assert told(503, {"reason": "ServiceUnavailable"}, retry_after="7").retry_after_s == 7.0
    assert told(429, {"reason": "TooManyProviderTokenUpdates"}).retry_after_s is None


#: What the push was told before -> verdict of UnrelatedKeyIdInToken now.
ONCE_MORE = {
    "the first time": ([], Verdict.UNAVAILABLE),
    "after other trouble": (["ServiceUnavailable"] * 3, Verdict.UNAVAILABLE),
    "again": (["ServiceUnavailable", "UnrelatedKeyIdInToken"], Verdict.CREDENTIAL_REFUSED),
}


@pytest.mark.parametrize(("met", "verdict"), ONCE_MORE.values(), ids=ONCE_MORE)
def test_a_key_that_a_new_connection_does_not_cure_is_the_credential_s_fault(met, verdict):
    outcome = told(403, {"reason": "UnrelatedKeyIdInToken"}, sent=batch(met=met))
    assert (outcome.verdict, outcome.attempts_max) == (verdict, None)


def test_of_a_word_that_nobody_knows_no_more_is_kept_than_of_apple_s():
    outcome = told(400, {"reason": "x" * 100_000}, apns_id="y" * 100_000)
    assert (len(outcome.code), len(outcome.vendor_message_id)) == (64, 64)


# ---------------------------------------------------------------- bodies


def built(*of_batch, **more):
    return apns_request.build(batch(*of_batch, **more), credential(Vendor.APNS), ACCESS)


def body_of(about, badge=None):
    return json.loads(built(about, badge=badge).body)


def headers_of(about):
    return built(about).headers


def test_half_a_character_is_replaced():
    assert body_of(note(body="a\ud83d"))["aps"]["alert"]["body"] == "a\ufffd"


def class_of(header, priority, topic="com.example.chat", *, placed="10", **of_note):
    """A row of CLASSES: a note that is placed with a priority, and what of it its headers say."""
    return note(placement={"priority": placed}, **of_note), header, priority, topic


CALL = {"kind": Kind.CALL_INVITE}
CLASSES = {
    "marketing": class_of("alert", "5", placed="5", bucket=Bucket.PUBLIC),
    "call alert": class_of("alert", "10", **CALL),
    "voip": class_of(
        "voip", "10", "com.example.chat.voip", placed="5", push_type=PushType.VOIP, **CALL
    ),
    "silent": class_of("background", "5", push_type=PushType.SILENT),
    "recall": class_of("alert", "5", kind=Kind.RECALL),
    "call cancel": class_of("alert", "5", kind=Kind.CALL_CANCEL),
}


@pytest.mark.parametrize(("about", "push_type", "priority", "topic"), CLASSES.values(), ids=CLASSES)
def test_each_class_has_its_type_priority_and_topic(about, push_type, priority, topic):
    headers = headers_of(about)
    found = (headers["apns-push-type"], headers["apns-priority"], headers["apns-topic"])
    assert found == (push_type, priority, topic)
    assert headers["apns-expiration"] == str((NOW_MS + 86_400_000) // 1000)
    assert headers["apns-collapse-id"] == "m-9f3c"


def test_a_call_for_callkit_carries_the_call_and_no_sound():
    call = {"handle": "u_1001", "video": True, "ext": "not this"}
    body = body_of(
        note(push_type=PushType.VOIP, voip=call, ext='{"call":"1"}', payload={"handle": "another"}),
        badge=3,
    )
    aps = {"alert": {"title": "张三", "body": "今晚八点开会"}}
    assert body == {"aps": aps, "handle": "u_1001", "video": True, "ext": '{"call":"1"}'}


CRITICAL = {"critical": 1, "name": "default", "volume": 1.0}
SOUNDS = {
    "usual": (note(), "default"),
    "a file": (note(sound_ios="ring.caf"), "ring.caf"),
    "none": (note(sound_ios="none"), None),
    "critical": (note(vendor={"critical": True}), CRITICAL),
    "critical marketing": (note(vendor={"critical": True}, bucket=Bucket.PUBLIC), "default"),
    "recall": (note(kind=Kind.RECALL, vendor_raw={"aps": {"sound": "loud.caf"}}), None),
    "call cancel": (note(kind=Kind.CALL_CANCEL), None),
    "raw": (note(vendor_raw={"aps": {"sound": "msg.caf"}}), "msg.caf"),
}


@pytest.mark.parametrize(("about", "sound"), SOUNDS.values(), ids=SOUNDS)
def test_sound(about, sound):
    assert body_of(about)["aps"].get("sound") == sound


def level(expected, *, placed=None, wish=None, raw=None, bucket=Bucket.PRIVATE):
    """A row of LEVELS: where the app, and the sender in two ways, speak of the level."""
    about = note(
        bucket=bucket,
        placement={"interruption_level": placed} if placed else {},
        vendor={"interruption_level": wish} if wish else {},
        vendor_raw={"aps": {"interruption-level": raw}} if raw else {},
    )
    return about, expected


PUBLIC = Bucket.PUBLIC
LEVELS = {
    "as placed": level("active", placed="active"),
    "not placed": level(None),
    "sender's wish": level("time-sensitive", placed="active", wish="time-sensitive"),
    "raw wins": level("passive", wish="active", raw="passive"),
    "nonsense": level("active", placed="active", wish="loud"),
    "marketing is not lifted": level(
        "passive", placed="passive", wish="time-sensitive", bucket=PUBLIC
    ),
    "nor by raw": level("passive", placed="passive", raw="critical", bucket=PUBLIC),
    "marketing may be lowered": level("passive", placed="active", wish="passive", bucket=PUBLIC),
}


@pytest.mark.parametrize(("about", "level"), LEVELS.values(), ids=LEVELS)
def test_interruption_level(about, level):
    assert body_of(about)["aps"].get("interruption-level") == level


def test_overrides_of_the_sender():
    own = {"title": "iOS 标题", "category": "IM_MESSAGE", "mutable_content": True, "badge": 42}
    image = "https://img.example.com/1.png"
    body = body_of(note(vendor=own, thread_id="t1", image=image), badge=7)
    assert body["aps"] == {
        "alert": {"title": "iOS 标题", "body": "今晚八点开会"},
        "sound": "default",
        "thread-id": "t1",
        "category": "IM_MESSAGE",
        "mutable-content": 1,
        "badge": 42,
    }
    assert body["image"] == image


@pytest.mark.parametrize(
    ("about", "woken"),
    [(note(), True), (note(hidden=True), True), (note(kind=Kind.RECALL), False)],
    ids=["shown", "hidden", "recall"],
)
def test_an_alert_wakes_the_app_too_where_the_sender_wishes_it(about, woken):
    given = msgspec.structs.replace(about, vendor={"content_available": True})
    aps = body_of(given)["aps"]
    assert ("alert" in aps, aps.get("content-available") == 1) == (True, woken)


@pytest.mark.parametrize(
    "about", [note(hidden=True), note(kind=Kind.RECALL)], ids=["hidden", "recall"]
)
def test_neutral_words_are_not_put_back_by_overrides(about):
    raw = {"aps": {"alert": {"body": "secret"}}}
    given = msgspec.structs.replace(about, vendor={"title": "secret"}, vendor_raw=raw)
    assert body_of(given)["aps"]["alert"] == {"title": "张三", "body": "今晚八点开会"}


def test_a_raw_alert_of_text_does_not_replace_the_object():
    raw = {"aps": {"alert": "text", "badge": "many", "content-available": 1}}
    found = body_of(note(vendor_raw=raw), badge=1)["aps"]
    assert found == body_of(note(), badge=1)["aps"]


def test_of_a_raw_alert_only_texts_are_laid_over_ours():
    texts = {"loc-key": "IM_TEXT", "loc-args": ["a"]}
    raw = {"alert": {"body": 5, "title": None, **texts, "title-loc-args": [1], "x": {"y": 1}}}
    found = body_of(note(vendor_raw={"aps": raw}))["aps"]["alert"]
    assert found == {"title": "张三", "body": "今晚八点开会", **texts}


@pytest.mark.parametrize(
    ("badge", "shown"), [(None, None), (0, 0), (7, 7), (2**40, 2**31 - 1), (-1, 0)]
)
def test_badge(badge, shown):
    assert body_of(note(), badge=badge)["aps"].get("badge") == shown


def test_sandbox_and_certificate_credentials():
    sandbox = credential(Vendor.APNS, {"env": "sandbox"})
    request = apns_request.build(batch(), sandbox, apns_access.ask(sandbox, NOW_MS))
    assert request.endpoint == "APNS_SANDBOX"
    assert "authorization" not in request.headers


# ---------------------------------------------------------------- the page's vectors

P8 = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjpsQnnGQmL+YBIff
H1136cspYG6+0iY7X1fCE9+E9LKhRANCAAR/zc4ncPbEXUGDy+5v20t7WAczNXvp
7xO6z248e9FURcfxRM0bvZt+hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt
-----END PRIVATE KEY-----"""


def test_vector_a_provider_token():
    token = apns_access.provider_token(P8, "ABC123DEFG", "DEF123GHIJ", 1_700_000_000)
    signed, signature = token.rsplit(".", 1)
    assert (
        signed
        == "eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQzEyM0RFRkcifQ.eyJpc3MiOiJERUYxMjNHSElKIiwiaWF0IjoxNzAwMDAwMDAwfQ"  # noqa: E501
    )
    found = hashlib.sha256(signed.encode()).hexdigest()
    assert found == "42df217d1168550523fdf6a104c8fecca0ef4fb5c6f8760ecf08f4467e5c53ea"
    expected = (
        "9eqgVsaVpJcjng-z9xvwbFH5RQ4bIRjaUdI0UT5WUNjDlcVbRVsgHTYZ2TWGP-HMFIbg6jaaLZG9RVlfBpOdlg"
    )
    assert signature == expected
    assert len(token) == 184


def test_vector_b_as_the_file_builds_it():
    about = note(
        title="Alice",
        subtitle="Project Falcon",
        body="晚上八点开会 🚀",
        conversation_id="group_10086",
        payload={"im": {"cid": "group_10086", "seq": 52017, "mid": "m-9f3c"}},
        placement={"interruption_level": "active"},
        vendor={"category": "IM_MESSAGE", "mutable_content": 1},
        vendor_raw={"aps": {"relevance-score": 0.5}},
    )
    assert len(built(about, badge=7).body) == 300


def test_vector_c_the_last_byte_that_fits():
    rest = len(built(note(title="", body="")).body)
    spare = 4096 - rest - len(b'"badge":2147483647,')
    for letter, size in (("a", 1), ("会", 3)):
        whole, cut = (
            body_of(note(title="", body=letter * n))["aps"]["alert"]["body"]
            for n in (spare // size, spare // size + 1)
        )
        assert whole == letter * (spare // size)
        assert cut.endswith("…")


def test_vector_d_collapse_ids():
    assert text_id("会" * 21) == "会" * 21
    assert len(text_id("会" * 22)) == 64
    long = "single_user_000000000123456789_user_000000000987654321_message_recall"
    assert text_id(long) == "c316b70ea9e13121847356c7fe99530524533548eccb27d420993939d4c998e0"
    found = headers_of(note(collapse_id="a\r\nx: y"))["apns-collapse-id"]
    assert found == hashlib.sha256(b"a\r\nx: y").hexdigest()


IDS = {
    "printable": ("a b~!", "a b~!"),
    "64 bytes": ("x" * 64, "x" * 64),
    "65 bytes": ("x" * 65, None),
    "one letter outside ASCII": ("caf\u00e9", None),
    "21 characters of three bytes": ("会" * 21, None),
    "white space at its ends": (" m", None),
    "a tab inside": ("a\tb", None),
    "DEL": ("a\x7fb", None),
    "a lone surrogate": ("\ud800", None),
}


@pytest.mark.parametrize(("given", "sent"), IDS.values(), ids=IDS)
def test_a_collapse_id_is_the_value_where_a_header_can_carry_it_else_its_digest(given, sent):
    wanted = sent or hashlib.sha256(given.replace("\ud800", "\ufffd").encode()).hexdigest()
    request = built(note(collapse_id=given))
    assert request.headers["apns-collapse-id"] == wanted
    assert fault_of(request) is None


def test_a_call_may_be_a_kilobyte_longer():
    call = note(push_type=PushType.VOIP, body="a" * 6000)
    assert len(built(call).body) == 5120


REFUSED = {
    "room enough": (note(ext="x" * 3000), None),
    "ext alone": (note(ext="x" * 4096), None),
    "payload alone": (note(payload={"a": "x" * 4096}), None),
    "a category of the sender's": (note(vendor={"category": "x" * 5000}), None),
    "a picture's address": (note(image="https://a/" + "x" * 5000), None),
    "a thread": (note(thread_id="会" * 1400), None),
    "a sound": (note(sound_ios="会" * 1400), None),
    "words of the app's tables": (note(loc=Localized(key="K", args=("会" * 1400,))), None),
    "who calls": (note(push_type=PushType.VOIP, voip={"call": {"handle": "会" * 2000}}), None),
    "escapes count": (note(ext="\x00" * 700), None),
    "a call's room": (note(ext="x" * 4500, push_type=PushType.VOIP), None),
    "a long text is cut instead": (
        note(body="x" * 9000, title="y" * 9000, subtitle="z" * 9000, ext="x" * 256),
        None,
    ),
    "silent": (note(ext="x" * 4096, push_type=PushType.SILENT), "payload_too_large"),
}


@pytest.mark.parametrize(("about", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_can_t_fit_is_refused_before_a_request(about, reason):
    assert apns_request.refuse(batch(about).items[0], credential(Vendor.APNS)) == reason
    size = len(built(about, badge=9).body)
    assert (size <= (5120 if about.push_type is PushType.VOIP else 4096)) == (reason is None)


# ---------------------------------------------------------------- provider token, credential


FITS = {
    "the payload goes before ext": (
        {"payload": {"a": "x" * 4000}, "ext": "e" * 300},
        {"ext": "e" * 300},
    ),
    "ext goes last": ({"payload": {"a": 1}, "ext": "x" * 4200}, {}),
    "the picture goes first": (
        {"image": "https://a/" + "x" * 4000, "payload": {"a": 1}, "ext": "e"},
        {"a": 1, "ext": "e"},
    ),
    "an opaque payload never": ({"payload": {"a": "x" * 4200}, "blob": True}, {"a": "x" * 4200}),
}


@pytest.mark.parametrize(("about", "beside"), FITS.values(), ids=FITS)
def test_what_does_not_fit_is_left_out_ext_last_and_the_words_go(about, beside):
    body = body_of(note(**about))
    assert {name: value for name, value in body.items() if name != "aps"} == beside
    assert body["aps"]["alert"]["body"].startswith("今晚八点开会"[:6])


P8_OPTIONS = {"key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"}


def p8_credential():
    return credential(Vendor.APNS, P8_OPTIONS, {"p8": P8})


def test_a_provider_token_taken_for_expired_is_made_anew_only_once_it_is_twenty_minutes_old():
    start = 1_700_000_000 // 2400 * 2400 * 1000
    young, old = start + 1_199_999, start + 1_200_000
    made_anew = present(present(APNS.access).again)
    assert made_anew(p8_credential(), young) == apns_access.ask(p8_credential(), young)
    again = made_anew(p8_credential(), old)
    assert again.value != apns_access.ask(p8_credential(), old).value
    assert again == made_anew(p8_credential(), start + 2_399_999)
    found = (again.refresh_at_ms, again.expires_at_ms)
    assert found == (start + 2_400_000, start + 1_200_000 + 3_540_000)


def test_every_process_makes_the_same_provider_token_for_forty_minutes():
    start = 1_700_000_000 // 2400 * 2400 * 1000
    first, last, next_one = (
        apns_access.ask(p8_credential(), start + ms) for ms in (0, 2_399_999, 2_400_000)
    )
    assert first == last
    assert next_one.value != first.value
    assert (first.refresh_at_ms, first.expires_at_ms) == (start + 2_400_000, start + 3_540_000)
    r, s = (
        int.from_bytes(base64.urlsafe_b64decode(first.value.rsplit(".", 1)[1] + "==")[i : i + 32])
        for i in (0, 32)
    )
    key: Any = serialization.load_pem_private_key(P8.encode(), None).public_key()
    der = utils.encode_dss_signature(r, s)
    key.verify(der, first.value.rsplit(".", 1)[0].encode(), ec.ECDSA(hashes.SHA256()))


DEVELOPMENT, PRODUCTION = "1.2.840.113635.100.6.3.1", "1.2.840.113635.100.6.3.2"


def _tlv(tag: int, raw: bytes) -> bytes:
    return bytes([tag, len(raw)]) + raw


def topic_list(*topics: str) -> bytes:
    return _tlv(
        0x30, b"".join(_tlv(0x0C, t.encode()) + _tlv(0x30, _tlv(0x0C, b"app")) for t in topics)
    )


def make_p12(
    marks=(DEVELOPMENT, PRODUCTION),
    topics=("com.example.chat.voip",),
    uid="com.example.chat",
    first=-1,
    last=365,
    password=b"geheim",
    key=None,
):
    key = key or ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, "Apple Push Services")] + (
        [x509.NameAttribute(NameOID.USER_ID, uid)] if uid else []
    )
    now = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)
    builder = x509.CertificateBuilder(x509.Name(names), x509.Name(names), key.public_key(), 7)
    builder = builder.not_valid_before(now + datetime.timedelta(first)).not_valid_after(
        now + datetime.timedelta(last)
    )
    for oid, raw in [(mark, b"\x05\x00") for mark in marks] + (
        [("1.2.840.113635.100.6.3.6", topic_list(*topics))] if topics else []
    ):
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), raw), critical=False
        )
    secrecy = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return pkcs12.serialize_key_and_certificates(
        b"x", key, builder.sign(key, hashes.SHA256()), None, secrecy
    )


def read_p12(raw, password=b"geheim\n", topic="com.example.chat", env="production", now_ms=NOW_MS):
    return read_credential({"topic": topic, "env": env}, {"p12": raw, "password": password}, now_ms)


def test_a_p12_becomes_certificate_and_key_and_its_password_is_not_kept():
    options, secrets = read_p12(make_p12())
    assert options == {
        "topic": "com.example.chat",
        "env": "production",
        "expires_ms": str(NOW_MS + 365 * 86_400_000),
        "topics": "com.example.chat,com.example.chat.voip",
    }
    assert set(secrets) == {"certificate", "key"}
    assert "geheim" not in str(secrets)
    identity = present(apns_access.identity(credential(Vendor.APNS, options, secrets)))
    loaded = x509.load_pem_x509_certificate(identity.certificate_pem)
    found = serialization.load_pem_private_key(identity.key_pem, None).public_key()
    assert found == loaded.public_key()
    assert apns_access.identity(p8_credential()) is None


def test_an_old_keychain_export_opens():
    raw = (Path(__file__).parent / "data" / "keychain-legacy.p12").read_bytes()
    bags = asn1.Pfx.load(raw)
    assert "rc2" in str(bags.authenticated_safe.native)  # else this test is about nothing
    options, _ = read_p12(raw, now_ms=1_800_000_000_000)
    assert options["topics"] == "com.example.chat,com.example.chat.voip"


def read_files(**files):
    return read_credential({"topic": "a.b"}, files, NOW_MS)


P12_REFUSED = {
    "no password": (lambda: read_p12(make_p12(), password=b" \n"), "--password-file is empty"),
    "a wrong password": (lambda: read_p12(make_p12(), password=b"falsch"), "password"),
    "a p12 made without a password": (lambda: read_p12(make_p12(password=None)), "password"),
    "not a p12": (lambda: read_p12(b"hello"), "not a PKCS#12"),
    "an empty file": (lambda: read_p12(b""), "not a PKCS#12"),
    "half a p12": (lambda: read_p12(make_p12()[:300]), "PKCS#12"),
    "much too large": (lambda: read_p12(b"0" * 70_000), "65536 bytes"),
    "expired": (lambda: read_p12(make_p12(first=-10, last=-1)), "expired on 2023-11-13"),
    "not yet valid": (lambda: read_p12(make_p12(first=2)), "not valid before 2023-11-16"),
    "for development": (lambda: read_p12(make_p12(marks=[DEVELOPMENT])), "--env sandbox"),
    "for production": (
        lambda: read_p12(make_p12(marks=[PRODUCTION]), env="sandbox"),
        "--env production",
    ),
    "another app's": (
        lambda: read_p12(make_p12(), topic="com.example.other"),
        "com.example.chat, com.example.chat.voip",
    ),
    "a topic with a star": (lambda: read_p12(make_p12(), topic="com.example.*"), "wildcard"),
    "no topic": (lambda: read_p12(make_p12(), topic=""), "--topic is missing"),
    "another environment": (lambda: read_p12(make_p12(), env="staging"), "production or sandbox"),
    "both kinds": (lambda: read_files(p12=b"", p8=b""), "either"),
    "no kind": (read_files, "either"),
    "no password file": (lambda: read_files(p12=make_p12()), "--password-file is missing"),
}


@pytest.mark.parametrize(("give", "reason"), P12_REFUSED.values(), ids=P12_REFUSED)
def test_a_p12_is_refused_with_its_reason(give, reason):
    with pytest.raises(CredentialError, match=reason.replace("*", r"\*")) as caught:
        give()
    assert "geheim" not in str(caught.value)


def test_a_certificate_without_its_key_is_refused():
    certificate = x509.load_pem_x509_certificate(read_p12(make_p12())[1]["certificate"].encode())
    alone = pkcs12.serialize_key_and_certificates(
        b"x", None, certificate, None, serialization.BestAvailableEncryption(b"geheim")
    )
    with pytest.raises(CredentialError, match="its private key"):
        read_p12(alone)


@pytest.mark.parametrize("topic", ["com example", "x" * 156, "com.\r\nexample"])
def test_a_topic_that_is_no_header_value_is_refused(topic):
    with pytest.raises(CredentialError, match="bundle id"):
        read_p12(make_p12(), topic=topic)


@pytest.mark.parametrize("der", [b"", b"\x0c\x01a", b"\x30\x05\x0c", b"junk"])
def test_a_topic_list_that_can_t_be_read_names_nothing(der):
    assert apple_account.topic_list(der) == []


@pytest.mark.parametrize(
    ("marks", "env"),
    [
        ((), "production"),
        ((), "sandbox"),
        ((DEVELOPMENT, PRODUCTION), "sandbox"),
        ((DEVELOPMENT,), "sandbox"),
        ((PRODUCTION,), "production"),
    ],
)
def test_marks_that_don_t_exclude_the_environment(marks, env):
    assert read_p12(make_p12(marks=marks), env=env)[0]["env"] == env


def test_a_certificate_that_names_no_topic_says_nothing_about_it():
    assert read_p12(make_p12(uid=None, topics=()), topic="com.any")[0]["topic"] == "com.any"


@pytest.mark.parametrize("place", ["mac", "key"])
def test_a_p12_that_asks_for_hours_of_work_is_refused_at_once(place):
    file = asn1.Pfx.load(make_p12())
    if place == "mac":
        file["mac_data"]["iterations"] = 2**31 - 1
        raw = file.dump(force=True)
    else:
        raw = _with_slow_key(file)
    start = time.process_time()
    with pytest.raises(CredentialError, match="rounds of key derivation"):
        read_p12(raw)
    assert time.process_time() - start < 2


def _with_slow_key(file: asn1.Pfx) -> bytes:
    """The same file, whose key bag's own count of rounds is huge and whose checksum nobody will
    reach.
    """
    contents = asn1.AuthenticatedSafe.load(file["auth_safe"]["content"].native)
    for content in contents:
        if content["content_type"].native == "data":
            bags = asn1.SafeContents.load(content["content"].native)
            for bag in bags:
                if bag["bag_id"].native == "pkcs8_shrouded_key_bag":
                    bag["bag_value"]["encryption_algorithm"]["parameters"]["key_derivation_func"][
                        "parameters"
                    ]["iteration_count"] = 2**31 - 1
            content["content"] = bags.dump(force=True)
    file["auth_safe"]["content"] = contents.dump(force=True)
    return file.dump(force=True)


P8_REFUSED = {
    "no key id": ({"team_id": "DEF123GHIJ"}, P8, "--key-id is missing"),
    "short team id": ({"key_id": "ABC123DEFG", "team_id": "DEF"}, P8, "--team-id must have 10"),
    "not a key": (
        P8_OPTIONS,
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "not a private key",
    ),
    "another curve": (P8_OPTIONS, pem_of(ec.generate_private_key(ec.SECP384R1())), "P-256"),
    "an RSA key": (P8_OPTIONS, pem_of(rsa_key()), "EC P-256"),
}


@pytest.mark.parametrize(("options", "pem", "reason"), P8_REFUSED.values(), ids=P8_REFUSED)
def test_a_p8_is_refused_with_its_reason(options, pem, reason):
    with pytest.raises(CredentialError, match=reason):
        read_credential({"topic": "com.example.chat", **options}, {"p8": pem.encode()}, NOW_MS)


def test_a_p8_is_kept_as_pem_for_production_unless_said_else():
    options, secrets = read_credential(
        {"topic": "com.example.chat", **P8_OPTIONS}, {"p8": P8.encode() + b"\n"}, NOW_MS
    )
    assert options == {"topic": "com.example.chat", "env": "production", **P8_OPTIONS}
    assert secrets == {"p8": P8}


CHECKS = {
    "token looked at": (400, {"reason": "BadDeviceToken"}, Verdict.ACCEPTED),
    "bad key": (403, {"reason": "InvalidProviderToken"}, Verdict.CREDENTIAL_REFUSED),
    "other topic": (400, {"reason": "TopicDisallowed"}, Verdict.CREDENTIAL_REFUSED),
    "down": (503, {"reason": "ServiceUnavailable"}, Verdict.UNAVAILABLE),
}


@pytest.mark.parametrize(("status", "body", "verdict"), CHECKS.values(), ids=CHECKS)
def test_a_credential_is_proved_without_a_push(status, body, verdict):
    request = apns_request.check(credential(Vendor.APNS), ACCESS)
    assert request.headers["authorization"] == "bearer access-1"
    assert "authorization" not in apns_request.check(credential(Vendor.APNS), None).headers
    assert request.path == "/3/device/" + "0" * 64
    assert apns_codes.checked(answer(status, body)) is verdict


def test_no_secret_or_token_shows_in_a_repr():
    request = apns_request.build(batch(tokens=("deadbeef",)), p8_credential(), ACCESS)
    shown = repr((request, p8_credential(), ACCESS, apns_request.prepare(note(), p8_credential())))
    for secret in ("BEGIN", "access-1", "今晚", "deadbeef"):
        assert secret not in shown
