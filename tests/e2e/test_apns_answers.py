"""What Apple answers, and what becomes of the push and of the device token; provider tokens; a
connection that Apple closes.
"""

import itertools
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.builders import device_of
from tests.e2e import operator
from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.operator import good, metric, send, simulator
from tests.e2e.tenant import device_token
from tests.simulator_keys import p8_options
from workers.vendors.apns.access import PROVIDER_TOKEN_S

pytestmark = [pytest.mark.e2e]


class Account:
    """A tenant with one APNs account `ios` (production), made by the command."""

    def __init__(self, fleet: Core, folder: Path) -> None:
        self.fleet, self.app = fleet, operator.new_app(fleet)
        self.kid = uuid.uuid4().hex[:10].upper()
        self.p8 = folder / "key.p8"
        options = p8_options(self.p8, self.kid, "TEAM123456")
        good(
            fleet, "credential", "add", "apns", "--app", self.app, "--business-id", "ios", *options
        )

    def iphone(self, start: str = "a1b2", **more: Any) -> tuple[str, str]:
        """(user, device token) of a new person's iPhone; the token begins with `start`."""
        user = "u-" + uuid.uuid4().hex[:10]
        return user, operator.register(
            self.fleet, self.app, user, "apns", "ios", start + device_token("apns")[4:], **more
        )

    def iphones(self, count: int, start: str = "a1b2") -> list[tuple[str, str]]:
        """Many of them; what is published next is read after them."""
        return [self.iphone(start, settled=False) for _ in range(count)]

    def send(self, user: str, **more: Any) -> dict[str, Any]:
        return send(self.fleet, self.app, user, **more)

    def state(self, user: str) -> str:
        """Of the person's only device."""
        from sqlalchemy import text

        query = text('SELECT state FROM devices WHERE app = :app AND "user" = :user')
        with self.fleet.runtime.engine.connect() as connection:
            return str(connection.execute(query, {"app": self.app, "user": user}).scalar_one())


