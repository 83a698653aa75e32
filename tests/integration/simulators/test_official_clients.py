"""What the vendors' own SDKs and public clients send, as docs/vendors records it: the simulators
take it. hpa runs as itself.
"""

import json
import urllib.parse

import hpa
import pytest
from hpa import messaging

from simulators.misbehave import shares_of, side_door
from simulators.registry import SIMULATORS
from simulators.simulator import Record, VendorCall
from tests.builders import present
from tests.integration.simulators.clients.meizu import MeizuClient
from tests.integration.simulators.clients.oppo import OppoClient
from tests.integration.simulators.clients.vivo import VivoClient
from tests.integration.simulators.clients.web import Web
from tests.integration.simulators.clients.xiaomi import XiaomiClient
from tests.integration.simulators.running import Running, changed
from tests.integration.simulators.test_meizu import MESSAGE
from tests.integration.simulators.test_xiaomi import CHAT, without
from tests.tables import spaced


@pytest.fixture
def running(tmp_path, request):
    with Running(request.param, tmp_path) as one:
        yield one


# ---------------------------------------------------------------- Meizu, JavaSdk 1.2.13 (seen on th

#: Every message of the SDK: booleans for the switches, empty texts for what is not set.
JAVA_SDK = json.loads("""{
  "noticeBarInfo": {"noticeBarType": 0, "title": "张三", "content": "晚上八点开会",
    "noticeMsgType": 1},
  "noticeExpandInfo": {"noticeExpandType": 0, "noticeExpandContent": "", "noticeExpandImgUrl": ""},
  "clickTypeInfo": {"clickType": 0, "url": "", "parameters": {}, "activity": "",
    "customAttribute": ""},
  "pushTimeInfo": {"offLine": true, "validTime": 24},
  "advanceInfo": {"fixDisplay": false, "fixStartDisplayTime": "", "fixEndDisplayTime": "",
    "suspend": true, "clearNoticeBar": true, "notifyKey": "",
    "notificationType": {"vibrate": true, "lights": true, "sound": true}},
  "extra": {}
}""")


@pytest.mark.parametrize("running", ["meizu"], indirect=True)
def test_meizus_own_sdk_is_understood(running):
    client = MeizuClient(running.base, running.ca)
    answer = client.push(JAVA_SDK, "A", "dead-1", "quiet-1")
    found = (answer["code"], answer["value"])
    assert found == ("200", {"110002": ["dead-1"], "110010": ["quiet-1"]})
    typed = changed(JAVA_SDK, "noticeBarInfo.noticeBarType", 1)
    picture = changed(typed, "noticeBarInfo.noticeBarImgUrl", "https://a.example/1.png")
    assert client.push(picture, "B")["code"] == "200"
    assert client.push(changed(JAVA_SDK, "pushTimeInfo.offLine", False), "C")["code"] == "200"
    public = changed(JAVA_SDK, "noticeBarInfo.noticeMsgType", 0)
    assert [client.push(public, "D")["value"] for _ in range(4)] == [{}, {}, {}, {"110011": ["D"]}]


@pytest.mark.parametrize("running", ["meizu"], indirect=True)
def test_meizus_other_calls_exist(running):
    client, text = MeizuClient(running.base, running.ca), json.dumps(MESSAGE, ensure_ascii=False)
    assert client.call("varnished/pushByAlias", {"alias": "anna,dead-b", "messageJson": text})[
        "value"
    ] == {"110005": ["dead-b"]}
    found = client.call("pushTask/pushToApp", {"pushType": "0", "messageJson": text})["code"]
    assert found == "200"
    days = {"startTime": "20260101", "endTime": "20260102"}
    for method in ("GET", "POST"):  # the page says GET, the SDK sends POST
        assert client.call("statistics/dailyPushStatics", days, method=method)["code"] == "200"


# ---------------------------------------------------------------- vivo, server SDK 3.3


@pytest.mark.parametrize("running", ["vivo"], indirect=True)
def test_vivos_own_sdk_names_no_app_in_a_list_call(running):
    web, client = Web(running.base, running.ca), VivoClient(running.base, running.ca)
    access = client.call("/message/auth", client.auth_body())["authToken"]
    body = {
        "notifyType": 4,
        "title": "张三",
        "content": "晚上八点开会",
        "skipType": 1,
        "requestId": "r-1",
        "classification": 1,
    }
    body |= {"category": "IM"}

    def told(path, value):
        raw = json.dumps(value).encode()
        headers = {"Content-Type": "application/json", "authToken": access}
        return json.loads(web.call("POST", path, raw, headers)[1])

    task = told("/message/saveListPayload", body)["taskId"]
    sent = told("/message/pushToList", {"regIds": ["A", "B"], "taskId": task, "requestId": "r-2"})
    assert sent["result"] == 0
    again = {"appId": 7, "regIds": ["A", "B"], "taskId": task, "requestId": "r-3"}
    assert told("/message/pushToList", again)["result"] == 10094
    assert told("/message/send", {**body, "regId": "A"})["result"] == 0
    assert [told("/message/all", body)["result"] for _ in range(2)] == [0, 10254]
    assert told("/message/tagPush", {**body, "tagExpression": {"orTags": ["a"]}})["result"] == 0


# ---------------------------------------------------------------- OPPO, server SDK 2.3.1 and 1.0.4


