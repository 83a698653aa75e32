"""Settings -> Runtime: stores, gate, lanes, transports; built after the fork, closed at the exit.

Only `pipeline`, `upkeep` and `cli` hold the Runtime; a stage gets the two or three ports it uses.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis import Redis
from redis.exceptions import RedisError

from common.clock import AskedSeldom, now_ms
from common.config import Settings
from common.contracts import Notification, encode
from common.ledger_records import DeadRecord
from common.model import Bucket, Vendor
from common.redis_urls import is_cluster
from common.secret_keys import secret_keys
from common.storage import claims as claim_store
from common.storage import lanes as lane_store
from common.storage.access import AccessStore
from common.storage.accounts import FORM, AccountsCopy, AccountSet
from common.storage.admission import ROUND_S, Admission
from common.storage.away import SlotsAway
from common.storage.backlog import HeldPushes
from common.storage.badges import Badges
from common.storage.delayed import Delayed
from common.storage.entry_marks import CoreEntries
from common.storage.fanouts import Fanouts
from common.storage.guard import Guard
from common.storage.images import SeenImages
from common.storage.keys import Keys
from common.storage.lane_queues import LaneQueues
from common.storage.late import late
from common.storage.living import Heartbeats
from common.storage.marks import EventMarks
from common.storage.members import Members
from common.storage.migrations import version_of
from common.storage.opened import opened_or_paused, unopened
from common.storage.people import KnownDevices, KnownPreferences, People
from common.storage.presence import Presence
from common.storage.redis import BROKER_SETTING, connect, connect_core
from common.storage.replies import Replies
from common.storage.screens import ScreenStore
from common.storage.shard_lanes import ShardLaneQueues
from common.storage.shards import (
    RESHARD,
    HomeReplies,
    JointStreams,
    SpreadBadges,
    SpreadMarks,
    check_shards,
    says_stop,
)
from common.storage.silences import SilentPushLimiter
from common.storage.streams import StreamStore
from common.storage.vault import Vault
from workers.adapters.breaker import FleetBreaker
from workers.adapters.catalog import AccountSources, Catalog
from workers.adapters.claims import FleetClaims
from workers.adapters.held_pushes import HeldView
from workers.adapters.images import FleetImages
from workers.adapters.leases import FleetLeases
from workers.adapters.requests import observe
from workers.app import DELIVERY, make_app, publish, queue_of
from workers.delivery.access import FleetAccess
from workers.delivery.lane import Lane
from workers.delivery.ports import DeliveryPorts
from workers.gate import FleetGate
from workers.late_binding import BoundAddresses, ClaimedRows, PlacesOnScreens, PresentConsent
from workers.queues.wake_up_sender import WakeUpSender
from workers.receipts import address as receipts
from workers.routing.fan_out import RoutingPorts as RoutingWorld
from workers.routing.texts import NOTHING, translate
from workers.wire import Transport

if TYPE_CHECKING:
    from celery import Celery
    from sqlalchemy import Engine

    from common.storage.devices import Devices
    from common.storage.ledger_reads import LedgerReader
    from common.storage.postgres import Ping
    from common.storage.sql_stores import SqlStores
    from common.storage.tallies import Tallies

log = logging.getLogger(__name__)

#: Roles that send nothing and check no signature: secrets are not opened in them. Upkeep does open
#: them: its gauges show a lane whose secrets no key opens as paused.
_WITHOUT_SECRETS = frozenset({"intake", "presence", "routing"})


T = TypeVar("T")


def _in_redis(kind: Callable[[Redis, Keys], T]) -> cached_property[T]:
    """A store of the process's shard."""
    return cached_property(lambda self: kind(self.redis, self.keys))


def _in_sql(store: Callable[[SqlStores], T]) -> cached_property[T]:
    """One of SqlStores, which are loaded when one of them is first used."""
    return cached_property(lambda self: late(lambda: store(self.sql)))


