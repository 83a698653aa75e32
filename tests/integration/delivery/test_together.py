"""Rounds of many lanes together do what each would do alone, and none of them waits for one that is
silent.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from common.clock import now_ms
from common.config import Settings
from common.contracts import Notification, Push, Target
from common.model import Kind, PushType, Vendor
from common.storage.shards import by_shard
from common.storage.tenants import Tenant
from simulators.apns import ApnsDoor
from simulators.http2 import serve_port
from tests.builders import stored_credential
from tests.integration.conftest import opened
from tests.integration.simulators.running import Running
from tests.ledger_writers import begin_upkeep
from tests.queued import packed, queue
from tests.simulator_keys import ec_key, pem_of
from tests.waiting import eventually
from workers.app import DELIVERY
from workers.handlers.joint_rounds import JointRounds
from workers.maintenance.ledger_writer import LedgerWriter
from workers.pipeline import Stages
from workers.runtime import Runtime
from workers.shards import any_left

pytestmark = pytest.mark.parametrize("shards", [1, 3], ids="{} shards".format)

LANES = 8


class Apns(Running):  # type: ignore[misc, no-untyped-call]
    """One environment of Apple's, over HTTP/2."""

    env = "production"

    def __enter__(self) -> "Apns":
        self._thread.start()
        files = (self._certificate, self._key)
        self.server = self.run(
            serve_port(ApnsDoor(self.simulator, self.env), "127.0.0.1", 0, *files)
        )  # type: ignore[no-untyped-call]
        self.port = self.server.port
        self.base = f"https://127.0.0.1:{self.port}"
        return self


class Sandbox(Apns):
    env = "sandbox"


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Apns]:
    with Apns("apns", tmp_path / "production") as running:  # type: ignore[no-untyped-call]
        yield running


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Apns]:
    with Sandbox("apns", tmp_path / "sandbox") as running:  # type: ignore[no-untyped-call]
        yield running


@pytest.fixture
def runtime(
    shards: int, own_settings: Callable[..., Settings], production: Apns, sandbox: Apns
) -> Iterator[Runtime]:
    where = {
        "ENDPOINT_APNS_PRODUCTION": production.base,
        "ENDPOINT_APNS_SANDBOX": sandbox.base,
        "CA_FILE": str(production.ca),
    }
    timing = {"RETRY_FIRST_S": "0.2", "SEND_TIMEOUT_S": "20", "SHARDS": str(shards)}
    with opened(own_settings(**timing, **where)) as made:
        yield made


class Fleet:
    """Apps with an account each, and the delivery of this process. silent: the accounts of the
    first so many are of the sandbox.
    """

    def __init__(self, runtime: Runtime, word: str, silent: int = 0) -> None:
        self.runtime = runtime
        self.apps = [f"{word}{number}" for number in range(LANES)]
        key = pem_of(ec_key())
        for number, app in enumerate(self.apps):
            runtime.tenants.add(Tenant(app, "Demo", "en", "UTC"))
            env = "sandbox" if number < silent else "production"
            options = {
                "topic": "com.example.im",
                "env": env,
                "key_id": "ABCDEFGHIJ",
                "team_id": "ABCDEFGHIK",
            }
            new = stored_credential(app, Vendor.APNS, "ios", options=options, secrets={"p8": key})
            runtime.credentials.add(new)
        runtime.catalog.changed()
        begin_upkeep(runtime)  # rows may come in columns
        self.drain = Stages(runtime).consumer(DELIVERY, Vendor.APNS)
        self.writer = LedgerWriter(runtime, shards=runtime.shards)

    def put(self, pushes: Callable[[str], Sequence[Push]]) -> None:
        """The same pushes to each app, as entries of its lane."""
        shards = self.runtime.shards
        for app in self.apps:
            for number, own in by_shard(len(shards), pushes(app), person_of).items():
                queue(shards[number], [packed(own, "ios", Vendor.APNS, app, by_entry=False)])

    def work(self, seconds: float = 60.0) -> None:
        """Until no lane holds anything."""
        eventually(
            lambda: not any_left(self.runtime),
            seconds,
            lambda: self.drain(lambda: False),
        )

    def rows(self) -> list[tuple[str, str, str | None, str, list[Any]]]:
        """(app, user, decision, note, what each try met) of every push."""
        while self.writer.flush():
            pass
        query = text(
            'SELECT app, "user", decision, note, attempts FROM ledger_all WHERE app = ANY(:apps)'
        )
        with self.runtime.engine.connect() as connection:
            told = connection.execute(query, {"apps": self.apps}).all()
        return sorted(
            (app, user, decision, note, [one[1:4] for one in attempts or ()])
            for app, user, decision, note, attempts in told
        )


def push(app: str, user: str, token: str, **note: Any) -> Push:
    now = now_ms()
    about: dict[str, Any] = {
        "ts_ms": now,
        "received_ms": now,
        "presence_ms": now,
        "routed_ms": now,
        "expires_at_ms": now + 600_000,
        "message_id": f"m{user}",
        "collapse_id": f"m{user}",
        "title": "Ann",
        "body": "hello",
        **note,
    }
    made = Notification(
        app=app, event_id=uuid.uuid4().hex, conversation_type="c2c", conversation_id="ann", **about
    )
    return Push(note=made, targets=(Target(user, "d", token, uuid.uuid4().hex, "ios", 1),))


