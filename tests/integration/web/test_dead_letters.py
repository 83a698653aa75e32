"""`dead-letters`: listed, shown, replayed to where they came from, dropped; and people of the
console.
"""

import base64
import json

import pytest

from common.clock import now_ms
from common.contracts import encode
from common.ledger_records import decode_records
from common.storage import keys
from tests.integration.web.conftest import APP, message, registered
from tests.records import dead_record, note_record
from workers.pipeline import Stages
from workers.queues.consumer import StreamConsumer


def publish(runtime, body, **fields):
    written = body if isinstance(body, str | bytes) else json.dumps(body)
    return runtime.core.xadd(runtime.settings.event_streams[0], {"e": written, **fields})


def letters(cli, *arguments):
    return cli("dead-letters", "list", "--json", *arguments).json


def test_a_letter_is_listed_in_the_contracts_shape_and_encrypted_at_rest(
    cli, runtime, tenant, fleet
):
    entry = publish(runtime, "{not json, but 喂")
    publish(runtime, b"\xff\xfe")
    fleet.step()
    told = {letter["reason"]: letter for letter in letters(cli)}
    whole, binary = told["not_json"], told["not_utf8"]
    assert set(whole) == {"id", "entry_id", "stage", "reason", "app", "at_ms", "raw"}
    found = (whole["entry_id"], whole["stage"], whole["app"], whole["raw"])
    assert found == (entry.decode(), "intake", None, "{not json, but 喂")
    assert base64.b64decode(binary["raw_b64"]) == b"\xff\xfe"
    assert "raw" not in binary
    assert cli("dead-letters", "show", whole["id"], "--json").json["raw"] == whole["raw"]
    assert "{not json, but 喂" in cli("dead-letters", "show", whole["id"]).out
    assert "not json, but" not in cli("dead-letters", "list").out
    with runtime.engine.connect() as connection:
        assert b"not json" not in b"".join(
            bytes(row[0]) for row in connection.exec_driver_sql("SELECT raw FROM dead_letters")
        )


def test_why_takes_a_refused_event_for_its_own_ids_only(cli, runtime, tenant, fleet):
    refused = message("m1", ["bob"]) | {"id": "e1", "app": "nope"}
    refused["data"]["push"] = {"class": "loud"}
    publish(runtime, refused)
    publish(runtime, '{"message_id":"m2"')
    publish(runtime, '{"MsgKey":"m3"}', d="tencent", app=APP)
    fleet.step()
    found = {one: cli("why", one).code for one in ("m1", "e1", "m2", "m3")}
    assert found == {"m1": 0, "e1": 0, "m2": 0, "m3": 0}
    for none in ("nope", "bob", "loud", "message.stored"):
        told = cli("why", none, "--json")
        assert (told.code, "nothing is known" in told.err) == (1, True), none


def test_why_with_an_event_that_nobody_knows_says_so_whatever_else_its_message_had(
    cli, runtime, tenant, fleet
):
    refused = message("m1", ["bob"]) | {"id": "e1"}
    refused["data"]["push"] = {"class": "loud"}
    publish(runtime, refused)
    publish(runtime, message("m2", ["bob"]) | {"id": "e2"})
    publish(runtime, '{"MsgKey":"m3"}', d="tencent", app=APP)
    fleet.step()
    assert [cli("why", "m1", "--event", "e1").code, cli("why", "m2", "--event", "e2").code] == [
        0,
        0,
    ]
    for one, event in (("m1", "no-such"), ("m1", "m1"), ("m2", "e1"), ("m3", "e3"), ("m9", "e9")):
        told = cli("why", one, "--event", event, "--json")
        assert (told.code, told.out) == (1, ""), (one, event)
        assert f"nothing is known of event {event} of {one}" in told.err


def bury(runtime, stream, blob, reason):
    """As a stage does with an entry that it has read."""
    consumer = Stages(runtime).consumer("presence")
    runtime.streams.hand_on((), [(stream, blob)])
    assert isinstance(consumer, StreamConsumer)
    (entry,) = consumer._source.read([stream], 1)
    consumer.dead_letter(entry, reason)


def test_the_list_is_narrowed(cli, runtime, tenant, fleet):
    publish(runtime, "x")
    publish(runtime, message("m1", ["bob"]) | {"app": "other"})
    fleet.step()
    bury(runtime, keys.PRESENCE, b"junk", "poison: it ends every process that reads it")
    fleet.step()
    found = {letter["reason"].split(":")[0] for letter in letters(cli)}
    assert found == {"not_json", "unknown_app", "poison"}
    assert [letter["stage"] for letter in letters(cli, "--stage", "presence")] == ["presence"]
    assert [letter["app"] for letter in letters(cli, "--app", "other")] == ["other"]
    assert len(letters(cli, "--limit", "2")) == 2
    assert runtime.dead_letters.counts() == {"intake": 2, "presence": 1}


