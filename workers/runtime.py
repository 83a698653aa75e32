"""Settings -> Runtime: stores, gate, lanes, transports; built after the fork, closed at the exit.

Only `pipeline`, `upkeep` and `cli` hold the Runtime; a stage gets the two or three ports it uses.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Histogram
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from common import metrics
from common.clock import now_ms
from common.config import Settings, is_cluster, secret_keys
from common.contracts import Notification, encode
from common.ledger_records import DeadRecord
from common.model import Bucket, Decision, Kind, PushType, Vendor
from common.storage import claims as claim_store
from common.storage import lanes as lane_store
from common.storage import sql
from common.storage.access import AccessStore
from common.storage.admission import ROUND_S, Admission
from common.storage.api_tokens import ApiTokens
from common.storage.audit import Audit
from common.storage.backlog import HeldPushes
from common.storage.badges import Badges
from common.storage.credentials import Credentials, StoredCredential
from common.storage.dead_letters import DeadLetters
from common.storage.delayed import Delayed
from common.storage.devices import Devices
from common.storage.fanouts import Fanouts
from common.storage.guard import Guard
from common.storage.images import SeenImages
from common.storage.keys import Keys
from common.storage.lane_queues import LaneQueues
from common.storage.ledger import Ledger
from common.storage.ledger_reads import LedgerReader
from common.storage.living import Heartbeats
from common.storage.marks import EventMarks
from common.storage.members import Members
from common.storage.people import KnownDevices, KnownPreferences, People
from common.storage.preferences import Preferences
from common.storage.presence import Presence
from common.storage.redis import best_effort, connect, connect_core
from common.storage.replies import Replies
from common.storage.screens import ScreenStore
from common.storage.shard_lanes import ShardLaneQueues
from common.storage.shards import RESHARD, HomeReplies, SpreadBadges, SpreadMarks, check_shards
from common.storage.silences import SilentPushLimiter
from common.storage.strategies import Strategies
from common.storage.streams import StreamStore
from common.storage.tallies import Tallies
from common.storage.tenants import Tenant, Tenants, is_app
from common.storage.users import Users
from common.storage.vault import Vault
from workers.app import DELIVERY, make_app, publish, queue_of
from workers.delivery.access import FleetAccess
from workers.delivery.causes import in_words, whose_fault
from workers.delivery.coalescing import View
from workers.delivery.deliver import BreakerOpen, BreakerProbe, ClaimAnswer
from workers.delivery.deliver import DeliveryPorts as DeliveryWorld
from workers.delivery.lane import Lane, limits_of
from workers.delivery.work import Hold, PendingPush
from workers.gate import FleetGate, terms_of
from workers.late_binding import BoundAddresses, ClaimedRows, PlacesOnScreens, PresentConsent
from workers.receipts import address as receipts
from workers.routing.fan_out import RoutingPorts as RoutingWorld
from workers.routing.texts import NOTHING, translate
from workers.vendors import VENDORS
from workers.vendors.types import Credential, Template
from workers.wire import HttpResponse, NoAnswer, Route, Transport

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

#: Connections of a lane over HTTP/1.1 in one process, where each takes one request at a time: with
#: them a round of 500 is answered within the usual deadline by a vendor that takes a second for
#: each. HTTP/2 needs few (workers/wire.py).
HTTP1_CONNECTIONS_MAX = 50
#: Changed credentials, quotas and tenants take effect within 2 s: the version is looked at this
#: often.
CONFIG_EVERY_S = 1.0
#: Seconds that a look at changed settings waits for the database; after them the last good copy
#: stays in use.
CONFIG_WAIT_S = 3.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tenants, accounts and presets as of one version."""

    version: int
    tenants: Mapping[str, Tenant]
    lanes: Mapping[tuple[str, Vendor, str], Lane]
    strategies: Mapping[tuple[str, str], Mapping[str, Any]]


