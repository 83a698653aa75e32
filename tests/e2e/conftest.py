"""One whole fleet for this folder: embedded servers, simulators, every process of the Procfile; and
a core that speaks to it.
"""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from common.config import Settings
from common.model import Vendor
from common.running_fleet import resolve
from common.setting_checks import EMBEDDED
from tests.builders import core_event
from tests.cluster import valkey_cluster
from tests.conftest import open_folder
from tests.processes import end_at_once
from tests.simulator_keys import p8_options
from tests.taken import Taken
from tests.waiting import wait_for as wait_for
from workers.cli.fleet import migrate_settings
from workers.cli.up import in_background
from workers.cli.why import message_trace
from workers.runtime import Runtime

if TYPE_CHECKING:
    from tests.e2e.house import House
    from tests.e2e.town import Town

#: Tenants made at a time: what changed takes a second to take effect.
TENANTS = 12


def now_ms() -> int:
    return int(time.time() * 1000)


class Core:
    """What an IM core does: publish, write presence and members; and what an operator asks."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.redis = runtime.core
        folder = runtime.settings.data_dir / "simulators"
        self._taken = {str(vendor): Taken(folder / f"{vendor}.jsonl") for vendor in Vendor}

    def publish(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        app: str,
        ts: int | None = None,
        event_id: str | None = None,
    ) -> str:
        identity = event_id or uuid.uuid4().hex
        event = core_event(app, kind, data, ts_ms=now_ms() if ts is None else ts, event_id=identity)
        self.redis.xadd("im:events", {"e": json.dumps(event, ensure_ascii=False)})
        return identity

    def presence(
        self,
        app: str,
        user: str,
        device: str,
        state: str,
        platform: str = "ios",
        since_ms: int | None = None,
    ) -> None:
        value = f"{state}|{platform}|{now_ms() + 600_000}" + (
            f"|{since_ms}" if since_ms is not None else ""
        )
        self.redis.hset(f"im:presence:{{{app}:{user}}}", device, value)

    def settled(self) -> None:
        """Until everything published so far was read."""
        wait_for(lambda: not self.redis.xlen("im:events"), "the core's stream is empty")

    def why(
        self,
        message_id: str,
        app: str,
        *,
        rows: int = 1,
        user: str | None = None,
        event_id: str | None = None,
    ) -> dict[str, Any]:
        """The trace, once it has at least `rows` rows and each is decided (or the event was decided
        at intake).
        """

        def told() -> dict[str, Any] | None:
            found = message_trace(self.runtime, message_id, app, event_id, user)
            if found is None:
                return None
            decided = [one for one in found["recipients"] if one["decision"] is not None]
            return (
                found
                if found["decision"]
                or (len(decided) >= rows and len(decided) == len(found["recipients"]))
                else None
            )

        return wait_for(told, f"a decision on {message_id}")

    def record(self, vendor: str) -> list[dict[str, Any]]:
        return self._taken[vendor].lines()

    def pushes_to(self, vendor: str, token: str) -> list[dict[str, Any]]:
        return self._taken[vendor].of_token(token)


@pytest.fixture(scope="package")
def fleet() -> Iterator[Core]:
    os.environ.pop("PUSHFLEET_METRICS_PORT", None)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        environ = {"PUSHFLEET_DATA_DIR": str(folder / "var"), "PUSHFLEET_RETRY_FIRST_S": "0.3"}
        # `make cluster-e2e`: the same on a cluster of its own
        if os.environ.get("PUSHFLEET_TEST_CLUSTER"):
            environ |= {"PUSHFLEET_REDIS_URL": stack.enter_context(valkey_cluster()).url()}
        settings = Settings.load(environ)
        assert settings.database_url == EMBEDDED
        procfile = Path(__file__).parent / "Procfile"
        with in_background(
            settings, {}, True, migrate=migrate_settings, procfile_path=procfile
        ) as running:
            runtime = Runtime(resolve(settings))
            try:
                yield Core(runtime)
            finally:
                end_at_once(running)
                runtime.close()


@pytest.fixture(scope="package")
def tenants(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """New tenants, each with an APNs account `ios`, made as the command line makes it; TENANTS of
    them at a time.
    """
    from common.storage.tenants import Tenant
    from workers.cli.demo import account

    options = p8_options(tmp_path_factory.mktemp("tenants") / "key.p8")

    def made() -> Iterator[str]:
        while True:
            names = ["t" + uuid.uuid4().hex[:10] for _ in range(TENANTS)]
            for name in names:
                fleet.runtime.tenants.add(Tenant(name, "Test chat", "en", "Asia/Shanghai"))
                fleet.runtime.credentials.add(
                    account(Vendor.APNS, options, app=name, business_id="ios")
                )
            fleet.runtime.catalog.changed()
            time.sleep(1.5)  # what changed takes effect within 2 s; most of it within one
            yield from names

    return made()


@pytest.fixture
def app(tenants: Iterator[str]) -> str:
    """A tenant of this test with an APNs account `ios`."""
    return next(tenants)


def token() -> str:
    return ("a1" + digits())[:64]


def digits() -> str:
    """78 random digits. Without letters: a simulator reads words as `dead` in a token as what shall
    become of it.
    """
    return f"{uuid.uuid4().int:039d}{uuid.uuid4().int:039d}"


@pytest.fixture
def iphone(fleet: Core, app: str) -> Callable[..., str]:
    """Registers an iPhone of a user; its token."""

    def register(user: str, device: str = "phone", address: str | None = None, **more: Any) -> str:
        address = address or token()
        data = {
            "user": user,
            "device_id": device,
            "platform": "ios",
            "vendor": "apns",
            "business_id": "ios",
            "token": address,
            **more,
        }
        fleet.publish("device.registered", data, app=app)
        fleet.settled()
        return address

    return register


class Afterwards:
    """What must still be so when some seconds have passed: looked at when the file is done, so that
    no test waits for it.
    """

    def __init__(self) -> None:
        self._claims: list[tuple[float, str, Callable[[], bool]]] = []

    def __call__(self, seconds: float, holds: Callable[[], bool], claim: str) -> None:
        self._claims.append((time.monotonic() + seconds, claim, holds))

    def broken(self) -> list[str]:
        time.sleep(max([0.0, *(at - time.monotonic() for at, _, _ in self._claims)]))
        return [claim for _, claim, holds in self._claims if not holds()]


@pytest.fixture(scope="module")
def afterwards() -> Iterator[Afterwards]:
    claims = Afterwards()
    yield claims
    assert claims.broken() == []


@pytest.fixture(scope="package")
def house(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> "House":
    """Who changes accounts or options makes a house of its own."""
    from tests.e2e.house import House

    return House(fleet, tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="package")
def town(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> "Town":
    """Who changes its options makes a town of its own; accounts may be added."""
    from tests.e2e.town import Town

    return Town(fleet, tmp_path_factory.mktemp("town"))
