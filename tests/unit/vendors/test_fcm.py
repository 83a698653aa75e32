"""FCM: every code, every vector of its page, bodies in both modes, the service account."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from common.contracts import Localized
from common.model import Bucket, Kind, PushType, Vendor, Verdict
from tests.simulator_keys import rsa_key
from tests.unit.vendors.cases import ACCESS, NOW_MS, answer, batch, credential, note
from workers.vendors.fcm import FCM
from workers.vendors.fcm import codes as fcm_codes
from workers.vendors.fcm import credential as fcm_credential
from workers.vendors.fcm import request as fcm_request
from workers.vendors.types import AccessRefused, AccessToken, CredentialError

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"
NOT_A_TOKEN = "The registration token is not a valid FCM registration token"


def error(status: str, *details: dict, message: str = "words") -> dict:
    return {"error": {"code": 0, "message": message, "status": status, "details": list(details)}}


def fcm_error(code: str) -> dict:
    return {"@type": FCM_ERROR, "errorCode": code}


def fields(*names: str) -> dict:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": name} for name in names]}


def told(*said, met=(), **headers):
    """The outcome of one push."""
    [outcome] = fcm_codes.classify(batch(met=met), answer(*said, **headers))
    return outcome


BAD = "INVALID_ARGUMENT"


def said(status, verdict, google, code=None, field=None, message="words"):
    """A row of ANSWERS. google: the status of Google's API; code: FCM's own, which counts."""
    details = [fcm_error(code)] * bool(code) + [fields(field)] * bool(field)
    return status, error(google, *details, message=message), verdict, code or google


#: Every row of the page's table: (status, body) -> (verdict, code)
ANSWERS = {
    "400 a bad field": said(400, Verdict.REJECTED, BAD, field="message.data[0].value"),
    "400 a bad field, FCM's own word too": said(
        400, Verdict.REJECTED, BAD, BAD, field="message.android.ttl"
    ),
    "400 a malformed token": said(400, Verdict.TOKEN_DEAD, BAD, BAD, message=NOT_A_TOKEN),
    "400 a malformed token, field named": said(
        400, Verdict.TOKEN_DEAD, BAD, BAD, field="message.token", message=NOT_A_TOKEN
    ),
    "400 token words without FcmError": said(
        400, Verdict.REJECTED, BAD, field="message.token", message=NOT_A_TOKEN
    ),
    "400 other": said(400, Verdict.REJECTED, BAD, BAD, message="Android message is too big"),
    "401 access": said(401, Verdict.ACCESS_EXPIRED, "UNAUTHENTICATED"),
    "401 third party": said(401, Verdict.REJECTED, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"),
    "401 third party, old name": said(401, Verdict.REJECTED, "UNAUTHENTICATED", "APNS_AUTH_ERROR"),
    "401 HTML": (401, b"<html>", Verdict.ACCESS_EXPIRED, ""),
    "403 sender": said(403, Verdict.TOKEN_FOREIGN, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
    "403 no right": said(403, Verdict.CREDENTIAL_REFUSED, "PERMISSION_DENIED"),
    "404 gone": said(404, Verdict.TOKEN_DEAD, "NOT_FOUND", "UNREGISTERED", message="Not found."),
    "404 no project": said(404, Verdict.CREDENTIAL_REFUSED, "NOT_FOUND"),
    "404 HTML": (404, b"<html>404</html>", Verdict.UNKNOWN, ""),
    "429 quota": said(429, Verdict.THROTTLED, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
    "429 exhausted": said(429, Verdict.THROTTLED, "RESOURCE_EXHAUSTED"),
    "429 HTML": (429, b"<html>", Verdict.THROTTLED, ""),
    "500": said(500, Verdict.UNAVAILABLE, "INTERNAL", "INTERNAL"),
    "500 no FcmError": said(500, Verdict.UNAVAILABLE, "INTERNAL"),
    "502": (502, b"<html>", Verdict.UNCERTAIN, ""),
    "503": said(503, Verdict.UNAVAILABLE, "UNAVAILABLE", "UNAVAILABLE"),
    "504": (504, b"", Verdict.UNCERTAIN, ""),
    "unspecified": said(500, Verdict.UNAVAILABLE, "INTERNAL", "UNSPECIFIED_ERROR"),
    "a code of next year": said(403, Verdict.UNKNOWN, "PERMISSION_DENIED", "BRAND_NEW"),
    "200 and no name": (200, {"nome": "x"}, Verdict.UNKNOWN, ""),
}


@pytest.mark.parametrize(("status", "body", "verdict", "code"), ANSWERS.values(), ids=ANSWERS)
def test_each_answer_has_its_verdict(status, body, verdict, code):
    outcome = told(status, body)
    assert (outcome.verdict, outcome.status, outcome.code) == (verdict, str(status), code)
    assert outcome.alarm == (
        verdict is Verdict.UNKNOWN
        or code in ("THIRD_PARTY_AUTH_ERROR", "APNS_AUTH_ERROR", "UNSPECIFIED_ERROR")
    )
    assert outcome.attempts_max is None


#: (status, Google's word, FCM's, how often the push was told so before, verdict now)
AT_LAST = {
    "unspecified twice": (500, "INTERNAL", "UNSPECIFIED_ERROR", 1, Verdict.UNAVAILABLE),
    "unspecified three times": (500, "INTERNAL", "UNSPECIFIED_ERROR", 2, Verdict.REJECTED),
    "third party again": (401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", 1, Verdict.REJECTED),
}


@pytest.mark.parametrize(
    ("status", "google", "code", "met", "verdict"), AT_LAST.values(), ids=AT_LAST
)
def test_what_trying_again_does_not_cure_is_believed(status, google, code, met, verdict):
    outcome = told(status, error(google, fcm_error(code)), met=[code] * met)
    assert outcome.verdict is verdict


def test_accepted_names_the_message():
    outcome = told(200, {"name": "projects/demo-im/messages/0:17"})
    found = (outcome.verdict, outcome.vendor_message_id)
    assert found == (Verdict.ACCEPTED, "projects/demo-im/messages/0:17")


def test_waits_as_google_asks_for_them():
    found = (FCM.retry.first_s[Verdict.THROTTLED], FCM.retry.first_s[Verdict.UNAVAILABLE])
    assert found == (60, 10)
    body = error("RESOURCE_EXHAUSTED", fcm_error("QUOTA_EXCEEDED"))
    assert told(429, body, retry_after="17").retry_after_s == 17
    assert told(429, body).retry_after_s is None  # then the 60 s of the table


DEVICE_RATE = {"subject": "device:x", "description": ""}


@pytest.mark.parametrize(
    ("detail", "message", "token_only"),
    [
        (fcm_error("QUOTA_EXCEEDED"), "Device message rate exceeded", True),
        ({"@type": QUOTA_FAILURE, "violations": [DEVICE_RATE]}, "words", True),
        (fcm_error("QUOTA_EXCEEDED"), "Project quota exceeded", False),
    ],
)
def test_a_device_s_rate_is_not_the_project_s(detail, message, token_only):
    body = error("RESOURCE_EXHAUSTED", detail, message=message)
    assert told(429, body).token_only is token_only


@pytest.mark.parametrize(
    ("age_ms", "met", "verdict"),
    [
        (fcm_codes.FRESH_TOKEN_S * 1000, [], Verdict.TOKEN_DEAD),
        (fcm_codes.FRESH_TOKEN_S * 1000 - 1, [], Verdict.THROTTLED),
        (fcm_codes.FRESH_TOKEN_S * 1000 - 1, ["UNAVAILABLE"], Verdict.THROTTLED),
        (fcm_codes.FRESH_TOKEN_S * 1000 - 1, ["UNREGISTERED"], Verdict.TOKEN_DEAD),
        (-1, [], Verdict.REJECTED),
        (-1, ["UNREGISTERED"], Verdict.REJECTED),
    ],
)
def test_a_token_registered_moments_ago_is_asked_once_more(age_ms, met, verdict):
    push = batch(registered_ms=NOW_MS - age_ms, met=met)
    [outcome] = fcm_codes.classify(push, answer(404, error("NOT_FOUND", fcm_error("UNREGISTERED"))))
    assert outcome.verdict is verdict
    assert outcome.token_only is (verdict is Verdict.THROTTLED)
    found = (outcome.first_s, outcome.retry_after_s)
    assert found == (5.0 if verdict is Verdict.THROTTLED else None, None)


def test_words_repeat_neither_values_nor_tokens():
    secret = "Invalid value (TYPE_STRING), secret words"
    bad = told(400, error(BAD, fields("message.data[0].value"), message=secret))
    assert bad.words == "message.data[0].value"
    [other] = fcm_codes.classify(
        batch(tokens=("tok-123",)), answer(500, error("INTERNAL", message="no route to tok-123"))
    )
    assert other.words == "no route to <token>"


# ---------------------------------------------------------------- bodies

PLACED = {"priority": "HIGH", "channel_id": "im_message"}


def built(*of_batch, **more):
    return fcm_request.build(batch(*of_batch, **more), credential(Vendor.FCM), ACCESS)


def message_of(about, **of_batch):
    return json.loads(built(about, **of_batch).body)["message"]


def test_an_app_that_draws_itself_gets_everything_as_data():
    shown = {"badge": "7", "title": "张三", "body": "今晚八点开会", "tag": "m-9f3c"}
    assert message_of(note(vendor={"data_only": True}, ext="e", placement=PLACED), badge=7) == {
        "token": "aa11",
        "android": {"ttl": "86400s", "priority": "HIGH"},
        "data": {**shown, "channel_id": "im_message", "sound": "default", "ext": "e"},
    }
    by_credential = fcm_request.build(
        batch(), credential(Vendor.FCM, {"data_only": "true"}), ACCESS
    )
    assert "notification" not in json.loads(by_credential.body)["message"]


def test_a_payload_says_nothing_of_what_the_app_is_to_draw():
    payload = {"title": "secret", "tag": "theirs", "badge": 9, "sound": "loud", "mid": "m"}
    about = note(hidden=True, vendor={"data_only": True}, payload=payload)
    data = message_of(about, badge=7)["data"]
    found = (data["title"], data["tag"], data["badge"], data["sound"])
    assert found == ("张三", "m-9f3c", "7", "default")
    seen = (data["x-title"], data["x-tag"], data["x-badge"], data["x-sound"], data["mid"])
    assert seen == ("secret", "theirs", "9", "loud", "m")
    assert message_of(note(payload={"title": "t"}))["data"] == {"title": "t"}


def test_an_apps_own_server_names_its_channel_in_a_push_to_a_token():
    payload = {"channel_id": "town-square", "sound": "s", "title": "theirs", "tag": "t"}
    about = note(direct=True, vendor={"data_only": True}, payload=payload, placement=PLACED)
    data = message_of(about)["data"]
    assert (data["channel_id"], data["sound"]) == ("town-square", "s")
    assert (data["title"], data["tag"], data["x-title"]) == ("张三", "m-9f3c", "theirs")


def test_a_picture_is_taken_from_https_only():
    found = "image"
    assert found not in message_of(note(vendor={"image": "http://i/2"}))["android"]["notification"]


HIGH = {"priority": "HIGH"}
PRIORITIES = {
    "chat": (note(placement=PLACED), "HIGH"),
    "marketing": (note(bucket=Bucket.PUBLIC, placement={"priority": "NORMAL"}), "NORMAL"),
    "marketing is not lifted": (
        note(bucket=Bucket.PUBLIC, placement={"priority": "NORMAL"}, vendor=HIGH),
        "NORMAL",
    ),
    "chat may be lowered": (note(placement=PLACED, vendor={"priority": "normal"}), "NORMAL"),
    "a private wish": (note(placement={"priority": "NORMAL"}, vendor={"priority": "high"}), "HIGH"),
    "recall": (note(kind=Kind.RECALL, placement=PLACED, vendor=HIGH), "NORMAL"),
    "the end of a call": (note(kind=Kind.CALL_CANCEL, placement=PLACED, vendor=HIGH), "NORMAL"),
}


@pytest.mark.parametrize(("about", "priority"), PRIORITIES.values(), ids=PRIORITIES)
def test_priority(about, priority):
    assert message_of(about)["android"]["priority"] == priority


def test_overrides_and_raw_keys():
    notification = {
        "android_channel_id": "raw",
        "color": "#112233",
        "tag": "theirs",
        "title": "raw title",
    }
    raw = {"notification": notification, "token": "x"}
    android = message_of(
        note(vendor={"channel_id": "chat_high", "image": "https://i/2"}, placement=PLACED)
    )["android"]["notification"]
    assert (android["channel_id"], android["image"]) == ("chat_high", "https://i/2")
    message = message_of(note(vendor_raw=raw, placement=PLACED))
    found = message["android"]["notification"]
    assert found == {"tag": "m-9f3c", "channel_id": "raw", "sound": "default", "color": "#112233"}
    assert message["notification"]["title"] == "raw title"
    assert message_of(note(vendor_raw=raw, hidden=True))["notification"]["title"] == "张三"


@pytest.mark.parametrize(("sound", "shown"), [(None, "default"), ("none", None), ("ring", "ring")])
def test_sound(sound, shown):
    assert message_of(note(sound_android=sound))["android"]["notification"].get("sound") == shown


@pytest.mark.parametrize(("badge", "count"), [(None, None), (0, None), (1, 1), (-3, None)])
def test_a_count_of_nought_would_count_one_up_so_it_is_left_out(badge, count):
    found = message_of(note(), badge=badge)["android"]["notification"].get("notification_count")
    assert found == count


def test_vector_c_durations():
    assert [
        message_of(note(), ttl_s=ttl)["android"]["ttl"]
        for ttl in (0, 3600, 2_419_200, 2_419_201, -1)
    ] == ["0s", "3600s", "2419200s", "2419200s", "0s"]


def test_a_long_collapse_id_becomes_its_digest():
    tag = message_of(note(collapse_id="会" * 22))["android"]["notification"]["tag"]
    assert tag == hashlib.sha256(("会" * 22).encode()).hexdigest()


REFUSED = {
    "room enough": (note(ext="x" * 3500), None),
    "ext alone": (note(ext="x" * 4096), None),
    "silent": (note(ext="x" * 4096, push_type=PushType.SILENT), "payload_too_large"),
    "opaque": (note(payload={"k": "x" * 4096}, blob=True), "payload_too_large"),
    "payload alone": (note(payload={"k": ["会" * 1400]}), None),
    "long words are cut": (note(title="t" * 9000, body="b" * 9000), None),
    "a channel": (note(placement={"channel_id": "会" * 1400}), None),
    "a sound": (note(sound_android="会" * 1400), None),
    "words of the app's tables": (note(loc=Localized(key="K", args=("会" * 1400,))), None),
}


@pytest.mark.parametrize(("about", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_can_t_fit_is_refused_before_a_request(about, reason):
    assert fcm_request.refuse(batch(about).items[0], credential(Vendor.FCM)) == reason


FITS = {
    "the payload goes before ext": (
        {"payload": {"a": "x" * 4000}, "ext": "e" * 300},
        {"ext": "e" * 300},
    ),
    "ext goes last": ({"payload": {"a": "1"}, "ext": "x" * 4200}, {}),
}


TYPES = {
    "of the preset": ({"type": "data"}, {}, True),
    "over the account's": ({"type": "notification"}, {"data_only": "true"}, False),
    "under the message's": ({"type": "data", "data_only": False}, {}, False),
    "none that exists": ({"type": "zork"}, {"data_only": "true"}, True),
    "no text": ({"type": []}, {}, False),
}


@pytest.mark.parametrize(("vendor", "options", "data_only"), TYPES.values(), ids=TYPES)
def test_the_type_of_a_push_resource_says_who_draws(vendor, options, data_only):
    """ZEGO's word in a preset (im-dialects 3.3)."""
    push = batch(note(vendor=vendor))
    request = FCM.build(push, credential(Vendor.FCM, options), ACCESS)
    assert ("notification" not in json.loads(request.body)["message"]) is data_only


