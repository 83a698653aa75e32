"""One tenant of the running fleet with accounts of several vendors: what its core publishes, and
what became of it.
"""

import time
import uuid
from typing import Any

from common.model import Vendor
from tests.e2e.conftest import Core, digits
from workers.cli.demo_data import made_up
from workers.vendors import VENDORS

#: Each process looks once a second.
TOOK_EFFECT_S = 1.5


def device_token(vendor: str, mood: str = "") -> str:
    """A device token as the vendor's look; its text tells the simulator what shall become of it:
    "", `dead` or `fail`.
    """
    return made_up(Vendor(vendor), digits()[:64], mood)


def platform_of(vendor: str) -> str:
    return VENDORS[Vendor(vendor)].platform


class FleetTenant:
    """The tenant `app`. Every test takes people of its own from `people`, so that
    tests don't meet.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.app = "t" + uuid.uuid4().hex[:10]

    def changed(self) -> None:
        """What an operator changed takes effect within 2 s."""
        self.core.runtime.catalog.changed()
        time.sleep(TOOK_EFFECT_S)

    def person(self, name: str = "u") -> str:
        return name + uuid.uuid4().hex[:8]

    def people(self, count: int = 2) -> list[str]:
        return [self.person() for _ in range(count)]

    def event(
        self, kind: str, data: dict[str, Any], *, ts: int | None = None, event_id: str | None = None
    ) -> str:
        """Publishes a native event and waits until it was read."""
        identity = self.core.publish(kind, data, app=self.app, ts=ts, event_id=event_id)
        self.core.settled()
        return identity

    def device(
        self, user: str, device: str, vendor: str, business_id: str, token: str | None, **more: Any
    ) -> str:
        """Registers a device as the core does; its token."""
        address = token or device_token(vendor)
        data = {
            "user": user,
            "device_id": device,
            "platform": platform_of(vendor),
            "vendor": vendor,
            "token": address,
        }
        self.event("device.registered", {**data, "business_id": business_id, **more})
        return address

    def send(self, data: dict[str, Any], rows: int = 1, **more: Any) -> dict[str, Any]:
        """Publishes a message.stored; its trace once every row is decided."""
        self.event("message.stored", data, **more)
        return self.why(data["message_id"], rows)

    def why(self, message_id: str, rows: int = 1, user: str | None = None) -> dict[str, Any]:
        return self.core.why(message_id, self.app, rows=rows, user=user)

    def pushes(self, token: str, vendor: str = "apns") -> list[dict[str, Any]]:
        """What the vendor's simulator took for this token; HarmonyOS is recorded by Huawei's."""
        return self.core.pushes_to("huawei" if vendor == "harmony" else vendor, token)

    def push(self, token: str, vendor: str = "apns") -> dict[str, Any]:
        """The only push this token ever got."""
        (push,) = self.pushes(token, vendor)
        return push

    def alert(self, token: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.push(token)["body"]["aps"]["alert"]
        return shown
