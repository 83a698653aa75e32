"""The doors over HTTP: read, translated, on the stream, answered. No caller is answered before its
events are durable.
"""

from __future__ import annotations

import asyncio
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
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import Counter
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common import metrics
from common.clock import now_ms
from common.config import Settings
from common.contracts import encode
from common.ledger_records import DeadRecord, NoteRecord
from common.storage import keys
from common.storage.keys import Keys
from common.storage.ledger import Ledger
from common.storage.streams import StreamStore
from common.storage.vault import Vault
from workers import serving
from workers.gateway import clouds, gorush, matrix, mattermost
from workers.gateway.aliases import DoorAccount, named, only
from workers.gateway.answers import DecisionReader
from workers.gateway.clouds import CloudCallback, CloudRefusal
from workers.gateway.directory import ConfigSource, Directories, Directory
from workers.gateway.events import as_text, encoded, is_token
from workers.gateway.feed import StreamFeed, StreamUnavailable

log = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 1 << 20
BODY_S_MAX: Final = 10.0
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


class GatewayWorld(Protocol):
    """The part of the runtime that this process uses."""

    @property
    def settings(self) -> Settings: ...
    @property
    def redis(self) -> Redis: ...
    @property
    def core(self) -> Redis: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def streams(self) -> StreamStore: ...
    @property
    def vault(self) -> Vault: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def catalog(self) -> ConfigSource: ...


