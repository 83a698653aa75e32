"""What an operator does and sees in the end-to-end tests: commands, metrics, the simulators' side
doors, accounts of every vendor.
"""

import contextlib
import re
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from common import runfile
from tests.builders import device_of
from tests.commands import command
from tests.e2e.conftest import Core
from tests.e2e.tenant import TOOK_EFFECT_S, platform_of
from tests.taken import ask, told_by
from workers.cli.demo_data import account_options


def cli(fleet: Core, *arguments: str) -> tuple[int, str, str]:
    """`pushfleet <arguments>` in this process, on the fleet's data folder: exit code, stdout,
    stderr.
    """
    return command({"PUSHFLEET_DATA_DIR": str(fleet.runtime.settings.data_dir)}, *arguments)


def good(fleet: Core, *arguments: str) -> str:
    """stdout of a command that must succeed."""
    code, out, err = cli(fleet, *arguments)
    assert code == 0, err or out
    return out


def metric(fleet: Core, name: str, **labels: str) -> float:
    """Sum over the fleet's processes of the samples of this name with these labels."""
    total = 0.0
    for url in runfile.read(fleet.runtime.settings.data_dir)["metrics"]:
        with urllib.request.urlopen(url, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        for line in lines:
            if line.startswith(name + "{") and all(
                f'{label}="{value}"' in line for label, value in labels.items()
            ):
                total += float(line.rpartition(" ")[2])
    return total


def simulator(
    fleet: Core, vendor: str, action: str, wanted: Mapping[str, Any] | None = None
) -> Any:
    """A call at the simulator's side door; harmony's is huawei's."""
    name = "huawei" if vendor == "harmony" else vendor
    return ask(told_by(fleet.runtime.settings.data_dir / "simulators", name), action, wanted)


@contextlib.contextmanager
def faults(fleet: Core, vendor: str, **wanted: Any) -> Iterator[None]:
    """The simulator's switches for the time of the block."""
    before = simulator(fleet, vendor, "stats")["faults"]
    simulator(fleet, vendor, "faults", wanted)
    try:
        yield
    finally:
        simulator(fleet, vendor, "faults", {name: before[name] for name in wanted})


def parked(fleet: Core, app: str, vendor: str, business_id: str) -> int:
    return fleet.runtime.lane_queues.waiting(f"{app}:{vendor}:{business_id}")


def lane_state(fleet: Core, app: str, vendor: str, business_id: str) -> tuple[str, str]:
    state = fleet.runtime.lane_states.peek(f"{app}:{vendor}:{business_id}")
    return state.state, state.why


def message(to: str, by: str = "u1", **more: Any) -> dict[str, Any]:
    """`data` of a chat message."""
    base: dict[str, Any] = {
        "message_id": "m-" + uuid.uuid4().hex,
        "conversation": {"type": "c2c", "id": by},
        "sender": {"id": by, "nick": "Ann"},
        "recipients": [to],
        "elements": [{"type": "text", "text": "hello 你好"}],
    }
    return {**base, **more}


def row_of(
    fleet: Core,
    app: str,
    data: Mapping[str, Any],
    look: Callable[[dict[str, Any]], Any],
    seconds: float = 60.0,
) -> dict[str, Any]:
    """The only row of a message once `look` likes it, decided or not."""
    from tests.e2e.conftest import wait_for
    from workers.cli.why import message_trace

    def told() -> dict[str, Any] | None:
        found = message_trace(fleet.runtime, data["message_id"], app, None, None)
        rows = found["recipients"] if found else []
        return rows[0] if len(rows) == 1 and look(rows[0]) else None

    return wait_for(told, f"the wanted row of {data['message_id']}", seconds)


def register(
    fleet: Core,
    app: str,
    user: str,
    vendor: str,
    business_id: str,
    token: str,
    device: str = "phone",
    settled: bool = True,
    **more: Any,
) -> str:
    """Registers a device; its token. settled: waits until the fleet has read it."""
    platform = platform_of(vendor)
    data = device_of(
        user,
        device_id=device,
        platform=platform,
        vendor=vendor,
        business_id=business_id,
        token=token,
    )
    fleet.publish("device.registered", {**data, **more}, app=app)
    if settled:
        fleet.settled()
    return token


def send(fleet: Core, app: str, to: str, **more: Any) -> dict[str, Any]:
    """Publishes a chat message; the recipient's one row, decided."""
    data = message(to, **more)
    fleet.publish("message.stored", data, app=app)
    (row,) = fleet.why(data["message_id"], app)["recipients"]
    return row


def new_app(fleet: Core) -> str:
    """A tenant of this test, made by the command."""
    app = "t" + uuid.uuid4().hex[:10]
    good(fleet, "app", "add", app, "--name", "Test chat", "--lang", "en")
    return app


def took_effect() -> None:
    """What changed takes effect within 2 s; each process looks once a second. What was added is
    known at once.
    """
    time.sleep(TOOK_EFFECT_S)


def all_accounts(fleet: Core, app: str, folder: Path) -> dict[str, list[str]]:
    """An account with each of the nine vendors, business id `<vendor>-1`, added by the command; its
    options by vendor.
    """
    made = {}
    for vendor, options in account_options(folder):
        new = f"credential add {vendor} --app {app} --business-id {vendor}-1".split()
        good(fleet, *new, *options)
        made[str(vendor)] = options
    return made


def first_words(error: str) -> str:
    return re.sub(r"\s+", " ", error).strip()


@pytest.fixture(scope="module")
def lanes(
    fleet: Core, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, list[str]]]:
    """(tenant, options by vendor) with an account of each of the nine vendors."""
    app = new_app(fleet)
    return app, all_accounts(fleet, app, tmp_path_factory.mktemp("accounts"))