@pytest.mark.parametrize("data_only", [0, 1])
@pytest.mark.parametrize(("about", "data"), FITS.values(), ids=FITS)
def test_what_does_not_fit_is_left_out_ext_last_and_the_words_go(about, data, data_only):
    message = message_of(note(**about, vendor={"data_only": data_only}))
    words = message["data"] if data_only else message["notification"]
    assert words["body"] == "今晚八点开会"
    sent = message.get("data", {})
    assert {name: sent[name] for name in ("a", "ext") if name in sent} == data


# ---------------------------------------------------------------- access token and vectors

PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAw3OWinRR+t77mpzgMjn6
8bkkTf90dzBnhsBGj9lDN8Erq5Zc0N/Spou5se+FfrOMs1pRMo2XopR3tci5b0AC
diO/RozgQZswD2ehLHG8Gy/pjuRGD9dKFlweWm6ava1Zeynqh2FcwK4yR+GbMTyU
Dqza60jrrDi3wm8KxdN3xpazmzYiww96xcFNiINlZ10+hGa8Z6S11/g5J6Q6Ijdj
fSEMZc5NzN+wNFPmknGwL0c2W/aOqNHGMtHcyBr2SsKgWe1xb+kGbnspaT7r6NA/
n3wc3duqlZKjKwLCP89TnW7ioYaqC0mbCtTVkX4TQqnDFLSslCBa6wVcxo80/4Bp
gQIDAQAB
-----END PUBLIC KEY-----"""
SIGNATURE = (
    "MU3dyX9AEBkh7gRWu5ALq-UzELmdviARiYxO-XqS-w3xmKep7RVNt6ufbDrvgjT0bPfryIRiYuN0t6td46_vnDboxtSB1degurU07aJeahITPRkgiTb"
    "j8fNMboo0XR8gLIfgHOLtDWqcNtYSx8HIADHFwrqzymfpf8S8giqzWyYJz_UyKwlDDRKMn34FDmls149gl1Ma8FmgaYcsgySZSC0Z8PuqSCMeT1wz8a"
    "dTgqvybjfQhFG7UE7fybg5xzgnMV6tjrliIsaIRdp5Wx2ldPaqclja70h85TcCtjhI72ZeniRfYLu6wMow5lqf49H4M-5llnfQIV8CdHVUi7fiAg"
)
ACCOUNT = {
    "key_id": "0123456789abcdef0123456789abcdef01234567",
    "client_email": "push-worker@demo-im-project.iam.gserviceaccount.com",
    "project_id": "demo-im",
}


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa_key()


def pem_of(key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_vector_a_assertion(key):
    signed, signature = fcm_credential.assertion(ACCOUNT, pem_of(key), 1_700_000_000).rsplit(".", 1)
    assert len(signed) == 370
    found = hashlib.sha256(signed.encode()).hexdigest()
    assert found == "2c7ceaf6b4f6c9033cfa4fe4ad29f75aa10fe5e661d606180069aadd683089d5"
    ours = base64.urlsafe_b64decode(signature + "==")
    key.public_key().verify(ours, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    theirs: Any = serialization.load_pem_public_key(PUBLIC_KEY.encode())
    raw = base64.urlsafe_b64decode(SIGNATURE + "==")
    theirs.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    token = f"{signed}.{SIGNATURE}"
    seen = (len(token), hashlib.sha256(token.encode()).hexdigest())
    assert seen == (713, "1b459c2f46fedecf00eeee59114925483d8c6fc52caf72b65803b1c75eddbd2a")
    assert len(urlencode({"grant_type": fcm_credential.GRANT_TYPE, "assertion": token})) == 788


def test_the_assertion_goes_to_google_s_door_whatever_the_key_file_says(key):
    request = fcm_credential.ask(
        credential(Vendor.FCM, ACCOUNT, {"private_key": pem_of(key)}), NOW_MS
    )
    assert (request.endpoint, request.path) == ("GOOGLE_OAUTH", "/token")
    form = parse_qs(request.body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    claims = json.loads(base64.urlsafe_b64decode(form["assertion"][0].split(".")[1] + "=="))
    found = (claims["aud"], claims["iat"], claims["exp"])
    assert found == ("https://oauth2.googleapis.com/token", NOW_MS // 1000, NOW_MS // 1000 + 3600)


GIVEN = AccessToken("ya29.x", NOW_MS + 3_060_000, NOW_MS + 3_600_000)
YA29 = {"access_token": "ya29.x"}
BAD_SIGNATURE = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
ACCESS_ANSWERS = {
    "number": (200, {**YA29, "expires_in": 3600, "token_type": "Bearer"}, GIVEN),
    "text": (200, {**YA29, "expires_in": "3600"}, GIVEN),
    "no life": (200, YA29, GIVEN),
    "no token": (200, {"access_token": ""}, Verdict.UNAVAILABLE),
    "a line feed": (200, {"access_token": "a\r\nx: y"}, Verdict.UNAVAILABLE),
    "bad key": (400, BAD_SIGNATURE, Verdict.CREDENTIAL_REFUSED),
    "bad scope": (400, {"error": "invalid_scope"}, Verdict.CREDENTIAL_REFUSED),
    "bad client": (401, {"error": "invalid_client"}, Verdict.CREDENTIAL_REFUSED),
    "not allowed": (401, {"error": "unauthorized_client"}, Verdict.CREDENTIAL_REFUSED),
    "too many": (429, {"error": "rate"}, Verdict.THROTTLED),
    "their failure": (400, {"error": "internal_failure"}, Verdict.UNAVAILABLE),
    "server error": (400, {"error": "server_error"}, Verdict.UNAVAILABLE),
    "for now": (400, {"error": "temporarily_unavailable"}, Verdict.UNAVAILABLE),
    "timeout": (408, b"", Verdict.UNAVAILABLE),
    "500": (500, {"error": "invalid_grant"}, Verdict.UNAVAILABLE),
    "503": (503, b"<html>", Verdict.UNAVAILABLE),
    "504": (504, b"", Verdict.UNAVAILABLE),
    "a proxy's page": (403, b"<html>", Verdict.UNAVAILABLE),
}


@pytest.mark.parametrize(("status", "body", "wanted"), ACCESS_ANSWERS.values(), ids=ACCESS_ANSWERS)
def test_what_the_token_endpoint_says(status, body, wanted):
    got = fcm_credential.read_access(answer(status, body), NOW_MS)
    assert (got.verdict if isinstance(got, AccessRefused) else got) == wanted


# ---------------------------------------------------------------- credential


def account(key, **changes) -> bytes:
    usual = {
        "type": "service_account",
        "project_id": "demo-im",
        "private_key_id": "k1",
        "private_key": pem_of(key),
        "client_email": "a@b.example.com",
        "token_uri": "https://elsewhere.example.com/",
    }
    return json.dumps(
        {name: value for name, value in (usual | changes).items() if value is not None}
    ).encode()


def test_a_key_file_becomes_options_and_one_secret(key):
    options, secrets = fcm_credential.read_credential({}, {"service_account": account(key)}, NOW_MS)
    assert options == {"project_id": "demo-im", "client_email": "a@b.example.com", "key_id": "k1"}
    assert secrets == {"private_key": pem_of(key)}


BAD_FILES = {
    "none": (lambda key: None, "--service-account is missing"),
    "not JSON": (lambda key: b"hello", "not a service account's JSON"),
    "too large": (lambda key: b" " * 70_000, "65536 bytes"),
    "a field is missing": (
        lambda key: account(key, client_email=None),
        "missing required field `client_email`",
    ),
    "another type": (lambda key: account(key, type="authorized_user"), "its type is another"),
    "a project that would be a path": (lambda key: account(key, project_id="../x"), "project_id"),
    "an empty key id": (lambda key: account(key, private_key_id=""), "private_key_id"),
    "no key": (lambda key: account(key, private_key="secret-stuff"), "does not parse"),
    "a key of another kind": (
        lambda key: account(key, private_key=pem_of(ec.generate_private_key(ec.SECP256R1()))),
        "wants RSA",
    ),
}


@pytest.mark.parametrize(("give", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_key_file_is_refused_with_its_reason(key, give, reason):
    raw = give(key)
    with pytest.raises(CredentialError, match=reason) as caught:
        fcm_credential.read_credential({}, {} if raw is None else {"service_account": raw}, NOW_MS)
    assert "secret-stuff" not in str(caught.value)


CHECKS = {
    "validated": (200, {"name": "projects/p/messages/fake"}, Verdict.ACCEPTED),
    "token looked at": (
        400,
        error("INVALID_ARGUMENT", fcm_error("INVALID_ARGUMENT"), message=NOT_A_TOKEN),
        Verdict.ACCEPTED,
    ),
    "unregistered": (404, error("NOT_FOUND", fcm_error("UNREGISTERED")), Verdict.ACCEPTED),
    "no right": (403, error("PERMISSION_DENIED"), Verdict.CREDENTIAL_REFUSED),
    "no project": (404, error("NOT_FOUND"), Verdict.CREDENTIAL_REFUSED),
    "down": (503, b"", Verdict.UNAVAILABLE),
}


@pytest.mark.parametrize(("status", "body", "verdict"), CHECKS.values(), ids=CHECKS)
def test_a_credential_is_proved_without_a_push(status, body, verdict):
    request = fcm_request.check(credential(Vendor.FCM), ACCESS)
    assert json.loads(request.body)["validate_only"] is True
    assert fcm_codes.checked(answer(status, body)) is verdict