@pytest.mark.parametrize("running", ["oppo"], indirect=True)
def test_oppos_own_sdk_is_understood(running):
    web, client = Web(running.base, running.ca), OppoClient(running.base, running.ca)
    token = client.auth()["data"]["auth_token"]
    old = "0123456789abcdef01234567"

    def told(path, **fields):
        raw = urllib.parse.urlencode({"auth_token": token, **fields}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return json.loads(
            web.call("POST", f"/server/v1/message/notification/{path}", raw, headers)[1]
        )

    shown = {"title": "张三", "content": "文" * 200}
    message = {"target_type": 2, "target_value": old, "notification": shown}
    assert told("unicast", message=json.dumps(message))["code"] == 0
    saved = told("save_message_content", style="3", title="新品", content="上架")
    assert saved["code"] == 0
    message_id = saved["data"]["message_id"]
    assert told("broadcast", message_id=message_id, target_type="2", target_value=old)["code"] == 0
    assert told("broadcast", message_id=saved["data"]["message_id"], target_type="1")["code"] == 0
    wrong = {**message, "target_value": f"CN_{old}"}
    assert told("unicast", message=json.dumps(wrong))["code"] == 10000


# ---------------------------------------------------------------- Xiaomi, server SDK 2.3.0


@pytest.mark.parametrize("running", ["xiaomi"], indirect=True)
def test_xiaomis_own_sdk_is_understood(running):
    web, client = Web(running.base, running.ca), XiaomiClient(running.base, running.ca)
    kind = "application/x-www-form-urlencoded;charset=UTF-8"
    headers = {"Authorization": "key=EXAMPLE_APP_SECRET", "Content-Type": kind}

    def told(method, path, form=None, names=()):
        pairs = [*(form or {}).items(), *names]
        raw = urllib.parse.urlencode(pairs).encode()
        return json.loads(web.call(method, path, raw if method == "POST" else None, headers)[1])

    bare = without(CHAT, "registration_id")
    for path, field in (
        ("/v3/message/alias", "alias"),
        ("/v2/message/user_account", "user_account"),
        ("/v3/message/topic", "topic"),
        ("/v3/message/multi_topic", "topics"),
        ("/v3/message/all", "x"),
    ):
        assert told("POST", path, {**bare, field: "anna"})["code"] == 0, path
    paths = ("/v1/stats/message/counters", "/v1/trace/message/status", "/v1/trace/messages/status")
    for path in paths:
        assert told("GET", f"{path}?restricted_package_name=com.example.im")["code"] == 0, path
    packages = [("restricted_package_name", name) for name in ("com.example.im", "com.example.two")]
    answer = told("POST", "/v3/message/regid", without(CHAT, "restricted_package_name"), packages)
    assert answer["code"] == 0
    names = spaced("""
        ticker channel_name locale model app_version connpt small_icon_uri
        notification_style_button_left_name
    """)
    vendors = {f"extra.{name}": "x" * 200 for name in names}
    assert client.send({**CHAT, **vendors})["code"] == 0
    assert client.send({**CHAT, **{f"extra.own{n}": "x" for n in range(11)}})["code"] == 65014
    assert client.send(without(CHAT, "extra.notify_effect"))["code"] == 22100
    running.door("limits", notify_effect_required=0)
    assert client.send(without(CHAT, "extra.notify_effect"))["code"] == 0


# ---------------------------------------------------------------- Huawei, hpa 1.0.0


@pytest.mark.filterwarnings("ignore")
def test_hpa_sends_with_its_own_defaults(tmp_path):
    """PyPI's hpa, unchanged: its token call is v2."""
    with Running("huawei", tmp_path, tls=False) as huawei:
        token_server = f"{huawei.base}/oauth2/v2/token"
        hpa.initialize_app(
            "100000007", "s3cret", token_server=token_server, push_open_url=huawei.base
        )
        shown = messaging.AndroidNotification(
            title="张三",
            body="晚上八点开会",
            click_action=messaging.AndroidClickAction(action_type=3),
            tag="m-1",
            badge=messaging.AndroidBadgeNotification(add_num=1, clazz="com.example.im.Main"),
        )
        android = messaging.AndroidConfig(
            collapse_key=-1, ttl="86400s", bi_tag="m-1", notification=shown
        )
        good = messaging.send_message(
            messaging.Message(android=android, token=["live-1"]), app_id="100000007"
        )
        mixed = messaging.send_message(
            messaging.Message(android=android, token=["live-1", "dead-1"]), app_id="100000007"
        )
        dead = messaging.send_message(
            messaging.Message(android=android, token=["dead-1"]), app_id="100000007"
        )
        message = messaging.Message(android=android, token=["live-2"])
        dry = messaging.send_message(message, validate_only=True, app_id="100000007")
    found = [one.code for one in (good, mixed, dead, dry)]
    assert found == ["80000000", "80100000", "80300007", "80000000"]
    assert json.loads(mixed.reason)["illegal_tokens"] == ["dead-1"]


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("vendor", sorted(SIMULATORS))
def test_a_fault_that_is_set_twice_works_twice(vendor, tmp_path):
    """Through the side door of one port, on the other."""
    simulator = SIMULATORS[vendor].make(Record(tmp_path / "record.jsonl"))
    door, port = shares_of(simulator), shares_of(simulator)
    for _ in range(2):
        body = json.dumps({"status": 503, "status_share": 1.0, "only_first": 1}).encode()
        call = VendorCall("POST", "/_sim/faults", "", {}, body)
        found = present(side_door(simulator, door, call)).status
        assert found == 200
        assert [port.fate().kind for _ in range(3)] == ["status", "answer", "answer"]
