"""The accounts' copy in Redis: who finds it starts without PostgreSQL, and nobody believes one that
does not hold.
"""

import json
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, insert
from sqlalchemy.engine import make_url

from common.clock import now_ms
from common.config import Settings, environ_of
from common.contracts import OfflineRecipients, Recipient, Target
from common.model import Vendor
from common.storage import sql
from common.storage.accounts import COMPARED_MS, place_of
from common.storage.credentials import Credentials, StoredCredential
from common.storage.migrations import SchemaError, migrate
from common.storage.tables import apps, credentials
from common.storage.tenants import Tenant
from common.storage.vault import Vault
from tests.builders import notification, stored_credential
from tests.conftest import own_database
from tests.pooler import pooler
from tests.unit.routing.builders import device, message
from workers.cli.worker import _tables_fit
from workers.delivery.work import PendingPush
from workers.pipeline import routing_of
from workers.runtime import Runtime

APP = "acme"
SECRET = "a-secret-of-the-vendor"
LANE = (APP, Vendor.MEIZU, "meizu-1")
IDLE = (
    "import sys, json; from common.config import Settings; from common.model import Vendor; "
    "from workers.app import DELIVERY; from workers.pipeline import Stages; "
    "from workers.runtime import Runtime; "
    "runtime = Runtime(Settings.load(), 'one', 'delivery:meizu'); "
    "lanes = len(runtime.catalog.now.lanes); "
    "Stages(runtime).consumer(DELIVERY, Vendor.MEIZU)(lambda: False); runtime.close(); "
    "heavy = {'sqlalchemy', 'psycopg', 'cryptography.fernet', 'cryptography.x509'}; "
    "print(json.dumps([lanes, sorted(heavy & set(sys.modules))]))"
)


@pytest.fixture
def configured(settings: Settings) -> Iterator[Settings]:
    """Settings with keys, on tables with one tenant and one account that the fleet was told of."""
    keyed = replace(settings, secret_keys=(Fernet.generate_key().decode(),))
    runtime = Runtime(keyed)
    migrate(runtime.engine)
    with runtime.engine.begin() as connection:  # of tests before, on the same tables
        connection.exec_driver_sql("DELETE FROM credentials; DELETE FROM apps")
    runtime.tenants.add(Tenant(APP, "Acme", "en", "UTC"))
    runtime.credentials.add(_account())
    runtime.catalog.changed()
    yield keyed
    runtime.credentials.remove(APP, "meizu", "meizu-1")
    runtime.close()


def _account() -> StoredCredential:
    named = {"options": {"app_id": "1"}, "secrets": {"app_secret": SECRET}}
    return stored_credential(APP, Vendor.MEIZU, "meizu-1", **named)


def _without_database(settings: Settings, role: str = "tool") -> Runtime:
    made = Runtime(settings, role=role)
    made.__dict__["engine"] = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    return made


def test_a_process_starts_while_the_database_is_away(configured: Settings) -> None:
    started = _without_database(configured)
    lane = started.catalog.lane(*LANE)
    assert lane is not None
    assert lane.credential.secrets == {"app_secret": SECRET}
    assert started.catalog.tenant(APP).name == "Acme"
    assert started.catalog.tables_fit()


def test_a_delivery_process_without_work_loads_neither_the_database_nor_the_ciphers(
    configured: Settings,
) -> None:
    remover = Runtime(configured)
    remover.credentials.remove(APP, "meizu", "meizu-1")
    remover.catalog.changed()
    remover.close()
    env = {**os.environ, **environ_of(configured)}
    told = subprocess.run(
        [sys.executable, "-c", IDLE], capture_output=True, text=True, check=True, env=env
    )
    assert json.loads(told.stdout.splitlines()[-1]) == [0, []]


def test_a_removed_account_is_gone_for_processes_that_read_the_copy(configured: Settings) -> None:
    started = _without_database(configured)
    assert started.catalog.lane(*LANE)
    operator = Runtime(configured)
    operator.credentials.remove(APP, "meizu", "meizu-1")
    operator.catalog.changed()
    assert started.catalog.fresh().lanes == {}
    operator.close()


