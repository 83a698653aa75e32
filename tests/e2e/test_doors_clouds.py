"""The clouds' callbacks over HTTP: every sample gives the events that are expected of it; what is
not genuine gives none.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from common.storage.tenants import Tenant
from tests.e2e.conftest import Core, wait_for
from tests.e2e.doors import open_gateway
from tests.unit.intake.dialects.test_samples import ENTRY_MS, with_defaults, without_ids
from workers.gateway.secrets import CALLBACK_SECRETS, with_secret
from workers.intake.decoding import Passed, read_entry
from workers.intake.dialects import DIALECTS
from workers.intake.dialects.signatures import nim_checksum, nim_md5, tencent_sign, zego_signature

pytestmark = [pytest.mark.e2e]
DATA = Path(__file__).parents[1] / "data" / "callbacks"
SAMPLES = json.loads((DATA / "manifest.json").read_text())["samples"]
CAUGHT = "im:caught"
SECRETS = {"tencent": "demo-token", "zego": "demo-callback-secret", "nim": "demo-app-secret"}


class Clouds:
    """A tenant for each cloud with the samples' names and secrets. The events are caught: a stream
    that the fleet does not read.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        runtime = core.runtime
        self.apps = {sample["d"]: sample["app"] for sample in SAMPLES}
        for cloud, app in self.apps.items():
            options = with_secret({}, CALLBACK_SECRETS, SECRETS[cloud], runtime.vault)
            runtime.tenants.add(Tenant(app, cloud, "zh", "Asia/Shanghai", options))
        runtime.tenants.add(Tenant("no-secret", "", "zh", "Asia/Shanghai"))
        runtime.catalog.changed()


@pytest.fixture(scope="module")
def clouds(fleet: Core) -> Clouds:
    return Clouds(fleet)


@pytest.fixture(scope="module")
def door(fleet: Core, clouds: Clouds) -> Iterator[httpx.Client]:
    with open_gateway(fleet) as client:
        yield client


@pytest.fixture(scope="module")
def caught(fleet: Core, clouds: Clouds) -> Iterator[httpx.Client]:
    """The same doors before a stream that the fleet does not read."""
    with open_gateway(fleet, CAUGHT) as client:
        yield client


def tencent_query(
    app: str,
    command: str = "C2C.CallbackAfterSendMsg",
    token: str = "demo-token",
    at_s: int | None = None,
) -> str:
    when = str(int(time.time()) if at_s is None else at_s)
    query = {
        "SdkAppid": app,
        "CallbackCommand": command,
        "contenttype": "json",
        "RequestTime": when,
        "Sign": tencent_sign(token, when),
    }
    return urlencode(query)


def signed(sample: dict[str, Any], raw: bytes) -> tuple[str, dict[str, str]]:
    """(query, headers) of a sample as its cloud sends it now."""
    if sample["d"] == "tencent":
        pairs = sample["query"].split("&")
        kept = [pair for pair in pairs if not pair.startswith(("RequestTime=", "Sign="))]
        when = str(int(time.time()))
        return "?" + "&".join(
            [*kept, f"RequestTime={when}", f"Sign={tencent_sign('demo-token', when)}"]
        ), {}
    if sample["d"] == "nim":
        md5, cur_time = nim_md5(raw), str(int(time.time() * 1000))
        check_sum = nim_checksum("demo-app-secret", md5, cur_time)
        headers = {"MD5": md5, "CurTime": cur_time, "CheckSum": check_sum}
        return f"?app={sample['app']}", headers
    return "", {}


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample["file"] for sample in SAMPLES])
def test_a_sample_gives_the_events_that_it_should(
    clouds: Clouds, caught: httpx.Client, sample: dict[str, Any]
) -> None:
    raw = (DATA / sample["file"]).read_bytes()
    expected = json.loads((DATA / sample["file"].replace(".json", ".expected.json")).read_text())
    query, headers = signed(sample, raw)
    headers = {"content-type": "application/json", **headers}
    answer = caught.post(f"/callbacks/{sample['d']}{query}", content=raw, headers=headers)
    assert answer.status_code == 200, answer.text
    entries: Any = clouds.core.redis.xrange(CAUGHT)
    ((entry_id, fields),) = entries
    clouds.core.redis.delete(CAUGHT)
    assert (fields[b"d"].decode(), fields[b"app"].decode()) == (sample["d"], sample["app"])
    read = read_entry(CAUGHT, entry_id.decode(), fields, [sample["app"]], ENTRY_MS)
    assert isinstance(read, Passed)
    seen = [(event.type, event.app) for event in read.events]
    assert seen == [(event["type"], event["app"]) for event in expected]
    query_of = fields[b"q"].decode() if b"q" in fields else None
    found = DIALECTS[sample["d"]](
        json.loads(fields[b"e"]), app=sample["app"], query=query_of, entry_ms=ENTRY_MS
    )
    assert without_ids(with_defaults(found.events)) == without_ids(with_defaults(expected))


def post(
    door: httpx.Client, cloud: str, body: bytes, query: str = "", **headers: str
) -> httpx.Response:
    headers = {"content-type": "application/json", **headers}
    return door.post(f"/callbacks/{cloud}{query}", content=body, headers=headers)


