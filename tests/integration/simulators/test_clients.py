"""Clients that others wrote, as their users know them, against the simulators: they must understand
what they are told.
"""

import asyncio
import io
import json
import ssl
import subprocess
import time
import uuid

import firebase_admin
import firebase_admin.credentials
import firebase_admin.exceptions
import firebase_admin.messaging as messaging
import pycurl
import pytest
from aioapns import APNs, NotificationRequest, PushType
from cryptography.hazmat.primitives.serialization import Encoding

from tests import simulator_keys as keys

# A registration token is what nearly all devices still have, deprecated or not.
pytestmark = pytest.mark.filterwarnings("ignore:Message.token is deprecated")

KEY = keys.ec_key()
TOPIC = "com.example.chat"
ALERT = {"aps": {"alert": {"title": "Alice", "body": "晚上八点开会 🚀"}}}


def token(prefix="") -> str:
    """Of no prefix given: one that the simulator gives no meaning to."""
    prefix = prefix or "a0a0"
    return prefix + uuid.uuid4().hex + uuid.uuid4().hex[len(prefix) :]


# ---------------------------------------------------------------- aioapns


async def by_aioapns(apns, endpoint: str, requests, **identity):
    """The results in the requests' order."""
    client = APNs(
        topic=TOPIC,
        use_sandbox=endpoint == "APNS_SANDBOX",
        ssl_context=ssl.create_default_context(cafile=apns.ca_file),
        max_connections=1,
        **(identity or {"key": keys.pem_of(KEY), "key_id": "AIOAPNS123", "team_id": "TEAM123456"}),
    )
    server = {"APNS_SERVER": "127.0.0.1", "APNS_PORT": apns.port(endpoint)}
    client.pool.protocol_class = type("Here", (client.pool.protocol_class,), server)
    try:
        return await asyncio.wait_for(asyncio.gather(*map(client.send_notification, requests)), 60)
    finally:
        client.pool.close()


def note(device: str, **more) -> NotificationRequest:
    return NotificationRequest(
        device_token=device, message=ALERT, notification_id=str(uuid.uuid4()), **more
    )


def test_aioapns_understands_200_400_and_410(apns):
    requests = [note(token(prefix)) for prefix in ("", "badd", "dead", "0e0e", "b05e")]
    before = int(time.time() * 1000)
    results = asyncio.run(by_aioapns(apns, "APNS_PRODUCTION", requests))
    assert [(one.status, one.description) for one in results] == [
        ("200", None),
        ("400", "BadDeviceToken"),
        ("410", "Unregistered"),
        ("400", "DeviceTokenNotForTopic"),
        ("429", "TooManyRequests"),
    ]
    assert before <= results[2].timestamp <= int(time.time() * 1000)
    (line,) = apns.lines(account="AIOAPNS123", id=requests[0].notification_id)
    found = (line["token"], line["body"], line["env"], line["topic"])
    assert found == (requests[0].device_token, ALERT, "production", TOPIC)


def test_aioapns_headers_arrive(apns):
    request = note(
        token(), time_to_live=3600, priority=5, collapse_key="m-9f3c", push_type=PushType.BACKGROUND
    )
    asyncio.run(by_aioapns(apns, "APNS_SANDBOX", [request]))
    (line,) = apns.lines(id=request.notification_id)
    found = (line["env"], line["priority"], line["collapse_id"], line["push_type"])
    assert found == ("sandbox", 5, "m-9f3c", "background")
    assert abs(line["expiration"] - time.time() - 3600) < 10


def test_aioapns_shows_a_certificate_whose_issuer_nobody_knows(apns, tmp_path):
    certificate, key = keys.push_certificate(marks=(keys.PRODUCTION,))
    path = tmp_path / "push.pem"
    path.write_text(certificate.public_bytes(Encoding.PEM).decode() + keys.pem_of(key))
    first, second = note(token()), note(token())
    accepted = asyncio.run(by_aioapns(apns, "APNS_PRODUCTION", [first], client_cert=str(path)))
    refused = asyncio.run(by_aioapns(apns, "APNS_SANDBOX", [second], client_cert=str(path)))
    assert (accepted[0].status, refused[0].description) == ("200", "BadCertificateEnvironment")
    assert [line["account"] for line in apns.lines(id=first.notification_id)] == ["a11ce"]


# ---------------------------------------------------------------- libcurl


def by_curl(
    ca_file: str,
    url: str,
    headers,
    body: bytes,
    version=pycurl.CURL_HTTP_VERSION_2TLS,
    handle=None,
    **options,
):
    """(status, HTTP version, headers, body)"""
    curl = handle or pycurl.Curl()
    out, got = io.BytesIO(), {}

    def header(line: bytes) -> None:
        name, _, value = line.decode().strip().partition(": ")
        got[name] = value

    settings = {
        "CAINFO": ca_file,
        "URL": url,
        "HTTP_VERSION": version,
        "POSTFIELDS": body,
        "HTTPHEADER": list(headers),
        "TIMEOUT": 10,
    }
    settings.update({"WRITEFUNCTION": out.write, "HEADERFUNCTION": header, **options})
    for name, value in settings.items():
        curl.setopt(getattr(pycurl, name), value)
    curl.perform()
    status = curl.getinfo(pycurl.RESPONSE_CODE)
    return (status, curl.getinfo(pycurl.INFO_HTTP_VERSION), got, out.getvalue())


