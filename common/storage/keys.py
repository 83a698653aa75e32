"""Every Redis key of ours, `<PUSHFLEET_PREFIX>:<thing>:…`, and the names of the streams.

Two different things never share a key. A tenant's name holds no colon (contract §6) and comes
first; further outside parts but the last end with U+0000, which no id holds; the suffix of a lane
is a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from common.model import Urgency, Vendor

PRESENCE = "presence"
ROUTING = "routing"
LEDGER = "ledger"
#: Vendors' callbacks on their way into the ledger. Not among WORK_STREAMS: upkeep sends no wake-up
#: for it.
RECEIPTS = "receipts"


def presence(urgency: Urgency) -> str:
    """Name of the stream of messages of one urgency that presence reads."""
    return f"{PRESENCE}:{urgency}"


def routing(urgency: Urgency) -> str:
    """Name of the stream of people of one urgency who are away, which routing reads."""
    return f"{ROUTING}:{urgency}"


#: The streams of each stage, the most urgent first. The last one is written by an older version and
#: still consumed.
STAGE_STREAMS = {
    PRESENCE: (*(presence(urgency) for urgency in Urgency), PRESENCE),
    ROUTING: (*(routing(urgency) for urgency in Urgency), ROUTING),
}


def send(vendor: Vendor, urgency: Urgency) -> str:
    """Name of the stream that one vendor's delivery workers read for one urgency."""
    return f"send:{vendor}:{urgency}"


#: Replaces the conversation in the marks of calls: a call id is unique to its tenant.
CALL = "call"

SEND = {vendor: tuple(send(vendor, urgency) for urgency in Urgency) for vendor in Vendor}
#: The streams between stages; those of delivery are of releases before 0.2, read for one release
#: more.
WORK_STREAMS: tuple[str, ...] = (
    PRESENCE,
    ROUTING,
    *(name for names in SEND.values() for name in names),
    *STAGE_STREAMS[PRESENCE][:-1],
    *STAGE_STREAMS[ROUTING][:-1],
)
#: Those that are read as streams.
STREAMS: tuple[str, ...] = (*STAGE_STREAMS[PRESENCE], *STAGE_STREAMS[ROUTING])
#: Streams to other shards, by urgency (workers/handlers/forwarding.py).
OUT: tuple[str, ...] = tuple(f"out:{urgency}" for urgency in Urgency)
#: By number, as members of the delayed set of releases before 0.2 name them: this order never
#: changes.
OLD_STREAMS: tuple[str, ...] = (
    *(PRESENCE, ROUTING),
    *(
        f"send:{vendor}:{urgency}"
        for vendor in (
            "apns",
            "fcm",
            "huawei",
            "harmony",
            "honor",
            "xiaomi",
            "oppo",
            "vivo",
            "meizu",
        )
        for urgency in ("call", "chat", "group", "bulk")
    ),
)
#: Streams of people's work, which live in one shard: their keys share a hash tag.
_OF_SHARD = frozenset(WORK_STREAMS[-2 * len(Urgency) :])
#: The queue of a stream, as shown in metrics and pages.
QUEUES = {
    stream: stream if stream.startswith("send:") else stream.partition(":")[0]
    for stream in WORK_STREAMS
} | dict.fromkeys(OUT, PRESENCE)


def literal(text_: str) -> str:
    """A key as a pattern that matches nothing else."""
    return "".join(f"\\{sign}" if sign in "*?[]\\^" else sign for sign in text_)


def renamed(name: bytes, root: str, new_root: str) -> bytes:
    """A key of ours under another root (Settings.key_root): from one server to a
    cluster, or back.
    """
    own = name.startswith(root.encode() + b":")
    return new_root.encode() + name[len(root) :] if own else name


