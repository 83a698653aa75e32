"""`publish`, `test-push` and the publisher that a core may copy."""

import json

import pytest
import redis

from common.publisher import Publisher
from tests.integration.web.conftest import APP, message, registered
from tests.waiting import eventually

ONE = {"v": 1, "id": "e1", "type": "message.stored", "app": APP, "ts": 1, "data": {"x": "喂"}}
TWO = {**ONE, "id": "e2"}


def entries(runtime):
    return [fields for _, fields in runtime.core.xrange(runtime.settings.event_streams[0])]


INPUTS = {
    "one object": (json.dumps(ONE), [ONE]),
    "one object on several lines": (json.dumps(ONE, indent=2), [ONE]),
    "an array": (json.dumps([ONE, TWO], ensure_ascii=False), [ONE, TWO]),
    "an array on several lines": (json.dumps([ONE, TWO], indent=2), [ONE, TWO]),
    "one a line, with blank lines": (json.dumps(ONE) + "\n\n" + json.dumps(TWO) + "\n", [ONE, TWO]),
    "one a line, the last without its end": (json.dumps(ONE) + "\n" + json.dumps(TWO), [ONE, TWO]),
    "nothing": ("\n \n", []),
    "more than a batch": (
        "".join(json.dumps({"id": n}) + "\n" for n in range(1201)),
        [{"id": n} for n in range(1201)],
    ),
}


@pytest.mark.parametrize("way", ["file", "stdin"])
@pytest.mark.parametrize(("text", "events"), INPUTS.values(), ids=INPUTS)
def test_every_event_of_the_input_goes_to_the_stream_in_order(
    cli, runtime, tmp_path, text, events, way
):
    (tmp_path / "events").write_text(text)
    said = cli("publish", "events") if way == "file" else cli("publish", "-", stdin=text)
    assert (said.code, said.out.split()[0]) == (0, str(len(events)))
    assert [json.loads(fields[b"e"]) for fields in entries(runtime)] == events
    assert all(set(fields) == {b"e"} for fields in entries(runtime))


def test_what_stands_in_the_input_travels_byte_by_byte(cli, runtime):
    """Duplicate keys and odd numbers are intake's to judge: they must not be
    ironed out on the way.
    """
    odd = '{"a": 1, "a": 1.00, "b":"\\u00e9"}'
    cli("publish", "-", stdin=odd)
    cli("publish", "-", stdin=f"[{odd}]")
    assert [fields[b"e"].decode() for fields in entries(runtime)] == [odd, odd]


@pytest.mark.parametrize(
    ("text", "words", "before"),
    [
        ("not json", "neither a JSON object", 0),
        ('{"a":1}\n{"a":\n', "line 2", 1),
        ('[{"a":1}, 7]', "element 2", 1),
        ("7", "neither a JSON object", 0),
        ("\xff", "neither a JSON object", 0),
    ],
)
def test_what_is_no_json_is_named_and_stops_it(cli, runtime, text, words, before):
    said = cli("publish", "-", stdin=text)
    assert said.code == 2
    assert words in said.err
    assert len(entries(runtime)) == before


def test_a_callback_goes_with_its_dialect(cli, runtime):
    words = f"publish - --dialect tencent --app {APP} --q SdkAppid={APP}".split()
    assert cli(*words, stdin="{}").code == 0
    assert entries(runtime) == [
        {b"e": b"{}", b"d": b"tencent", b"app": APP.encode(), b"q": f"SdkAppid={APP}".encode()}
    ]
    assert cli("publish", "-", "--app", APP, stdin="{}").code == 2


# ---------------------------------------------------------------- common/publisher.py


def test_the_publisher_writes_what_the_fleet_reads(runtime, tenant, fleet):
    publisher = Publisher(runtime.settings.redis_url, runtime.settings.event_streams[0])
    entry = publisher.publish(message("m1", ["bob"]))
    fleet.step()
    fleet.step()
    assert runtime.ledger.find("m1", APP, None)["received_ms"] == int(entry.split("-")[0])
    publisher.publish_callback(b"{}", "zego", APP, "q=1")
    assert entries(runtime) == [{b"e": b"{}", b"d": b"zego", b"app": APP.encode(), b"q": b"q=1"}]
    publisher.close()


