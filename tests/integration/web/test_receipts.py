"""Receipts end to end: a simulated vendor posts what became of a push, the ledger tells it, dead
tokens are retired.
"""

import json
import secrets
import socket
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from common import metrics
from common.clock import now_ms
from common.contracts import Attempt, encode
from common.model import Decision, Urgency, Vendor
from common.storage import keys
from common.storage.direct_tokens import DirectToken, DirectTokens
from common.storage.redis import SOCKET_TIMEOUT_S
from common.storage.streams import Entry
from common.tokens import token_user
from simulators.huawei import callback_headers
from tests.integration.web.conftest import APP, call, event, message, registered
from tests.records import row_record
from tests.waiting import eventually
from workers import serving
from workers.adapters.catalog import lane_of
from workers.cli.why import message_trace
from workers.receipts import matched, matcher
from workers.receipts.address import PURPOSE, path_of
from workers.receipts.http import serve
from workers.receipts.matched import Callback
from workers.receipts.matcher import ReceiptsHandler
from workers.receipts.readers import READERS
from workers.runtime import Runtime


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """A matcher that is told to stop ends soon; a receipt that comes before its row is looked up
    again soon, and the last time as late as in life.
    """
    monkeypatch.setattr(matcher, "BLOCK_MS", 50)
    for module in (matched, matcher):
        monkeypatch.setattr(module, "LOOK_AGAIN_S", (0.1, 0.3, 1.0, *matched.LOOK_AGAIN_S[1:]))


@pytest.fixture
def receipts(runtime, tenant, simulators):
    """The receipts process's serve, in a thread; its base URL. Meizu tells its receipts."""
    assert b"true" in call(f"{simulators['control']['meizu']}/_sim/receipts", b'{"on": true}').body
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(runtime, stop))
    thread.start()
    base = f"http://{runtime.settings.receipts_addr}"
    eventually(lambda: listens(runtime.settings.receipts_addr))
    yield base
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def listens(addr):
    host, port = addr.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def url(runtime, vendor: Vendor, business_id: str | None = None) -> str:
    return runtime.settings.receipts_url + path_of(
        vendor, APP, business_id or f"{vendor}-1", runtime.vault.derived(PURPOSE)[0]
    )


def publish(runtime, *events):
    for one in events:
        runtime.core.xadd(runtime.settings.event_streams[0], {"e": json.dumps(one)})


def pushed(
    fleet, runtime, vendor: str, people: dict[str, str], conversation="c2c", message_id="m1"
):
    """Registers {user: token} and sends them one message; the rows by user."""
    pairs = people.items()
    publish(runtime, *(registered(user, f"{user}-phone", vendor, token) for user, token in pairs))
    fleet.step()
    publish(runtime, message(message_id, list(people), conversation))

    def decided():
        fleet.step()
        told = message_trace(runtime, message_id, APP, None, None)
        return (
            told
            and len(told["recipients"]) == len(people)
            and all(one["decision"] for one in told["recipients"])
            and told
        )

    return {one["user"]: one for one in eventually(decided)["recipients"]}


def told_of(runtime, fleet, user="bob", message_id="m1"):
    """Statuses of this person's receipts, once there are any."""

    def look():
        fleet.step()
        rows = message_trace(runtime, message_id, APP, None, user)["recipients"]
        return [receipt["status"] for row in rows for receipt in row["receipts"]]

    return eventually(look)


def state_of(runtime, user="bob"):
    return runtime.devices.listed(APP, user)[0]["state"]


def test_a_vendor_that_got_our_address_with_the_push_tells_its_delivery(runtime, fleet, receipts):
    row = pushed(fleet, runtime, "meizu", {"bob": "live1"})["bob"]
    assert row["decision"] == "accepted"
    assert told_of(runtime, fleet) == ["delivered"]
    assert state_of(runtime) == "active"


def test_a_request_for_many_is_told_apart_by_its_tokens(runtime, fleet, receipts):
    people = {f"u{number}": f"live{number}" for number in range(5)}
    pushed(fleet, runtime, "meizu", people, "group")
    for user in people:
        assert told_of(runtime, fleet, user) == ["delivered"]