def test_who_routes_knows_an_account_of_a_moment_ago(configured: Settings) -> None:
    """Both routing and a delivery process whose device moves there; it had looked just before."""
    now = now_ms()
    phone = device(Vendor.MEIZU, business_id="meizu-2")
    about = message(app=APP, expires_at_ms=now + 60_000, conversation={"type": "c2c", "id": "a"})
    work = PendingPush("1-1", notification(app=APP), Target("bob", "d", "t", "p", "android", now))
    with closing(Runtime(configured)) as operator:
        for look in ("routing", "late"):
            with closing(Runtime(configured)) as worker:
                first = worker.catalog.now.lanes[LANE]
                operator.credentials.add(replace(_account(), business_id="meizu-2"))
                operator.catalog.changed()
                if look == "routing":
                    bob = (Recipient("bob", (phone,), False),)
                    one = OfflineRecipients(message=about, recipients=bob, presence_ms=now)
                    assert not routing_of(worker).route([one], True).rows
                else:
                    addresses = worker.delivery(Vendor.MEIZU).addresses
                    addresses.where(first, [work])
                    assert addresses.on_lane_of(work, first, phone) is not None
            operator.credentials.remove(APP, "meizu", "meizu-2")
            operator.catalog.changed()


def test_a_copy_of_an_earlier_version_is_not_believed(configured: Settings) -> None:
    known = _without_database(configured)
    assert known.catalog.lane(*LANE)
    known.redis.incr(known.keys.config_version)  # as a release before this one tells of a change
    with pytest.raises(sql.DATABASE_UNAVAILABLE):
        _ = _without_database(configured).catalog.now
    assert LANE in known.catalog.fresh().lanes, "who has read it before goes on with it"


def _of_before(operator: Runtime) -> dict[str, Any]:
    """What Redis has before an account is paused, which the fleet is told of."""
    names = (operator.keys.config_version, operator.keys.accounts)
    kept = {name: operator.redis.dump(name) for name in names}
    operator.credentials.set_paused(APP, "meizu", "meizu-1", True)
    operator.catalog.changed()
    return kept


def test_a_copy_that_a_failover_brings_back_is_not_believed_by_who_has_seen_a_newer_one(
    configured: Settings,
) -> None:
    operator, going, late = (Runtime(configured) for _ in range(3))
    assert not late.catalog.now.lanes[LANE].paused
    kept = _of_before(operator)
    assert going.catalog.now.lanes[LANE].paused
    for name, value in kept.items():
        operator.redis.restore(name, 0, value, replace=True)
    assert going.catalog.fresh().lanes[LANE].paused
    assert _without_database(configured).catalog.now.lanes[LANE].paused, "who starts then, too"
    assert late.catalog.fresh().lanes[LANE].paused, "and who had the copy that came back"
    operator.close()


def test_while_the_database_is_away_a_copy_that_came_back_changes_nothing(
    configured: Settings,
) -> None:
    operator, going = Runtime(configured), _without_database(configured)
    kept = _of_before(operator)
    assert going.catalog.now.lanes[LANE].paused
    for name, value in kept.items():
        operator.redis.restore(name, 0, value, replace=True)
    assert going.catalog.fresh().lanes[LANE].paused
    operator.close()


@pytest.mark.parametrize("tell", ["changed", "move"])
def test_after_a_loss_of_redis_no_version_comes_twice(configured: Settings, tell: str) -> None:
    operator = Runtime(configured)
    operator.redis.delete(operator.keys.config_version, operator.keys.accounts)
    operator.catalog.changed()
    idle = Runtime(configured)
    known = idle.catalog.now.version
    operator.redis.delete(operator.keys.config_version, operator.keys.accounts)
    operator.credentials.set_paused(APP, "meizu", "meizu-1", True)
    (operator.catalog.changed if tell == "changed" else operator.catalog._from.copy.move)()
    assert idle.catalog.fresh().version > known
    assert idle.catalog.now.lanes[LANE].paused
    operator.close()


def test_a_check_of_a_redis_that_lost_all_gives_a_version_that_nobody_has_seen(
    configured: Settings,
) -> None:
    operator = Runtime(configured)
    operator.redis.delete(operator.keys.config_version, operator.keys.accounts)
    idle = Runtime(configured)
    assert not idle.catalog.now.lanes[LANE].paused
    operator.credentials.set_paused(APP, "meizu", "meizu-1", True)
    operator.redis.delete(operator.keys.config_version, operator.keys.accounts)
    operator.catalog.check()
    assert idle.catalog.fresh().lanes[LANE].paused
    operator.close()


@pytest.mark.parametrize("odd", [b"abc", b"", b"-1", b"1_0", b"9" * 30])
def test_a_version_that_is_no_number_counts_as_none_and_the_next_change_mends_it(
    configured: Settings, odd: bytes
) -> None:
    operator = Runtime(configured)
    operator.redis.set(operator.keys.config_version, odd)
    going = Runtime(configured)
    assert not going.catalog.now.lanes[LANE].paused
    operator.credentials.set_paused(APP, "meizu", "meizu-1", True)
    operator.catalog.changed()
    assert going.catalog.fresh().lanes[LANE].paused
    operator.catalog.check()
    assert _without_database(configured).catalog.now.lanes[LANE].paused
    operator.close()