def test_the_publisher_says_when_nobody_answers(free_port):
    with pytest.raises(redis.RedisError):
        Publisher(f"redis://127.0.0.1:{free_port()}").publish(ONE)


# ---------------------------------------------------------------- test-push


def register(runtime, *devices):
    for user, device, token in devices:
        written = json.dumps(registered(user, device, "meizu", token))
        runtime.core.xadd(runtime.settings.event_streams[0], {"e": written})


def test_a_test_push_tells_each_step_and_that_it_was_taken(cli, runtime, tenant, fleet):
    register(
        runtime, ("bob", "phone", "live1"), ("bob", "old", "deadold"), ("eve", "hers", "live2")
    )
    fleet.step()
    fleet.start()
    said = cli("test-push", APP, "bob", "--body", "hello there")
    assert said.code == 0, said.out + said.err
    assert "accepted by 1 of 2" in said.out
    told = [(line.split()[1:3]) for line in said.out.splitlines()]
    assert ["phone", "attempt"] in told
    assert ["old", "delivery"] in told
    assert "token_dead" in said.out
    assert "hers" not in said.out
    assert "live1" not in said.out, "a token is not shown"


def test_a_test_push_to_one_device_passes_presence_by(cli, runtime, tenant, fleet):
    register(runtime, ("bob", "phone", "live1"), ("bob", "tablet", "live2"))
    fleet.step()
    state = f"foreground|android|{2**42}"
    runtime.core.hset(f"{runtime.settings.key_prefix}presence:{{{APP}:bob}}", "phone", state)
    fleet.start()
    assert "accepted by 1 of 1" in cli("test-push", APP, "bob", "--device", "phone").out
    everywhere = cli("test-push", APP, "bob")
    assert "accepted by 1 of 2" in everywhere.out
    assert "online" in everywhere.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [((APP, "nobody"), 1, "no_device"), ((APP, "x", "--device", "y"), 1, "device list")],
)
def test_a_test_push_that_nobody_took_says_why(cli, tenant, fleet, arguments, code, words):
    fleet.start()
    said = cli("test-push", *arguments)
    assert said.code == code
    assert words in said.err


#: state of a device, and what is said of it.
LEFT = {
    "retired": ("retired on 20", "pushfleet device restore app-1 USER phone"),
    "silenced": ("silenced on 20", "notifications are switched off"),
    "unbound": ("left on 20", "only a new registration"),
    "moved": ("without its token since 20", "only a new registration"),
}


@pytest.mark.parametrize(("state", "words"), LEFT.items(), ids=LEFT)
@pytest.mark.parametrize("which", [(), ("--device", "phone")], ids=["all", "one"])
def test_a_test_push_at_a_device_that_may_not_be_sent_to_says_so_and_why(
    cli, runtime, tenant, fleet, state, words, which
):
    register(runtime, ("bob", "phone", "live1"))
    fleet.step()
    assert runtime.devices.set_state(APP, "bob", "phone", state, "110002: no such token")
    fleet.start()
    said = cli("test-push", APP, "bob", *which)
    assert (said.code, said.err.count("\n")) == (1, 1)
    for part in ("phone (meizu)", "110002: no such token", *words):
        assert part.replace("app-1", APP) in said.err


def test_a_test_push_of_an_unknown_tenant_says_how_to_add_it(cli, runtime):
    said = cli("test-push", "nope", "bob")
    assert (said.code, "pushfleet app add nope" in said.err) == (1, True)
    assert entries(runtime) == []


def test_registered_devices_are_seen_by_the_tests(cli, runtime, tenant, fleet):
    register(runtime, ("bob", "phone", "live1"))
    fleet.start()
    assert eventually(lambda: cli("device", "list", APP, "--json").json)[0]["device_id"] == "phone"
