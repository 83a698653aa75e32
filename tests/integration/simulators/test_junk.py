"""Whatever a client sends, each of the six simulators answers: a refusal in the vendor's own shape,
never a mistake of its own.
"""

import copy
import json
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulators import honor, huawei, meizu, oppo, vivo, xiaomi
from simulators.simulator import Record, VendorCall, VendorReply
from tests.examples import examples
from tests.integration.simulators.clients.huawei import make_jwt
from tests.integration.simulators.test_honor import BODY as HONOR
from tests.integration.simulators.test_huawei import BODY as HMS
from tests.integration.simulators.test_huawei import BODY3, KEY
from tests.integration.simulators.test_meizu import MESSAGE as MEIZU
from tests.integration.simulators.test_oppo import MESSAGE as OPPO
from tests.integration.simulators.test_vivo import BODY as VIVO
from tests.integration.simulators.test_xiaomi import CHAT, item

JWT = make_jwt(KEY)
TRIED = settings(
    max_examples=examples(50), deadline=None, suppress_health_check=list(HealthCheck), database=None
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["1", "IM", "https://a.b", "60s", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)


def spots(value, path=()):
    """The path of every place inside a JSON value, itself included."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path] + [spot for key, one in inner for spot in spots(one, (*path, key))]


def replaced(value, path, new):
    if not path:
        return new
    result = copy.deepcopy(value)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return result


def text(value):
    return json.dumps(value)


def bearer(path, body, token="tok", **headers):
    return VendorCall(
        "POST", path, "", {"authorization": f"Bearer {token}", **headers}, text(body).encode()
    )


def form(path, **fields):
    headers = {"content-type": "application/x-www-form-urlencoded", "authorization": "key=abc"}
    return VendorCall(
        "POST", path, "", headers, urllib.parse.urlencode(fields, errors="replace").encode()
    )


def bearing(path, token="tok", **headers):
    return lambda body: bearer(path, body, token, **headers)


def within(path, name, **fields):
    """The body as one field of a form."""
    return lambda body: form(path, **fields, **{name: text(body)})


def fielded(body):
    fields = body if isinstance(body, dict) else {}
    texts = {name: one if isinstance(one, str) else text(one) for name, one in fields.items()}
    return form("/v3/message/regid", **texts)


def plain(path, **headers):
    return lambda body: VendorCall("POST", path, "", headers, text(body).encode())


UNICAST = "/server/v1/message/notification/unicast"
MEIZU_PUSH = "/garcia/api/server/push/varnished/pushByPushId"
VIVO_ACCESS = {"appId": 1, "appKey": "k", "timestamp": 1, "sign": "s"}

#: (simulator, a message it accepts, how that travels).
CASES = {
    "huawei v1": (huawei, HMS, bearing("/v1/1/messages:send")),
    "huawei v3": (huawei, BODY3, bearing("/v3/7/messages:send", JWT, **{"push-type": "0"})),
    "huawei revoke": (
        huawei,
        {"token": ["T"], "notifyId": 1},
        bearing("/v1/7/messages:revoke", JWT),
    ),
    "honor": (honor, HONOR, bearing("/api/v1/1/sendMessage", timestamp="1748793600000")),
    "xiaomi": (xiaomi, CHAT, fielded),
    "xiaomi multi": (
        xiaomi,
        [item("A", 1), item("B", 2)],
        within("/v2/multi_messages/regids", "messages"),
    ),
    "oppo": (oppo, OPPO, within(UNICAST, "message", auth_token="tok")),
    "oppo batch": (oppo, [OPPO], within(UNICAST + "_batch", "messages", auth_token="tok")),
    "vivo": (vivo, VIVO, plain("/message/send", authtoken="tok")),
    "vivo auth": (vivo, VIVO_ACCESS, plain("/message/auth")),
    "meizu": (
        meizu,
        MEIZU,
        within(MEIZU_PUSH, "messageJson", appId="1", sign="0" * 32, pushIds="A"),
    ),
}


def made(module, folder):
    simulator = module.make(Record(folder / "record.jsonl"))
    simulator.limits = dict.fromkeys(simulator.limits, 0)
    simulator.calendar.set({"hour": 12})
    if hasattr(simulator, "access"):
        simulator.access.give("100000123" if module is vivo else "1", "tok")
    return simulator


@pytest.mark.parametrize("name", CASES)
def test_one_place_of_a_good_message_changed_to_anything(name, tmp_path):
    module, good, travelling = CASES[name]
    simulator = made(module, tmp_path)
    accepted = simulator.handle(travelling(good))
    assert name == "vivo auth" or simulator.record.counts["accepted"] >= 1, accepted

    @TRIED
    @given(st.sampled_from(spots(good)), VALUES)
    def answered(path, value):
        reply = simulator.handle(travelling(replaced(good, path, value)))
        assert isinstance(reply, VendorReply)
        assert 200 <= reply.status < 600

    answered()
    assert len(simulator.record.lines()) == simulator.record.counts.get("accepted", 0)


ANYTHING = st.binary(max_size=40) | st.sampled_from(
    [b"", b"null", b"[]", b"{}", b"{", b"=&=", b"a=%ff", b"[" * 5000, b"\xff\xfe{\x00"]
)


@pytest.mark.parametrize(
    "module", [huawei, honor, xiaomi, oppo, vivo, meizu], ids=lambda module: module.__name__
)
def test_any_bytes_on_any_path_are_answered(module, tmp_path):
    simulator = made(module, tmp_path)
    own = [travelling(good) for kind, good, travelling in CASES.values() if kind is module]
    token = VendorCall("POST", "/oauth2/v3/token", "", {}, b"")
    calls = st.sampled_from([*own, token, VendorCall("POST", "/auth/token", "", {}, b"")])

    @TRIED
    @given(calls, st.sampled_from(["POST", "GET", "PUT"]), ANYTHING)
    def answered(call, method, body):
        reply = simulator.handle(
            VendorCall(method, call.path, body.decode("latin-1"), call.headers, body)
        )
        assert isinstance(reply, VendorReply)

    answered()
    assert simulator.record.counts.get("accepted", 0) == 0
