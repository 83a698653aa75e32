"""`pushfleet publish` and `pushfleet test-push`."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import click
import msgspec

from common.clock import now_ms
from common.contracts import OfflineRecipients, Recipient, encode
from common.storage import keys
from common.storage.shards import shard_of
from workers.cli.errors import CliError, NotThereError
from workers.cli.opening import opened
from workers.cli.printing import at
from workers.cli.why import in_order, message_trace
from workers.handlers.ledger_rows import event_record
from workers.intake import decoding, messages
from workers.intake.dialects import DIALECTS
from workers.intake.events import NAME_MAX
from workers.routing.fan_out import urgency_of
from workers.runtime import Runtime

#: Events of one round trip.
BATCH = 500
PROGRESS_EVERY_S = 1.0
#: Longest wait of `test-push` for decisions, and its interval, seconds.
WAIT_S = 30.0
LOOK_S = 0.2


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--dialect",
    type=click.Choice(sorted({"native", *DIALECTS})),
    default="native",
    show_default=True,
)
@click.option("--app", "app_id", help="The tenant (dialects only).")
@click.option("--q", "query", help="The callback's raw query string (dialects only).")
@click.option(
    "--fresh",
    is_flag=True,
    help="Append a new suffix to event, message and call ids: else the same event again is "
    "ignored.",
)
def publish(
    file: IO[bytes], dialect: str, app_id: str | None, query: str | None, fresh: bool
) -> None:
    """Put the events of FILE (- for stdin) on the fleet's stream: one JSON object, an array of
    them, or one a line.
    """
    if dialect == "native" and (app_id or query):
        raise CliError(
            "--app and --q go with --dialect tencent, zego or nim; a native event names its "
            "app itself"
        )
    if fresh and dialect != "native":
        raise CliError("--fresh goes with native events: a callback's ids are the cloud's")
    cloud = dialect if dialect != "native" else None
    more = {name: value for name, value in {"d": cloud, "app": app_id, "q": query}.items() if value}
    with opened() as runtime:
        stream = runtime.settings.event_streams[0]
        post = Post(runtime, stream, more)
        try:
            post.all(
                map(freshened, bodies(file)) if fresh else bodies(file), 1 if _slow(file) else BATCH
            )
        except NotJsonError as error:
            raise CliError(f"{error}; {_events(post.count)} before it went to {stream}") from None
    print(f"{_events(post.count)} published to {stream}")


def freshened(body: bytes) -> bytes:
    """The native event with unused ids; prints the new id of a message or call."""
    event, suffix = json.loads(body), uuid.uuid4().hex[:8]
    event["id"] = f"{event.get('id', 'event')}-{suffix}"
    data = event.get("data")
    for name in ("message_id", "call_id") if isinstance(data, dict) else ():
        if name in data:
            data[name] = f"{data[name]}-{suffix}"
            print(data[name])
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


class NotJsonError(ValueError):
    """A part of the input is no JSON object; the message names it."""


def bodies(file: Iterable[bytes]) -> Iterator[bytes]:
    """The JSON text of each event, unchanged: a line each, an array's elements, or one object.

    Lines are read one by one, so that a long input needs no memory; raises NotJsonError for other
    input.
    """
    lines = (line for line in enumerate(file, 1) if line[1].strip())
    first = next(lines, None)
    if first is None:
        return
    if not _is_object(first[1]):  # an array, or an object on several lines: read as a whole
        yield from _whole(b"".join([first[1], *(line for _, line in lines)]))
        return
    yield first[1].strip()
    for number, line in lines:
        if not _is_object(line):
            raise NotJsonError(f"line {number} is not a JSON object")
        yield line.strip()


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _whole(text: bytes) -> Iterator[bytes]:
    if _is_object(text):
        yield text.strip()
        return
    try:
        parts = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        raise NotJsonError(
            "the input is neither a JSON object, nor an array of them, nor one a line"
        ) from None
    for number, part in enumerate(parts, 1):
        if not _is_object(bytes(part)):
            raise NotJsonError(f"element {number} of the array is not an object")
        yield bytes(part)


def _slow(file: IO[bytes]) -> bool:
    """A pipe or a terminal: its next line may come in an hour, so no line waits for others."""
    try:
        return not file.seekable()
    except (OSError, AttributeError):
        return True


class Post:
    """Publishes in batches and prints the progress each second.

    `count` is valid also when the input breaks in the middle.
    """

    def __init__(self, runtime: Runtime, stream: str, more: Mapping[str, str]) -> None:
        self.count = 0
        self._core = runtime.core
        self._stream = stream
        self._more: dict[Any, Any] = dict(more)
        self._printed_at = time.monotonic()

    def all(self, events: Iterable[bytes], size: int) -> None:
        """Publishes all; the part before a broken one is published, then NotJsonError is raised."""
        batch: list[bytes] = []
        try:
            for body in events:
                batch.append(body)
                if len(batch) >= size:
                    self._add(batch)
                    batch = []
        except NotJsonError:
            self._add(batch)
            raise
        self._add(batch)

    def _add(self, batch: Sequence[bytes]) -> None:
        if not batch:
            return
        with self._core.pipeline(transaction=False) as pipe:
            for body in batch:
                pipe.xadd(self._stream, {"e": body, **self._more})
            pipe.execute()
        self.count += len(batch)
        if time.monotonic() - self._printed_at >= PROGRESS_EVERY_S:
            self._printed_at = time.monotonic()
            print(f"{self.count} published so far", file=sys.stderr, flush=True)


def _events(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"


# ---------------------------------------------------------------- test-push


TEST_BODY = "Pushfleet test push / 推送测试"


@click.command("test-push")
@click.argument("app_id", metavar="APP")
@click.argument("user")
@click.option(
    "--device",
    help="Only this device, whatever presence says; else the way of every message: all that are "
    "away.",
)
@click.option("--body", default=TEST_BODY, show_default=True)
def test_push(app_id: str, user: str, device: str | None, body: str) -> None:
    """Send one push to one person and print each step as it happens. Exit code 0 if a vendor took
    at least one.
    """
    if not 0 < len(user) <= NAME_MAX:
        raise CliError(f"USER takes 1 to {NAME_MAX} characters")
    with opened() as runtime:
        if app_id not in runtime.tenants.all():
            raise NotThereError(f"no tenant {app_id}: pushfleet app add {app_id}")
        event = test_event(app_id, user, body)
        expected = (
            _to_all(runtime, event, user)
            if device is None
            else _to_one(runtime, event, user, device)
        )
        trace = _follow(runtime, event["data"]["message_id"], app_id, user, expected)
        left = _why_left(app_id, runtime.devices.listed(app_id, user))
    decisions = [one["decision"] for one in trace["recipients"]] if trace else []
    if "accepted" in decisions:
        print(f"accepted by {decisions.count('accepted')} of {len(decisions)}")
        return
    raise CliError(_why_not(trace, decisions, left), exit_code=1)


def test_event(app: str, user: str, body: str) -> dict[str, Any]:
    """A `message.stored` from a system account to this person only."""
    message_id = f"test-push-{uuid.uuid4().hex[:16]}"
    return {
        "v": 1,
        "id": message_id,
        "type": "message.stored",
        "app": app,
        "ts": now_ms(),
        "data": {
            "message_id": message_id,
            "conversation": {"type": "c2c", "id": "pushfleet"},
            "sender": {"id": "pushfleet", "nick": "Pushfleet"},
            "recipients": [user],
            "elements": [{"type": "text", "text": body}],
            "push": {
                "display": {"title": "Pushfleet", "body": body},
                "ttl_s": 600,
                "badge": {"mode": "keep"},
            },
        },
    }


def _to_all(runtime: Runtime, event: Mapping[str, Any], user: str) -> int:
    """As the core would publish it; how many rows to wait for."""
    stream = runtime.settings.event_streams[0]
    entry: Any = runtime.core.xadd(stream, {"e": msgspec.json.encode(event)})
    _print_step(
        now_ms(),
        "",
        "published",
        f"message {event['data']['message_id']}, entry {entry.decode()} of {stream}",
    )
    return max(len(runtime.devices.of_users(event["app"], [user]).get(user, ())), 1)


def _to_one(runtime: Runtime, event: Mapping[str, Any], user: str, device: str) -> int:
    """Past presence, straight to routing: no event can name one device of a person."""
    app = event["app"]
    rows = [
        row
        for row in runtime.devices.listed(app, user)
        if device in (row["device_id"], row["push_id"])
    ]
    names = [row["device_id"] for row in rows]
    chosen = [
        one for one in runtime.devices.of_users(app, [user]).get(user, ()) if one.device_id in names
    ]
    if not chosen:
        raise NotThereError(
            _why_left(app, rows)
            or f"no device of that name; there are: pushfleet device list {app} USER"
        )
    now = now_ms()
    read = decoding.read_entry(
        "test-push", f"{now}-0", {b"e": msgspec.json.encode(event)}, [app], now
    )
    if isinstance(read, decoding.Refused):
        raise CliError(f"refused: {read.reason}")
    taken = messages.stored(read.events[0], now)
    adds = [(keys.LEDGER, encode([event_record(taken.message, taken.decision)]))]
    if taken.decision is None:
        offline = OfflineRecipients(
            message=taken.message,
            recipients=(Recipient(user, tuple(chosen), False),),
            presence_ms=now,
        )
        adds.append((keys.routing(urgency_of(taken.message, user)), encode([offline])))
    shard = runtime.shards[shard_of(len(runtime.shards), app, user)]
    shard.streams.hand_on((), adds)
    shard.send_wake_up(keys.ROUTING)
    words = f"message {taken.message.message_id} for this device only, presence is not asked"
    _print_step(now, "", "routing", words)
    return 1


#: What a device's state means for who sends to it, and what brings it back.
LEFT_STATES = {
    "retired": "retired on {since}: {reason}; it is sent to again once the app registers it anew, "
    "or after pushfleet device restore {app} USER {device}",
    "silenced": "silenced on {since}: {reason}; its vendor says that notifications are switched "
    "off there, until the app registers it anew",
    "unbound": "left on {since}: {reason}; only a new registration brings it back",
    "moved": "without its token since {since}: {reason}; only a new registration brings it back",
}
#: Devices that are told of.
LEFT_TOLD = 5


def _why_left(app: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Of a person's devices those that may not be sent to, and why; "" where there is none."""
    found = [
        f"{row['device_id']} ({row['vendor']}) is "
        + LEFT_STATES[row["state"]].format(
            since=at(row["state_ms"]),
            reason=row["reason"] or "no reason is known",
            app=app,
            device=row["device_id"],
        )
        for row in rows
        if row["state"] in LEFT_STATES
    ]
    more = [f"and {len(found) - LEFT_TOLD} more"] if len(found) > LEFT_TOLD else []
    return "; ".join([*found[:LEFT_TOLD], *more])


