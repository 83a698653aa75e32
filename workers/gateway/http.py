"""The doors over HTTP: read, translated, on the stream, answered. No caller is answered before its
events are durable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import resource
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from prometheus_client import Counter
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common import metrics
from common.clock import now_ms
from common.contracts import encode
from common.ledger_records import DeadRecord, NoteRecord
from common.storage import keys
from common.storage.streams import StreamStore
from common.storage.unavailable import store_errors
from workers import serving
from workers.gateway import clouds, gorush, matrix, mattermost
from workers.gateway.aliases import DoorAccount, named, only
from workers.gateway.answers import DecisionReader
from workers.gateway.clouds import CloudCallback, CloudRefusal
from workers.gateway.directory import Directories, Directory, DoorStores
from workers.gateway.events import as_text, encoded, is_token
from workers.gateway.feed import StreamFeed, StreamUnavailable

if TYPE_CHECKING:
    from common.storage.ledger import Ledger

log = logging.getLogger(__name__)

#: Calls at the same time: a group of a thousand is a thousand of them.
CALLS_MAX: Final = 4_096
#: Seconds that an answer waits for a decision before it is sent without one.
DECISION_S: Final = 0.2
SYNC_S: Final = 5.0
#: Devices of one notification; a homeserver names one.
DEVICES_MAX: Final = 1_000
#: A callback that a cloud signs singly is taken once in this time.
ONCE_S: Final = 86_400
#: An unknown name is a dead letter once in this time, however often it is asked for.
UNKNOWN_S: Final = 3_600
#: Most of them per door in that time: a caller without a key could make up names without end.
UNKNOWN_MAX: Final = 100
LETTER_BYTES_MAX: Final = 64 * 1024


class GatewayStores(DoorStores, Protocol):
    """The part of the runtime that this process uses."""

    @property
    def streams(self) -> StreamStore: ...
    @property
    def ledger(self) -> Ledger: ...


def serve(stores: GatewayStores, stop: threading.Event) -> None:
    """Serves until `stop` is set. Raises SettingError when the address cannot be bound."""
    listener = serving.bind(stores.settings.gateway_addr, "PUSHFLEET_GATEWAY_ADDR")
    room_for_calls()
    feed = StreamFeed(stores.core, stores.settings.event_streams[0])
    decisions = DecisionReader(stores.redis, stores.keys)
    directories = Directories(stores.catalog, stores.vault)
    try:
        serving.serve(make_app(stores, feed, decisions, directories), listener, stop, CALLS_MAX)
    finally:
        directories.close()
        feed.close()
        decisions.close()


def room_for_calls() -> None:
    """Raises the limit of open files to the number of calls: 1,024 is less than a large group."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CALLS_MAX + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def make_app(
    stores: GatewayStores, feed: StreamFeed, decisions: DecisionReader, directories: Directories
) -> Starlette:
    doors = _Gateway(stores, feed, decisions, directories)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"name": "gateway", "ok": True})

    matrix_door = _counted("matrix", doors.matrix)

    told = {"source": "pushfleet", "version": metrics.version()}

    async def version(_request: Request) -> Response:
        return JSONResponse(told)

    async def notify(request: Request) -> Response:
        """Both methods on one route: a 405 names all that there are."""
        if request.method == "POST":
            return await matrix_door(request)
        return JSONResponse({"pushfleet": {"gateway": "matrix"}})

    routes = [
        Route("/_matrix/push/v1/notify", notify, methods=["GET", "POST"]),
        Route("/healthz", healthz),
        Route("/health", healthz),
        Route(
            "/t/{key}/api/v1/send_push",
            _counted("mattermost", doors.mattermost, _as_status),
            methods=["POST"],
        ),
        Route(
            "/t/{key}/api/v1/ack",
            _counted("mattermost", doors.mattermost_ack, _as_status),
            methods=["POST"],
        ),
        Route("/t/{key}/api/push", _counted("gorush", doors.gorush, _as_code), methods=["POST"]),
        Route("/t/{key}/api/stat/app", healthz),
        Route("/t/{key}/healthz", healthz),
        Route("/t/{key}/version", version),
        Route("/version", version),
    ]
    routes += [
        Route(f"/callbacks/{name}", _counted(name, doors.cloud(name)), methods=["POST"])
        for name in clouds.ACKS
    ]
    app = Starlette(routes=routes)
    # A redirect would send the key in the address to the host that the caller named, in the clear.
    app.router.redirect_slashes = False
    return app