def test_a_call_is_told_too(runtime, fleet, receipts):
    publish(runtime, *(registered(user, "d", "meizu", f"live{user}") for user in ("bob", "eve")))
    fleet.step()
    data = {
        "call_id": "c1",
        "inviter": {"id": "alice"},
        "invitees": ["bob", "eve"],
        "timeout_s": 30,
        "push": {},
    }
    publish(runtime, {**message("x", ["bob"]), "id": "ec1", "type": "call.invited", "data": data})
    for _ in range(3):
        fleet.step()
    assert told_of(runtime, fleet, "eve", "c1") == ["delivered"]


def meizu_body(tag, token, kind=1):
    return urllib.parse.urlencode(
        {"cb": json.dumps({"9-1": {"param": tag, "type": kind, "targets": [token]}})}
    ).encode()


def huawei_body(tag, token, status):
    one = {
        "biTag": tag,
        "token": token,
        "status": status,
        "timestamp": 1767225600000,
        "requestId": "9",
    }
    return json.dumps({"statuses": [one]}).encode()


def signed(key="Y2FsbGJhY2sta2V5"):
    return {"content-type": "application/json", **callback_headers({"user": "push", "key": key})}


SAYS = {
    "0: delivered": (0, "delivered", "active"),
    "2: not installed": (2, "not_installed", "retired"),
    "6: notifications off": (6, "notifications_off", "silenced"),
    "102: its own cap": (102, "device_cap", "active"),
    "a code nobody documents": (9999, "code 9999", "active"),
}


@pytest.mark.parametrize(("status", "words", "state"), SAYS.values(), ids=SAYS)
def test_what_huawei_says_stands_in_the_ledger_and_changes_the_device(
    runtime, fleet, receipts, status, words, state
):
    row = pushed(fleet, runtime, "huawei", {"bob": "live1"})["bob"]
    answer = call(
        url(runtime, Vendor.HUAWEI), huawei_body(row["push_id"], "live1", status), signed()
    )
    assert (answer.status, answer.body) == (200, b'{"code":"0","message":"success"}')
    assert told_of(runtime, fleet) == [words]
    eventually(lambda: state_of(runtime) == state)


HONORS = {
    "its own": ({}, ["delivered"]),
    "another token": ({"token": "live-9"}, []),
    "another message id": ({"requestId": "no-such"}, []),
}


@pytest.mark.parametrize(("changes", "statuses"), HONORS.values(), ids=HONORS)
def test_honors_receipt_must_fit_in_tag_token_and_message_id(
    runtime, fleet, receipts, changes, statuses
):
    phone = registered("bob", "bob-phone", "honor", "live-1")
    publish(runtime, phone, registered("eve", "eve-phone", "honor", "live-9"))
    fleet.step()
    now, tag = now_ms(), "5" * 32
    sent = Attempt(now, "200", "200", "", "r-1")
    where = {
        "app": APP,
        "ts_ms": now,
        "user": "bob",
        "device": "bob-phone",
        "vendor": Vendor.HONOR,
        "business_id": "honor-1",
    }
    row = row_record(
        **where,
        decision=Decision.ACCEPTED,
        class_sent="chat",
        push_id=tag,
        attempts=(sent,),
        decided_ms=now,
    )
    runtime.ledger.write([row])
    told = {
        "biTag": tag,
        "token": "live-1",
        "status": 40000002,
        "timestamp": now,
        "requestId": "r-1",
    } | changes
    answer = call(url(runtime, Vendor.HONOR), json.dumps({"statuses": [told]}).encode())
    assert (answer.status, answer.body) == (200, b'{"code":"0","message":"success"}')
    eventually(lambda: runtime.redis.xlen(runtime.keys.stream(keys.RECEIPTS)) == 0)
    fleet.writer.flush()
    with runtime.engine.connect() as connection:
        notes = connection.execute(text("SELECT note FROM notes WHERE kind = 'receipt'"))
        assert [note for (note,) in notes] == statuses