class GatewayRefusal(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    """The caller's answer. It repeats nothing of the body."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def serve(world: GatewayWorld, stop: threading.Event) -> None:
    """Until `stop` is set. SettingError when the address can't be bound."""
    listener = serving.bind(world.settings.gateway_addr, "PUSHFLEET_GATEWAY_ADDR")
    room_for_calls()
    feed = StreamFeed(world.core, world.settings.event_streams[0])
    decisions = DecisionReader(world.redis, world.keys)
    directories = Directories(world.catalog, world.vault)
    try:
        serving.serve(make_app(world, feed, decisions, directories), listener, stop, CALLS_MAX)
    finally:
        directories.close()
        feed.close()
        decisions.close()


def room_for_calls() -> None:
    """As many files open as calls may be: the usual 1,024 are fewer than a group of a thousand
    needs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CALLS_MAX + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def make_app(
    world: GatewayWorld, feed: StreamFeed, decisions: DecisionReader, directories: Directories
) -> Starlette:
    doors = _Gateway(world, feed, decisions, directories)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"name": "gateway", "ok": True})

    async def discovery(_request: Request) -> Response:
        return JSONResponse({"pushfleet": {"gateway": "matrix"}})

    routes = [
        Route("/_matrix/push/v1/notify", _counted("matrix", doors.matrix), methods=["POST"]),
        Route("/_matrix/push/v1/notify", discovery, methods=["GET"]),
        Route("/healthz", healthz),
        Route("/health", healthz),
        Route(
            "/t/{key}/api/v1/send_push",
            _counted("mattermost", _with_status(doors.mattermost)),
            methods=["POST"],
        ),
        Route(
            "/t/{key}/api/v1/ack",
            _counted("mattermost", _with_status(doors.mattermost_ack)),
            methods=["POST"],
        ),
        Route("/t/{key}/api/push", _counted("gorush", doors.gorush), methods=["POST"]),
        Route("/t/{key}/api/stat/app", healthz),
        Route("/t/{key}/healthz", healthz),
    ]
    routes += [
        Route(f"/callbacks/{name}", _counted(name, doors.cloud(name)), methods=["POST"])
        for name in clouds.ACKS
    ]
    return Starlette(routes=routes)


Answering = Callable[[Request], Awaitable[Response]]


def _counted(door: str, answer: Answering) -> Answering:
    async def answered(request: Request) -> Response:
        try:
            response = await answer(request)
        except GatewayRefusal as refusal:
            response = _refused(refusal.status, refusal.words)
        except StreamUnavailable:
            response = _refused(503, "come again")
        except ClientDisconnect:
            response = Response(status_code=400)
        _requests(door, response.status_code).inc()
        return response

    return answered


def _with_status(answer: Answering) -> Answering:
    """Puts a refusal into `status` of a 200, as Mattermost reads it. A wrong key stays a 401."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except GatewayRefusal as refusal:
            code = refusal.status if refusal.status == 401 else 200
            return JSONResponse({"status": "FAIL", "error": refusal.words}, code)

    return answered


@lru_cache(256)
def _requests(door: str, status: int) -> Counter:
    """Kept: looking up the labels takes longer than counting."""
    return metrics.DOOR_REQUESTS.labels(door, str(status))


def _refused(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status, {"retry-after": "5"} if status == 503 else None)


class _Gateway:
    def __init__(
        self,
        world: GatewayWorld,
        feed: StreamFeed,
        decisions: DecisionReader,
        directories: Directories,
    ) -> None:
        self._world = world
        self._feed = feed
        self._decisions = decisions
        self._directories = directories

    # ------------------------------------------------------------ the clouds

    def cloud(self, name: str) -> Answering:
        async def answer(request: Request) -> Response:
            body = await read_body(request)
            query = request.scope["query_string"].decode("latin-1")
            given = CloudCallback(name, query, dict(request.headers), body)
            try:
                genuine = clouds.genuine(given, self._directories.now.secrets, time.time())
            except CloudRefusal as refusal:
                raise GatewayRefusal(refusal.status, refusal.words) from None
            fields: dict[str, bytes | str] = {"e": genuine.body, "d": name, "app": genuine.app}
            if query:
                fields["q"] = query
            if await self._first(genuine, body):
                await self._feed.put([fields])
                await self._took(genuine, body)
            return Response(clouds.ACKS[name], media_type="application/json")

        return answer

    async def _first(self, genuine: clouds.Genuine, body: bytes) -> bool:
        """False for the very callback that was taken before. GatewayRefusal: another body under a
        signature that was used.
        """
        if not genuine.once:
            return True
        known = await self._redis(lambda: self._world.redis.get(self._once(genuine)))
        if known is None:
            return True
        if known == _digest(body):
            return False
        raise GatewayRefusal(401, "this signature was used for another callback")

    async def _took(self, genuine: clouds.Genuine, body: bytes) -> None:
        """After it is on the stream; where this is lost, the event's id absorbs a repeat."""
        if genuine.once:
            await self._redis(
                lambda: self._world.redis.set(self._once(genuine), _digest(body), ex=ONCE_S)
            )

    def _once(self, genuine: clouds.Genuine) -> str:
        return self._world.keys.receipt_nonce(
            hashlib.sha256(f"{genuine.app}\0{genuine.once}".encode("utf-8", "replace")).hexdigest()
        )

    async def _redis(self, ask: Callable[[], Any]) -> Any:
        try:
            return await run_in_threadpool(ask)
        except (RedisError, OSError) as error:
            raise StreamUnavailable(type(error).__name__) from None

    # ------------------------------------------------------------ Matrix

    async def matrix(self, request: Request) -> Response:
        notification = _json_object(await read_body(request)).get("notification")
        devices = notification.get("devices") if isinstance(notification, dict) else None
        if not isinstance(notification, dict) or not isinstance(devices, list):
            raise GatewayRefusal(400, "the body has no notification.devices")
        directory, now = self._directories.now, now_ms()
        app, accounts = _homeserver(directory, request.query_params.get("k"))
        if len(devices) > DEVICES_MAX:
            raise GatewayRefusal(400, f"at most {DEVICES_MAX} devices")
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
        return JSONResponse({"rejected": rejected})

    # ------------------------------------------------------------ Mattermost

    async def mattermost(self, request: Request) -> Response:
        accounts, app = self._tenant(request)
        given = _json_object(await read_body(request))
        name = as_text(given.get("platform"))
        found = only(named(accounts, name) or named(accounts, mattermost.platform_of(given)))
        if found is None:
            await self._unknown("mattermost", app, name, given)
            return JSONResponse(
                {"status": "FAIL", "error": "no account, or several, have this platform as alias"}
            )
        if not is_token(as_text(given.get("device_id"))):
            return JSONResponse(
                {"status": "FAIL", "error": "no device_id, or one that is no token"}
            )
        event = mattermost.event_of(given, found, now_ms())
        try:
            replies = await self._ask([event], DECISION_S)
        except StreamUnavailable:
            return JSONResponse({"status": "FAIL", "error": "not taken now"})
        removed = any(reply.get("retired") is True for reply in replies.values())
        return JSONResponse({"status": "REMOVE" if removed else "OK"})

    async def mattermost_ack(self, request: Request) -> Response:
        _, app = self._tenant(request)
        given = _json_object(await read_body(request))
        ack, about = as_text(given.get("id")), as_text(given.get("post_id"))
        if not 0 < len(ack) <= 128:
            return JSONResponse({"status": "FAIL", "error": "no id"})
        try:
            await run_in_threadpool(self._delivered, app, ack, about)
        except (RedisError, SQLAlchemyError, OSError):
            return JSONResponse({"status": "FAIL", "error": "not taken now"})
        return JSONResponse({"status": "OK"})

    def _delivered(self, app: str, event_id: str, message_id: str) -> None:
        """A receipt on the event's only row; of what the ledger does not know yet, on today's."""
        now = now_ms()
        found = self._world.ledger.find(message_id or event_id, app, event_id)
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
        self._world.streams.hand_on((), [(keys.LEDGER, encode([note]))])

    # ------------------------------------------------------------ gorush

    async def gorush(self, request: Request) -> Response:
        accounts, _ = self._tenant(request)
        given = _json_object(await read_body(request))
        notifications = given.get("notifications")
        if not isinstance(notifications, list) or not notifications:
            return JSONResponse({"code": 400, "message": "Notifications field is empty."}, 400)
        if len(notifications) > gorush.NOTIFICATIONS_MAX:
            words = (
                f"Number of notifications({len(notifications)}) over "
                f"limit({gorush.NOTIFICATIONS_MAX})"
            )
            return JSONResponse({"code": 400, "message": words}, 400)
        read = gorush.read_request(notifications, list(accounts), now_ms())
        sync = request.query_params.get("sync") in ("1", "true")
        events = [push.event for push in read.pushes]
        logs: list[dict[str, str]] = []
        if sync:
            replies = await self._ask(events, SYNC_S)
            logs = [*read.failed, *_gorush_logs(read.pushes, replies)]
        else:
            await self._feed.put([encoded(event) for event in events])
        return JSONResponse({"success": "ok", "counts": read.count, "logs": logs})

    # ------------------------------------------------------------ what they share

    def _tenant(self, request: Request) -> tuple[Sequence[Any], str]:
        directory = self._directories.now
        app = directory.app_of_key(request.path_params["key"])
        if app is None:
            raise GatewayRefusal(401, "no tenant has this key: pushfleet app gateway-key")
        return directory.by_app.get(app, []), app

    async def _ask(
        self, events: Sequence[Mapping[str, Any]], seconds: float
    ) -> dict[str, dict[str, Any]]:
        """Puts the events on the stream; the decisions that come in time, by event
        id. StreamAway.
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
        """A dead letter, once an hour a name: a typing mistake is to be seen, and not to fill the
        database.
        """
        world, now = self._world, now_ms()
        mark = world.keys.receipt_nonce(
            hashlib.sha256(f"{door}\0{app}\0{name}".encode()).hexdigest()
        )
        total = world.keys.receipt_nonce(f"unknown-{door}")

        def bury() -> None:
            if not world.redis.set(mark, b"1", nx=True, ex=UNKNOWN_S):
                return
            count: Any = world.redis.incr(total)
            if count == 1:
                world.redis.expire(total, UNKNOWN_S)
            if count > UNKNOWN_MAX:
                return
            reason = f"unknown_alias: no account, or several, are called so at the {door} door"
            raw = world.vault.encrypt(json.dumps(given).encode()[:LETTER_BYTES_MAX])
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
            world.streams.hand_on((), [(keys.LEDGER, encode([letter]))])

        await self._redis(bury)


def _gorush_logs(
    pushes: Sequence[gorush.GorushPush], replies: Mapping[str, Mapping[str, Any]]
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

    Raises GatewayRefusal for an unknown key.
    """
    if key is None:
        return None, directory.accounts
    app = directory.app_of_key(key)
    if app is None:
        raise GatewayRefusal(401, "no tenant has this key: pushfleet app gateway-key")
    return app, directory.by_app.get(app, [])


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        value = _lenient(body)
    if not isinstance(value, dict):
        raise GatewayRefusal(400, "the body is no JSON object")
    return value


def _lenient(body: bytes) -> Any:
    """Reads JSON that msgspec refuses but homeservers write: half of a surrogate pair."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise GatewayRefusal(400, "the body is no JSON") from None


async def read_body(request: Request) -> bytes:
    """The body, within its bounds of bytes and seconds. GatewayRefusal 413, 408."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for part in request.stream():
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise GatewayRefusal(413, f"at most {BODY_BYTES_MAX} bytes")
                parts.append(part)
    except TimeoutError:
        raise GatewayRefusal(408, "too slow") from None
    return b"".join(parts)