def tencent_body(text: str = "hi") -> bytes:
    key = uuid.uuid4().hex
    element = {"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}
    body = {
        "CallbackCommand": "C2C.CallbackAfterSendMsg",
        "From_Account": "a",
        "To_Account": "b",
        "MsgKey": key,
        "MsgSeq": 1,
        "MsgTime": 1,
    }
    return json.dumps({**body, "MsgBody": [element], "SendMsgResult": 0}).encode()


def test_tencents_own_ok(clouds: Clouds, door: httpx.Client) -> None:
    answer = post(door, "tencent", tencent_body(), "?" + tencent_query(clouds.apps["tencent"]))
    assert answer.json() == {"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0}


@pytest.mark.parametrize(
    "query",
    [
        lambda app: "",
        lambda app: f"?SdkAppid={app}",
        lambda app: "?" + tencent_query(app, token="another"),
        lambda app: "?" + tencent_query(app, at_s=int(time.time()) - 600),
        lambda app: "?" + tencent_query(app, at_s=int(time.time()) + 600),
        lambda app: "?" + tencent_query("no-secret"),
        lambda app: "?" + tencent_query("no-such-tenant"),
    ],
)
def test_a_forged_or_stale_callback_of_tencent_is_refused(
    clouds: Clouds, door: httpx.Client, query: Callable[[str], str]
) -> None:
    filled = query(clouds.apps["tencent"])
    assert post(door, "tencent", tencent_body(), filled).status_code == 401


def test_another_tenants_secret_is_none(clouds: Clouds, door: httpx.Client) -> None:
    query = "?" + tencent_query(clouds.apps["zego"])
    assert post(door, "tencent", tencent_body(), query).status_code == 401
    mixed = "?" + tencent_query(clouds.apps["tencent"]) + "&app=" + clouds.apps["zego"]
    assert post(door, "tencent", tencent_body(), mixed).status_code == 403


def zego_body(app: str, nonce: str | None = None, **more: Any) -> bytes:
    when, nonce = str(int(time.time())), nonce or str(uuid.uuid4().int % 1_000_000)
    body = {
        "appid": app,
        "event": "user_action",
        "nonce": nonce,
        "timestamp": int(when),
        "user_id": "u",
        "action": 0,
    }
    return json.dumps(
        {**body, "signature": zego_signature("demo-callback-secret", when, nonce), **more}
    ).encode()


def test_zego_percent_encoded_or_as_a_form(clouds: Clouds, door: httpx.Client) -> None:
    app = clouds.apps["zego"]
    assert post(door, "zego", quote(zego_body(app).decode()).encode()).status_code == 200
    form = urlencode(json.loads(zego_body(app))).encode()
    as_form = {"content-type": "application/x-www-form-urlencoded"}
    assert post(door, "zego", form, **as_form).status_code == 200
    field = urlencode({"data": zego_body(app).decode()}).encode()
    as_form = {"content-type": "application/x-www-form-urlencoded"}
    assert post(door, "zego", field, **as_form).status_code == 200


def test_a_signature_of_zegos_brings_one_body(clouds: Clouds, door: httpx.Client) -> None:
    app = clouds.apps["zego"]
    first = zego_body(app, "n" + uuid.uuid4().hex[:8])
    assert post(door, "zego", first).status_code == 200
    # its retry, as its answer may have been lost
    assert post(door, "zego", first).status_code == 200
    other = json.dumps({**json.loads(first), "user_id": "somebody else"}).encode()
    assert post(door, "zego", other).status_code == 401
    assert post(door, "zego", zego_body(app, signature="0" * 40)).status_code == 401
    assert post(door, "zego", zego_body("1234")).status_code == 401


def nim_headers(raw: bytes, secret: str = "demo-app-secret") -> dict[str, str]:
    md5, cur_time = hashlib.md5(raw).hexdigest(), str(int(time.time() * 1000))
    return {"MD5": md5, "CurTime": cur_time, "CheckSum": nim_checksum(secret, md5, cur_time)}


def test_nim_signs_the_bytes(clouds: Clouds, door: httpx.Client) -> None:
    raw = json.dumps({"eventType": "2", "accid": "a", "x": "你好"}, ensure_ascii=False).encode()
    found = post(door, "nim", raw, f"?app={clouds.apps['nim']}", **nim_headers(raw)).status_code
    assert found == 200
    # its secret tells whose it is
    assert post(door, "nim", raw, **nim_headers(raw)).status_code == 200
    assert post(door, "nim", raw + b" ", **nim_headers(raw)).status_code == 401
    assert post(door, "nim", raw, **nim_headers(raw, "another")).status_code == 401
    assert post(door, "nim", raw).status_code == 401


def test_a_secret_is_rotated_without_a_gap(clouds: Clouds, door: httpx.Client) -> None:
    runtime, app = clouds.core.runtime, clouds.apps["nim"]
    raw = b'{"eventType":"2"}'
    tenant = runtime.tenants.all()[app]
    options = with_secret(tenant.options, CALLBACK_SECRETS, "the new one", runtime.vault)
    runtime.tenants.add(Tenant(app, tenant.name, tenant.lang, tenant.tz, options))
    runtime.catalog.changed()

    def codes() -> list[int]:
        secrets = ("the new one", "demo-app-secret", "x")
        return [post(door, "nim", raw, **nim_headers(raw, one)).status_code for one in secrets]

    wait_for(lambda: codes()[0] == 200, "the door knows the new one")
    assert codes() == [200, 200, 401]


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"a=b", b"%7B"])
def test_what_is_no_callback(door: httpx.Client, body: bytes) -> None:
    assert post(door, "zego", body).status_code in (400, 401)


def test_a_body_that_is_too_large(door: httpx.Client) -> None:
    assert post(door, "zego", b"x" * (2 << 20)).status_code == 413
