"""One ASGI app on one address until told to stop: what the receipts and the console processes share."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from common.config import SettingError, host_port

log = logging.getLogger(__name__)

#: Calls at the same time; more are answered with 503.
CALLS_MAX: Final = 512
IDLE_S_MAX: Final = 15
#: After the word to stop, running calls get so long, seconds.
STOP_S_MAX: Final = 5
BACKLOG: Final = 1024


def bind(addr: str, setting: str) -> socket.socket:
    """A listening socket; SettingError names the setting where the address is taken, or none of this machine's."""
    host, port = host_port(addr)
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG, reuse_port=False
        )
    except OSError as error:
        raise SettingError(f"{setting} takes an address that can be bound here and is free ({error.strerror})") from None


def serve(app: ASGIApp, listener: socket.socket, stop: threading.Event) -> None:
    """Serves until `stop` is set. The server runs in a thread of its own: the signals stay the process's.

    RuntimeError when the server ends unasked: the process ends then, and whoever supervises it starts another.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=CALLS_MAX,
        timeout_keep_alive=IDLE_S_MAX,
        timeout_graceful_shutdown=STOP_S_MAX,
        ws="none",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="http")
    thread.start()
    log.info("listening", extra={"url": url_of(listener)})
    while thread.is_alive() and not stop.wait(0.2):
        pass
    asked = stop.is_set()
    server.should_exit = True
    thread.join(STOP_S_MAX + 1)
    listener.close()
    if not asked:
        raise RuntimeError("the HTTP server ended by itself")


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