@pytest.fixture(scope="module")
def account(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> Account:
    return Account(fleet, tmp_path_factory.mktemp("apns"))


def codes(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(attempt["status"], attempt["code"]) for attempt in row["attempts"]]


def test_a_token_of_the_other_environment_is_foreign_and_is_retired_while_the_guard_is_calm(
    fleet: Core, account: Account
) -> None:
    retired = metric(fleet, "pushfleet_tokens_retired_total", vendor="apns")
    user, _ = account.iphone("5a4d")
    assert account.send(account.iphone()[0])["decision"] == "accepted", "the account works"
    row = account.send(user)
    assert (row["decision"], codes(row)) == ("token_foreign", [("400", "BadDeviceToken")])
    assert wait_for(lambda: account.state(user) == "retired", "the token is retired")
    assert account.send(user)["decision"] == "no_device"
    assert metric(fleet, "pushfleet_tokens_retired_total", vendor="apns") == retired + 1


@pytest.mark.parametrize(
    ("later_ms", "decision", "state"),
    [
        (60_000, "token_dead", "retired"),
        (0, "token_dead", "retired"),
        (-60_000, "rejected", "active"),
    ],
)
def test_a_410_counts_only_when_the_device_did_not_register_again_after_it(
    fleet: Core, account: Account, later_ms: int, decision: str, state: str
) -> None:
    ts = now_ms()
    user = "u-" + uuid.uuid4().hex[:10]
    address = device_token("apns")
    device = device_of(user, token=address)
    fleet.publish("device.registered", device, app=account.app, ts=ts)
    fleet.settled()
    told = {address: {"reason": "Unregistered", "timestamp_ms": ts + later_ms}}
    simulator(fleet, "apns", "tokens", told)
    row = account.send(user)
    assert (row["decision"], codes(row)) == (decision, [("410", "Unregistered")])
    assert wait_for(lambda: account.state(user) == state, f"the device is {state}")
    simulator(fleet, "apns", "tokens", {address: None})
    assert account.send(user)["decision"] == ("accepted" if state == "active" else "no_device")


def test_a_message_whose_time_is_over_is_never_asked_about(fleet: Core, account: Account) -> None:
    user, address = account.iphone()
    data = operator.message(user, push={"ttl_s": 5})
    fleet.publish("message.stored", data, app=account.app, ts=now_ms() - 6_000)
    assert fleet.why(data["message_id"], account.app)["decision"] == "expired"
    assert not fleet.pushes_to("apns", address)


def test_too_many_requests_for_one_device_holds_nobody_else(fleet: Core, account: Account) -> None:
    (user, _), (other, _) = account.iphone("b05e"), account.iphone()
    held = operator.message(user, push={"ttl_s": 15})
    fleet.publish("message.stored", held, app=account.app)
    operator.row_of(fleet, account.app, held, lambda row: row["attempts"])
    sent = account.send(other)
    assert sent["decision"] == "accepted"
    row = fleet.why(held["message_id"], account.app)["recipients"][0]
    assert row["decision"] == "throttled"
    assert sent["steps"][-1]["at_ms"] < row["steps"][-1]["at_ms"], "while the other was held"
    assert len(row["attempts"]) >= 2
    assert set(codes(row)) == {("429", "TooManyRequests")}
    assert account.state(user) == "active"


def test_a_503_is_tried_again_with_the_same_id_and_accepted(fleet: Core, account: Account) -> None:
    user, address = account.iphone("5007")
    row = account.send(user)
    found = (row["decision"], codes(row))
    assert found == ("accepted", [("503", "ServiceUnavailable"), ("200", "")])
    (line,) = fleet.pushes_to("apns", address)
    assert line["id"] == row["push_id"]


@pytest.mark.parametrize(
    ("status", "reason"), [(503, "Shutdown"), (403, "UnrelatedKeyIdInToken"), (400, "IdleTimeout")]
)
def test_what_wants_a_new_connection_gets_one(
    fleet: Core, account: Account, status: int, reason: str
) -> None:
    user, address = account.iphone()
    account.send(user)
    status_body = f'{{"reason":"{reason}"}}'
    with operator.faults(
        fleet, "apns", status=status, status_share=1.0, status_body=status_body, only_first=1
    ):
        row = account.send(user)
    assert (row["decision"], codes(row)) == ("accepted", [(str(status), reason), ("200", "")])
    first, second = fleet.pushes_to("apns", address)
    assert first["connection"] != second["connection"]


def test_a_reason_that_nobody_documents_rings_and_retires_nothing(
    fleet: Core, account: Account
) -> None:
    user, address = account.iphone()
    before = metric(fleet, "pushfleet_unknown_codes_total", vendor="apns")
    simulator(fleet, "apns", "tokens", {address: {"reason": "ReasonOfNextYear", "status": 400}})
    row = account.send(user)
    assert (row["decision"], codes(row)) == ("unknown", [("400", "ReasonOfNextYear")])
    wait_for(
        lambda: metric(fleet, "pushfleet_unknown_codes_total", vendor="apns") == before + 1,
        "the alarm",
    )
    assert account.state(user) == "active"
    simulator(fleet, "apns", "tokens", {address: None})
    assert account.send(user)["decision"] == "accepted"


def group(fleet: Core, account: Account, people: list[str]) -> dict[str, Any]:
    """A message of somebody else to a group of these people; `data` of the event."""
    name = "g-" + uuid.uuid4().hex[:10]
    fleet.redis.sadd(f"im:members:{{{account.app}:{name}}}", *people)
    data = operator.message("", conversation={"type": "group", "id": name, "name": "Team"})
    del data["recipients"]
    return data


def test_forty_pushes_in_flight_outlive_a_goaway_and_none_comes_twice(
    fleet: Core, account: Account
) -> None:
    people = account.iphones(40)
    doubled = simulator(fleet, "apns", "stats")["doubled"]
    account.send(people[0][0])  # a connection is open, and Apple's side of it is known
    data = group(fleet, account, [user for user, _ in people])
    with operator.faults(fleet, "apns", delay_ms=150, goaway_after=20):
        fleet.publish("message.stored", data, app=account.app)
        rows = fleet.why(data["message_id"], account.app, rows=40)["recipients"]
    assert Counter(row["decision"] for row in rows) == {"accepted": 40}
    addresses = {address for _, address in people}
    lines = [
        line
        for line in fleet.record("apns")
        if line["token"] in addresses and line["collapse_id"] == data["message_id"]
    ]
    assert len(lines) == len({line["id"] for line in lines}) == 40
    found = len({line["connection"] for line in lines})
    assert found >= 2, "the connection was to be closed on the way"
    assert simulator(fleet, "apns", "stats")["doubled"] == doubled


def test_foreign_tokens_in_masses_retire_nobody_and_dead_ones_are_still_retired(
    fleet: Core, tmp_path: Path
) -> None:
    account = Account(fleet, tmp_path)  # a lane of its own: the guard counts by lane
    foreign = [user for user, _ in account.iphones(100, "badd")]
    dead = [user for user, _ in account.iphones(3, "dead")]
    alive = [user for user, _ in account.iphones(17)]
    data = group(fleet, account, [*foreign, *dead, *alive])
    fleet.publish("message.stored", data, app=account.app)
    rows = fleet.why(data["message_id"], account.app, rows=120)["recipients"]
    found = Counter(row["decision"] for row in rows)
    assert found == {"token_foreign": 100, "token_dead": 3, "accepted": 17}
    wait_for(
        lambda: all(account.state(user) == "retired" for user in dead), "dead tokens are retired"
    )
    assert {account.state(user) for user in foreign} == {"active"}
    gauge = {"app": account.app, "vendor": "apns", "business_id": "ios"}
    wait_for(lambda: metric(fleet, "pushfleet_token_guard", **gauge) == 1, "the guard's gauge")
    assert account.send(foreign[0])["decision"] == "token_foreign"
    assert account.state(foreign[0]) == "active"


MINT = """
import sys
from common.model import Vendor
from workers.vendors.apns import APNS
from workers.vendors.types import Credential
p8, kid, *moments = sys.argv[1:]
credential = Credential("a", Vendor.APNS, "b", 1, {"key_id": kid, "team_id": "TEAM123456", "topic": "c.d"}, {"p8": open(p8).read()})
for moment in moments:
    print(APNS.access.ask(credential, int(moment)).value)
"""  # noqa: E501


def test_eight_processes_mint_one_provider_token_and_never_two_within_twenty_minutes(
    account: Account,
) -> None:
    first_ms = now_ms()
    moments = [str(first_ms + minutes * 60_000) for minutes in range(0, 180, 7)]
    command = [sys.executable, "-c", MINT, str(account.p8), account.kid, *moments]
    minting = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    told = [process.communicate(timeout=60)[0].split() for process in minting]
    assert [process.returncode for process in minting] == [0] * 8
    assert all(tokens == told[0] for tokens in told)
    assert len(told[0]) == len(moments)
    issued = sorted({_issued(one) for one in told[0]})
    assert all(later - earlier >= 1200 for earlier, later in itertools.pairwise(issued))
    pairs = zip(moments, told[0], strict=True)
    assert all(0 <= int(moment) / 1000 - _issued(one) < 3600 for moment, one in pairs)


def _issued(token: str) -> int:
    import base64
    import json

    claims = token.split(".")[1]
    return int(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iat"])


def test_the_whole_fleet_shows_apple_one_provider_token(fleet: Core, tmp_path: Path) -> None:
    before = time.time() // PROVIDER_TOKEN_S
    # of its own: one that Apple called expired has another, of twenty minutes later
    account = Account(fleet, tmp_path)
    users = [account.iphone()[0] for _ in range(5)]
    assert {account.send(user)["decision"] for user in users} == {"accepted"}
    good(fleet, "credential", "check", account.app, "apns", "ios")  # another process
    seen = simulator(fleet, "apns", "stats")["distinct_jwts"][account.kid]
    # one in each 40 minutes that this test has touched
    assert 1 <= seen <= 1 + (time.time() // PROVIDER_TOKEN_S - before)


def test_an_expired_provider_token_is_answered_on_a_new_connection(
    fleet: Core, account: Account
) -> None:
    """Apple's own clock may say so at any time; the same token is then shown on a new connection,
    and a refusal parks the lane.
    """
    user, _ = account.iphone()
    status_body = '{"reason":"ExpiredProviderToken"}'
    with operator.faults(
        fleet, "apns", status=403, status_share=1.0, status_body=status_body, only_first=1
    ):
        row = account.send(user)
    found = (row["decision"], codes(row))
    assert found == ("accepted", [("403", "ExpiredProviderToken"), ("200", "")])
