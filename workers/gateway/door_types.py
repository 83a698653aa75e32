"""What the doors' callers send and hear, for the OpenAPI document. The doors read them leniently:
unknown fields are left alone.
"""

from __future__ import annotations

from typing import Any

import msgspec


class MatrixDevice(msgspec.Struct, frozen=True):
    """app_id: an alias of an account; pushkey: the device's token."""

    app_id: str
    pushkey: str
    data: dict[str, Any] = {}
    tweaks: dict[str, Any] = {}


class MatrixNotification(msgspec.Struct, frozen=True):
    """As the Matrix push gateway API has it; at most 100 devices."""

    devices: list[MatrixDevice]
    event_id: str | None = None
    room_id: str | None = None
    type: str | None = None
    sender: str | None = None
    sender_display_name: str | None = None
    room_name: str | None = None
    prio: str | None = None
    content: dict[str, Any] | None = None
    counts: dict[str, int] = {}


class MatrixNotify(msgspec.Struct, frozen=True):
    """The body of a Matrix push."""

    notification: MatrixNotification


class MatrixRejected(msgspec.Struct, frozen=True):
    """Pushkeys that are dead."""

    rejected: list[str]


class MatrixDiscovery(msgspec.Struct, frozen=True):
    """Who answers here."""

    pushfleet: dict[str, str]


class MattermostPush(msgspec.Struct, frozen=True):
    """platform: an alias of an account; device_id: the device's token."""

    platform: str
    device_id: str
    type: str = "message"
    id: str | None = None
    post_id: str | None = None
    message: str | None = None
    channel_id: str | None = None
    channel_name: str | None = None
    sender_name: str | None = None
    badge: int | None = None


class MattermostAck(msgspec.Struct, frozen=True):
    """A phone has shown the push."""

    id: str
    post_id: str | None = None


class MattermostStatus(msgspec.Struct, frozen=True):
    """status: OK, FAIL or REMOVE (the token is dead)."""

    status: str
    error: str | None = None


class GorushNotification(msgspec.Struct, frozen=True):
    """platform: 1 iOS, 2 Android, 3 Huawei; topic: Apple's, of one of the accounts."""

    tokens: list[str]
    platform: int
    message: str | None = None
    title: str | None = None
    topic: str | None = None
    badge: int | None = None
    data: dict[str, Any] = {}


class GorushPush(msgspec.Struct, frozen=True):
    """At most 100 notifications."""

    notifications: list[GorushNotification]


class GorushAnswer(msgspec.Struct, frozen=True):
    """counts: tokens taken; logs: what failed, with ?sync=1."""

    success: str
    counts: int
    logs: list[dict[str, Any]]


class GorushError(msgspec.Struct, frozen=True):
    """Why the call was not taken; code: the HTTP status."""

    code: int
    message: str


class DoorVersion(msgspec.Struct, frozen=True):
    """source: who answers here."""

    source: str
    version: str


class DoorHealth(msgspec.Struct, frozen=True):
    """ok false comes with 503."""

    name: str
    ok: bool


class DoorError(msgspec.Struct, frozen=True):
    """Why the call was not taken."""

    error: str
