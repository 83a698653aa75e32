"""A server ends when it is told to, at whatever moment that is."""

import threading
from typing import Any

import pytest
import uvicorn

from workers.serving import bind, serve


async def app(_scope: Any, _receive: Any, _send: Any) -> None:
    raise RuntimeError


def test_a_stop_before_the_server_listens_is_no_fault() -> None:
    stop = threading.Event()
    stop.set()
    serve(app, bind("127.0.0.1:0", "PUSHFLEET_CONSOLE_ADDR"), stop, 10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_ends_by_itself_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no loop")

    monkeypatch.setattr(uvicorn.Server, "run", broken)
    with pytest.raises((RuntimeError, OSError)):
        serve(app, bind("127.0.0.1:0", "PUSHFLEET_CONSOLE_ADDR"), threading.Event(), 10)