def test_honors_receipt_of_a_push_to_a_mere_token_must_fit_too(runtime, fleet, receipts):
    """A door names tokens: nobody owns them in the registry."""
    now, token = now_ms(), f"live-{secrets.token_hex(4)}"
    user = token_user("honor", "honor-1", token)
    seen = DirectToken(APP, user, "android", "honor", "honor-1", token, None, None, now - 1)
    DirectTokens(runtime.engine).seen([seen])
    row = row_record(
        app=APP,
        ts_ms=now,
        user=user,
        device="",
        vendor=Vendor.HONOR,
        business_id="honor-1",
        decision=Decision.ACCEPTED,
        class_sent="chat",
        push_id=(tag := secrets.token_hex(16)),
        attempts=(Attempt(now, "200", "200", "", "r-1"),),
        decided_ms=now,
    )
    runtime.ledger.write([row])

    def tell(**changes):
        told = {"biTag": tag, "token": token, "status": 40000003, "requestId": "r-1", **changes}
        body = json.dumps({"statuses": [told]}).encode()
        assert call(url(runtime, Vendor.HONOR), body).status == 200
        eventually(lambda: runtime.redis.xlen(runtime.keys.stream(keys.RECEIPTS)) == 0)
        return DirectTokens(runtime.engine).states([(APP, user)])[(APP, user)][0]

    assert tell(token="live-other") == "active"
    assert tell(requestId="r-2") == "active"
    tell()
    eventually(
        lambda: DirectTokens(runtime.engine).states([(APP, user)])[(APP, user)][0] == "retired"
    )


def test_huaweis_signature_is_checked_and_a_replay_changes_nothing(runtime, fleet, receipts):
    row = pushed(fleet, runtime, "huawei", {"bob": "live1"})["bob"]
    body, where = huawei_body(row["push_id"], "live1", 2), url(runtime, Vendor.HUAWEI)
    assert call(where, body, {"content-type": "application/json"}).status == 401
    assert call(where, body, signed(key="d3Jvbmcta2V5")).status == 401
    once = signed()
    assert call(where, body, once).status == 200
    eventually(lambda: state_of(runtime) == "retired")
    runtime.devices.set_state(APP, "bob", "bob-phone", "active", "")
    assert call(where, body, once).status == 200, "the vendor hears that we have it"
    assert call(where, huawei_body(row["push_id"], "live1", 0), signed()).status == 200
    told = eventually(lambda: len(found := told_of(runtime, fleet)) == 2 and found)
    assert sorted(told) == ["delivered", "not_installed"]
    assert state_of(runtime) == "active"


def test_the_same_receipt_twice_is_told_and_counted_once(runtime, fleet, receipts):
    """Also where another process than the one that counted it takes its repeat."""
    # of the delivery the simulator tells too, soon after the push
    before = [counted(Vendor.MEIZU, status) for status in ("delivered", "clicked")]
    row = pushed(fleet, runtime, "meizu", {"bob": "live1"})["bob"]
    for kind in (1, 1, 2, 2, 1):
        body = meizu_body(row["push_id"], "live1", kind)
        assert call(url(runtime, Vendor.MEIZU), body).status == 200
    eventually(lambda: sorted(told_of(runtime, fleet)) == ["clicked", "delivered"])
    read = READERS[Vendor.MEIZU].read(body, {})
    repeat = Callback(Vendor.MEIZU, APP, "meizu-1", now_ms(), tuple(read))
    commit = ReceiptsHandler(runtime).handle([Entry(keys.RECEIPTS, b"1-0", encode(repeat))])
    for step in commit.after:
        step()
    time.sleep(0.3)
    assert sorted(told_of(runtime, fleet)) == ["clicked", "delivered"]
    after = [counted(Vendor.MEIZU, status) for status in ("delivered", "clicked")]
    assert after == [one + 1 for one in before]


def test_a_receipt_that_is_faster_than_the_ledger_is_not_lost(runtime, fleet, receipts):
    publish(runtime, registered("bob", "bob-phone", "vivo", "1" * 23))
    fleet.step()
    publish(runtime, message("m1", ["bob"]))
    push_id = early_push_id(runtime, fleet)  # nothing is delivered meanwhile
    body = json.dumps({"77": {"param": push_id, "targets": "1" * 23, "ackType": "2183"}}).encode()
    assert call(url(runtime, Vendor.VIVO), body, {"content-type": "application/json"}).body == b"0"
    eventually(lambda: runtime.redis.zcard(runtime.keys.receipts_later) == 1)
    assert told_of(runtime, fleet) == ["token_dead"]
    eventually(lambda: state_of(runtime) == "retired")


def early_push_id(runtime, fleet) -> str:
    """Of the first push on the stream, before any delivery."""
    from common.contracts import decode_batch
    from workers.app import PRESENCE, ROUTING

    fleet._consumer.once(10)
    fleet._stages.consumer(PRESENCE)(lambda: False)
    fleet._stages.consumer(ROUTING)(lambda: False)
    [lane] = runtime.lane_queues.loaded()
    [(_, blob)] = runtime.lane_queues.unnoted(lane, Urgency.CHAT, 10)
    return decode_batch(blob).pushes[0].targets[0].push_id


