"""What the read-only HTTP API answers: the types that its answers are checked against and its
OpenAPI document is made of.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Milliseconds = Annotated[int, msgspec.Meta(description="Time, ms since 1970 (UTC).")]


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No field beside those that are named."""


class ApiError(_Told, frozen=True):
    """Why there is no answer."""

    error: str


class Step(_Told, frozen=True):
    """A stage that saw the push."""

    stage: str
    at_ms: Milliseconds
    note: str


class TracedAttempt(_Told, frozen=True):
    """A request to the vendor, in the vendor's own words."""

    at_ms: Milliseconds
    status: str
    code: str
    words: str
    vendor_message_id: str | None


class TracedReceipt(_Told, frozen=True):
    """What the vendor told later: `delivered`, `clicked`, …"""

    status: str
    at_ms: Milliseconds


class TracedRecipient(_Told, frozen=True, rename={"message_class": "class"}):
    """A person's device, or a person whom no device was looked for. decision null:
    not final yet.
    """

    user: str
    device: str | None
    vendor: str | None
    business_id: str | None
    decision: str | None
    downgraded: bool
    message_class: str
    class_sent: str | None
    push_id: str | None
    attempts: list[TracedAttempt]
    steps: list[Step]
    receipts: list[TracedReceipt]


class MessageTrace(_Told, frozen=True):
    """What became of a message or call. decision: of the whole event, where intake decided."""

    app: str
    message_id: str
    event_id: str
    type: str
    received_ms: Milliseconds
    decision: str | None
    recipients: list[TracedRecipient]
    counts: Annotated[
        dict[str, int] | None,
        msgspec.Meta(
            description="Rows by decision, the empty one waits; null: not counted in time."
        ),
    ]
    next: Annotated[
        str | None,
        msgspec.Meta(description="Where the next page begins (`after`); null: this was the last."),
    ]


class PersonDevice(_Told, frozen=True):
    """A registered device, without its token."""

    device_id: str
    platform: str
    vendor: str
    business_id: str
    state: str
    reason: str
    registered_ms: Milliseconds
    app_version: str | None


class PersonSession(_Told, frozen=True):
    """A connection of the person's, as the core's presence says."""

    device: str
    state: Literal["foreground", "background"]
    platform: str


class PersonPush(_Told, frozen=True, rename={"message_class": "class"}):
    """A row of the ledger. decision null: not final yet."""

    event_id: str
    message_id: str
    type: str
    device: str
    vendor: str
    business_id: str
    decision: str | None
    message_class: str
    decided_ms: Milliseconds


class Person(_Told, frozen=True):
    """A person of a tenant: at most 50 devices, and the last 50 pushes of two days."""

    app: str
    user: str
    devices: list[PersonDevice]
    presence: Annotated[
        list[PersonSession] | None, msgspec.Meta(description="null: the core's Redis is away.")
    ]
    settings: Annotated[
        dict[str, Any],
        msgspec.Meta(description="Mutes, do-not-disturb windows and what else the person has set."),
    ]
    pushes: Annotated[
        list[PersonPush] | None,
        msgspec.Meta(description="null: there were too many rows to look through."),
    ]


class Count(_Told, frozen=True, rename={"message_class": "class"}, omit_defaults=True):
    """One sum. Only the columns that `by` names are there."""

    count: int
    name: Annotated[str, msgspec.Meta(description="Decision, receipt status or event type.")]
    at_ms: Annotated[
        int | None, msgspec.Meta(description="Begin of the step, where a step was asked for.")
    ] = None
    app: str | None = None
    vendor: str | None = None
    message_class: str | None = None


class Latency(_Told, frozen=True):
    """ms from the event's arrival to the vendor's yes, estimated from ten slots; null without
    accepted pushes.
    """

    vendor: str
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None


class Counts(_Told, frozen=True):
    """Sums over [since_ms, until_ms), by whole minutes of the last day and whole hours before that.

    Counted once a minute; counted_ms: up to there.
    """

    since_ms: Milliseconds
    until_ms: Milliseconds
    counted_ms: Annotated[
        int | None, msgspec.Meta(description="Up to here all is counted; null: nothing yet.")
    ]
    events: Annotated[list[Count], msgspec.Meta(description="Events that came in, by type.")]
    pushes: Annotated[list[Count], msgspec.Meta(description="Decisions.")]
    receipts: Annotated[
        list[Count], msgspec.Meta(description="Receipts by status, at the time they came.")
    ]
    latency: list[Latency]