def _follow(
    runtime: Runtime, message_id: str, app: str, user: str, expected: int
) -> dict[str, Any] | None:
    """Prints the news of the message's trace until every device is decided, WAIT_S at most."""
    until, seen = time.monotonic() + WAIT_S, set[tuple[Any, ...]]()
    while True:
        trace = message_trace(runtime, message_id, app, None, user)
        for line in _lines(trace):
            if line not in seen:
                seen.add(line)
                _print_step(*line)
        if trace and _final(trace, expected):
            return trace
        if time.monotonic() >= until:
            return trace
        time.sleep(LOOK_S)


def _final(trace: Mapping[str, Any], expected: int) -> bool:
    if trace["decision"]:
        return True
    rows = trace["recipients"]
    return len(rows) >= expected and all(one["decision"] for one in rows)


def _lines(trace: Mapping[str, Any] | None) -> list[tuple[int, str, str, str]]:
    """(ms, device, stage, text) of all that is known, in order of time."""
    if trace is None:
        return []
    lines = [(trace["received_ms"], "", "intake", trace["decision"] or trace["type"])]
    for one in trace["recipients"]:
        device = one["device"] or ""
        lines += [
            (at_ms, device, stage_name, words)
            for at_ms, stage_name, words in in_order(one)
            if stage_name != "intake"
        ]
    return sorted(lines)