def test_who_reads_while_another_one_changes_keeps_nothing(configured: Settings) -> None:
    runtime = Runtime(configured)
    copy = runtime.catalog._from.copy
    seen, found = copy.look()
    assert found is not None
    runtime.redis.incr(runtime.keys.config_version)
    assert not copy.keep(found, seen)
    assert copy.look() == (seen + 1, None)
    runtime.close()


def test_a_change_whose_notice_was_lost_is_noticed_by_the_next_look(configured: Settings) -> None:
    started = _without_database(configured)
    operator = Runtime(configured)
    operator.credentials.remove(APP, "meizu", "meizu-1")  # and dies before it tells
    assert LANE in started.catalog.fresh().lanes
    operator.catalog.check()
    assert started.catalog.fresh().lanes == {}
    version = operator.catalog.now.version
    operator.catalog.check()
    assert operator.catalog.fresh().version == version, "nothing else has changed"
    operator.close()


@pytest.mark.parametrize("lost", ["too much", "gone"])
def test_without_a_copy_a_lost_notice_is_noticed_by_the_next_look(
    configured: Settings, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    operator, going = Runtime(configured), Runtime(configured)
    if lost == "too much":
        monkeypatch.setattr("common.storage.accounts.ACCOUNTS_BYTES_MAX", 10)
        operator.catalog.changed()
    assert LANE in going.catalog.now.lanes
    operator.catalog.check()
    version = going.catalog.fresh().version
    operator.catalog.check()
    assert going.catalog.fresh().version == version, "nothing has changed"
    operator.credentials.remove(APP, "meizu", "meizu-1")  # and dies before it tells
    operator.redis.delete(operator.keys.accounts)
    operator.catalog.check()
    assert going.catalog.fresh().lanes == {}
    operator.close()


def test_without_a_copy_who_starts_after_a_lost_notice_tells_the_others(
    configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.storage.accounts.ACCOUNTS_BYTES_MAX", 10)
    operator, going = Runtime(configured), Runtime(configured)
    operator.catalog.changed()
    assert LANE in going.catalog.now.lanes
    operator.credentials.remove(APP, "meizu", "meizu-1")
    assert Runtime(configured).catalog.now.lanes == {}
    assert going.catalog.fresh().lanes == {}
    version = going.catalog.now.version
    assert Runtime(configured).catalog.now.version == going.catalog.fresh().version == version
    operator.close()


def test_releases_of_other_fields_do_not_tell_each_other_of_changes(
    configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.storage.accounts.ACCOUNTS_BYTES_MAX", 10)
    going = Runtime(configured)
    going.catalog.changed()
    version = going.catalog.now.version
    monkeypatch.setattr("common.storage.accounts._SHAPE", "another")
    assert Runtime(configured).catalog.now.version == version
    assert going.catalog.fresh().version == version


def test_no_secret_is_readable_in_redis(configured: Settings) -> None:
    runtime = Runtime(configured)
    blob: Any = runtime.redis.get(runtime.keys.accounts)
    assert b"meizu-1" in blob
    assert SECRET.encode() not in blob
    runtime.close()


@pytest.mark.parametrize("role", ["intake", "presence", "routing"])
def test_a_process_that_sends_nothing_opens_no_secret(configured: Settings, role: str) -> None:
    lane = _without_database(configured, role).catalog.lane(*LANE)
    assert lane is not None
    assert (lane.credential.options, lane.credential.secrets) == ({"app_id": "1"}, {})


@pytest.mark.parametrize("role", ["delivery:meizu", "upkeep", "receipts", "console"])
def test_an_account_that_no_key_opens_is_paused_for_who_sends_and_who_shows(
    configured: Settings, role: str
) -> None:
    runtime = Runtime(configured)
    lost = Vault([Fernet.generate_key().decode()])
    Credentials(runtime.engine, lost).add(replace(_account(), business_id="meizu-2"))
    runtime.catalog.changed()
    lanes = _without_database(configured, role).catalog.now.lanes
    found = {name[2]: lane.paused for name, lane in lanes.items()}
    assert found == {"meizu-1": False, "meizu-2": True}
    runtime.credentials.remove(APP, "meizu", "meizu-2")
    runtime.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]),
        lambda blob: bytes(32) + blob[32:],
        lambda blob: blob[:31],
        lambda blob: b"",
    ],
    ids=["another content", "another seal", "cut", "empty"],
)
def test_a_copy_that_was_not_signed_with_our_keys_is_not_believed(
    configured: Settings, spoil: Callable[[bytes], bytes]
) -> None:
    runtime = Runtime(configured)
    runtime.redis.set(
        runtime.keys.accounts, spoil(cast(bytes, runtime.redis.get(runtime.keys.accounts)))
    )
    assert LANE in runtime.catalog.now.lanes, "SQL is asked"
    assert runtime.catalog._from.copy.look()[1] is not None, "and a good copy is kept"
    runtime.close()