Answering = Callable[[Request], Awaitable[Response]]


def _refused(refusal: serving.Refusal) -> Response:
    return JSONResponse({"error": refusal.words}, refusal.status, refusal.headers)


def _as_status(refusal: serving.Refusal) -> Response:
    """Mattermost reads `status`, of a 200, and does not come again."""
    return JSONResponse({"status": "FAIL", "error": refusal.words})


def _as_code(refusal: serving.Refusal) -> Response:
    """gorush's own form."""
    told = {"code": refusal.status, "message": refusal.words}
    return JSONResponse(told, refusal.status, refusal.headers)


def _counted(
    door: str, answer: Answering, refused: Callable[[serving.Refusal], Response] = _refused
) -> Answering:
    """refused: a refusal in the words of the door's callers."""

    async def answered(request: Request) -> Response:
        try:
            response = await answer(request)
        except serving.Refusal as refusal:
            response = refused(refusal)
        except StreamUnavailable:
            response = refused(serving.Refusal(503, "come again"))
        except ClientDisconnect:
            response = Response(status_code=400)
        _requests(door, response.status_code).inc()
        return response

    return answered


@lru_cache(256)
def _requests(door: str, status: int) -> Counter:
    """Kept: looking up the labels takes longer than counting."""
    return metrics.DOOR_REQUESTS.labels(door, str(status))


def _as_sent(value: Mapping[str, Any]) -> Response:
    """An answer with texts of the caller's. ASCII: UTF-8 has no form for half a surrogate pair."""
    return Response(json.dumps(value), media_type="application/json")


