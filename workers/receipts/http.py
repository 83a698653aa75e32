"""Receipts over HTTP: address and signature checked, read, stored on `receipts`, acknowledged."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common import metrics
from common.clock import now_ms
from common.config import Settings
from common.contracts import encode
from common.model import Vendor
from common.storage import keys
from common.storage.unavailable import store_errors
from workers import serving
from workers.receipts.address import PURPOSE, Address, proven, read_path
from workers.receipts.matched import Callback
from workers.receipts.matcher import Matcher, ReceiptStores
from workers.receipts.readers import READERS
from workers.vendors import huawei_receipts as huawei
from workers.vendors.receipt_bodies import Receipt, ReceiptsError
from workers.vendors.types import Credential

log = logging.getLogger(__name__)

#: Receipts of one callback: a body of commas would make half a million.
RECEIPTS_MAX: Final = 10_000
#: Receipts of one entry of the stream; entries at which vendors are asked to retry.
RECEIPTS_A_CALLBACK: Final = 1000
STREAM_MAX: Final = 20_000
#: A callback that was signed is taken once within the signature's window.
NONCE_S: Final = 2 * huawei.WINDOW_MS // 1000
SILENT_S: Final = 60.0
#: Status of a callback that can't be read, in `pushfleet_receipts_total`.
UNREADABLE: Final = "unreadable"
LOG_EVERY_S: Final = 60.0


class Accounts(Protocol):
    def newest_credential(
        self, app: str, vendor: Vendor, business_id: str
    ) -> Credential | None: ...


class ReceiptPorts(ReceiptStores, Protocol):
    """The part of the runtime that this process uses."""

    @property
    def settings(self) -> Settings: ...
    @property
    def catalog(self) -> Accounts: ...


def serve(stores: ReceiptPorts, stop: threading.Event) -> None:
    """Serves until `stop` is set. Raises SettingError when the address cannot be bound."""
    listener = serving.bind(stores.settings.receipts_addr, "PUSHFLEET_RECEIPTS_ADDR")
    matcher = Matcher(stores)
    thread = threading.Thread(target=matcher.run, args=(stop.is_set,), name="matcher")
    thread.start()
    try:
        serving.serve(make_app(stores, matcher), listener, stop)
    finally:
        stop.set()
        thread.join(10)


def make_app(stores: ReceiptPorts, matcher: Matcher) -> Starlette:
    door = _Handler(stores)

    async def healthz(_request: Request) -> Response:
        good = time.monotonic() - matcher.progress_at < SILENT_S
        return JSONResponse({"name": "receipts", "ok": good}, 200 if good else 503)

    async def callback(request: Request) -> Response:
        try:
            return await door.answer(request)
        except serving.Refusal as refusal:
            return JSONResponse({"error": refusal.words}, refusal.status, refusal.headers)
        except ClientDisconnect:
            return Response(status_code=400)

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[Route("/healthz", healthz), Route("/{path:path}", callback, methods=methods)]
    )


class _Handler:
    def __init__(self, stores: ReceiptPorts) -> None:
        self._stores = stores
        self._keys = stores.vault.derived(PURPOSE)
        self._logged_at: dict[Vendor, float] = {}

    async def answer(self, request: Request) -> Response:
        address = read_path(request.scope.get("raw_path") or request.scope["path"].encode())
        if address is None or address.vendor not in READERS or not proven(address, self._keys):
            raise serving.Refusal(404, "no such address")
        if request.method != "POST":
            raise serving.Refusal(405, "POST only", {"allow": "POST"})
        body = await serving.body_of(request)
        headers = dict(request.headers)
        return await serving.in_time(lambda: self._take(address, body, headers))

    def _take(self, address: Address, body: bytes, headers: Mapping[str, str]) -> Response:
        reader = READERS[address.vendor]
        try:
            credential = self._stores.catalog.newest_credential(
                address.app, address.vendor, address.business_id
            )
            if credential is None:
                raise serving.Refusal(404, "no such address")
            nonce = _checked_nonce(credential, headers) if reader.signed else None
            read = reader.read(body, headers)
            receipts = [one for one in read[:RECEIPTS_MAX] if _storable(one)]
            if receipts:
                self._store(address, receipts, nonce)
            if len(read) > RECEIPTS_MAX:
                raise ReceiptsError(f"over {RECEIPTS_MAX} receipts in one body")
        # Answered as taken: a refused vendor stops, or repeats the same callback.
        except ReceiptsError as error:
            self._unreadable(address.vendor, str(error), len(body), headers)
        except store_errors() as error:
            log.warning(
                "a receipt can't be stored now",
                extra={"reason": type(error).__name__, "vendor": address.vendor},
            )
            raise serving.Refusal(503, "come again") from None
        return Response(reader.ack, media_type="application/json")

    def _unreadable(
        self, vendor: Vendor, reason: str, size: int, headers: Mapping[str, str]
    ) -> None:
        """Counts an unreadable callback; logs once a minute and vendor, without the body."""
        metrics.RECEIPTS.labels(vendor, UNREADABLE).inc()
        now = time.monotonic()
        if now - self._logged_at.get(vendor, -math.inf) >= LOG_EVERY_S:
            self._logged_at[vendor] = now
            kind = headers.get("content-type", "")[:64]
            log.warning(
                "a receipt can't be read",
                extra={"vendor": vendor, "reason": reason, "bytes": size, "content_type": kind},
            )

    def _store(self, address: Address, receipts: Sequence[Receipt], nonce: str | None) -> None:
        """Stores all of them with the nonce, or none; a known nonce stores nothing."""
        stores, now = self._stores, now_ms()
        seen = (
            None
            if nonce is None
            else stores.keys.receipt_nonce(
                hashlib.sha256(nonce.encode("utf-8", "replace")).hexdigest()
            )
        )
        if seen is not None and stores.redis.exists(seen):
            return
        if stores.redis.xlen(stores.keys.stream(keys.RECEIPTS)) > STREAM_MAX:
            raise serving.Refusal(503, "come again")
        parts = [
            tuple(receipts[start : start + RECEIPTS_A_CALLBACK])
            for start in range(0, len(receipts), RECEIPTS_A_CALLBACK)
        ]
        blobs = [
            encode(Callback(address.vendor, address.app, address.business_id, now, part))
            for part in parts
        ]

        def remember(pipe: Any) -> None:
            if seen is not None:
                pipe.set(seen, b"1", ex=NONCE_S)

        stores.streams.hand_on((), [(keys.RECEIPTS, blob) for blob in blobs], remember)


def _storable(receipt: Receipt) -> bool:
    """No device of ours has a token with a NUL in it: PostgreSQL takes none."""
    return "\0" not in receipt.token + (receipt.replacement or "")


def _checked_nonce(credential: Credential, headers: Mapping[str, str]) -> str | None:
    """The signature's nonce where the account has a callback key; None where it has none. Refusal
    401.
    """
    key = credential.secrets.get("callback_key", "")
    if not key:
        return None
    if not huawei.signature_valid(
        headers, key, credential.options.get("callback_user", ""), now_ms()
    ):
        raise serving.Refusal(401, "the signature does not fit")
    return huawei.nonce(headers)