@pytest.mark.parametrize("path", ["/another", "/pushfleet_test"])
def test_the_copy_of_another_database_is_not_believed(configured: Settings, path: str) -> None:
    other = replace(configured, database_url=f"postgresql+psycopg://pushfleet@127.0.0.1:1{path}")
    assert not Runtime(other).catalog.tables_fit()


@pytest.mark.parametrize("named", ["host=/run/elsewhere", "port=1", "dbname=another"])
def test_what_an_addresss_query_names_is_another_database(configured: Settings, named: str) -> None:
    """SQLAlchemy goes by the query first."""
    url = f"{configured.database_url}?{named}"
    assert not Runtime(replace(configured, database_url=url)).catalog.tables_fit()


def test_one_database_is_the_same_under_another_password(configured: Settings) -> None:
    parts = urlsplit(configured.database_url)
    server = parts.netloc.rpartition("@")[2]
    for user in ("", "somebody:p#w@", "somebody:p/w?x@"):
        url = parts._replace(netloc=f"{user}{server}").geturl()
        assert Runtime(replace(configured, database_url=url)).catalog.tables_fit()


@pytest.fixture
def plain_user(database_url: str) -> Iterator[str]:
    """Made as docs/requirements.md says."""
    name = f"plain_{uuid.uuid4().hex[:8]}"
    server = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with server.connect() as session:
        session.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
        yield name
        session.exec_driver_sql(f"DROP ROLE {name}")
    server.dispose()


def test_a_database_is_one_by_each_of_its_addresses(configured: Settings, plain_user: str) -> None:
    """Another of the same server is another one, while a process of it lives."""
    started: list[Runtime] = []

    def databases(at: str) -> list[str]:
        """After a process with this address has started, too."""
        named = f"upkeep.{len(started)}"
        started.append(Runtime(replace(configured, database_url=at), named, "upkeep"))
        _tables_fit(started[-1])
        assert started[-1].alive()
        return started[-1].living.databases()

    with (
        own_database(configured.database_url, f"OWNER {plain_user}") as made,
        pooler(configured.database_url, "ignoring") as pooled,
    ):
        first = databases(configured.database_url)
        assert first == [place_of(configured.database_url)]
        assert place_of(pooled) not in first
        assert len(databases(pooled)) == 1
        other = make_url(made).set(username=plain_user, password="pw")
        owner = create_engine(other)
        migrate(owner)
        owner.dispose()
        both = databases(other.render_as_string(hide_password=False))
        assert len(both) == 2
        assert place_of(made) in both
        started[-1].leave()
        assert len(started[0].living.databases()) == 1
        for one in started:
            one.close()


@contextmanager
def _without_tables(runtime: Runtime) -> Iterator[None]:
    with runtime.engine.begin() as connection:
        connection.exec_driver_sql("ALTER SCHEMA public RENAME TO kept; CREATE SCHEMA public")
    try:
        yield
    finally:
        with runtime.engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public; ALTER SCHEMA kept RENAME TO public")


def test_a_check_of_a_database_without_tables_ends_the_belief_in_their_copy(
    configured: Settings,
) -> None:
    operator = Runtime(configured)
    going = Runtime(configured)
    assert LANE in going.catalog.now.lanes
    with _without_tables(operator):
        with pytest.raises(sql.DATABASE_UNAVAILABLE):
            operator.catalog.check()
        assert not going.catalog.tables_fit()
        assert LANE in going.catalog.fresh().lanes, "who has read it before goes on with it"
    operator.close()


def test_after_upkeep_has_met_a_database_without_tables_no_worker_starts_on_its_copy(
    configured: Settings,
) -> None:
    operator = Runtime(configured)
    with _without_tables(operator):
        for role in ("upkeep", "delivery:meizu", "intake"):
            with pytest.raises(SchemaError, match="pushfleet migrate"):
                _tables_fit(Runtime(configured, role=role))
    operator.close()