class _Gateway:
    def __init__(
        self,
        stores: GatewayStores,
        feed: StreamFeed,
        decisions: DecisionReader,
        directories: Directories,
    ) -> None:
        self._stores = stores
        self._feed = feed
        self._decisions = decisions
        self._directories = directories

    # ------------------------------------------------------------ the clouds

    def cloud(self, name: str) -> Answering:
        async def answer(request: Request) -> Response:
            body = await serving.body_of(request)
            query = request.scope["query_string"].decode("latin-1")
            given = CloudCallback(name, query, dict(request.headers), body)
            try:
                genuine = clouds.genuine(given, self._directories.now.secrets, time.time())
            except CloudRefusal as refusal:
                raise serving.Refusal(refusal.status, refusal.words) from None
            fields: dict[str, bytes | str] = {"e": genuine.body, "d": name, "app": genuine.app}
            if query:
                fields["q"] = query
            if await self._first(genuine, body):
                await self._feed.put([fields])
                await self._took(genuine, body)
            return Response(clouds.ACKS[name], media_type="application/json")

        return answer

    async def _first(self, genuine: clouds.Genuine, body: bytes) -> bool:
        """False for the very callback that was taken before. Refusal: another body under a
        signature that was used.
        """
        if not genuine.once:
            return True
        known = await self._redis(lambda: self._stores.redis.get(self._once(genuine)))
        if known is None:
            return True
        if known == _digest(body):
            return False
        raise serving.Refusal(401, "this signature was used for another callback")

    async def _took(self, genuine: clouds.Genuine, body: bytes) -> None:
        """After it is on the stream; where this is lost, the event's id absorbs a repeat."""
        if genuine.once:
            await self._redis(
                lambda: self._stores.redis.set(self._once(genuine), _digest(body), ex=ONCE_S)
            )

    def _once(self, genuine: clouds.Genuine) -> str:
        return self._stores.keys.receipt_nonce(
            hashlib.sha256(f"{genuine.app}\0{genuine.once}".encode("utf-8", "replace")).hexdigest()
        )

    async def _redis(self, ask: Callable[[], Any]) -> Any:
        try:
            return await serving.in_time(ask)
        except (RedisError, OSError, serving.Refusal) as error:
            raise StreamUnavailable(type(error).__name__) from None

    # ------------------------------------------------------------ Matrix

    async def matrix(self, request: Request) -> Response:
        notification = _json_object(await serving.body_of(request)).get("notification")
        devices = notification.get("devices") if isinstance(notification, dict) else None
        if not isinstance(notification, dict) or not isinstance(devices, list):
            raise serving.Refusal(400, "the body has no notification.devices")
        directory, now = self._directories.now, now_ms()
        app, accounts = _homeserver(directory, request.query_params.get("k"))
        if len(devices) > DEVICES_MAX:
            raise serving.Refusal(400, f"at most {DEVICES_MAX} devices")
        pushkeys: dict[str, str] = {}
        events: list[dict[str, Any]] = []
        rejected: list[str] = []
        for device in devices:
            pushkey = device.get("pushkey") if isinstance(device, dict) else None
            if not isinstance(pushkey, str):
                continue
            name = as_text(device.get("app_id"))
            found = only(named(accounts, name))
            if found is None:
                await self._unknown("matrix", app, name, notification)
                continue
            if not is_token(matrix.token_of(found.account.vendor, pushkey)):
                rejected.append(pushkey)
                continue
            event = matrix.event_of(
                notification, device, found, directory.langs.get(found.account.app, "en"), now
            )
            if event is not None:
                events.append(event)
                pushkeys[event["id"]] = pushkey
        replies = await self._ask(events, DECISION_S)
        rejected += [
            pushkeys[one] for one, reply in replies.items() if reply.get("retired") is True
        ]
        return _as_sent({"rejected": rejected})

    # ------------------------------------------------------------ Mattermost

    async def mattermost(self, request: Request) -> Response:
        accounts, app = self._tenant(request)
        given = _json_object(await serving.body_of(request))
        name = as_text(given.get("platform"))
        found = only(named(accounts, name) or named(accounts, mattermost.platform_of(given)))
        if found is None:
            await self._unknown("mattermost", app, name, given)
            raise serving.Refusal(400, "no account, or several, have this platform as alias")
        if not is_token(mattermost.token_of(given)):
            raise serving.Refusal(400, "no device_id, or one that is no token")
        lang = self._directories.now.langs.get(found.account.app, "en")
        event = mattermost.event_of(given, found, now_ms(), lang)
        replies = await self._ask([event], DECISION_S)
        removed = any(reply.get("retired") is True for reply in replies.values())
        return JSONResponse({"status": "REMOVE" if removed else "OK"})

    async def mattermost_ack(self, request: Request) -> Response:
        _, app = self._tenant(request)
        given = _json_object(await serving.body_of(request))
        ack, about = as_text(given.get("id")), as_text(given.get("post_id"))
        if not 0 < len(ack) <= 128:
            raise serving.Refusal(400, "no id")
        try:
            await serving.in_time(lambda: self._delivered(app, ack, about))
        except store_errors() as error:
            raise StreamUnavailable(type(error).__name__) from None
        return JSONResponse({"status": "OK"})

    def _delivered(self, app: str, event_id: str, message_id: str) -> None:
        """A receipt on the event's only row; of what the ledger does not know yet, on today's."""
        now = now_ms()
        found = self._stores.ledger.find(message_id or event_id, app, event_id)
        note = NoteRecord(
            app=app,
            event_id=event_id,
            ts_ms=int(found["ts_ms"]) if found is not None else now,
            user="",
            device="",
            kind="receipt",
            stage="receipts",
            at_ms=now,
            note="delivered",
        )
        self._stores.streams.hand_on((), [(keys.LEDGER, encode([note]))])

    # ------------------------------------------------------------ gorush

    async def gorush(self, request: Request) -> Response:
        accounts, app = self._tenant(request)
        given = _json_object(await serving.body_of(request))
        notifications = given.get("notifications")
        if not isinstance(notifications, list) or not notifications:
            raise serving.Refusal(400, "Notifications field is empty.")
        if len(notifications) > gorush.NOTIFICATIONS_MAX:
            raise serving.Refusal(
                400,
                f"Number of notifications({len(notifications)}) over "
                f"limit({gorush.NOTIFICATIONS_MAX})",
            )
        read = gorush.read_request(notifications, list(accounts), now_ms())
        said = request.query_params.get("sync")
        always = self._directories.tenants[app].options.get(gorush.SYNC) is True
        sync = said in ("1", "true") if said is not None else always
        events = [push.event for push in read.pushes]
        logs: list[dict[str, str]] = []
        if sync:
            replies = await self._ask(events, SYNC_S)
            logs = [*read.failed, *_gorush_logs(read.pushes, replies)]
        else:
            await self._feed.put([encoded(event) for event in events])
        return _as_sent({"success": "ok", "counts": read.count, "logs": logs})

    # ------------------------------------------------------------ what they share

    def _tenant(self, request: Request) -> tuple[Sequence[Any], str]:
        directory = self._directories.now
        app = directory.app_of_key(request.path_params["key"])
        if app is None:
            raise serving.Refusal(401, "no tenant has this key: pushfleet app gateway-key")
        return directory.by_app.get(app, []), app

    async def _ask(
        self, events: Sequence[Mapping[str, Any]], seconds: float
    ) -> dict[str, dict[str, Any]]:
        """Puts the events on the stream; returns the decisions that come in time, by event id.

        Raises StreamAway.
        """
        if not events:
            return {}
        waiting = self._decisions.expect([event["id"] for event in events])
        began = time.monotonic()
        try:
            await self._feed.put([encoded(event, self._decisions.key) for event in events])
        except BaseException:
            self._decisions.forget(waiting)
            raise
        return await self._decisions.gather(
            waiting, max(seconds - (time.monotonic() - began), 0.01)
        )

    async def _unknown(
        self, door: str, app: str | None, name: str, given: Mapping[str, Any]
    ) -> None:
        """Dead-letters an unknown name once an hour: visible, and the table stays small."""
        stores, now = self._stores, now_ms()
        mark = stores.keys.receipt_nonce(
            hashlib.sha256(f"{door}\0{app}\0{name}".encode()).hexdigest()
        )
        total = stores.keys.receipt_nonce(f"unknown-{door}")

        def dead_letter() -> None:
            if not stores.redis.set(mark, b"1", nx=True, ex=UNKNOWN_S):
                return
            count: Any = stores.redis.incr(total)
            if count == 1:
                stores.redis.expire(total, UNKNOWN_S)
            if count > UNKNOWN_MAX:
                return
            reason = f"unknown_alias: no account, or several, are called so at the {door} door"
            raw = stores.vault.encrypt(json.dumps(given).encode()[:LETTER_BYTES_MAX])
            letter = DeadRecord(
                id=uuid.uuid4().hex,
                entry_id="",
                stage="gateway",
                reason=reason,
                app=app,
                at_ms=now,
                raw=raw,
                fields={"d": door},
            )
            stores.streams.hand_on((), [(keys.LEDGER, encode([letter]))])

        await self._redis(dead_letter)