def test_json_lists_all_and_the_table_says_how_many_it_leaves_out(cli, runtime, tenant, fleet):
    with runtime.core.pipeline(transaction=False) as pipe:
        for number in range(120):
            pipe.xadd(runtime.settings.event_streams[0], {"e": f"junk {number}"})
        pipe.execute()
    fleet.step()
    assert {letter["raw"] for letter in letters(cli)} == {f"junk {number}" for number in range(120)}
    assert "20 older ones: --limit N" in cli("dead-letters", "list").out
    assert "120 dropped" in cli("dead-letters", "drop", "--all").out
    assert letters(cli) == []


def test_an_event_that_came_before_its_tenant_is_sent_after_a_replay(cli, runtime, tenant, fleet):
    publish(runtime, registered("bob", "phone", "meizu", "live1"))
    fleet.step()
    publish(runtime, message("m1", ["bob"]) | {"app": "late"})
    fleet.step()
    letter = letters(cli)[0]
    assert letter["reason"].startswith("unknown_app")
    assert cli("app", "add", "late").code == 0
    assert cli("dead-letters", "replay", letter["id"]).out == "1 replayed\n"
    assert letters(cli) == []
    runtime.catalog.changed()
    fleet.step()
    fleet.step()
    assert runtime.ledger.find("m1", "late", None) is not None


def test_a_replay_is_no_repeat_of_itself_but_of_what_was_published_since(
    cli, runtime, tenant, fleet
):
    """The letter's own entry may have taken the event's id before it was refused; another entry's
    stays taken.
    """
    refused = [message("m1", ["bob"]), message("m2", ["bob"])]
    for one in refused:
        entry = publish(runtime, one | {"app": "late"}).decode()
        stream = runtime.settings.event_streams[0]
        taken_by = f"{stream}/{entry}" if one["data"]["message_id"] == "m1" else f"{stream}/999-0"
        runtime.marks.repeats([("late", one["id"], taken_by)])
    fleet.step()
    cli("app", "add", "late")
    runtime.catalog.changed()
    assert cli("dead-letters", "replay", "--all").out == "2 replayed\n"
    fleet.step()
    fleet.step()
    assert runtime.ledger.find("m1", "late", None) is not None
    assert runtime.ledger.find("m2", "late", None) is None


def test_a_dialects_body_is_replayed_with_its_fields(cli, runtime, tenant, fleet):
    publish(runtime, "{}", d="klingon", app=APP, q="a=b")
    fleet.step()
    assert cli("dead-letters", "replay", "--all", "--stage", "intake").code == 0
    [(_, fields)] = runtime.core.xrange(runtime.settings.event_streams[0])
    assert fields == {b"e": b"{}", b"d": b"klingon", b"app": APP.encode(), b"q": b"a=b"}


def test_what_lay_between_stages_goes_back_to_its_stream(cli, runtime, tenant, fleet):
    note = note_record(app=APP, ts_ms=now_ms(), user="u", device="d", at_ms=now_ms(), note="said")
    buried = {"send:meizu:chat": b"batch", keys.ROUTING: b"people", keys.RECEIPTS: b"callback"}
    for stream, blob in buried.items():
        bury(runtime, stream, blob, "poison: six times")
    raw = runtime.vault.encrypt(encode(note))
    dead = dead_record(id="l1", stage="ledger", reason="not_storable: X", at_ms=1, raw=raw)
    runtime.streams.hand_on((), [(keys.LEDGER, encode([dead]))])
    fleet.writer.flush()
    assert cli("dead-letters", "replay", "--all").out == "4 replayed\n"
    for stream, blob in buried.items():
        found = [fields[b"b"] for _, fields in runtime.redis.xrange(runtime.keys.stream(stream))]
        assert found == [blob]
    entries = runtime.redis.xrange(runtime.keys.stream(keys.LEDGER))
    assert [decode_records(fields[b"b"]) for _, fields in entries] == [[note]]


def test_what_could_not_be_kept_whole_stays_and_says_so(cli, runtime, tenant, fleet):
    runtime.core.xadd(runtime.settings.event_streams[0], {"x": "y"})
    publish(runtime, "[" + "1," * 200_000 + "1]")
    fleet.step()
    said = cli("dead-letters", "replay", "--all")
    assert (said.code, said.out) == (1, "0 replayed\n")
    assert said.err.count("publish it anew") == 2
    assert len(letters(cli)) == 2
    assert cli("dead-letters", "drop", "--all").out == "2 dropped\n"
    assert letters(cli) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("replay",), 2),
        (("drop",), 2),
        (("replay", "nope"), 1),
        (("drop", "nope"), 1),
        (("show", "nope"), 1),
        (("replay", "nope", "--all"), 2),
        (("drop", "nope", "--stage", "intake"), 2),
    ],
)
def test_wrong_use_and_unknown_letters(cli, runtime, arguments, code):
    said = cli("dead-letters", *arguments)
    assert said.code == code
    assert said.err


