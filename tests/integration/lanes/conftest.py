"""Lanes in this process; what they are sent with is as in tests/integration/delivery."""

from tests.integration.delivery.conftest import brief_slices, lane, meizu, runtime, world

__all__ = ["brief_slices", "lane", "meizu", "runtime", "world"]