@pytest.mark.parametrize("role", ["delivery:meizu", "intake", "receipts"])
def test_no_worker_starts_on_the_copy_of_a_database_that_was_emptied_while_no_fleet_ran(
    configured: Settings, role: str
) -> None:
    """Nor on one that upkeep has not met yet."""
    operator = Runtime(configured)
    operator.redis.delete(operator.keys.accounts_compared)
    with _without_tables(operator), pytest.raises(SchemaError, match="pushfleet migrate"):
        _tables_fit(Runtime(configured, role=role))
    operator.close()


def test_no_worker_starts_on_the_copy_of_a_database_that_was_restored_while_no_fleet_ran(
    configured: Settings,
) -> None:
    operator, late = Runtime(configured), Runtime(configured, role="delivery:meizu")
    operator.redis.delete(operator.keys.accounts_compared)
    operator.credentials.remove(APP, "meizu", "meizu-1")  # as an older backup has it
    _tables_fit(late)
    assert late.catalog.now.lanes == {}
    operator.close()


def test_what_was_compared_lately_is_not_asked_again(configured: Settings) -> None:
    operator = Runtime(configured)
    operator.catalog.check()
    starting = Runtime(configured, role="delivery:meizu")
    starting.__dict__["engine"] = None  # asking it fails the test
    _tables_fit(starting)
    assert 0 < operator.redis.pttl(operator.keys.accounts_compared) <= COMPARED_MS
    operator.close()


@pytest.mark.parametrize(
    "odd",
    [{"limits": {"quota": {"marketing": 10**20}}}, {"options": {"app_id": 1}}],
    ids=["an integer of more than 64 bits", "an option that is no text"],
)
def test_a_value_that_no_copy_can_hold_keeps_no_change_from_the_fleet(
    configured: Settings, odd: dict[str, Any]
) -> None:
    operator, going = Runtime(configured), Runtime(configured)
    assert LANE in going.catalog.now.lanes
    operator.credentials.add(replace(_account(), business_id="odd", **odd))
    try:
        operator.catalog.check()
        assert (APP, Vendor.MEIZU, "odd") in going.catalog.fresh().lanes
        operator.credentials.set_paused(APP, "meizu", "meizu-1", True)
        operator.catalog.changed()
        operator.catalog.check()
        assert going.catalog.fresh().lanes[LANE].paused
        assert going.catalog._from.copy.look()[1] is None
    finally:
        operator.credentials.remove(APP, "meizu", "odd")
        operator.close()


def test_more_accounts_than_the_copy_may_hold_are_read_from_sql(
    configured: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("common.storage.accounts.ACCOUNTS_BYTES_MAX", 10)
    runtime = Runtime(configured)
    version = runtime.catalog.now.version
    with caplog.at_level(logging.INFO, "common.storage.accounts"):
        runtime.catalog.changed()
    assert "every process reads SQL" in caplog.text
    assert runtime.catalog.now.version > version
    assert LANE in runtime.catalog.now.lanes
    assert not runtime.redis.exists(runtime.keys.accounts), "nor does a removed one stay there"
    runtime.close()


def test_a_change_among_three_thousand_accounts_is_known_to_a_process_in_little_time(
    configured: Settings,
) -> None:
    """It took each process a second, at any change of one account."""
    runtime, count = Runtime(configured), 1_000
    sealed = runtime.vault.encrypt(b'{"app_secret": "s"}')
    account = {"secrets": sealed, "options": {"app_id": "1"}, "version": 1, "paused": False}
    lists: dict[str, Any] = {"rights": [], "channels": {}, "templates": {}, "limits": {}}
    names = [f"t{number}" for number in range(count)]
    tenant = {"name": "", "lang": "zh", "tz": "UTC", "options": {}}
    rows = [
        {"app": name, "vendor": vendor, "business_id": "b", **account, **lists, "created_ms": 1}
        for name in names
        for vendor in ("huawei", "honor", "meizu")
    ]
    with runtime.engine.begin() as connection:
        connection.execute(insert(apps), [{"app": name, **tenant} for name in names])
        connection.execute(insert(credentials), rows)
    try:
        runtime.catalog.changed()
        other = _without_database(configured, "delivery:meizu")
        assert LANE in other.catalog.now.lanes
        seconds = []
        for paused in (True, False, True):
            runtime.credentials.set_paused(*LANE, paused=paused)
            runtime.catalog.changed()
            began = time.thread_time()
            assert len(other.catalog.fresh().lanes) == 3 * count + 1
            seconds.append(time.thread_time() - began)
            assert other.catalog.now.lanes[LANE].paused is paused
        assert min(seconds) < 0.6, "also where other work takes the processor's caches"
    finally:
        with runtime.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM credentials; DELETE FROM apps")
        runtime.close()