def test_a_token_that_moved_is_replaced(runtime, fleet, receipts):
    row = pushed(fleet, runtime, "xiaomi", {"bob": "live-old"})["bob"]
    replaced = {"live-old": "live-new"}
    param = row["push_id"]
    told = {"77": {"param": param, "type": 16, "targets": "live-old", "replaceTarget": replaced}}
    where = url(runtime, Vendor.XIAOMI)
    assert call(where, urllib.parse.urlencode({"data": json.dumps(told)}).encode()).status == 200
    eventually(lambda: runtime.devices.listed(APP, "bob")[0]["token"] == "live-new")
    assert state_of(runtime) == "active"


def test_a_mere_token_moves_nowhere_and_dies_by_its_own_name(runtime, fleet, receipts):
    """A door goes on naming the token that it has: were the registry's another, the door would
    never hear that its own is dead.
    """
    token = f"live-{secrets.token_hex(4)}"
    target = {"vendor": "xiaomi", "business_id": "xiaomi-1", "token": token, "platform": "android"}
    push = {"display": {"title": "Ann", "body": "hello"}}
    data = {"target": target, "message_id": "m1", "kind": "message", "push": push}
    publish(runtime, event("push.direct", data))

    def decided():
        fleet.step()
        told = message_trace(runtime, "m1", APP, None, None)
        return told and told["recipients"] and told["recipients"][0]["decision"] and told

    (row,) = eventually(decided)["recipients"]
    assert row["decision"] == "accepted"

    def tell(**more):
        told = {"77": {"param": row["push_id"], "type": 16, "targets": token, **more}}
        body = urllib.parse.urlencode({"data": json.dumps(told)}).encode()
        assert call(url(runtime, Vendor.XIAOMI), body).status == 200

    def known():
        (device,) = runtime.devices.listed(APP, row["user"])
        return device["token"], device["state"]

    tell(replaceTarget={token: "live-new"})
    assert told_of(runtime, fleet, row["user"]) == ["invalid"]
    assert known() == (token, "active")
    tell()
    eventually(lambda: known() == (token, "retired"))


def test_a_device_that_has_had_enough_today_gets_no_more(runtime, fleet, receipts):
    """Xiaomi tells by receipt only; without the private right a chat counts as public."""
    row = pushed(fleet, runtime, "xiaomi", {"bob": "live-1"})["bob"]
    extra = {"ack": 5, "quota": 20000}
    told = {"77": {"param": row["push_id"], "type": 128, "targets": "live-1", "extra": extra}}
    where = url(runtime, Vendor.XIAOMI)
    assert call(where, urllib.parse.urlencode({"data": json.dumps(told)}).encode()).status == 200
    assert told_of(runtime, fleet) == ["over_quota"]
    again = pushed(fleet, runtime, "xiaomi", {"bob": "live-1"}, message_id="m2")["bob"]
    assert (again["decision"], again["attempts"]) == ("device_cap", [])


def test_a_device_that_registered_anew_since_is_not_retired(runtime, fleet, receipts):
    row = pushed(fleet, runtime, "huawei", {"bob": "live1"})["bob"]
    later = registered("bob", "bob-phone", "huawei", "live1")
    publish(runtime, later | {"ts": later["ts"] + 60_000})
    fleet.step()
    answer = call(url(runtime, Vendor.HUAWEI), huawei_body(row["push_id"], "live1", 2), signed())
    assert answer.status == 200
    assert told_of(runtime, fleet) == ["not_installed"]
    assert state_of(runtime) == "active"


def test_a_stranger_finds_nothing(runtime, receipts):
    good = url(runtime, Vendor.MEIZU)
    wrong = {
        "/": 404,
        "/meizu": 404,
        good.removeprefix(receipts)[:-1] + "x": 404,
        path_of(Vendor.MEIZU, APP, "meizu-1", b"another key"): 404,
        url(runtime, Vendor.MEIZU, "no-such-account").removeprefix(receipts): 404,
        url(runtime, Vendor.APNS).removeprefix(receipts): 404,
    }
    for path, status in wrong.items():
        answer = call(receipts + path, b"x")
        assert (answer.status, answer.body) == (status, b'{"error":"no such address"}'), path
    refused = call(good)
    allowed = {name.lower(): value for name, value in refused.headers.items()}.get("allow")
    assert (refused.status, allowed) == (405, "POST")
    assert call(receipts + "/some/proxy" + good.removeprefix(receipts), b"x").status == 200


