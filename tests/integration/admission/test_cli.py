"""`pushfleet lanes` and `pushfleet quota`, on real servers; and the gauges that say the same."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from prometheus_client import REGISTRY

from common import metrics
from common.clock import now_ms
from common.contracts import Push, encode
from common.model import Bucket, MessageClass, Vendor
from common.storage.admission import AdmissionRequest, QuotaCount
from common.storage.lanes import FLOWING, LaneStates
from tests.integration.admission.conftest import work
from tests.queued import packed, queue
from tests.records import dead_record
from tests.waiting import eventually
from workers.cli.commands import cli
from workers.cli.errors import CliError
from workers.delivery.lane import Lane
from workers.fleet_watch import PauseWatch
from workers.gate import terms_of
from workers.lane_report import console_rows, lane_status
from workers.maintenance.reporter import Reporter
from workers.runtime import Runtime

MakeLane = Callable[..., Lane]


@pytest.fixture
def run(
    runtime: Runtime, secret_key: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """run(*arguments): the command on this test's servers."""
    given = runtime.settings
    for name, value in {
        "DATA_DIR": str(given.data_dir),
        "REDIS_URL": given.redis_url,
        "DATABASE_URL": given.database_url,
        "PREFIX": given.prefix,
        "SECRET_KEYS": secret_key,
    }.items():
        monkeypatch.setenv(f"PUSHFLEET_{name}", value)
    return lambda *arguments: CliRunner().invoke(cli, arguments)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exception is None, result.exception
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def vouched(runtime: Runtime, lane: Lane, used: int) -> None:
    terms = terms_of(lane, now_ms())
    runtime.admission.rebuild(
        terms, runtime.admission.day(terms), [QuotaCount(Bucket.PUBLIC, MessageClass.NEWS, used)]
    )


def test_lanes_have_the_shape_of_the_contract(
    run: Callable[..., Result], runtime: Runtime, lane: MakeLane, space: str
) -> None:
    vivo = lane(Vendor.VIVO, {"quota": {"public": 100}, "rate": 50.0})
    vouched(runtime, vivo, 99)
    runtime.admission.slow_down(terms_of(vivo, now_ms()), throttled=True)
    asks = [
        AdmissionRequest(f"{i:032x}", Bucket.PRIVATE, MessageClass.CHAT, "t", cost=0)
        for i in range(3)
    ]
    runtime.admission.admit(terms_of(vivo, now_ms()), asks, "a round")
    runtime.lane_states.tell(vivo.id, vivo.credential.version, 0, 0, refused=True)
    pushes = [Push(note=work(1).note, targets=(work(1).target,) * 3)]
    parked = packed(pushes, space, Vendor.VIVO, by_entry=False)
    queue(runtime, [parked])
    mine = next(row for row in rows(run("lanes", "--json")) if row["business_id"] == space)
    quotas = {quota.pop("bucket"): quota for quota in mine.pop("quotas")}
    assert now_ms() - mine.pop("since_ms") < 60_000
    assert mine.pop("why").startswith("credential_refused")
    assert mine == {
        "app": "demo",
        "vendor": "vivo",
        "business_id": space,
        "env": None,
        "state": "stopped",
        "rate": 50.0,
        "rate_now": 25.0,
        "inflight": 3,
        "parked": 3,
        "queue_bytes": len(encode(parked)),
    }
    assert quotas["private"] == {"used": 3, "limit": None, "runs_out_ms": None}
    assert (quotas["public"]["used"], quotas["public"]["limit"]) == (99, 100)
    assert space in run("lanes").stdout
    assert "99" in run("quota").stdout


def test_a_held_lane_is_held_since_the_hold(
    run: Callable[..., Result], runtime: Runtime, lane: MakeLane, space: str
) -> None:
    """Not since a change before it, nor since a late answer to what was sent before."""
    vivo = lane(Vendor.VIVO, {})
    later = LaneStates(runtime.redis, runtime.keys, clock=lambda: time.time() + 60)
    tell = partial(runtime.lane_states.tell, vivo.id, vivo.credential.version)

    def since_ms() -> int:
        mine = next(row for row in rows(run("lanes", "--json")) if row["business_id"] == space)
        assert mine["state"] == "paused"
        return int(mine["since_ms"])

    tell(0, 20, refused=False)
    assert later.ask(vivo.id, vivo.credential.version).probe
    began = now_ms()
    assert run("credential", "pause", "demo", "vivo", space).exit_code == 0
    held_ms = since_ms()
    assert began <= held_ms <= now_ms()
    assert tell(1, 0, refused=False) == FLOWING, "the probe's answer"
    assert since_ms() == held_ms
    tell(0, 0, refused=True)
    watch = PauseWatch(runtime)
    for paused, same in ((True, True), (False, False), (True, False)):
        runtime.credentials.set_paused("demo", "vivo", space, paused)
        runtime.catalog.changed()
        watch.look(list(runtime.catalog.fresh().lanes.values()))
        assert not paused or (since_ms() == held_ms) is same, "of a hold that upkeep alone has seen"


