"""The gateway on the running fleet, for tests that speak to its doors as servers and clouds do."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

import httpx

from tests.e2e.conftest import Core
from workers import serving
from workers.gateway.answers import DecisionReader
from workers.gateway.directory import Directories
from workers.gateway.feed import StreamFeed
from workers.gateway.http import CALLS_MAX, make_app
from workers.runtime import Runtime


@contextlib.contextmanager
def open_gateway(core: Core, stream: str | None = None) -> Iterator[httpx.Client]:
    """A client whose base is the gateway's address. stream: instead of the fleet's own."""
    runtime = Runtime(dataclasses.replace(core.runtime.settings, gateway_addr="127.0.0.1:0"))
    stop = threading.Event()
    listener = serving.bind(runtime.settings.gateway_addr, "PUSHFLEET_GATEWAY_ADDR")
    url = serving.url_of(listener)
    feed = StreamFeed(runtime.core, stream or runtime.settings.event_streams[0])
    decisions = DecisionReader(runtime.redis, runtime.keys)
    directories = Directories(runtime.catalog, runtime.vault)
    app = make_app(runtime, feed, decisions, directories)
    thread = threading.Thread(target=serving.serve, args=(app, listener, stop, CALLS_MAX))
    thread.start()
    try:
        with httpx.Client(base_url=url, timeout=15) as client:
            yield client
    finally:
        stop.set()
        thread.join(15)
        directories.close()
        feed.close()
        decisions.close()
        runtime.close()