def apns_headers(kid: str) -> list:
    bearer = f"authorization: bearer {keys.provider_token(KEY, kid=kid)}"
    return [bearer, f"apns-topic: {TOPIC}", f"apns-id: {uuid.uuid4()}"]


def test_libcurl_speaks_http2_with_apns(apns):
    headers = apns_headers("PYCURL1234")
    url = f"{apns.endpoints['APNS_SANDBOX']}/3/device/{token()}"
    answer = by_curl(apns.ca_file, url, headers, json.dumps(ALERT).encode())
    assert answer[:2] == (200, pycurl.CURL_HTTP_VERSION_2)
    assert f"apns-id: {answer[2]['apns-id']}" == headers[2]


def test_libcurl_replays_what_goaway_left_untouched_and_nothing_else(apns):
    apns.tell("faults", {"goaway_after": 40, "only_first": 1})
    jwt = keys.provider_token(KEY, kid="GOAWAY1234")
    multi, ids = pycurl.CurlMulti(), [str(uuid.uuid4()) for _ in range(100)]
    statuses: list[int] = []
    multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
    handles = [prepared(apns, jwt, push_id) for push_id in ids]
    for handle in handles:
        multi.add_handle(handle)
    ends = time.monotonic() + 15
    while len(statuses) < 100 and time.monotonic() < ends:
        multi.perform()
        _, fine, failed = multi.info_read(100)
        statuses += [one.getinfo(pycurl.RESPONSE_CODE) for one in fine] + [one[1] for one in failed]
        multi.select(0.05)
    assert statuses == [200] * 100
    lines = apns.lines(account="GOAWAY1234")
    assert sorted(line["id"] for line in lines) == sorted(ids)
    assert len({line["connection"] for line in lines}) == 2


def prepared(apns, jwt: str, push_id: str) -> pycurl.Curl:
    handle = pycurl.Curl()
    url = f"{apns.endpoints['APNS_SANDBOX']}/3/device/{token()}"
    headers = [f"authorization: bearer {jwt}", f"apns-topic: {TOPIC}", f"apns-id: {push_id}"]
    body = json.dumps(ALERT).encode()
    options = {
        "URL": url,
        "CAINFO": apns.ca_file,
        "HTTP_VERSION": pycurl.CURL_HTTP_VERSION_2TLS,
        "PIPEWAIT": 1,
        "POSTFIELDS": body,
    }
    given = {**options, "HTTPHEADER": headers, "WRITEFUNCTION": lambda _: None, "TIMEOUT": 15}
    for name, value in given.items():
        handle.setopt(getattr(pycurl, name), value)
    return handle


def test_a_resumed_tls_session_still_shows_its_certificate(apns, tmp_path):
    certificate, key = keys.push_certificate()
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_text(keys.pem_of(key))
    cert = str(tmp_path / "cert.pem")
    pair = {"SSLCERT": cert, "SSLKEY": str(tmp_path / "key.pem"), "FORBID_REUSE": 1}
    handle, ids = pycurl.Curl(), [str(uuid.uuid4()) for _ in range(3)]
    for push_id in ids:
        url = f"{apns.endpoints['APNS_SANDBOX']}/3/device/{token()}"
        body = json.dumps(ALERT).encode()
        answer = by_curl(apns.ca_file, url, [f"apns-id: {push_id}"], body, handle=handle, **pair)
        assert answer[0] == 200
    lines = [line for line in apns.lines(account="a11ce") if line["id"] in ids]
    assert len({line["connection"] for line in lines}) == 3


def test_the_curl_of_the_shell_asks_the_side_door_over_tls_and_in_plain_text(apns):
    url = apns.endpoints["APNS_PRODUCTION"]
    secure = ["--cacert", apns.ca_file, f"{url}/_sim/stats"]
    for command in (secure, [f"{url.replace('https', 'http')}/_sim/stats"]):
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "10", *command], capture_output=True, check=True
        )
        assert json.loads(done.stdout)["vendor"] == "apns"


@pytest.mark.parametrize("version", [pycurl.CURL_HTTP_VERSION_2TLS, pycurl.CURL_HTTP_VERSION_1_1])
def test_fcm_speaks_both_versions_of_http(fcm, version):
    answer = by_curl(
        fcm.ca_file, f"{fcm.endpoints['FCM']}/v1/projects/demo/messages:send", [], b"{}", version
    )
    wanted = {pycurl.CURL_HTTP_VERSION_2TLS: pycurl.CURL_HTTP_VERSION_2}.get(version, version)
    found = (*answer[:2], json.loads(answer[3])["error"]["status"])
    assert found == (401, wanted, "UNAUTHENTICATED")