def test_two_replays_at_once_publish_once(cli, runtime, tenant, fleet):
    publish(runtime, "x")
    fleet.step()
    letter = letters(cli)[0]["id"]
    with runtime.dead_letters.taken(letter) as mine:
        assert mine.raw == b"x"
    assert cli("dead-letters", "replay", letter).code == 1
    assert runtime.core.xlen(runtime.settings.event_streams[0]) == 0


# ---------------------------------------------------------------- people


def test_a_person_is_added_with_a_password_that_nobody_can_read(cli, runtime, tmp_path):
    (tmp_path / "password").write_text("correct horse\n")
    said = cli("user", "add", "wang", "--role", "operator", "--password-file", "password")
    assert (said.code, "correct horse" in said.out + said.err) == (0, False)
    assert runtime.users.check("wang", "correct horse").role == "operator"
    assert runtime.users.check("wang", "correct horse ") is None
    assert runtime.users.check("nobody", "correct horse") is None
    with runtime.engine.connect() as connection:
        stored = connection.exec_driver_sql("SELECT password FROM console_users").scalar()
    assert stored.startswith("scrypt$")
    assert "horse" not in stored
    assert [row["name"] for row in cli("user", "list", "--json").json] == ["wang"]
    old = runtime.users.get("wang").mark
    (tmp_path / "password").write_bytes("\ufeffbattery staple\r\n".encode())  # as Windows writes
    told = cli("user", "add", "wang", "--role", "viewer", "--password-file", "password")
    assert "viewer now" in told.out
    assert runtime.users.get("wang").mark != old
    assert runtime.users.check("wang", "battery staple").role == "viewer"
    assert cli("user", "remove", "wang").code == 0
    assert cli("user", "remove", "wang").code == 1


@pytest.mark.parametrize(
    ("name", "role", "password"),
    [
        ("a b", "viewer", "long enough"),
        ("", "viewer", "long enough"),
        ("wang", "king", "long enough"),
        ("wang", "viewer", "short"),
    ],
)
def test_a_person_that_can_not_be_added(cli, runtime, tmp_path, name, role, password):
    (tmp_path / "password").write_text(password)
    said = cli("user", "add", name, "--role", role, "--password-file", "password")
    assert said.code == 2
    assert runtime.users.listed() == []


def test_a_script_adds_a_person_too(cli, runtime):
    said = cli("user", "add", "wang", "--role", "viewer", stdin="correct horse\ncorrect horse\n")
    assert (said.code, runtime.users.check("wang", "correct horse").role) == (0, "viewer")
    said = cli("user", "add", "li", "--role", "operator")
    password = said.out.rsplit(" ", 1)[1].strip()
    assert (said.code, runtime.users.check("li", password).role) == (0, "operator")


# ---------------------------------------------------------------- what every command does alike


def test_a_database_without_our_tables_is_said_with_the_cure(cli, runtime, monkeypatch):
    monkeypatch.setenv(
        "PUSHFLEET_DATABASE_URL", runtime.settings.database_url.rpartition("/")[0] + "/postgres"
    )
    said = cli("app", "list")
    found = (said.code, said.out, said.err)
    assert found == (2, "", "the database has not the tables of this version: pushfleet migrate\n")


def test_a_replica_without_our_tables_is_named(cli, runtime, monkeypatch):
    other = runtime.settings.database_url.rpartition("/")[0] + "/postgres"
    monkeypatch.setenv("PUSHFLEET_DATABASE_REPORTS_URL", other)
    said = cli("why", "m1")
    assert (said.code, said.out) == (2, "")
    assert "PUSHFLEET_DATABASE_REPORTS_URL names a replica of it" in said.err


def test_a_database_that_lets_us_not_in_is_said_in_its_own_words(cli, runtime, monkeypatch):
    nowhere = runtime.settings.database_url.rpartition("/")[0] + "/nosuchdatabase"
    monkeypatch.setenv("PUSHFLEET_DATABASE_URL", nowhere)
    said = cli("app", "list")
    assert (said.code, len(said.err.splitlines())) == (3, 1)
    assert "does not exist" in said.err


def test_lists_can_be_narrowed_by_what_they_list(cli, tenant, tmp_path):
    def keys_of(*arguments):
        told = cli("credential", "list", *arguments, "--json")
        return {(row["vendor"], row["business_id"]) for row in told.json}

    assert len(keys_of(tenant)) > 1
    assert keys_of(tenant, "meizu") == {("meizu", "meizu-1")}
    assert keys_of(tenant, "meizu", "meizu-2") == set() == keys_of("other")
    assert {row["app"] for row in cli("quota", "--app", tenant, "--json").json} == {tenant}
    assert cli("quota", "--app", "other", "--json").json == []
    (tmp_path / "preset.json").write_text('{"push_type": "silent"}')
    assert cli("strategy", "add", tenant, "night", "preset.json").code == 0
    own = cli("strategy", "list", tenant, "--json").json
    assert [row["app"] for row in own] == [tenant]
    assert [row for row in cli("strategy", "list", "--json").json if row["app"] == tenant] == own
    assert cli("strategy", "remove", tenant, "night").out == "removed\n"
