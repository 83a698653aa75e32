"""The transport's guard: a transport that is already closed answers with what
every caller handles.
"""

from types import SimpleNamespace

import pytest
from kombu.transport import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.broker import Channel, SentinelChannel


@pytest.mark.parametrize("channel", [Channel, SentinelChannel])
@pytest.mark.parametrize(
    "transport",
    [None, SimpleNamespace(client=None)],
    ids=["no transport", "transport without client"],
)
def test_a_channel_of_a_closed_transport_raises_a_connection_error(channel, transport):
    closed = channel.__new__(channel)
    closed.connection = transport
    with pytest.raises(RedisConnectionError, match="already closed"):
        closed._connparams()


def test_the_stock_channel_still_needs_the_guard():
    """When this fails, kombu has mended it and workers/broker.py can go."""
    closed = stock.Channel.__new__(stock.Channel)
    closed.connection = SimpleNamespace(client=None)
    with pytest.raises(AttributeError, match="hostname"):
        closed._connparams()