class Catalog:
    """Tenants, credentials and strategies, read from SQL when their version in Redis has moved. The
    last good copy stays in use.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._look_at = 0.0

    @property
    def now(self) -> Snapshot:
        known = self._snapshot
        if known is not None and time.monotonic() < self._look_at:
            return known
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._look()
                self._look_at = time.monotonic() + CONFIG_EVERY_S
            if self._snapshot is None:
                self._snapshot = self._load(0)
            return self._snapshot

    def fresh(self) -> Snapshot:
        """As `now`, but our copy is no older than this call."""
        self._look_at = 0.0
        return self.now

    def changed(self) -> None:
        """Notifies every process of a change."""
        self._runtime.redis.incr(self._runtime.keys.config_version)
        self._look_at = 0.0

    def _look(self) -> None:
        version = int(self._runtime.redis.get(self._runtime.keys.config_version) or 0)
        if self._snapshot is not None and self._snapshot.version == version:
            return
        if self._snapshot is None:
            self._snapshot = self._load(version)
            return
        try:
            with sql.optional(self._runtime.engine, CONFIG_WAIT_S):
                self._snapshot = self._load(version)
        except sql.DATABASE_UNAVAILABLE:
            log.warning("the database is away: credentials stay as they were")

    def _load(self, version: int) -> Snapshot:
        runtime = self._runtime
        lanes = {}
        for stored in runtime.credentials.readable():
            lane = lane_of(stored, runtime.settings)
            if lane is not None:
                lanes[(stored.app, lane.vendor, stored.business_id)] = lane
        tenants = runtime.tenants.all()
        if odd := [app for app in tenants if not is_app(app)]:
            log.error(
                "tenants of an older version have names that may share keys with others: add "
                "each anew under a name of letters, digits,"
                " '.', '_' and '-' and move its core there",
                extra={"count": len(odd)},
            )
        return Snapshot(version, tenants, lanes, runtime.strategies.all())

    # what routing asks (workers/routing/fan_out.py: Tenancy)

    def tenant(self, app: str) -> Tenant:
        return self.now.tenants.get(app) or Tenant(app, "", "zh", "Asia/Shanghai")

    def credential(self, app: str, vendor: Vendor, business_id: str) -> Credential | None:
        lane = self.lane(app, vendor, business_id)
        return lane.credential if lane is not None else None

    def strategy(self, app: str, strategy_id: str) -> Mapping[str, Any] | None:
        return self.now.strategies.get((app, strategy_id))

    def lane(self, app: str, vendor: Vendor, business_id: str) -> Lane | None:
        return self.now.lanes.get((app, vendor, business_id))


def lane_of(stored: StoredCredential, settings: Settings) -> Lane | None:
    """The lane of a stored credential; None for an unknown vendor (a newer version's row)."""
    spec = VENDORS.get(Vendor(stored.vendor))
    if spec is None:
        return None
    credential = Credential(
        app=stored.app,
        vendor=spec.vendor,
        business_id=stored.business_id,
        # Not the number in the store, which restarts when an account is removed and added again:
        # the new account would meet a stopped lane, and use the old one's access token and
        # connections.
        version=stored.created_ms,
        options=stored.options,
        secrets=stored.secrets,
        rights=stored.rights,
        channels=stored.channels,
        templates={name: Template(*template) for name, template in stored.templates.items()},
    )
    bases = {name: settings.endpoints.get(name, url) for name, url in spec.endpoints.items()}
    route = Route(
        f"{credential.lane}:{credential.version}",
        bases,
        spec.http2,
        spec.identity(credential),
        proxy=settings.proxies.get(spec.vendor),
    )
    if not spec.http2:
        route = replace(route, connections_max=HTTP1_CONNECTIONS_MAX)
    reserve = {name: float(share) for name, share in (stored.limits.get("reserve") or {}).items()}
    return Lane(spec, credential, route, limits_of(spec, stored.limits), stored.paused, reserve)


class Runtime:
    """Everything a process needs of the world, made when first asked for."""

    def __init__(self, settings: Settings, name: str = "tool", role: str = "tool") -> None:
        self.settings = settings
        self.name = name
        self.role = role
        self.keys = Keys(settings.key_root)
        self.metrics_at: str | None = None

    #: Which shard it is of.
    number = 0

    @property
    def home(self) -> Runtime:
        """The runtime of shard 0, which also has the fleet-wide data."""
        return self

    @cached_property
    def shards(self) -> Sequence[Runtime]:
        """Every shard's, in their order; this one alone where the fleet has one."""
        return [self, *(ShardRuntime(self, number) for number in range(1, self.settings.shards))]

    @cached_property
    def redis(self) -> Redis:
        """SettingError where the fleet has another number of shards."""
        client = connect(self.settings.redis_url)
        if self.role != RESHARD:
            check_shards(client, self.keys, self.settings.shards, starts=self.role != "tool")
        return client

    @cached_property
    def core(self) -> Redis:
        url = self.settings.core_url
        return (
            self.redis
            if url == self.settings.redis_url and not is_cluster(url)
            else connect_core(url)
        )

    @cached_property
    def engine(self) -> Engine:
        return sql.engine(self.settings.database_url)

    @cached_property
    def vault(self) -> Vault:
        return Vault(secret_keys(self.settings))

    @cached_property
    def app(self) -> Celery:
        return make_app(self.settings)

    @cached_property
    def living(self) -> Heartbeats:
        return Heartbeats(self.redis, self.keys)

    @cached_property
    def streams(self) -> StreamStore:
        return StreamStore(self.redis, self.keys)

    @property
    def wakes(self) -> StreamStore:
        """The store of wake-ups: one for shards on one server, as a woken worker reads all."""
        return self.streams

    @cached_property
    def together(self) -> bool:
        """True when all shards are on one server, where a step may concern several."""
        return not is_cluster(self.settings.redis_url)

    @cached_property
    def delayed(self) -> Delayed:
        return Delayed(self.redis, self.keys, self._make_dead_letter)

    def _make_dead_letter(self, raw: bytes, reason: str) -> bytes:
        """The ledger's entry of the dead letter of something that waited and can't be read."""
        log.error("an item became a dead letter", extra={"queue": "delayed", "reason": reason})
        letter = DeadRecord(
            id=uuid.uuid4().hex,
            entry_id="",
            stage=DELIVERY,
            reason=reason,
            app=None,
            at_ms=now_ms(),
            raw=self.vault.encrypt(raw),
            fields={"belt": "delayed"},
        )
        return encode([letter])

    @cached_property
    def lane_queues(self) -> LaneQueues:
        return LaneQueues(self.redis, self.keys)

    @cached_property
    def own_marks(self) -> EventMarks:
        """The marks of this shard alone."""
        return EventMarks(self.redis, self.keys)

    @cached_property
    def all_marks(self) -> Sequence[EventMarks]:
        """Each shard's alone."""
        return [one.own_marks for one in self.shards]

    @cached_property
    def marks(self) -> EventMarks:
        return (
            self.own_marks
            if self.settings.shards == 1
            else SpreadMarks(self.redis, self.keys, self.all_marks, self.number)
        )

    @cached_property
    def fanouts(self) -> Fanouts:
        return Fanouts(self.redis, self.keys)

    @cached_property
    def own_badges(self) -> Badges:
        """The badges of this shard alone."""
        return Badges(self.redis, self.keys)

    @cached_property
    def all_badges(self) -> Sequence[Badges]:
        """Each shard's alone."""
        return [one.own_badges for one in self.shards]

    @cached_property
    def badges(self) -> Badges:
        if self.settings.shards == 1:
            return self.own_badges
        return SpreadBadges(self.redis, self.keys, self.all_badges, self.number)

    @cached_property
    def claims(self) -> claim_store.Claims:
        return claim_store.Claims(self.redis, self.keys)

    @cached_property
    def backlog(self) -> HeldPushes:
        return HeldPushes(self.redis, self.keys)

    @cached_property
    def screens(self) -> ScreenStore:
        # as long as an access token is fetched, and the push sent
        return ScreenStore(self.redis, self.keys, int(2_000 * self._while_sending_s(ROUND_S)))

    @cached_property
    def silences(self) -> SilentPushLimiter:
        return SilentPushLimiter(self.redis, self.keys)

    @cached_property
    def lane_states(self) -> lane_store.LaneStates:
        return lane_store.LaneStates(
            self.redis, self.keys, probe_s=self._while_sending_s(lane_store.PROBE_S)
        )

    @cached_property
    def replies(self) -> Replies:
        return Replies(self.redis, self.keys)

    @cached_property
    def guard(self) -> Guard:
        return Guard(self.redis, self.keys)

    @cached_property
    def admission(self) -> Admission:
        return Admission(self.redis, self.keys, round_s=int(self._while_sending_s(ROUND_S)))

    def _while_sending_s(self, usual_s: float) -> float:
        """A duration that covers a send: longer with a longer PUSHFLEET_SEND_TIMEOUT_S."""
        return max(usual_s, self.settings.send_timeout_s + 5.0)

    @cached_property
    def presence(self) -> Presence:
        return Presence(self.core, self.settings.key_prefix)

    @cached_property
    def members(self) -> Members:
        return Members(self.core, self.settings.key_prefix)

    @cached_property
    def devices(self) -> Devices:
        return Devices(self.engine, self.marks.bindings, self.marks.people)

    @cached_property
    def people(self) -> People:
        return People(self.marks.people, self.devices, self.preferences)

    @cached_property
    def preferences(self) -> Preferences:
        return Preferences(self.engine)

    @cached_property
    def reports_engine(self) -> Engine:
        """The engine for reports: a read replica if there is one, the primary while it is away."""
        url = self.settings.database_reports_url
        return self.engine if url is None else sql.engine(url, instead=self.settings.database_url)

    @cached_property
    def reports(self) -> LedgerReader:
        return LedgerReader(self.reports_engine)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.engine)

    @cached_property
    def tenants(self) -> Tenants:
        return Tenants(self.engine)

    @cached_property
    def credentials(self) -> Credentials:
        return Credentials(self.engine, self.vault)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.engine, self.vault)

    @cached_property
    def users(self) -> Users:
        return Users(self.engine)

    @cached_property
    def api_tokens(self) -> ApiTokens:
        return ApiTokens(self.engine)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self.engine)

    @cached_property
    def tallies(self) -> Tallies:
        return Tallies(self.reports_engine)

    @cached_property
    def strategies(self) -> Strategies:
        return Strategies(self.engine)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self)

    @cached_property
    def transport(self) -> Transport:
        """The transport of all vendors: our engine for HTTP/2 (APNs, FCM), else libcurl."""
        # a process that sends nothing does not load what sends
        from workers.transport.engine import Http2Transport  # noqa: PLC0415
        from workers.transport.late import LateTransport  # noqa: PLC0415

        curl = LateTransport(self._curl)
        return (
            curl
            if self.settings.apns_client == "libcurl"
            else Http2Transport(self.settings.ca_file, curl)
        )

    def _curl(self) -> Transport:
        from workers.transport.curl import CurlTransport  # noqa: PLC0415 - 6 MiB

        return CurlTransport(ca_file=self.settings.ca_file)

    @cached_property
    def apns_transport(self) -> Transport:
        if self.settings.apns_client != "aioapns":
            return self.transport
        from workers.transport.aioapns import AioapnsTransport  # noqa: PLC0415 - its library takes 100 ms to load, few want it

        return AioapnsTransport(ca_file=self.settings.ca_file)

    @cached_property
    def routing(self) -> RoutingWorld:
        return RoutingWorld(KnownPreferences(self.people), self.members, self.catalog)

    def delivery(self, vendor: Vendor) -> DeliveryWorld:
        transport = self.apns_transport if vendor == Vendor.APNS else self.transport
        deadline_s = self.settings.send_timeout_s
        store = AccessStore(self.home.redis, self.home.keys, self.vault, deadline_s)
        return DeliveryWorld(
            claims=_Claims(self.claims, self.silences if vendor == Vendor.APNS else None),
            backlog=_Backlog(self.backlog),
            summary_text=self._summary_text,
            gate=FleetGate(self.admission, self.ledger, now_ms, leased=True),
            breaker=_Breaker(
                self.lane_states,
                self.admission,
                lambda: [one.id for one in self.catalog.now.lanes.values()],
            ),
            access=FleetAccess(store, self.transport, now_ms, time.sleep, deadline_s),
            transport=transport,
            now_ms=now_ms,
            deadline_s=deadline_s,
            callback_url=self.callback_url,
            observe=_observe,
            images=_Images(SeenImages(self.home.redis, self.home.keys)),
            addresses=BoundAddresses(self.marks.bindings, self.devices, self.catalog),
            consent=PresentConsent(
                self.presence,
                KnownPreferences(self.people),
                KnownDevices(self.people),
                self.catalog,
                now_ms,
            ),
            screens=PlacesOnScreens(self.screens),
            rows=ClaimedRows(self.claims, self.marks.bindings),
        )

    def gate(self) -> FleetGate:
        return FleetGate(self.admission, self.ledger, now_ms)

    def version_of(self, lane: tuple[str, Vendor, str]) -> int:
        found = self.catalog.lane(*lane)
        return found.credential.version if found is not None else 0

    def report_receipts(
        self,
        lane: tuple[str, Vendor, str],
        bucket: Bucket,
        capped: Sequence[tuple[str, int]],
        spent_ms: Sequence[int],
    ) -> None:
        """Applies receipts to a bucket's day (workers/gate.py); a removed lane has none."""
        found = self.catalog.lane(*lane)
        if found is not None:
            self.gate().report_receipts(found, bucket, capped, spent_ms)

    def _summary_text(self, note: Notification, count: int) -> str:
        own = self.catalog.tenant(note.app).options.get("texts") or NOTHING
        return translate("folded", note.lang, own).replace("{count}", str(count))

    def receipts_url(self, lane: Lane) -> str | None:
        """The receipts address of this lane, for the vendor's console; None if not public."""
        credential = lane.credential
        if self.settings.receipts_url is None:
            return None
        path = receipts.path_of(
            credential.vendor,
            credential.app,
            credential.business_id,
            self.vault.derived(receipts.PURPOSE)[0],
        )
        return self.settings.receipts_url.rstrip("/") + path

    def callback_url(self, lane: Lane) -> str | None:
        """The receipts address named in this lane's pushes; None for none.

        A vendor may refuse an address that its console does not know: then only if the operator has
        confirmed it.
        """
        spec = lane.spec.receipts
        option = spec.callback_option if spec else None
        return (
            None
            if option and lane.credential.options.get(option) != "on"
            else self.receipts_url(lane)
        )

    def send_wake_up(self, stage: str, vendor: Vendor | None = None) -> None:
        """Sends a stage's wake-up unless one is pending. Never raises.

        A lost wake-up costs seconds, as upkeep sends it again. The work was forwarded already; an
        error here would make the caller repeat it.
        """
        queue = queue_of(stage, vendor)
        try:
            if self.wakes.wake_up_is_ours(queue):
                publish(self.app, stage, vendor)
        except (RedisError, OSError) as error:
            log.warning(
                "wake-up publish failed", extra={"queue": queue, "reason": type(error).__name__}
            )

    def alive(self) -> None:
        """Records a heartbeat of this process, for `up` and `doctor`."""
        self.living.beat(self.name, self.role, self.metrics_at)

    def leave(self) -> None:
        """Records the end of this process, so that nothing waits for it or alerts."""
        self.living.leave([self.name])

    def close(self) -> None:
        for part in ("transport", "apns_transport"):
            if part in self.__dict__:
                self.__dict__[part].close()
        for name in ("engine", "reports_engine"):
            if name in self.__dict__:
                getattr(self, name).dispose()


