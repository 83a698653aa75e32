"""A vendor's proxy is on the route of each of its lanes: pushes, access tokens and checks all go by
the route.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from common.config import VENDOR_ENDPOINTS, Settings
from common.model import Vendor
from tests.builders import stored_credential
from workers.adapters.catalog import lane_of
from workers.delivery.access import FleetAccess
from workers.wire import NoAnswer, Request, Route

OPTIONS = {
    "app_id": "1",
    "app_key": "k",
    "package": "p",
    "topic": "t",
    "project_id": "p",
    "client_email": "e",
    "key_id": "k",
}


def lane(vendor: Vendor, settings: Settings) -> Any:
    return lane_of(stored_credential("demo", vendor, options=OPTIONS), settings)


@pytest.mark.parametrize("vendor", Vendor)
def test_each_lane_of_a_vendor_goes_through_its_proxy_and_no_other(vendor: Vendor) -> None:
    settings = Settings.load({f"PUSHFLEET_PROXY_{vendor.upper()}": "http://u:p@proxy:3128"})
    assert vendor in VENDOR_ENDPOINTS
    for other in Vendor:
        wanted = "http://u:p@proxy:3128" if other == vendor else None
        assert lane(other, settings).route.proxy == wanted


class Street:
    """Remembers by which route it was asked."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def send_many(
        self, route: Route, requests: Sequence[Request], _deadline_s: float
    ) -> list[NoAnswer]:
        self.routes.append(route)
        return [NoAnswer("refused", False)] * len(requests)

    def load(self, *_key: Any) -> None:
        return None

    def lock(self, *_key: Any) -> str:
        return "word"

    def unlock(self, *_key: Any) -> None:
        return None


def test_access_tokens_are_fetched_through_it_too() -> None:
    street = Street()
    where = lane(Vendor.HUAWEI, Settings.load({"PUSHFLEET_PROXY_HUAWEI": "http://proxy:3128"}))
    FleetAccess(street, street, lambda: 1, lambda _s: None, 1.0).get(where, 1)  # type: ignore[arg-type]
    assert [route.proxy for route in street.routes] == ["http://proxy:3128"]
    assert "3128" not in repr(street.routes[0])