def _gorush_logs(
    pushes: Sequence[gorush.GorushEvent], replies: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, str]]:
    """gorush logs what failed. What is not decided in time is on its way, and no failure."""
    logs = []
    for push in pushes:
        reply = replies.get(push.event["id"])
        if reply is not None and reply.get("decision") not in (None, "accepted"):
            words = str(push.event["data"]["push"]["display"].get("body", ""))
            error = f"{reply['decision']} {reply.get('note') or ''}".strip()
            logs.append(gorush.failed(push.platform, push.token, words, error))
    return logs


def _homeserver(directory: Directory, key: str | None) -> tuple[str | None, Sequence[DoorAccount]]:
    """The tenant of this key and its accounts; all without a key.

    Raises Refusal for an unknown key.
    """
    if key is None:
        return None, directory.accounts
    app = directory.app_of_key(key)
    if app is None:
        raise serving.Refusal(401, "no tenant has this key: pushfleet app gateway-key")
    return app, directory.by_app.get(app, [])


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        value = _lenient(body)
    if not isinstance(value, dict):
        raise serving.Refusal(400, "the body is no JSON object")
    return value


def _lenient(body: bytes) -> Any:
    """Reads JSON that msgspec refuses but homeservers write: half of a surrogate pair."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise serving.Refusal(400, "the body is no JSON") from None