def _print_step(at_ms: int, device: str, stage_name: str, words: str) -> None:
    print(f"{at(at_ms)[11:23]}  {device:<16} {stage_name:<9} {words}", flush=True)


def _why_not(trace: Mapping[str, Any] | None, decisions: Sequence[str | None], left: str) -> str:
    """left: what is said of the person's devices that may not be sent to."""
    if trace is None:
        return (
            f"nothing was heard of it within {WAIT_S:g} s: is the fleet running? pushfleet doctor"
        )
    if trace["decision"]:
        return f"not sent: {trace['decision']}"
    waiting = decisions.count(None)
    found = sorted({decision for decision in decisions if decision})
    if found == ["no_device"]:
        return (
            f"no vendor took it: no_device: {left}"
            if left
            else (
                "no vendor took it: no_device: the core has published no device.registered of this "
                "person (pushfleet device list APP USER)"
            )
        )
    if found == ["no_credential"]:
        return (
            "no vendor took it: no_credential: the device names a business id that has no "
            "account (pushfleet credential list)"
        )
    words = ", ".join(
        [*found, *([f"{waiting} still waiting after {WAIT_S:g} s"] if waiting else [])]
    )
    return f"no vendor took it: {words or f'no decision within {WAIT_S:g} s, see pushfleet doctor'}"