BODIES = {
    "no JSON": (Vendor.HUAWEI, b"x", 200),
    "no statuses": (Vendor.HUAWEI, b"{}", 200),
    "nothing": (Vendor.MEIZU, b"", 200),
    "junk": (Vendor.VIVO, b"\xff\x00[", 200),
    "as large as may be": (Vendor.MEIZU, b"x" * (1 << 20), 200),
    "a token that no database takes": (Vendor.MEIZU, meizu_body("0" * 32, "live\0"), 200),
    "larger": (Vendor.MEIZU, b"x" * ((1 << 20) + 1), 413),
    "somebody else's push": (Vendor.MEIZU, meizu_body("0" * 32, "live1"), 200),
}


@pytest.mark.parametrize(("vendor", "body", "status"), BODIES.values(), ids=BODIES)
def test_any_body_gets_an_answer_and_changes_nothing(runtime, receipts, vendor, body, status):
    answer = call(url(runtime, vendor), body, signed() if vendor == Vendor.HUAWEI else {})
    assert answer.status == status
    eventually(lambda: runtime.redis.xlen(runtime.keys.stream(keys.RECEIPTS)) == 0)
    assert call(receipts + "/healthz").status == 200


def test_a_store_that_hangs_is_told_in_time_to_however_many_call(
    runtime, tenant, restartable_valkey, free_port, monkeypatch
):
    """More callers than threads: each waits for the store's own limit, one behind the other."""
    monkeypatch.setattr(serving, "ANSWER_S_MAX", 0.5)
    where = {"redis_url": restartable_valkey.url, "core_url": restartable_valkey.url}
    address = f"127.0.0.1:{free_port()}"
    own = Runtime(
        replace(runtime.settings, **where, receipts_addr=address, receipts_url=f"http://{address}"),
        "test",
    )
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(own, stop))
    thread.start()
    try:
        at = url(own, Vendor.MEIZU)
        body = meizu_body("0" * 32, "live1")
        eventually(lambda: listens(address) and call(at, body).status == 200)
        restartable_valkey.pause()

        def longest() -> float:
            with ThreadPoolExecutor(60) as callers:
                answers = list(callers.map(lambda _: timed(at, body), range(60)))
            assert {answer.status for answer, _ in answers} == {503}
            assert {answer.headers["retry-after"] for answer, _ in answers} == {"5"}
            return max(took for _, took in answers)

        # a machine that stands still is slow once
        assert any(longest() < SOCKET_TIMEOUT_S for _ in range(3))
    finally:
        restartable_valkey.go_on()
        stop.set()
        thread.join(60)
        own.close()


def timed(at, body):
    began = time.monotonic()
    return call(at, body), time.monotonic() - began


def test_a_callback_that_can_t_be_read_is_counted_and_logged_once_a_minute(
    runtime, receipts, caplog
):
    """The sender hears that all is well: one that is refused sends it again, or stops telling."""
    for vendor in (Vendor.VIVO, Vendor.XIAOMI, Vendor.MEIZU, Vendor.HONOR):
        before = counted(vendor)
        assert [call(url(runtime, vendor), b"hello").status for _ in range(3)] == [200] * 3
        assert counted(vendor) == before + 3
    before, many = counted(Vendor.VIVO), {"t": {"targets": "r," * 10_001}}
    assert call(url(runtime, Vendor.VIVO), json.dumps(many).encode()).status == 200
    assert counted(Vendor.VIVO) == before + 1, "what is over the bound is left out, not silently"
    lines = [record for record in caplog.records if record.msg == "a receipt can't be read"]
    assert len(lines) == 4
    assert "hello" not in caplog.text


def counted(vendor, status="unreadable"):
    return metrics.RECEIPTS.labels(vendor, status)._value.get()


def test_meizus_receipt_as_json_is_taken(runtime, fleet, receipts):
    row = pushed(fleet, runtime, "meizu", {"bob": "live1"})["bob"]
    told = {"m-1": {"param": row["push_id"], "type": 2, "targets": ["live1"]}}
    headers = {"content-type": "application/json"}
    assert (
        call(url(runtime, Vendor.MEIZU), json.dumps({"cb": told}).encode(), headers).status == 200
    )
    eventually(lambda: "clicked" in told_of(runtime, fleet))