def person_of(one: Push) -> tuple[str, str]:
    return one.note.app, one.targets[0].user


def good(app: str) -> list[Push]:
    return [push(app, f"u{number}", f"{number:064x}") for number in range(3)]


def every_kind(app: str) -> list[Push]:
    """What a round may hold: good, dead, foreign and malformed tokens, too old, too large, silent,
    a call, two for one place.
    """
    raw = {"aps": {"target-content-id": "x" * 5_000}}
    return [
        *good(app),
        push(app, "dead", "dead" * 16),
        push(app, "foreign", "f0" * 32),
        push(app, "malformed", "no token"),
        push(app, "old", "a" * 64, expires_at_ms=now_ms() - 1),
        push(app, "large", "b" * 64, payload={"k": "x" * 5_000}, vendor_raw=raw),
        push(app, "silent", "c" * 64, push_type=PushType.SILENT),
        push(app, "call", "d" * 64, kind=Kind.CALL_INVITE, collapse_id="call"),
        push(app, "place", "e" * 64, collapse_id="order", ts_ms=now_ms() - 5),
        push(app, "place", "e" * 64, collapse_id="order"),
    ]


def tell(running: Apns) -> None:
    running.door(
        "tokens",
        **{"dead" * 16: {"reason": "Unregistered"}, "f0" * 32: {"reason": "BadDeviceToken"}},
    )  # type: ignore[no-untyped-call]


def test_together_they_do_what_each_does_alone(
    runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(production)
    sent, joint = list[int](), JointRounds.send

    def send(self: JointRounds, wanted: Any) -> Any:
        sent.append(len(wanted))
        return joint(self, wanted)

    monkeypatch.setattr(JointRounds, "send", send)
    together, alone = Fleet(runtime, space + "t"), Fleet(runtime, space + "a")
    together.put(every_kind)
    together.work()
    assert max(sent) >= LANES
    most = max(sent)
    monkeypatch.setattr(JointRounds, "may_join", staticmethod(lambda _lane, _taken: False))
    alone.put(every_kind)
    alone.work()
    assert max(sent) == most
    assert len(sent) == len(list(filter(None, sent)))
    ours = [(app.removeprefix(space + "t"), *rest) for app, *rest in together.rows()]
    theirs = [(app.removeprefix(space + "a"), *rest) for app, *rest in alone.rows()]
    assert ours == theirs
    counts = Counter(decision for _, _, decision, _, _ in together.rows())
    assert counts["accepted"] >= 6 * LANES
    assert counts["token_dead"] == 2 * LANES, "one that Apple calls dead, one that can't be a token"
    assert None not in counts


def test_silent_lanes_keep_no_other_from_being_written(
    runtime: Runtime, sandbox: Apns, space: str
) -> None:
    sandbox.faults(no_answer=1.0)  # type: ignore[no-untyped-call]
    fleet = Fleet(runtime, space, silent=2)
    fleet.put(good)
    began = time.monotonic()
    written = list[float]()

    def enough() -> bool:
        if not written and len([row for row in fleet.rows() if row[2] == "accepted"]) == 3 * (
            LANES - 2
        ):
            written.append(time.monotonic() - began)
            sandbox.faults(down=True)  # type: ignore[no-untyped-call]
        return bool(written)

    while not enough():
        assert time.monotonic() < began + 60
        fleet.drain(enough)
    assert written[0] < runtime.settings.send_timeout_s, "before the silent ones run out of time"


def test_a_lane_at_its_rate_goes_on_alone(runtime: Runtime, production: Apns, space: str) -> None:
    fleet = Fleet(runtime, space)
    runtime.credentials.set_limits(fleet.apps[0], "apns", "ios", {"rate": 5})
    runtime.catalog.changed()
    fleet.put(lambda app: [push(app, f"u{number}", f"{number:064x}") for number in range(8)])
    fleet.work()
    assert Counter(row[2] for row in fleet.rows()) == {"accepted": 8 * LANES}


def test_time_that_ran_out_while_the_lanes_rates_were_asked_is_seen(
    runtime: Runtime, production: Apns, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some of a lane's pushes, and of all."""
    queues, ended = runtime.lane_queues, now_ms() + 2_000
    lease_all = queues.lease_all

    def late(*args: Any) -> Any:
        time.sleep(max(0.0, (ended - now_ms()) / 1000 + 0.01))
        return lease_all(*args)

    monkeypatch.setattr(queues, "lease_all", late)
    fleet = Fleet(runtime, space)
    ended = now_ms() + 800
    fleet.put(
        lambda app: [
            push(app, "late", "a" * 64, expires_at_ms=ended),
            *(good(app) if app != fleet.apps[0] else []),
        ]
    )
    fleet.work()
    found = Counter(row[2] for row in fleet.rows())
    assert found == {"expired": LANES, "accepted": 3 * (LANES - 1)}
    assert not [line for line in production.simulator.record.lines() if line["token"] == "a" * 64]
