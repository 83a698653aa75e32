"""Every table (PostgreSQL).

Alembic's first version creates them from here; later versions alter them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

apps = Table(
    "apps",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("lang", String(8), nullable=False, server_default="zh"),
    Column("tz", String(64), nullable=False, server_default="Asia/Shanghai"),
    Column("options", JSONB, nullable=False, server_default="{}"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("vendor", String(16), primary_key=True),
    Column("business_id", String(32), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("options", JSONB, nullable=False),
    Column("secrets", LargeBinary, nullable=False),  # Fernet over JSON
    Column("rights", ARRAY(Text), nullable=False),
    Column("channels", JSONB, nullable=False),
    Column("templates", JSONB, nullable=False),
    Column("limits", JSONB, nullable=False),
    Column("paused", Boolean, nullable=False, server_default="false"),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
)

devices = Table(
    "devices",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("user", Text, primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("platform", String(16), nullable=False),
    Column("vendor", String(16), nullable=False),
    Column("business_id", String(32), nullable=False),
    Column("token", Text, nullable=False),
    Column("voip_token", Text),
    Column("push_id", Text),
    Column("lang", String(16)),
    Column("tz", String(64)),
    Column("app_version", Text),
    Column("registered_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # active, unbound, moved, retired, silenced
    Column("reason", Text, nullable=False, server_default=""),
    Column("state_ms", BigInteger, nullable=False),
    Index("devices_by_token", "app", "vendor", "token"),
    Index(
        "devices_by_voip_token",
        "app",
        "vendor",
        "voip_token",
        postgresql_where=text("voip_token IS NOT NULL"),
    ),
)

#: The last registrant of a token, also for tokens that their devices gave up since.
token_owners = Table(
    "token_owners",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("vendor", String(16), primary_key=True),
    Column("token", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

#: "All devices of this user on this platform are logged out since": a registration older than that
#: stays unbound.
logouts = Table(
    "logouts",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("user", Text, primary_key=True),
    Column("scope", Text, primary_key=True),  # "platform:<p>" or "device:<id>"
    Column("at_ms", BigInteger, nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("user", Text, primary_key=True),
    Column(
        "field",
        Text,
        primary_key=True,
        # dnd, blocked, show_detail, mobile_when_desktop_online, mute:<type>:<id>,
        # content_key:<device>; mute:, content_key: cleared all
    ),
    Column("value", JSONB, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
)

strategies = Table(
    "strategies",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("preset", JSONB, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("day", Date, primary_key=True),
    Column("app", String(64), primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("type", String(32), nullable=False),
    Column("conversation", Text, nullable=False, server_default=""),
    Column("ts_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("decision", String(32)),
    Column("note", Text, nullable=False, server_default=""),
    Column(
        "screen", Text, nullable=False, server_default=""
    ),  # JSON: what a recall must share with its message to replace it
    Column(
        "tag", String(32), nullable=False, server_default=""
    ),  # as ledger.tag, in rows of version 0001 only
    Column(
        "collapse", Text, nullable=False, server_default=""
    ),  # the collapse key, where the core named one
    # The event's only row, as in `ledger`; row_user is null where its rows are there: see
    # common/storage/ledger_own.py.
    Column("row_user", Text),
    Column("row_device", Text),
    Column("row_vendor", String(16)),
    Column("row_business_id", String(32)),
    Column("row_decision", String(32)),
    Column("row_rank", SmallInteger),
    Column("row_downgraded", Boolean),
    Column("row_class", String(16)),
    Column("row_class_sent", String(16)),
    Column("row_push_id", String(32)),
    Column("row_attempts", Text),
    Column("row_presence_ms", BigInteger),
    Column("row_routed_ms", BigInteger),
    Column("row_decided_ms", BigInteger),
    Column("row_note", Text),
    Index("events_by_message", "message_id"),
    Index("events_by_row_time", "row_decided_ms", postgresql_using="brin"),
    # For a clear: the pushes to its token.
    Index(
        "events_by_token",
        "app",
        "row_user",
        "row_routed_ms",
        postgresql_where=text("row_user LIKE 'token:%'"),
    ),
    Index("events_by_tag", "tag", postgresql_where=text("tag <> ''")),
    Index("events_by_time", "received_ms", postgresql_using="brin"),
    # For a recall: the later pushes with its message's collapse key.
    Index(
        "events_by_collapse",
        "app",
        "conversation",
        "collapse",
        "ts_ms",
        postgresql_where=text("collapse <> ''"),
    ),
    postgresql_partition_by="RANGE (day)",
)

#: Lanes that send receipts by HTTP: the others' rows are never looked up by their push.
RECEIPT_LANES = "vendor NOT IN ('', 'apns', 'fcm')"

ledger = Table(
    "ledger",
    metadata,
    Column("day", Date, primary_key=True),
    Column("app", String(64), primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("device", Text, primary_key=True),  # "" where no device came into play
    Column("vendor", String(16), nullable=False, server_default=""),
    Column("business_id", String(32), nullable=False, server_default=""),
    Column("decision", String(32)),
    Column("rank", SmallInteger, nullable=False),
    Column("downgraded", Boolean, nullable=False, server_default="false"),
    Column("class", String(16), nullable=False, server_default=""),
    Column("class_sent", String(16)),
    Column("push_id", String(32)),
    Column("attempts", Text, nullable=False, server_default=""),  # JSON array of arrays
    Column("presence_ms", BigInteger, nullable=False, server_default="0"),
    Column("routed_ms", BigInteger, nullable=False, server_default="0"),
    Column("decided_ms", BigInteger, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column(
        "tag", String(32), nullable=False, server_default=""
    ),  # what receipts of a request with several pushes echo
    Index(
        "ledger_by_push",
        "push_id",
        postgresql_where=text(f"push_id IS NOT NULL AND {RECEIPT_LANES}"),
    ),
    Index("ledger_by_tag", "tag", postgresql_where=text("tag <> ''")),
    Index("ledger_by_time", "decided_ms", postgresql_using="brin"),
    # By a time that no later change of the row affects: its updates need no index.
    Index(
        "ledger_by_token",
        "app",
        "user",
        "routed_ms",
        postgresql_where=text("\"user\" LIKE 'token:%'"),
    ),
    postgresql_partition_by="RANGE (day)",
)

#: The view of all rows: those of `ledger`, and those in their events. Writes go to the tables
#: themselves.
ledger_all = Table(
    "ledger_all", MetaData(), *(Column(column.name, column.type) for column in ledger.columns)
)

#: Rows of people who differ in nothing else, a page of them in one: those of a large group whom no
#: device came near.
pages = Table(
    "pages",
    metadata,
    Column("day", Date, primary_key=True),
    Column("app", String(64), primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column(
        "page", LargeBinary, primary_key=True
    ),  # digest of decision and people: a page written twice is one row
    Column("decision", String(32), nullable=False),
    Column("class", String(16), nullable=False),
    Column("presence_ms", BigInteger, nullable=False),
    Column("decided_ms", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("users", LargeBinary, nullable=False),  # common/ledger_records.py: pack_users
    Index("pages_by_time", "decided_ms", postgresql_using="brin"),
    postgresql_partition_by="RANGE (day)",
)

#: Later events of a row: a recall, a cancel, a receipt. Appended, never changed.
notes = Table(
    "notes",
    metadata,
    Column("day", Date, nullable=False),
    Column("app", String(64), nullable=False),
    Column("event_id", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("kind", String(16), nullable=False),  # step, receipt
    Column("stage", String(16), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Index("notes_by_event", "day", "app", "event_id"),
    Index("notes_steps", "day", "app", "event_id", postgresql_where=text("kind = 'step'")),
    Index("notes_by_time", "at_ms", postgresql_using="brin"),
    # A vendor may send the same receipt twice.
    Index(
        "notes_receipts",
        "day",
        "app",
        "event_id",
        "user",
        "device",
        "note",
        unique=True,
        postgresql_where=text("kind = 'receipt'"),
    ),
    postgresql_partition_by="RANGE (day)",
)

#: The ledger's tables, made of one partition a day, which is dropped whole; days of long ago share
#: one.
PARTITIONED = (events, ledger, pages, notes)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("entry_id", Text, nullable=False),
    Column("stage", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("app", String(64)),
    Column("at_ms", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),  # Fernet
    Column("fields", JSONB, nullable=False, server_default="{}"),  # d, app, q of the entry
    Index("dead_letters_by_time", "at_ms"),
)

users = Table(
    "console_users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

#: Keys of the read-only HTTP API (docs/api.md). The token itself is stored nowhere.
api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the token
    Column("role", String(16), nullable=False),
    Column("app", String(64)),  # null: of every tenant
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
)

#: The audit log of the console and the command line. Appended, never changed; deleted by age.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("app", String(64), nullable=False, server_default=""),
    Column("subject", Text, nullable=False, server_default=""),
    Column("result", Text, nullable=False, server_default=""),
    Index("audit_by_time", "at_ms"),
)

#: Counts by minute (span 1) or hour (span 60), made of the ledger: the data of the console and the
#: API.
tallies = Table(
    "tallies",
    metadata,
    Column(
        "span", SmallInteger, primary_key=True
    ),  # minutes; 0: the mark, up to which `count` (minutes since 1970) is counted
    Column("at_min", Integer, primary_key=True),  # begin, minutes since 1970
    Column(
        "kind", String(8), primary_key=True
    ),  # event, push, receipt; backlog: entries of the queue `name` in this minute
    Column("app", String(64), primary_key=True),
    Column("vendor", String(16), primary_key=True),
    Column("business_id", String(32), primary_key=True),
    Column("class", String(16), primary_key=True),
    Column("name", String(32), primary_key=True),  # event type, decision, receipt status
    Column(
        "slot", SmallInteger, primary_key=True
    ),  # of common/storage/tallies.py: SLOTS; 0: no latency
    Column("count", BigInteger, nullable=False),
)
