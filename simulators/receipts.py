"""The vendors' receipts on their way back: posted after acceptance by a thread of its own, once, to
loopback only.
"""

from __future__ import annotations

import queue
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from simulators.simulator import Record

QUEUE_MAX = 10_000
POST_S_MAX = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Receipts:
    """post() never blocks: what can't be queued, reached or acknowledged is counted and forgotten.
    A vendor is no better.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._queue: queue.Queue[tuple[str, bytes, Mapping[str, str]]] = queue.Queue(QUEUE_MAX)
        self._thread: threading.Thread | None = None
        for name in ("receipts_acknowledged", "receipts_failed", "receipts_dropped"):
            record.count(name, 0)
        # Loopback only, and the receiver's certificate is often a throw-away one.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """url: http or https, loopback; another host is dropped and counted."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname not in _LOOPBACK:
            self._record.count("receipts_dropped")
            return
        try:
            self._queue.put_nowait((url, body, headers))
        except queue.Full:
            self._record.count("receipts_dropped")
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            url, body, headers = self._queue.get()
            request = urllib.request.Request(url, body, dict(headers), method="POST")
            try:
                with urllib.request.urlopen(
                    request, timeout=POST_S_MAX, context=self._context
                ) as answer:
                    self._record.count(
                        "receipts_acknowledged" if answer.status == 200 else "receipts_failed"
                    )
            except (OSError, ValueError):
                self._record.count("receipts_failed")