def test_held_lanes_are_asked_for_together(
    runtime: Runtime, lane: MakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    vivo = lane(Vendor.VIVO, {})
    held = replace(vivo, paused=True)
    runtime.lane_states.hold(held.id, True)
    trips: list[int] = []
    send = redis.connection.AbstractConnection.send_packed_command

    def counted(*given: Any, **more: Any) -> None:
        trips.append(1)
        send(*given, **more)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", counted)
    lane_status(runtime, [held])
    of_one = len(trips)
    lane_status(runtime, [held] * 30)
    assert len(trips) == 2 * of_one


def test_a_resume_of_an_older_version_is_one(
    run: Callable[..., Result], runtime: Runtime, lane: MakeLane, space: str
) -> None:
    """Its line has no cause, as that of a probe's answer."""
    vivo = lane(Vendor.VIVO, {})
    runtime.lane_states.hold(vivo.id, True)
    runtime.redis.lpush(runtime.keys.lane_log(vivo.id), f"{now_ms()}|flowing||")
    before = runtime.lane_states.history(vivo.id)
    PauseWatch(runtime).look([vivo])
    assert runtime.lane_states.history(vivo.id) == before
    mine = next(row for row in rows(run("lanes", "--json")) if row["business_id"] == space)
    assert (mine["state"], mine["since_ms"]) == ("flowing", before[0].at_ms)
    runtime.lane_states.hold(vivo.id, False)
    shown = next(row for row in console_rows(runtime) if row["business_id"] == space)["history"]
    words = [(state, words) for _, state, words in shown]
    assert words == [("flowing", ""), ("flowing", ""), ("paused", "paused by an operator")]


def test_a_new_quota_holds_in_every_worker_soon(
    run: Callable[..., Result], runtime: Runtime, lane: MakeLane, space: str
) -> None:
    oppo = lane(Vendor.OPPO, {"device_cap": {"public": 7}})
    vouched(runtime, oppo, 5)
    runtime.admission.report_quota_spent(terms_of(oppo, now_ms()), Bucket.PUBLIC)
    other = Runtime(runtime.settings)  # another worker, which has read the lane before
    assert other.catalog.lane("demo", Vendor.OPPO, space) is not None
    result = run("quota", "set", "demo", "oppo", space, "public=6", "private=1000")
    assert result.exception is None
    assert "6" in result.stdout

    def with_six() -> Lane | None:
        found = other.catalog.lane("demo", Vendor.OPPO, space)
        return found if found and found.limits.quota_public == 6 else None

    known = eventually(with_six, 20)
    assert (known.limits.quota_private, known.limits.device_cap_public) == (1000, 7)
    other.close()
    told = rows(run("quota", "list", "--json"))
    public = next(row for row in told if (row["business_id"], row["bucket"]) == (space, "public"))
    seen = (public["app"], public["vendor"], public["used"], public["limit"])
    assert seen == ("demo", "oppo", 5, 6), "and the vendor's word is forgotten"
    found = [row["used"] for row in rows(run("quota", "--json"))]
    assert found == [row["used"] for row in rows(run("quota", "list", "--json"))]


def test_a_quota_of_none_and_the_way_back(
    run: Callable[..., Result], runtime: Runtime, lane: MakeLane, space: str
) -> None:
    lane(Vendor.OPPO, {"quota": {"private": 9}})
    usual = runtime.catalog.fresh().lanes["demo", Vendor.OPPO, space].spec.limits.quota_public
    wishes = (("public=0", "public 0 a day", 0), ("public=default", "public by default", usual))
    for wish, words, now in wishes:
        assert words in run("quota", "set", "demo", "oppo", space, wish).stdout
        limits = runtime.catalog.fresh().lanes["demo", Vendor.OPPO, space].limits
        assert (limits.quota_public, limits.quota_private) == (now, 9)
    assert "public=default" in run("quota", "set", "--help").stdout.replace("BUCKET", "public")


WRONG = {
    "no such bucket": (("demo", "oppo", "nobody", "system=1"), "BUCKET is private or public"),
    "no number": (("demo", "oppo", "nobody", "public=many"), "whole number"),
    "no equals sign": (("demo", "oppo", "nobody", "public"), "BUCKET=N"),
    "a negative number": (("demo", "oppo", "nobody", "public=-1"), "whole number"),
}


#: Commands that name what is not there: the answer is no, and nobody used them wrongly (contract
#: §9).
NOT_THERE = {
    "quota set": ("quota", "set", "demo", "oppo", "nobody", "public=1"),
    "pause": ("credential", "pause", "demo", "oppo", "nobody"),
    "resume": ("credential", "resume", "demo", "oppo", "nobody"),
    "remove": ("credential", "remove", "demo", "oppo", "nobody"),
    "check": ("credential", "check", "demo", "oppo", "nobody"),
    "rotate": ("credential", "rotate", "demo", "oppo", "nobody", "--option", "package=p"),
    "receipts-url": ("credential", "receipts-url", "demo", "oppo", "nobody"),
}


@pytest.mark.parametrize("arguments", NOT_THERE.values(), ids=NOT_THERE)
def test_what_is_named_and_not_there_is_no_wrong_use(
    run: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, CliError)
    assert result.exception.exit_code == 1
    assert str(result.exception).startswith("no credential oppo nobody of demo")


@pytest.mark.parametrize(
    "command",
    [
        "test-push nobody bob",
        "strategy add nobody s1 {file}",
        "app gateway-key nobody",
        "credential add xiaomi --app nobody --business-id b --package a.b --app-secret-file {file}",
    ],
)
def test_a_tenant_that_is_not_there_is_no_wrong_use(
    run: Callable[..., Result], tmp_path: Path, command: str
) -> None:
    (tmp_path / "preset.json").write_text("{}")
    result = run(*command.format(file=tmp_path / "preset.json").split())
    assert isinstance(result.exception, CliError)
    found = (result.exception.exit_code, str(result.exception))
    assert found == (1, "no tenant nobody: pushfleet app add nobody")


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_quota_says_what_is_wrong(
    run: Callable[..., Result], arguments: tuple[str, ...], words: str
) -> None:
    result = run("quota", "set", *arguments)
    assert isinstance(result.exception, CliError)
    assert result.exception.exit_code == 2
    assert words in str(result.exception)


def test_an_account_that_is_removed_and_letters_that_are_dropped_leave_the_gauges(
    runtime: Runtime, lane: MakeLane, space: str
) -> None:
    vouched(runtime, lane(Vendor.VIVO, {"quota": {"public": 100}}), 42)
    now = now_ms()
    raw = runtime.vault.encrypt(b"x")
    runtime.ledger.write(
        [dead_record(id=f"letter-{space}", stage="routing", reason="why", at_ms=now, raw=raw)]
    )
    reporter = Reporter(runtime)
    reporter.show_streams()

    def shown() -> set[str]:
        reporter.every_15_s()
        reporter.show_lanes()
        reporter.show_dead_letters()
        families = [family for gauge in metrics.FLEET_GAUGES for family in gauge.collect()]
        return {
            sample.name
            for family in families
            for sample in family.samples
            if sample.labels.get("business_id") == space
        }

    assert len(shown()) >= 4
    assert REGISTRY.get_sample_value("pushfleet_dead_letters", {"stage": "routing"}) == 1
    runtime.credentials.remove("demo", "vivo", space)
    runtime.catalog.changed()
    runtime.dead_letters.drop([f"letter-{space}"])
    assert shown() == set()
    assert REGISTRY.get_sample_value("pushfleet_dead_letters", {"stage": "routing"}) == 0


def test_gauges_say_what_is_used_and_left(runtime: Runtime, lane: MakeLane, space: str) -> None:
    vouched(runtime, lane(Vendor.VIVO, {"quota": {"public": 100}}), 42)
    reporter = Reporter(runtime)
    reporter.show_streams()
    reporter.every_15_s()
    labels = {"app": "demo", "vendor": "vivo", "business_id": space, "bucket": "public"}
    shown = {
        sample.name: sample.value
        for gauge in (metrics.QUOTA_USED, metrics.QUOTA_LIMIT)
        for family in gauge.collect()
        for sample in family.samples
        if sample.labels == labels
    }
    assert shown == {"pushfleet_quota_used": 42, "pushfleet_quota_limit": 100}


def test_a_command_without_a_number_of_shards_asks_the_fleet_for_it(
    run: Callable[..., Result], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.redis.set(runtime.keys.shards, 3)
    monkeypatch.delenv("PUSHFLEET_SHARDS", raising=False)
    assert rows(run("lanes", "--json"))
    monkeypatch.setenv("PUSHFLEET_SHARDS", "2")
    refused = run("lanes", "--json").exception
    assert "started with 3" in str(refused)
