"""Smallest bodies of each cloud's commands, and ways to look into what came of them. All values are
ours.
"""

import copy
import json
from typing import Any

import msgspec

from common.contracts import PushFields
from workers.intake.dialects import DIALECTS, Translated

APP = "1400000001"
ENTRY_MS = 1763787799999
ABSENT = object()


def c2c(**extra: Any) -> dict[str, Any]:
    return {
        "CallbackCommand": "C2C.CallbackAfterSendMsg",
        "From_Account": "ann",
        "To_Account": "bob",
        "MsgKey": "1_2_3",
        "MsgTime": 1763787600,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}],
    } | extra


def group(**extra: Any) -> dict[str, Any]:
    return {
        "CallbackCommand": "Group.CallbackAfterSendMsg",
        "GroupId": "@TGS#1",
        "Type": "Public",
        "From_Account": "ann",
        "MsgSeq": 7,
        "MsgTime": 1763787600,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}],
    } | extra


def state(action: str, **extra: Any) -> dict[str, Any]:
    info = {"Action": action, "To_Account": "bob", "Reason": "x"}
    body = {"CallbackCommand": "State.StateChange", "EventTime": 1763787720497, "Info": info}
    return body | extra


def zego(**extra: Any) -> dict[str, Any]:
    return {
        "appid": APP,
        "event": "send_msg",
        "timestamp": 1763787600,
        "from_user_id": "ann",
        "conv_type": 0,
        "conv_id": "bob",
        "msg_type": 1,
        "msg_body": "hi",
        "msg_id": "900",
        "msg_time": 1763787600120,
        "send_result": 0,
    } | extra


def zego_call(event: str, **extra: Any) -> dict[str, Any]:
    return {"appid": APP, "event": event, "timestamp": 1763787700, "call_id": "77"} | extra


def nim(**extra: Any) -> dict[str, Any]:
    return {
        "eventType": "1",
        "convType": "PERSON",
        "to": "bob",
        "fromAccount": "ann",
        "msgTimestamp": "1763787600001",
        "msgType": "TEXT",
        "body": "hi",
        "msgidServer": "500",
    } | extra


def nim_team(**extra: Any) -> dict[str, Any]:
    return nim(convType="TEAM", to="t1") | extra


def run(dialect: str, body: dict[str, Any], query: str | None = None) -> Translated:
    return DIALECTS[dialect](body, app=APP, query=query, entry_ms=ENTRY_MS)


def data_of(dialect: str, body: dict[str, Any], query: str | None = None) -> dict[str, Any]:
    (event,) = run(dialect, body, query).events
    return event["data"]


def push_of(dialect: str, body: dict[str, Any]) -> dict[str, Any]:
    """`push` of the only event, having been read strictly as the canonical fields."""
    push = data_of(dialect, body)["push"]
    msgspec.convert(push, PushFields, strict=True)
    return push


def at(value: Any, path: str) -> Any:
    """The value at a dotted path, ABSENT where the way ends before."""
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return ABSENT
        value = value[step]
    return value


def value_of(text: str) -> Any:
    """What a cell of a table says: JSON, a text without its quotes, `-` where there is nothing, or
    a letter so many times (`x*151`).
    """
    letter, times, count = text.partition("*")
    if times and len(letter) == 1 and count.isdigit():
        return letter * int(count)
    try:
        return ABSENT if text == "-" else json.loads(text)
    except ValueError:
        return text


def pairs_of(text: str) -> list[tuple[str, Any]]:
    """`name=value; name=value` of a table."""
    told = [one.partition("=") for one in text.split("; ") if "=" in one]
    return [(name.strip(), value_of(value)) for name, _, value in told]


def fields_of(text: str, usual: dict[str, Any] | None = None) -> dict[str, Any]:
    """The body that the pairs make, dotted names taken apart; laid over a usual one."""
    body = copy.deepcopy(usual or {})
    for name, value in pairs_of(text):
        *way, last = name.split(".")
        place = body
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    return body