class ShardRuntime(Runtime):
    """A further shard: its own keys, and the fleet-wide stores of shard 0. Closed with it."""

    def __init__(self, home: Runtime, number: int) -> None:
        super().__init__(home.settings, home.name, home.role)
        self.number = number
        self.keys = Keys(home.settings.root_of(number))
        self._home = home

    @property
    def home(self) -> Runtime:
        return self._home

    @cached_property
    def redis(self) -> Redis:
        """On a cluster another slot's client; one server has all shards."""
        url = self.settings.redis_url
        return connect(url, shard=self.number) if is_cluster(url) else self.home.redis

    @cached_property
    def lane_queues(self) -> LaneQueues:
        if self.together:
            return LaneQueues(self.redis, self.keys, shared=self.home.keys)
        return ShardLaneQueues(self.redis, self.keys, self.home.lane_queues, self.home.lane_states)

    @property
    def wakes(self) -> StreamStore:
        return self.home.streams if self.together else self.streams

    @cached_property
    def replies(self) -> Replies:
        return HomeReplies(self.home.redis, self.home.keys)

    def close(self) -> None:
        """Nothing of it outlives shard 0's."""


def _of_home(name: str) -> cached_property[Any]:
    found = cached_property(lambda shard: getattr(shard.home, name))
    found.__set_name__(ShardRuntime, name)
    return found


