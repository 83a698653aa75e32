"""A fleet in one file and back on other servers: held, nothing is sent; released, all is sent once.
A person, erased.
"""

import dataclasses
import json
import tarfile
from typing import Any

import pytest
from cryptography.fernet import Fernet

from common.clock import now_ms
from common.contracts import encode
from common.ledger_records import PageRecord, pack_users, unpack_users
from common.model import Vendor
from common.storage.migrations import migrate
from common.storage.vault import Vault
from tests.builders import present
from tests.conftest import embedded
from tests.integration.web.conftest import APP, LittleFleet, live, message, registered
from tests.integration.web.test_console import publish
from tests.records import dead_record
from tests.waiting import eventually
from workers.cli.why import message_trace
from workers.lane_report import lane_status, lanes_of
from workers.maintenance import backup
from workers.maintenance.backup import BackupError, load, release, save
from workers.runtime import Runtime

#: As a new database has it: every role may use the schema, which tests after these count on.
EMPTIED = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC"


@pytest.fixture(scope="module")
def elsewhere():
    """Other servers."""
    with embedded(valkey=True, postgres=True) as running:
        yield running


@pytest.fixture
def other(elsewhere, fleet_settings):
    """The same settings on the other servers, which are empty."""
    urls = {
        "redis_url": elsewhere.redis_url,
        "core_url": elsewhere.redis_url,
        "database_url": elsewhere.database_url,
    }
    found = Runtime(dataclasses.replace(fleet_settings, **urls), "other")
    found.redis.flushall()
    with found.engine.begin() as connection:
        connection.exec_driver_sql(EMPTIED)
    yield found
    found.close()


@pytest.fixture
def accounts(runtime, tenant):
    """A fleet that has accounts and has sent nothing yet."""
    return runtime


@pytest.fixture
def held_up(runtime, fleet, tenant):
    """Devices of two people, one push accepted, one on hold behind a paused lane, one still in its
    queue.
    """
    publish(runtime, fleet, live("bob"), registered("eve", "tablet", "xiaomi", "live-xiaomi-1"))
    publish(runtime, fleet, message("m1", ["bob"]))
    runtime.credentials.set_paused(APP, "xiaomi", "xiaomi-1", True)
    runtime.catalog.changed()
    publish(runtime, fleet, message("m2", ["eve"]))
    runtime.credentials.set_paused(APP, "xiaomi", "xiaomi-1", False)
    runtime.catalog.changed()
    runtime.core.xadd(runtime.settings.event_streams[0], {"e": json.dumps(message("m3", ["bob"]))})
    return runtime


def decisions(runtime, message_id):
    told = message_trace(runtime, message_id, APP, None, None)
    return [one["decision"] for one in told["recipients"]] if told else None


def test_a_restored_fleet_sends_nothing_until_it_is_released_and_then_all_once(
    held_up, other, tmp_path
):
    saved = save(held_up, tmp_path / "fleet.backup")
    assert (tmp_path / "fleet.backup").stat().st_mode & 0o777 == 0o600
    began = now_ms()
    restored = load(other, tmp_path / "fleet.backup", hold=True)
    assert all(one.since_ms >= began for one in lane_status(other, lanes_of(other)))
    assert restored == saved
    assert {one.vendor for one in other.credentials.all()} == {
        one.vendor for one in held_up.credentials.all()
    }, "all can be read"
    assert decisions(other, "m1") == ["accepted"]
    fleet = LittleFleet(other)
    for _ in range(6):
        fleet.step()
    assert (decisions(other, "m2"), decisions(other, "m3")) == ([None], [None]), "both wait"
    assert all(lane.paused for lane in other.catalog.fresh().lanes.values())
    assert len(release(other)) == len(other.catalog.fresh().lanes)
    eventually(
        lambda: [decisions(other, name) for name in ("m2", "m3")] == [["accepted"]] * 2,
        60,
        fleet.step,
    )
    assert [
        len(present(message_trace(other, name, APP, None, None))["recipients"][0]["attempts"])
        for name in ("m2", "m3")
    ] == [1, 1]


def test_a_restored_fleet_goes_on_with_its_audit_log(accounts, other, tmp_path):
    """Whoever acts on it writes a line of it: its numbers go on behind the last one."""
    for subject in ("one", "two"):
        accounts.audit.note("cli:ada", "lane paused", APP, subject)
    before = len(accounts.audit.listed())
    save(accounts, tmp_path / "f")
    load(other, tmp_path / "f", hold=True)
    other.audit.note("cli:ada", "lane resumed", APP, "three")
    assert len(other.audit.listed()) == before + 1
    assert other.audit.listed()[0]["subject"] == "three"