# ---------------------------------------------------------------- firebase-admin


@pytest.fixture
def firebase(fcm, monkeypatch):
    """A Firebase app whose two addresses are the simulator's; its own checks, retries and readings
    are untouched.
    """
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", fcm.ca_file)
    url = f"{fcm.endpoints['FCM']}/v1/projects/{{0}}/messages:send"
    monkeypatch.setattr(messaging._MessagingService, "FCM_URL", url)
    key, email = (keys.rsa_key(), f"{uuid.uuid4().hex}@demo.iam.gserviceaccount.com")
    pem = keys.public_pem(key)
    fcm.tell("accounts", {"client_email": email, "public_key_pem": pem, "project_id": "demo"})
    account = {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "0",
        "client_email": email,
        "private_key": keys.pem_of(key),
        "token_uri": f"{fcm.endpoints['GOOGLE_OAUTH']}/token",
    }
    app = firebase_admin.initialize_app(
        firebase_admin.credentials.Certificate(account), name=uuid.uuid4().hex
    )
    yield app
    firebase_admin.delete_app(app)


def message(target: str, **more) -> messaging.Message:
    return messaging.Message(
        token=target, notification=messaging.Notification("Alice", "hi"), **more
    )


def test_firebase_admin_sends_what_the_record_then_shows(fcm, firebase):
    notification = messaging.AndroidNotification(tag="m-1", channel_id="im_message")
    android = messaging.AndroidConfig(
        ttl=3600, priority="high", collapse_key="im", notification=notification
    )
    name = messaging.send(
        message("device-1", data={"push_id": "p1"}, android=android), app=firebase
    )
    (line,) = fcm.lines(name=name)
    found = (line["token"], line["id"], line["collapse_id"], line["project"])
    assert found == ("device-1", "p1", "m-1", "demo")
    assert line["body"]["android"]["ttl"] == "3600s"


def test_one_access_token_does_for_many_messages(fcm, firebase):
    before = fcm.tell("stats")["token_calls"]
    for number in range(3):
        messaging.send(message(f"device-{number}"), app=firebase)
    assert fcm.tell("stats")["token_calls"] == before + 1


REFUSALS = {
    "UNREGISTERED": ("x-dead", messaging.UnregisteredError),
    "SENDER_ID_MISMATCH": ("x-foreign", messaging.SenderIdMismatchError),
    "THIRD_PARTY_AUTH_ERROR": ("x-apnsauth", messaging.ThirdPartyAuthError),
    "INVALID_ARGUMENT": ("x-malformed", firebase_admin.exceptions.InvalidArgumentError),
}


@pytest.mark.parametrize(("target", "error"), REFUSALS.values(), ids=REFUSALS)
def test_firebase_admin_has_the_right_exception_for_each_refusal(firebase, target, error):
    with pytest.raises(error):
        messaging.send(message(target), app=firebase)


def test_firebase_admin_waits_as_long_as_retry_after_says(fcm, firebase):
    fcm.tell("options", {"retry_after_s": 1})
    fcm.tell("faults", {"over_rate": True, "only_first": 1, "retry_after_s": 1})
    began = time.monotonic()
    messaging.send(message("device-9"), app=firebase)
    assert 1.0 <= time.monotonic() - began < 20.0


def test_firebase_admin_calls_a_spent_quota_by_its_name(fcm, firebase):
    fcm.tell("options", {"retry_after_s": 0})
    with pytest.raises(messaging.QuotaExceededError) as refused:
        messaging.send(message("x-busy"), app=firebase)
    assert refused.value.http_response.status_code == 429


def test_firebase_admin_comes_through_two_503(fcm, firebase):
    target = f"fail-{uuid.uuid4().hex}"
    messaging.send(message(target), app=firebase)
    assert len(fcm.lines(token=target)) == 1


def test_firebase_admin_fetches_a_new_token_when_the_old_one_is_refused(fcm, firebase):
    messaging.send(message("device-1"), app=firebase)
    before = fcm.tell("stats")["token_calls"]
    fcm.tell("faults", {"expire_access": True})
    messaging.send(message("device-1"), app=firebase)
    assert fcm.tell("stats")["token_calls"] == before + 1


def test_firebase_admins_asynchronous_side_speaks_http2(fcm, firebase, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", fcm.ca_file)
    target = uuid.uuid4().hex
    batch = [message(f"{target}-{number}") for number in range(20)] + [message("x-dead")]

    async def all_of_them() -> messaging.BatchResponse:
        try:
            return await messaging.send_each_async(batch, app=firebase)
        finally:  # delete_app would close these connections in another loop
            await messaging._get_messaging_service(firebase)._async_client.aclose()

    sent = asyncio.run(all_of_them())
    assert (sent.success_count, sent.failure_count) == (20, 1)
    assert isinstance(sent.responses[20].exception, messaging.UnregisteredError)
    assert sum(line["token"].startswith(target) for line in fcm.tell("record")) == 20