class Runtime:
    """What a process works with: stores, connections, settings; each made at its first use."""

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
    def away(self) -> SlotsAway | None:
        """The shards that are away; None of a single one, which its callers wait for."""
        return SlotsAway() if self.settings.shards > 1 and not self.together else None

    @cached_property
    def redis(self) -> Redis:
        """SettingError where the fleet has another number of shards."""
        client = connect(self.settings.redis_url, away=self.away)
        if self.role != RESHARD:
            check_shards(client, self.keys, self.settings.shards, starts=self.role != "tool")
        return client

    @cached_property
    def broker(self) -> Redis:
        """The Redis of the wake-ups. SettingError for a server in cluster mode."""
        url = self.settings.broker_url
        if url in (None, self.settings.redis_url):
            return self.redis
        return connect(url, BROKER_SETTING)

    @property
    def core_is_elsewhere(self) -> bool:
        """True when the core's Redis may lose what the fleet's has: no MULTI is about both."""
        url = self.settings.core_url
        return url != self.settings.redis_url or is_cluster(url)

    @cached_property
    def core(self) -> Redis:
        if not self.core_is_elsewhere:
            return self.redis
        url = self.settings.core_url
        return connect_core(url, away=self.away if url == self.settings.redis_url else None)

    @cached_property
    def engine(self) -> Engine:
        from common.storage import sql  # noqa: PLC0415 - its libraries take 23 MiB

        return sql.engine(self.settings.database_url)

    @cached_property
    def sql(self) -> SqlStores:
        """The stores in SQL. The properties beside it load them with the first use of one."""
        from common.storage.sql_stores import SqlStores  # noqa: PLC0415 - 23 MiB

        return SqlStores(self.engine, late(lambda: self.vault))

    @cached_property
    def database_answers(self) -> Ping:
        """Raises psycopg.Error where it does not."""
        from common.storage.postgres import Ping  # noqa: PLC0415 - its library takes 9 MiB

        return Ping(self.settings.database_url)

    @contextmanager
    def optional_sql(self, seconds: float) -> Iterator[None]:
        """As sql.optional."""
        from common.storage import sql  # noqa: PLC0415 - its libraries take 23 MiB

        with sql.optional(self.engine, seconds):
            yield

    @cached_property
    def vault(self) -> Vault:
        return Vault(secret_keys(self.settings))

    @cached_property
    def app(self) -> Celery:
        return make_app(self.settings)

    @cached_property
    def wake_up_sender(self) -> WakeUpSender:
        return WakeUpSender(lambda stage, vendor: publish(self.app, stage, vendor))

    @cached_property
    def living(self) -> Heartbeats:
        return Heartbeats(self.redis, self.keys)

    streams = _in_redis(StreamStore)

    @property
    def wakes(self) -> StreamStore:
        """The store of wake-ups: one for shards on one server, as a woken worker reads all."""
        return self.streams

    @cached_property
    def together(self) -> bool:
        """True when all shards are on one server, where a step may concern several."""
        return not is_cluster(self.settings.redis_url)

    @cached_property
    def joint_streams(self) -> JointStreams | None:
        """The streams of all shards on one server; None of a single shard, and on a cluster."""
        if len(self.shards) == 1 or not self.together:
            return None
        return JointStreams(self.redis, [one.keys for one in self.shards])

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
        return EventMarks(self.redis, self.keys, self._core_entries)

    @cached_property
    def _core_entries(self) -> CoreEntries | None:
        if not self.core_is_elsewhere:
            return None
        # shards on one server commit together, in shard 0's name
        shards = dict.fromkeys((self, self.home))
        return CoreEntries(
            lambda: self.core,
            self.settings.event_streams,
            lambda: [(one.redis, one.keys) for one in shards],
        )

    @cached_property
    def all_marks(self) -> Sequence[EventMarks]:
        """Each shard's alone."""
        return [one.own_marks for one in self.shards]

    @cached_property
    def marks(self) -> EventMarks:
        return (
            self.own_marks
            if self.settings.shards == 1
            else SpreadMarks(self.redis, self.keys, self.all_marks, self.number, self._core_entries)
        )

    fanouts = _in_redis(Fanouts)

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

    claims = _in_redis(claim_store.Claims)
    backlog = _in_redis(HeldPushes)

    @cached_property
    def screens(self) -> ScreenStore:
        # as long as an access token is fetched, and the push sent
        return ScreenStore(self.redis, self.keys, int(2_000 * self._while_sending_s(ROUND_S)))

    silences = _in_redis(SilentPushLimiter)

    @cached_property
    def lane_states(self) -> lane_store.LaneStates:
        return lane_store.LaneStates(
            self.redis, self.keys, probe_s=self._while_sending_s(lane_store.PROBE_S)
        )

    @cached_property
    def replies(self) -> Replies:
        return Replies(self.redis, self.keys)

    guard = _in_redis(Guard)

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
        return late(lambda: self.sql.devices(self.marks.bindings, self.marks.people))

    @cached_property
    def people(self) -> People:
        return People(self.marks.people, self.devices, self.preferences)

    preferences = _in_sql(lambda sql: sql.preferences)

    @cached_property
    def reports_engine(self) -> Engine:
        """The engine for reports: a read replica if there is one, the primary while it is away."""
        from common.storage import sql  # noqa: PLC0415 - its libraries take 23 MiB

        url = self.settings.database_reports_url
        return self.engine if url is None else sql.engine(url, instead=self.settings.database_url)

    @cached_property
    def reports(self) -> LedgerReader:
        return late(lambda: self.sql.reports(self.reports_engine))

    ledger = _in_sql(lambda sql: sql.ledger)
    tenants = _in_sql(lambda sql: sql.tenants)
    credentials = _in_sql(lambda sql: sql.credentials)
    dead_letters = _in_sql(lambda sql: sql.dead_letters)
    users = _in_sql(lambda sql: sql.users)
    api_tokens = _in_sql(lambda sql: sql.api_tokens)
    audit = _in_sql(lambda sql: sql.audit)

    @cached_property
    def tallies(self) -> Tallies:
        return late(lambda: self.sql.tallies(self.reports_engine))

    strategies = _in_sql(lambda sql: sql.strategies)

    @cached_property
    def catalog(self) -> Catalog:
        copy = AccountsCopy(
            self.redis, self.keys, late(lambda: self.vault), self.settings.database_url
        )
        opens = self.role.partition(":")[0] not in _WITHOUT_SECRETS
        return Catalog(
            self.settings,
            AccountSources(
                copy,
                self._accounts,
                self.optional_sql,
                lambda one: opened_or_paused(one, self.vault) if opens else unopened(one),
                lambda: version_of(self.engine),
            ),
        )

    def _accounts(self, version: int) -> AccountSet:
        """SQL's accounts, with the version that they are to be of."""
        presets = self.strategies.all().items()
        return AccountSet(
            FORM,
            version,
            version_of(self.engine),
            list(self.tenants.all().values()),
            self.credentials.sealed(),
            [(app, name, dict(preset)) for (app, name), preset in sorted(presets)],
        )

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

    def delivery(self, vendor: Vendor) -> DeliveryPorts:
        transport = self.apns_transport if vendor == Vendor.APNS else self.transport
        deadline_s = self.settings.send_timeout_s
        store = AccessStore(self.home.redis, self.home.keys, self.vault, deadline_s)
        return DeliveryPorts(
            claims=FleetClaims(self.claims, self.silences if vendor == Vendor.APNS else None),
            backlog=HeldView(self.backlog),
            summary_text=self._summary_text,
            gate=FleetGate(self.admission, self.ledger, now_ms, leased=True),
            breaker=FleetBreaker(
                self.lane_states,
                self.admission,
                lambda: [one.id for one in self.catalog.now.lanes.values()],
            ),
            access=FleetAccess(store, self.transport, now_ms, time.sleep, deadline_s),
            transport=transport,
            now_ms=now_ms,
            deadline_s=deadline_s,
            callback_url=self.callback_url,
            observe=observe,
            images=FleetImages(SeenImages(self.home.redis, self.home.keys)),
            addresses=BoundAddresses(self.marks.bindings, self.devices, self.catalog),
            consent=PresentConsent(
                self.presence,
                KnownPreferences(self.people),
                KnownDevices(self.people),
                self.catalog,
                now_ms,
            ),
            screens=PlacesOnScreens(self.screens),
            leases=FleetLeases(self.lane_queues),
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
        key = self.vault.derived(receipts.PURPOSE)[0]
        path = receipts.path_of(credential.vendor, credential.app, credential.business_id, key)
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

    @cached_property
    def old_ledger(self) -> Callable[[], bool]:
        """Whether a build that knows neither pages nor columns may read the ledger's stream: upkeep
        of a release before 0.2 works, or who has the ledger's lease has not said that it knows
        them. Never raises: while Redis is away it may.
        """
        names = [self.keys.ledger_columns, self.keys.lease_epoch("ledger")]

        def may_read() -> bool:
            try:
                knows, epoch = cast(Any, self.redis.mget(names))
                return not knows or knows != epoch or bool(self.redis.exists(self.keys.upkeep_lock))
            except (RedisError, OSError):
                return True

        return AskedSeldom(may_read)

    def send_wake_up(self, stage: str, vendor: Vendor | None = None) -> None:
        """Sends a stage's wake-up unless one is pending. Never raises nor hangs on the broker.

        A lost wake-up costs seconds, as upkeep sends it again. The work was forwarded already; an
        error here would make the caller repeat it.
        """
        queue = queue_of(stage, vendor)
        try:
            if self.wakes.wake_up_is_ours(queue):
                self.wake_up_sender.send(stage, vendor)
        except (RedisError, OSError) as error:
            log.warning(
                "wake-up publish failed", extra={"queue": queue, "reason": type(error).__name__}
            )

    def alive(self) -> bool:
        """Records a heartbeat of this process, for `up` and `doctor`.

        False: it has to end, as the number of shards changes or has changed.
        """
        count = self.living.beat(self.name, self.role, self.metrics_at)
        return not says_stop(count, self.role.partition(":")[0], self.settings.shards)

    def leave(self) -> None:
        """Records the end of this process, so that nothing waits for it or alerts."""
        self.living.leave([self.name])

    def close(self) -> None:
        for part in ("transport", "apns_transport", "database_answers"):
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
        if not is_cluster(url):
            return self.home.redis
        return connect(url, shard=self.number, away=self.home.away)

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
        "sql",
        "reports_engine",
        "vault",
        "app",
        "wake_up_sender",
        "living",
        "catalog",
        "transport",
        "apns_transport",
        "together",
        "joint_streams",
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