@pytest.mark.parametrize("kept", [False, True], ids=["", "a backup that has the accounts' copy"])
def test_a_fleet_restored_at_its_old_address_is_held_too(
    held_up, fleet_settings, tmp_path, monkeypatch, kept
):
    """Where the copy of before, of lanes that flow, is of the same database by its signature."""
    if kept:
        names = tuple(one for one in backup.LEFT_OUT if one != "accounts")
        monkeypatch.setattr(backup, "LEFT_OUT", names)
    held_up.catalog.changed()
    lanes = len(held_up.catalog.fresh().lanes)
    save(held_up, tmp_path / "f")
    held_up.redis.flushall()
    with held_up.engine.begin() as connection:
        connection.exec_driver_sql(EMPTIED)
    load(Runtime(fleet_settings, "restoring"), tmp_path / "f", hold=True)
    started = Runtime(fleet_settings, "started")
    assert [lane.paused for lane in started.catalog.now.lanes.values()] == [True] * lanes
    fleet = LittleFleet(started)
    for _ in range(6):
        fleet.step()
    assert (decisions(started, "m2"), decisions(started, "m3")) == ([None], [None])
    started.close()


def test_what_was_paused_before_stays_so(accounts, other, tmp_path):
    accounts.credentials.set_paused(APP, "honor", "honor-1", True)
    save(accounts, tmp_path / "f")
    load(other, tmp_path / "f", hold=True)
    release(other)
    found = [str(lane.vendor) for lane in other.catalog.fresh().lanes.values() if lane.paused]
    assert found == ["honor"]


def occupied(other: Any) -> None:
    migrate(other.engine)
    other.tenants.add(dataclasses.replace(_tenant(), app="x"))


REFUSED = {
    "tenants already": occupied,
    "keys of": lambda other: other.redis.set(other.keys.config_version, 1),
}


def _tenant():
    from common.storage.tenants import Tenant

    return Tenant("x", "", "zh", "Asia/Shanghai")


@pytest.mark.parametrize("words", REFUSED)
def test_a_backup_goes_into_empty_servers_only(accounts, other, tmp_path, words):
    save(accounts, tmp_path / "f")
    REFUSED[words](other)
    with pytest.raises(BackupError, match=words):
        load(other, tmp_path / "f", hold=True)


def test_another_prefix_other_keys_and_other_files_are_refused_before_anything_is_written(
    accounts, other, tmp_path
):
    save(accounts, tmp_path / "f")
    with pytest.raises(BackupError, match="PUSHFLEET_PREFIX"):
        load(Runtime(dataclasses.replace(other.settings, prefix="else")), tmp_path / "f", hold=True)
    keys = tmp_path / "keys"
    keys.write_text("b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItb3Q=\n")
    same = Runtime(dataclasses.replace(other.settings, secret_keys_file=keys))
    with pytest.raises(BackupError, match="none of its keys"):
        load(same, tmp_path / "f", hold=True)
    with tarfile.open(tmp_path / "t", "w") as tar:
        tar.add(keys, "x")
    with pytest.raises(BackupError, match="no backup"):
        load(other, tmp_path / "t", hold=True)
    assert other.redis.dbsize() == 0


def test_the_commands(cli, accounts, other, tmp_path, monkeypatch):
    path = str(tmp_path / "f")
    said = cli("backup", path)
    assert said.code == 0, said.err
    assert "keep it as a secret" in said.out
    for name in ("REDIS", "CORE", "DATABASE"):
        monkeypatch.setenv(f"PUSHFLEET_{name}_URL", getattr(other.settings, f"{name.lower()}_url"))
    assert cli("restore").code == 2
    assert cli("restore", str(tmp_path / "nowhere")).code == 2
    said = cli("restore", path)
    assert (said.code, "every lane is held" in said.out) == (0, True), said.err
    assert cli("restore", path).err.startswith("nothing was restored: ")
    assert "lanes flow again" in cli("restore", "--release").out
    assert cli("upgrade").code == 2
    assert "postgresql: rows can be written" in cli("upgrade", "--check").out


def test_a_person_is_taken_out_of_every_store(cli, held_up, fleet):
    publish(held_up, fleet, message("m4", ["bob"]))
    held_up.core.xadd(held_up.settings.event_streams[0], {"e": '{"app":"1400000001","x":"bob"}'})
    fleet.step()
    fleet.step()
    assert cli("user", "erase", APP, "bob", "--yes").code == 0
    with held_up.engine.connect() as connection:
        tables = connection.exec_driver_sql(
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'user' "
            "AND table_schema = current_schema()"
        )
        for (table,) in tables.all():
            query = f"""SELECT count(*) FROM "{table}" WHERE "user" = 'bob' AND app = '{APP}'"""
            assert connection.exec_driver_sql(query).scalar_one() == 0, table
    assert not [letter for letter in held_up.dead_letters.listed() if b"bob" in letter.raw]
    assert held_up.devices.listed(APP, "eve"), "somebody else"
    assert cli("user", "erase", APP, "nobody-of-this-name", "--yes").out.startswith(
        "nothing was stored"
    )
    assert held_up.catalog.lane(APP, Vendor.MEIZU, "meizu-1")