class _Name:
    """A key that depends on the prefix only."""

    def __init__(self, rest: str) -> None:
        self._rest = f":{rest}"

    def __get__(self, keys: Keys, _owner: type | None = None) -> str:
        return keys.prefix + self._rest


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix; two fleets on one Redis differ here.

    A prefix with the hash tag of a shard (Settings.key_root) puts all of them into one slot of a
    cluster.
    """

    prefix: str

    def stream(self, name: str) -> str:
        return f"{self.prefix}:{{s0}}:{name}" if name in _OF_SHARD else f"{self.prefix}:{name}"

    def wake_up(self, queue: str) -> str:
        return f"{self.prefix}:bell:{queue}"

    def ring(self, queue: str) -> str:
        """Direct notifications for a worker that listens."""
        return f"{self.prefix}:ring:{queue}"

    def seen_events(self, half_day: int) -> str:
        return f"{self.prefix}:{{s0}}:ev:{half_day}"

    #: The number of claims of other readers' entries.
    takeovers = _Name("{s0}:takeovers")
    #: While somebody writes entries that another may read in their turn.
    out_of_turn = _Name("{s0}:out-of-turn")
    #: Who reads the core's stream without a list of the entries, and who did so last.
    open_read = _Name("{s0}:open-read")
    open_reads = _Name("{s0}:open-reads")
    #: Written before a replica is waited for.
    synced = _Name("{s0}:synced")

    def passed(self, half_day: int) -> str:
        """Entries of the core's own server that were committed."""
        return f"{self.prefix}:{{s0}}:passed:{half_day}"

    def replayed(self, letter: str) -> str:
        return f"{self.prefix}:{{s0}}:replayed:{letter}"

    def taken(self, entry: str) -> str:
        """The badge numbers taken by the pushes of a lane's entry, while it is being sent."""
        return f"{self.prefix}:{{s0}}:taken:{entry}"

    def fanout(self, digest: str) -> str:
        """People named by the pages of one group's event."""
        return f"{self.prefix}:{{s0}}:fan:{digest}"

    #: The number of the fleet's shards; in shard 0.
    shards = _Name("shards")
    #: The state of `pushfleet reshard`; in shard 0, only while it runs or waits to continue.
    resharding = _Name("resharding")

    # claim.lua makes these four by itself, from the prefix

    claim = _Name("claim:")

    def claims(self, day: str, push_id: str) -> str:
        return f"{self.claim}{day}:{push_id[:4]}"

    badge = _Name("badge:")

    #: Prefix: claim.lua appends the period and the bucket.
    count_hashes = _Name("{s0}:counts:")

    def counts(self, period: int, bucket: int) -> str:
        """Badge counts of devices of which no word is known (counting.py)."""
        return f"{self.count_hashes}{period}:{bucket}"

    def badges(self, app: str, user: str) -> str:
        return f"{self.badge}{{{app}:{user}}}"

    revoked_marks = _Name("gone:")

    def revoked(self, app: str, conversation: str, message_id: str) -> str:
        """The mark of a message in its conversation; of a call, conversation CALL.

        No id holds U+0000.
        """
        return f"{self.revoked_marks}{app}:{conversation}\0{message_id}"

    read_marks = _Name("read:")

    def read(self, app: str, user: str) -> str:
        return f"{self.read_marks}{{{app}:{user}}}"

    def bindings(self, app: str, user: str) -> str:
        """Which tokens a person's devices have: device -> digests of its tokens, "-" none."""
        return f"{self.prefix}:bind:{{{app}:{user}}}"

    def person(self, app: str, user: str) -> str:
        """Devices and settings, as read from SQL (people.py)."""
        return f"{self.prefix}:{{s0}}:person:{app}:{user}"

    def person_changed(self, app: str, user: str) -> str:
        """The generation of a person, which moves when devices or settings change."""
        return f"{self.prefix}:{{s0}}:person-changed:{app}:{user}"

    def people_bytes(self, slot: int) -> str:
        """Bytes of people that were kept in one half hour."""
        return f"{self.prefix}:{{s0}}:people-bytes:{slot}"

    def screen(self, digest: str) -> str:
        return f"{self.prefix}:screen:{digest}"

    delayed = _Name("delayed")

    def parked(self, lane: str, urgency: str) -> str:
        """A lane's parking lot of releases before 0.2, one an urgency."""
        return f"{self.prefix}:parked:{urgency}:{lane}"

    parked_lanes = _Name("parked-lanes")

    # a lane's queues (common/storage/lane_queues.py), under its own hash tag

    def lane_queue(self, lane: str, urgency: str) -> str:
        return f"{self.prefix}:{{{lane}}}:queue:{urgency}"

    def lane_blobs(self, lane: str) -> str:
        return f"{self.prefix}:{{{lane}}}:blobs"

    def lane_leases(self, lane: str) -> str:
        return f"{self.prefix}:{{{lane}}}:leases"

    def lane_holders(self, lane: str) -> str:
        return f"{self.prefix}:{{{lane}}}:holders"

    def lane_tries(self, lane: str) -> str:
        return f"{self.prefix}:{{{lane}}}:tries"

    def lane_load(self, lane: str) -> str:
        return f"{self.prefix}:{{{lane}}}:load"

    def ready(self, vendor: str, urgency: str) -> str:
        """A vendor's lanes by when they may send next."""
        return f"{self.prefix}:ready:{{{vendor}}}:{urgency}"

    def popped(self, vendor: str) -> str:
        """A vendor's lanes by the time at which their taker is checked."""
        return f"{self.prefix}:popped:{{{vendor}}}"

    loaded_lanes = _Name("loaded-lanes")

    def backlog(self, digest: str) -> str:
        return f"{self.prefix}:backlog:{digest}"

    def lane(self, lane: str) -> str:
        return f"{self.prefix}:lane:{lane}"

    def lane_log(self, lane: str) -> str:
        """A lane's last changes, the newest first."""
        return f"{self.prefix}:lane-log:{lane}"

    def rate(self, lane: str) -> str:
        return f"{self.prefix}:rate:{lane}"

    def quota(self, lane: str) -> str:
        """Prefix: the scripts append the day of the vendor's calendar."""
        return f"{self.prefix}:quota:{lane}:"

    #: Prefix: the scripts append the day and a part of the device's digest.
    caps = _Name("cap:")
    #: Prefix: the scripts append the day and a part of the push's digest.
    held = _Name("held:")

    def counted(self, lane: str) -> str:
        return f"{self.prefix}:counted:{lane}"

    def inflight(self, lane: str) -> str:
        return f"{self.prefix}:inflight:{lane}"

    def access(self, lane: str, version: int) -> str:
        return f"{self.prefix}:access:{lane}:{version}"

    def image(self, lane: str, image: str) -> str:
        return f"{self.prefix}:image:{lane}:{blake2b(image.encode(), digest_size=16).hexdigest()}"

    def images_shown(self, lane: str, minute: int) -> str:
        return f"{self.prefix}:images-shown:{lane}:{minute}"

    def guard(self, lane: str) -> str:
        return f"{self.prefix}:guard:{lane}"

    def guard_accepted(self, lane: str, hour: int) -> str:
        return f"{self.prefix}:guard-accepted:{lane}:{hour}"

    def held_tokens(self, lane: str) -> str:
        return f"{self.prefix}:held-tokens:{lane}"

    held_lanes = _Name("held-lanes")

    def silent(self, app: str, user: str, device: str) -> str:
        return f"{self.prefix}:silent:{{{app}:{user}}}\0{device}"

    def message_times(self, bucket: int) -> str:
        return f"{self.prefix}:{{s0}}:ts:{bucket}"

    server_clock = _Name("{s0}:clock")
    config_version = _Name("config-version")
    #: The accounts' copy (accounts.py).
    accounts = _Name("accounts")
    #: What was first read of SQL as of the version of now (accounts.py).
    accounts_mark = _Name("accounts-mark")
    #: There while the copy and SQL were found equal lately (accounts.py).
    accounts_compared = _Name("accounts-compared")
    receipts_later = _Name("receipts-later")

    def receipt_nonce(self, digest: str) -> str:
        return f"{self.prefix}:nonce:{digest}"

    def push_node(self, node: str) -> str:
        return f"{self.prefix}:{{{node}}}:node"

    def push_text(self, node: str, words: str) -> str:
        return f"{self.prefix}:{{{node}}}:said:{words}"

    def reply(self, key: str) -> str:
        return f"{self.prefix}:reply:{key}"

    replies_due = _Name("replies-due")
    #: A wake-up of the timer: something is due before its sleep ends.
    timer_wake_up = _Name("timer")

    def logins(self, digest: str) -> str:
        return f"{self.prefix}:logins:{digest}"

    #: Lanes that a restored backup has paused.
    paused_by_restore = _Name("paused-by-restore")
    #: Set of the names of all processes that have lived lately.
    process_names = _Name("process-names")
    #: Held by upkeep of releases before 0.2 for as long as it works.
    upkeep_lock = _Name("upkeep-lock")

    def metrics_at(self, name: str) -> str:
        return f"{self.prefix}:metrics-at:{name}"

    def lease(self, role: str) -> str:
        """The holder of a role of the maintenance process."""
        return f"{self.prefix}:{{s0}}:lease:{role}"

    def lease_epoch(self, role: str) -> str:
        return f"{self.prefix}:{{s0}}:lease-epoch:{role}"

    #: The epoch of the ledger's lease whose holder reads records in columns.
    ledger_columns = _Name("{s0}:ledger-columns")

    #: Pushes to be taken back from screens, by the time of the next look.
    withdrawals = _Name("{s0}:withdrawals")
    #: The same, as an earlier version kept it.
    old_withdrawals = _Name("withdrawals")

    def alive(self, name: str) -> str:
        """A process that takes work."""
        return f"{self.prefix}:alive:{name}"

    def database_of(self, name: str) -> str:
        """The database of a process that lives, by its identity and its address."""
        return f"{self.prefix}:database-of:{name}"

    def at_work(self, name: str) -> str:
        """A process that may write, also before it is ready and while it finishes."""
        return f"{self.prefix}:at-work:{name}"