#: The shard's properties taken from shard 0: foreign servers, and what is one for the whole fleet.
for _name in (
    *(
        "shards",
        "all_marks",
        "all_badges",
        "core",
        "engine",
        "reports_engine",
        "vault",
        "app",
        "living",
        "catalog",
        "transport",
        "apns_transport",
        "together",
    ),
    *(
        "lane_states",
        "guard",
        "admission",
        "ledger",
        "tenants",
        "credentials",
        "strategies",
        "dead_letters",
        "preferences",
        "tallies",
    ),
):
    setattr(ShardRuntime, _name, _of_home(_name))


class _Claims:
    """The stage's port over the store. silences: of a vendor that throws away silent pushes close
    together (APNs).
    """

    def __init__(self, store: claim_store.Claims, silences: SilentPushLimiter | None) -> None:
        self._store = store
        self._silences = silences

    def lease(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> Sequence[ClaimAnswer]:
        if all(work.by_entry for work in works):
            return self._spaced(works, self._taken(works, badge_steps))
        both = list(zip(works, badge_steps, strict=True))
        taken = iter(self._taken(*_apart(both, by_entry=True)))
        claimed = iter(self._claimed(*_apart(both, by_entry=False)))
        return self._spaced(works, [next(taken if work.by_entry else claimed) for work in works])

    def _taken(self, works: Sequence[PendingPush], steps: Sequence[int]) -> list[ClaimAnswer]:
        """Claims of pushes in one entry only; those of one take are requested together."""
        if not works:
            return []
        numbers_of_all: list[claim_store.Number] = []
        parts = []
        for _, part in groupby(zip(works, steps, strict=True), lambda one: id(one[0].hold)):
            both = list(part)
            asks = [
                (
                    *(
                        work.entry,
                        work.place,
                        (note := work.note).app,
                        note.message_id,
                        _read_as(work),
                        note.ts_ms,
                    ),
                    *((target := work.target).user, target.device, step, work.counted),
                )
                for work, step in both
            ]
            hold = both[0][0].hold or _NOBODY
            parts.append(
                claim_store.Part(self._store.holders(hold.lane), hold.word, asks, hold.sends)
            )
        for numbers in self._store.take_all(parts):
            numbers_of_all += numbers
        return [
            ClaimAnswer(
                _STATES[state],
                None if badge < 0 else badge,
                why or ("uncertain" if work.repeated else ""),
                counted,
            )
            for work, (state, badge, why, counted) in zip(works, numbers_of_all, strict=True)
        ]

    def _claimed(
        self, works: Sequence[PendingPush], badge_steps: Sequence[int]
    ) -> list[ClaimAnswer]:
        if not works:
            return []
        asks = [
            claim_store.ClaimRequest(
                work.note.app,
                work.note.message_id if work.note.kind in _WITHDRAWN else "",
                work.target.user,
                work.target.device,
                work.target.push_id,
                work.note.ts_ms,
                work.entry.partition(";")[0],
                step,
                _read_as(work),
                work.target.registered_ms,
            )
            for work, step in zip(works, badge_steps, strict=True)
        ]
        return [
            ClaimAnswer(_STATES[claim.state], claim.badge, claim.why)
            for claim in self._store.lease(asks)
        ]

    def _spaced(
        self, works: Sequence[PendingPush], answers: list[ClaimAnswer]
    ) -> list[ClaimAnswer]:
        """Limits silent pushes of messages to one in 20 minutes per device; calls are exempt.

        The surplus is folded.
        """
        if self._silences is None:
            return answers
        silent = [
            index
            for index, (work, answer) in enumerate(zip(works, answers, strict=True))
            if answer.state == "ours"
            and work.note.push_type == PushType.SILENT
            and work.note.kind == Kind.MESSAGE
        ]
        asks = [
            (
                works[i].note.app,
                works[i].target.user,
                works[i].target.device,
                works[i].target.push_id,
            )
            for i in silent
        ]
        for index, may_go in zip(silent, self._silences.may_wake(asks), strict=True):
            if not may_go:
                answers[index] = ClaimAnswer("gone", None, Decision.FOLDED, answers[index].counted)
        return answers


#: The hold of entries that were not taken from a lane.
_NOBODY = Hold("", "")
_STATES = tuple(state.name.lower() for state in claim_store.ClaimState)


def _apart(
    works: Sequence[tuple[PendingPush, int]], *, by_entry: bool
) -> tuple[list[PendingPush], list[int]]:
    chosen = [one for one in works if one[0].by_entry == by_entry]
    return [work for work, _ in chosen], [step for _, step in chosen]


#: Kinds that a recall, a cancel or a read takes back; recalls and cancels themselves are not.
_WITHDRAWN = frozenset({Kind.MESSAGE, Kind.CALL_INVITE})


def _read_as(work: PendingPush) -> str:
    """The conversation whose reading makes this push needless.

    A call is answered, not read; "" for a push that cannot have been read.
    """
    note = work.note
    if note.kind == Kind.CALL_INVITE:
        return "call"
    return f"{note.conversation_type}:{note.conversation_id}" if note.kind == Kind.MESSAGE else ""


class _Backlog:
    """The stage's port over the store."""

    def __init__(self, store: HeldPushes) -> None:
        self._store = store

    def look(self, asks: Sequence[tuple[tuple[str, ...], str, int]]) -> Sequence[View | None]:
        return [
            View(one.upto_ms, one.newest, one.newest_ms, one.waiting, one.waits_for_newest, one.due)
            if one.member
            else None
            for one in self._store.look(asks)
        ]


class _Images:
    def __init__(self, store: SeenImages) -> None:
        self._store = store

    def known(self, lane: Lane, images: Sequence[str]) -> Mapping[str, str]:
        return self._store.known(lane.id, images)

    def keep(self, lane: Lane, image: str, given: str, life_ms: int) -> None:
        self._store.keep(lane.id, image, given, life_ms)

    def room(self, lane: Lane, wanted: int, per_minute: int) -> int:
        return self._store.room(lane.id, wanted, per_minute, now_ms() // 1000)


class _Breaker:
    def __init__(
        self,
        store: lane_store.LaneStates,
        admission: Admission,
        lane_ids: Callable[[], Sequence[str]],
    ) -> None:
        """lane_ids: of all lanes, to tell one vendor's failure from a common one."""
        self._store = store
        self._admission = admission
        self._lane_ids = lane_ids

    def open_for(self, lane: Lane) -> BreakerProbe | BreakerOpen | None:
        if lane.paused:
            return BreakerOpen(Decision.LANE_PAUSED)
        state = self._store.ask(lane.id, lane.credential.version)
        if state.state == lane_store.FLOWING:
            return None
        why = Decision(state.why or Decision.UNAVAILABLE)
        return BreakerProbe(why) if state.probe else BreakerOpen(why)

    def report(
        self,
        lane: Lane,
        good: int,
        failed: int,
        refused: bool,
        retry_after_s: float | None,
        throttled: int = 0,
        cause: str = "",
    ) -> None:
        cause = cause or ("credential" if refused else "unknown" if failed else "")
        with best_effort("how a round went"):
            if throttled or retry_after_s:
                self._admission.slow_down(
                    terms_of(lane, now_ms()), throttled=throttled > 0, hold_s=retry_after_s or 0
                )
            state = self._store.tell(lane.id, lane.credential.version, good, failed, refused, cause)
            if state is not None:
                self._log_changed(lane, state, cause if state != lane_store.FLOWING else "")

    def _log_changed(self, lane: Lane, state: str, cause: str) -> None:
        """Logs and counts each change with its cause; also how many lanes have stopped."""
        ids = self._lane_ids()
        last = [
            change
            for change in self._store.last_changes(ids)
            if change and change.state == lane_store.STOPPED
        ]
        log_lane_changed(
            lane, state, cause, whose_fault([change.cause for change in last], len(ids))
        )


def log_lane_changed(lane: Lane, state: str, cause: str, hint: str = "") -> None:
    """In the log and as pushfleet_lane_changes_total."""
    credential = lane.credential
    metrics.LANE_CHANGES.labels(credential.vendor, state, cause or metrics.NONE).inc()
    words = f"lane {credential.vendor} {credential.business_id} of {credential.app} "
    words += (
        "flows again"
        if state == lane_store.FLOWING
        else f"{state}: {in_words('', cause)}" + (f" ({hint})" if hint else "")
    )
    extra = {
        "app": credential.app,
        "vendor": credential.vendor,
        "business_id": credential.business_id,
        "reason": cause or "none",
    }
    log.log(logging.INFO if state == lane_store.FLOWING else logging.WARNING, words, extra=extra)


def _observe(lane: Lane, answers: Sequence[HttpResponse | NoAnswer]) -> None:
    seconds: dict[int | str, list[float]] = {}
    for answer in answers:
        seconds.setdefault(
            answer.status if isinstance(answer, HttpResponse) else answer.reason, []
        ).append(answer.seconds)
    for status, taken in seconds.items():
        requests, histogram = _request_metrics(lane.vendor, status)
        requests.inc(len(taken))
        metrics.observe_all(histogram, taken)


@lru_cache(1024)
def _request_metrics(vendor: Vendor, status: int | str) -> tuple[Counter, Histogram]:
    """Kept: where a request carries one push, looking up the labels took longer than counting.
    Statuses are 500 at most a vendor.
    """
    return metrics.VENDOR_REQUESTS.labels(
        vendor, metrics.request_status(status)
    ), metrics.VENDOR_REQUEST_SECONDS.labels(vendor)


Stopping = Callable[[], bool]