def letter(runtime, name, raw, app=APP, vault=None, **more):
    sealed = (vault or runtime.vault).encrypt(raw)
    usual = {"stage": "intake", "reason": "wrong_shape", **more}
    runtime.ledger.write([dead_record(id=name, app=app, raw=sealed, at_ms=now_ms(), **usual)])


def test_a_letter_that_no_key_opens_stops_no_erasure_and_is_told(cli, held_up):
    foreign = Vault([Fernet.generate_key().decode()])
    letter(held_up, "sealed", b'"bob"', vault=foreign)
    letter(held_up, "of-nobody", b'"bob"', app=None, vault=foreign)
    letter(held_up, "elsewhere", b'"bob"', app="other", vault=foreign)
    letter(held_up, "open", b'{"user": "bob"}')
    said = cli("user", "erase", APP, "bob", "--yes")
    assert said.code == 1
    assert "2 dead letters" in said.err
    assert "PUSHFLEET_SECRET_KEYS_FILE" in said.err
    assert "devices 1" in said.out
    assert not held_up.devices.listed(APP, "bob")
    found = {one["id"] for one in held_up.dead_letters.heads()}
    assert found == {"sealed", "of-nobody", "elsewhere"}
    cli("dead-letters", "drop", "sealed", "of-nobody")
    assert cli("user", "erase", APP, "bob", "--yes").code == 0


def test_a_letter_that_no_key_opens_hides_no_other(cli, accounts):
    letter(accounts, "sealed", b"secret", vault=Vault([Fernet.generate_key().decode()]))
    letter(accounts, "open", b'{"message_id": "m-77"}')
    told = {one["id"]: one for one in cli("dead-letters", "list", "--json").json}
    assert (told["sealed"]["raw"], told["open"]["raw"]) == (None, '{"message_id": "m-77"}')
    assert cli("dead-letters", "show", "sealed", "--json").json["raw"] is None
    assert "none of the keys" in cli("dead-letters", "show", "sealed").out
    assert cli("why", "m-77").code == 0
    said = cli("dead-letters", "replay", "sealed")
    assert (said.code, "none of the keys" in said.err) == (1, True)
    assert accounts.dead_letters.get("sealed") is not None, "it stays"


NAMED = {
    "as JSON escapes it": ("bób", b'{"user": "b\\u00f3b"}'),
    "JSON inside a text of JSON": (
        "bob",
        json.dumps({"body": json.dumps({"to": ["bob"]})}).encode(),
    ),
    "a broken body": ("bob", b'{"user":"bob", '),
    "an encoded body": ("bob", b"%7B%22to%22%3A%22bob%22%7D"),
    "a key": ("bob", b'{"members": {"bob": 1}}'),
    "a quotation mark in the id": ('b"b', json.dumps({"user": 'b"b'}).encode()),
    "between two stages": ("bob", encode([["m1", "bob", 7]])),
    "packed in a packed entry": ("bob", encode([encode(["x", {"to": "bob"}])])),
}


@pytest.mark.parametrize("kind", NAMED)
def test_letters_that_name_a_person_are_found_however_it_is_written(cli, accounts, kind):
    person, raw = NAMED[kind]
    letter(accounts, "theirs", raw, app=None)
    letter(accounts, "another", raw.replace(b"b", b"c"), app=None)
    letter(accounts, "longer", b'{"user": "bobby", "text": "bob is here"}')
    assert cli("user", "erase", APP, person, "--yes").code == 0
    assert {one["id"] for one in accounts.dead_letters.heads()} == {"another", "longer"}


def test_a_page_of_people_loses_the_one_who_is_erased(cli, accounts):
    shared: dict[str, Any] = {
        "app": APP,
        "event_id": "e9",
        "ts_ms": now_ms(),
        "decision": "no_device",
        "message_class": "chat",
        "note": "",
    }
    shared |= {"presence_ms": 1, "decided_ms": now_ms()}
    people = [["ann", "bob", "bobby"], ["bob"], ["cid"]]
    pages = [PageRecord(**shared, count=len(one), users=pack_users(one)) for one in people]
    accounts.ledger.write(pages)
    assert "pages 2" in cli("user", "erase", APP, "bob", "--yes").out
    accounts.ledger.write(pages[:1])  # a batch that is written once more brings nobody back
    with accounts.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT count, users FROM pages WHERE event_id = 'e9' ORDER BY count"
        ).all()
    found = [(count, unpack_users(bytes(users))) for count, users in rows]
    assert found == [(1, ["cid"]), (2, ["ann", "bobby"])]