def test_another_accounts_push_is_not_touched(runtime, fleet, receipts, cli, tmp_path):
    (tmp_path / "s2").write_text("second-secret-2")
    assert (
        cli(
            "credential",
            "add",
            "meizu",
            "--app",
            APP,
            "--business-id",
            "second",
            "--app-id",
            "110002",
            "--app-secret-file",
            "s2",
        ).code
        == 0
    )
    runtime.catalog.changed()
    row = pushed(fleet, runtime, "meizu", {"bob": "live1"})["bob"]
    answer = call(url(runtime, Vendor.MEIZU, "second"), meizu_body(row["push_id"], "live1", 2))
    assert answer.status == 200
    assert told_of(runtime, fleet) == ["delivered"]


def test_a_callback_that_nobody_can_read_becomes_a_dead_letter(runtime, fleet, receipts):
    runtime.streams.hand_on((), [(keys.RECEIPTS, b"junk")])
    row = pushed(fleet, runtime, "meizu", {"bob": "live1"})["bob"]
    assert row["decision"] == "accepted"
    assert told_of(runtime, fleet) == ["delivered"], "the others went on"
    eventually(
        lambda: (
            fleet.writer.flush() is not None and runtime.dead_letters.counts() == {"receipts": 1}
        )
    )


def test_while_redis_is_away_the_vendor_is_told_to_come_again(
    settings_with, database_url, restartable_valkey, free_port, runtime, tenant
):
    """Same database and keys, so the account is known; but what can't be stored is not
    acknowledged.
    """

    port = free_port()
    other = settings_with(
        REDIS_URL=restartable_valkey.url,
        DATABASE_URL=database_url,
        SECRET_KEYS_FILE=str(runtime.settings.secret_keys_file),
        RECEIPTS_ADDR=f"127.0.0.1:{port}",
        RECEIPTS_URL=f"http://127.0.0.1:{port}",
    )
    second, stop = Runtime(other, "test"), threading.Event()
    assert second.catalog.credential(APP, Vendor.MEIZU, "meizu-1")
    thread = threading.Thread(target=serve, args=(second, stop))
    thread.start()
    try:
        eventually(lambda: listens(other.receipts_addr))
        restartable_valkey.kill()
        answer = call(url(second, Vendor.MEIZU), meizu_body("0" * 32, "live1"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        restartable_valkey.restart()
        assert eventually(
            lambda: call(url(second, Vendor.MEIZU), meizu_body("0" * 32, "live1")).status == 200
        )
    finally:
        stop.set()
        thread.join(60)
        second.close()


def test_an_address_that_is_taken_is_named(runtime, tenant):
    from common.config import SettingError

    host, port = runtime.settings.receipts_addr.split(":")
    with (
        socket.create_server((host, int(port))),
        pytest.raises(SettingError, match="PUSHFLEET_RECEIPTS_ADDR"),
    ):
        serve(runtime, threading.Event())


def test_the_operator_is_told_the_address(runtime, cli, tenant):
    said = cli("credential", "receipts-url", APP, "huawei", "huawei-1")
    assert said.out.strip() == url(runtime, Vendor.HUAWEI)
    assert "callback_key" not in cli("credential", "list", "--json").out


def test_meizus_address_is_told_before_its_callback_is_on(runtime, tenant, cli, tmp_path):
    """Meizu's console must know the address first; until then no push names it."""
    (tmp_path / "secret").write_text("another-secret")
    options = (
        "--app",
        APP,
        "--business-id",
        "quiet",
        "--app-id",
        "110009",
        "--app-secret-file",
        "secret",
    )
    assert cli("credential", "add", "meizu", *options).code == 0
    runtime.catalog.changed()
    said = cli("credential", "receipts-url", APP, "meizu", "quiet")
    assert (said.code, said.out.strip()) == (0, url(runtime, Vendor.MEIZU, "quiet"))
    stored = runtime.credentials.all()
    [lane] = [lane_of(one, runtime.settings) for one in stored if one.business_id == "quiet"]
    assert runtime.callback_url(lane) is None
    assert cli("credential", "rotate", APP, "meizu", "quiet", "--option", "callback=on").code == 0
    stored = runtime.credentials.all()
    [lane] = [lane_of(one, runtime.settings) for one in stored if one.business_id == "quiet"]
    assert runtime.callback_url(lane) == said.out.strip()
