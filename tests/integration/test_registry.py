"""The device registry on a real PostgreSQL: whatever order the events of a phone's life come in,
the newest word stands.
"""

import itertools
import json
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, DBAPIError

from common.config import Settings
from common.storage import registry, sql
from common.storage.badges import Badges
from common.storage.bindings import LEFT, Bindings, bound
from common.storage.devices import Devices
from common.storage.keys import Keys
from common.storage.marks import EventMarks
from common.storage.migrations import migrate
from common.storage.preferences import Preferences
from common.storage.tenants import Tenant, Tenants
from tests.builders import device_of
from tests.examples import examples
from workers.cli import run
from workers.intake.event_types import TYPES
from workers.intake.events import Event
from workers.intake.state import StateKeeper
from workers.vendors import VENDORS
from workers.vendors.types import COMMON_OVERRIDES

Told = tuple[str, int, dict[str, Any]]


@pytest.fixture(scope="session")
def tables(database_url: str) -> Iterator[Engine]:
    engine = sql.engine(database_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def keeper(tables: Engine, redis_client: redis.Redis, space: str) -> StateKeeper:
    keys = Keys(f"push{space}")
    return StateKeeper(tables, Badges(redis_client, keys), EventMarks(redis_client, keys))


def apply(
    keeper: StateKeeper,
    told: Sequence[Told],
    *,
    app: str | None = None,
    singly: bool = False,
    received_ms: int | None = None,
) -> str:
    """All of it for a tenant of its own; singly: each in a read of its own. received_ms: where it
    is not each one's ts.
    """
    app = app or "r" + uuid.uuid4().hex[:12]
    batch = [
        Event(
            app,
            uuid.uuid4().hex,
            kind,
            ts,
            ts if received_ms is None else received_ms,
            "e",
            TYPES[kind].decoder.decode(msgspec.json.encode(data)),
        )
        for kind, ts, data in told
    ]
    for part in [[one] for one in batch] if singly else [batch]:
        keeper.apply(part, lambda _event, _reason: None)
    return app


def registered(
    ts: int, user: str, device: str, token: str, platform: str = "ios", push_id: str | None = None
) -> Told:
    data = device_of(user, device_id=device, platform=platform, vendor="fcm", token=token)
    return ("device.registered", ts, {**data, "push_id": push_id})


def unregistered(ts: int, user: str, device: str) -> Told:
    return ("device.unregistered", ts, {"user": user, "device_id": device})


def logout(ts: int, user: str, **which: str) -> Told:
    return ("session.logout", ts, {"user": user, **which})


def active(engine: Engine, app: str, *users: str) -> set[tuple[str, str, str]]:
    found = Devices(engine).of_users(app, users or ("u1", "u2", "u3"))
    return {
        (user, device.device_id, device.token)
        for user, devices in found.items()
        for device in devices
    }


def truth(told: Sequence[Told]) -> set[tuple[str, str, str]]:
    """Who may be pushed to, by the times alone: the last registration of each device, if its user
    did not leave since and nobody registered its token later.
    """
    registrations = [(ts, data) for kind, ts, data in told if kind == "device.registered"]
    in_order = sorted(registrations, key=lambda one: one[0])
    latest = {(data["user"], data["device_id"]): (ts, data) for ts, data in in_order}
    found = set()
    for (user, device), (at, data) in latest.items():
        left = any(
            kind != "device.registered" and ts > at and _leaves(leaving, data)
            for kind, ts, leaving in told
        )
        wandered = any(
            ts > at
            and other["token"] == data["token"]
            and (other["user"], other["device_id"]) != (user, device)
            for ts, other in registrations
        )
        if not left and not wandered:
            found.add((user, device, data["token"]))
    return found


def _leaves(leaving: dict[str, Any], data: dict[str, Any]) -> bool:
    if leaving["user"] != data["user"]:
        return False
    if leaving.get("device_id") is not None:
        return leaving["device_id"] in (data["device_id"], data["push_id"])
    platform = leaving["platform"].lower()
    return data["platform"].lower() in (("ios", "ipad") if platform == "ios" else (platform,))


#: Words, each at its time: user, device, token and platform of a registration; who leaves, and how.
LIVES = {
    "a token is updated": "10 + u1 d1 A; 20 + u1 d1 B; 5 - u1 d1",
    "the user of a phone changes": "10 + u1 d1 A; 15 out u1 device_id=d1; 20 + u2 d1 A",
    "the user changes without a logout": "10 + u1 d1 A; 20 + u2 d1 A; 30 + u1 d2 B",
    "the second user leaves too": "10 + u1 d1 A; 20 + u2 d1 A; 30 out u2 device_id=d1",
    "a token wandered, its phone has another since": "5 + u2 d2 A; 10 + u1 d1 A; 20 + u1 d1 B",
    "back again after a logout": "10 + u1 d1 A; 20 out u1 platform=ios; 30 + u1 d1 A",
    "ios covers an iPad": "10 + u1 d1 A ipad; 11 + u1 d2 B android; 20 out u1 platform=ios",
    "a platform in other letters": "10 + u1 d1 A iOS; 20 out u1 platform=IOS",
    "unregistered by its push id": "10 + u1 d1 A ios p1; 20 - u1 p1",
    "two phones of one user": "10 + u1 d1 A; 11 + u1 d2 B; 20 out u1 device_id=d2",
    "ping pong": "10 + u1 d1 A; 20 + u2 d1 A; 30 + u1 d1 A; 40 + u2 d1 A",
}


def told_in(life: str) -> list[Told]:
    words = []
    for word in life.split("; "):
        ts, kind, user, *rest = word.split()
        if kind == "+":
            words.append(registered(int(ts), user, *rest))
        elif kind == "-":
            words.append(unregistered(int(ts), user, *rest))
        else:
            name, _, value = rest[0].partition("=")
            words.append(logout(int(ts), user, **{name: value}))
    return words


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_a_devices_life_ends_the_same_in_every_order(
    keeper: StateKeeper, tables: Engine, life: str
) -> None:
    words = told_in(life)
    expected = truth(words)
    for order in itertools.permutations(words):
        assert active(tables, apply(keeper, order, singly=len(words) < 4)) == expected, [
            (kind, ts) for kind, ts, _ in order
        ]


TIMES = st.permutations(range(1, 7))
USERS, DEVICES, TOKENS = (
    st.sampled_from(["u1", "u2"]),
    st.sampled_from(["d1", "d2"]),
    st.sampled_from(["A", "B"]),
)
WORDS = st.one_of(
    st.builds(
        registered,
        st.just(0),
        USERS,
        DEVICES,
        TOKENS,
        st.sampled_from(["ios", "ipad", "android"]),
        st.sampled_from([None, "p1"]),
    ),
    st.builds(unregistered, st.just(0), USERS, st.sampled_from(["d1", "d2", "p1"])),
    st.builds(
        lambda user, platform: logout(0, user, platform=platform),
        USERS,
        st.sampled_from(["ios", "android"]),
    ),
)


@settings(
    max_examples=examples(50),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(words=st.lists(WORDS, min_size=2, max_size=6), times=TIMES)
def test_any_life_ends_as_its_times_say(
    keeper: StateKeeper, tables: Engine, words: list[Told], times: list[int]
) -> None:
    told = [(kind, ts * 1000, data) for (kind, _, data), ts in zip(words, times, strict=False)]
    assert active(tables, apply(keeper, told)) == truth(told)


@pytest.mark.parametrize("word", ["device", "platform"])
def test_two_replicas_that_read_a_registration_and_its_logout_at_once_agree(
    keeper: StateKeeper, tables: Engine, word: str
) -> None:
    users, app = [f"u{number}" for number in range(40)], "r" + uuid.uuid4().hex[:12]
    which = {"device_id": "d1"} if word == "device" else {"platform": "ios"}
    lives = [(registered(10, user, "d1", f"T-{user}"), logout(20, user, **which)) for user in users]
    with ThreadPoolExecutor(2) as replicas:
        for came, left in lives:
            both = [replicas.submit(apply, keeper, [one], app=app) for one in (came, left)]
            assert [one.result() for one in both] == [app, app]
    assert active(tables, app, *users) == set()


LEAVES: dict[str, list[Told]] = {
    "it logged out": [logout(20, "u1", device_id="d1")],
    "its platform logged out": [logout(20, "u1", platform="ios")],
    "it was unregistered by its push id": [unregistered(20, "u1", "p1")],
    "another user has its token": [registered(20, "u2", "d1", "A")],
    "another device has its token": [registered(20, "u1", "d2", "A")],
}


@pytest.mark.parametrize(
    ("who", "lives"),
    [("out in out", False), ("in out in", True), ("out in", True), ("in out", False)],
)
def test_of_one_second_the_streams_order_tells_who_is_logged_in(
    tables: Engine, keeper: StateKeeper, who: str, lives: bool
) -> None:
    """A core that knows whole seconds only: each time is the second's, published in its course."""
    app = "r" + uuid.uuid4().hex[:12]
    words = {"in": registered(9_000, "u1", "d1", "A"), "out": logout(9_000, "u1", device_id="d1")}
    for place, word in enumerate(who.split()):
        apply(keeper, [words[word]], app=app, received_ms=9_100 + 200 * place)
    assert active(tables, app) == ({("u1", "d1", "A")} if lives else set())


def test_of_one_millisecond_and_one_read_the_last_user_of_a_token_has_it(
    tables: Engine, keeper: StateKeeper
) -> None:
    told = [
        registered(9, "u1", "d1", "A"),
        logout(9, "u1", device_id="d1"),
        registered(9, "u1", "d1", "A"),
        registered(9, "u2", "d2", "A"),
    ]
    assert active(tables, apply(keeper, told)) == {("u2", "d2", "A")}


@pytest.mark.parametrize("since", LEAVES.values(), ids=LEAVES)
def test_a_device_that_was_left_has_no_binding_until_it_is_registered_again(
    keeper: StateKeeper, redis_client: redis.Redis, space: str, since: list[Told]
) -> None:
    def binding(app: str) -> str | None:
        return Bindings(redis_client, Keys(f"push{space}")).look([(app, "u1", "d1")])[0]

    app = apply(
        keeper, [registered(10, "u1", "d1", "A", push_id="p1"), logout(5, "u1", platform="ios")]
    )
    assert binding(app) == bound("fcm", "ios", "A", None)
    apply(keeper, since, app=app)
    assert binding(app) == LEFT
    apply(keeper, [registered(30, "u1", "d1", "B")], app=app)
    assert binding(app) == bound("fcm", "ios", "B", None)


def test_unchanged_devices_are_told_by_one_command(redis_client: redis.Redis, space: str) -> None:
    def calls() -> int:
        stats: Any = redis_client.info("commandstats")
        return int(stats.get("cmdstat_hget", {"calls": 0})["calls"])

    bindings = Bindings(redis_client, Keys(f"push{space}"))
    devices = [(space, f"u{number}", "d1") for number in range(1_500)]
    before = calls()
    assert bindings.look(devices) == [None] * 1_500
    assert calls() == before
    bindings.put([(space, "u1400", "d1", LEFT)])
    assert bindings.look(devices) == [None] * 1_400 + [LEFT] + [None] * 99
    assert calls() == before + 500, "only the part in which somebody's have changed"


def test_a_retired_token_lives_again_when_it_is_registered_anew(
    keeper: StateKeeper, tables: Engine
) -> None:
    app = apply(keeper, [registered(10, "u1", "d1", "A")])
    assert Devices(tables).retire([(app, "u1", "d1", "A", 10, "Unregistered")], "retired") == 1
    assert active(tables, app) == set()
    apply(keeper, [registered(5, "u1", "d1", "A")], app=app)
    assert active(tables, app) == set()
    apply(keeper, [registered(11, "u1", "d1", "A")], app=app)
    assert active(tables, app) == {("u1", "d1", "A")}
    assert Devices(tables).retire([(app, "u1", "d1", "A", 10, "Unregistered")], "retired") == 0


def test_a_dead_voip_token_is_forgotten_and_the_device_stays(
    keeper: StateKeeper, tables: Engine
) -> None:
    kind, ts, data = registered(10, "u1", "d1", "A")
    app = apply(keeper, [(kind, ts, {**data, "voip_token": "V"})])
    assert Devices(tables).retire([(app, "u1", "d1", "V", 10, "Unregistered")], "retired") == 0
    (device,) = Devices(tables).of_users(app, ["u1"])["u1"]
    assert (device.token, device.voip_token) == ("A", None)


def test_a_phones_long_name_of_its_language_is_kept_as_far_as_it_tells_the_language(
    keeper: StateKeeper, tables: Engine
) -> None:
    kind, ts, data = registered(10, "u1", "d1", "A")
    app = apply(
        keeper, [(kind, ts, {**data, "lang": "en-US-u-ca-gregory-nu-latn", "platform": "İ" * 16})]
    )
    found = [device.lang for device in Devices(tables).of_users(app, ["u1"])["u1"]]
    assert found == ["en-US-u-ca-grego"]


def test_a_token_that_the_vendor_replaced_never_leads_to_somebody_else(
    keeper: StateKeeper, tables: Engine
) -> None:
    """The phone was sold: its new token is registered by its new owner, before the old owner's
    receipt tells of it or after.
    """
    first = registered(1, "u1", "d1", "old")
    app = apply(
        keeper, [first, registered(1, "u2", "d2", "old-2"), registered(5, "u3", "d3", "new")]
    )
    moved = [
        (app, "u1", "d1", "old", "new", 9),
        (app, "u2", "d2", "old-2", "new-2", 9),
        (app, "u2", "d2", "nobody's", "x", 9),
    ]
    assert Devices(tables).replace_tokens(moved) == 1
    assert active(tables, app) == {("u2", "d2", "new-2"), ("u3", "d3", "new")}
    apply(keeper, [registered(20, "u1", "d1", "new-2")], app=app)
    assert active(tables, app) == {("u1", "d1", "new-2"), ("u3", "d3", "new")}


def test_an_error_of_the_database_tells_nobodys_id(tables: Engine) -> None:
    with pytest.raises(DBAPIError) as told, tables.connect() as connection:
        connection.execute(
            text("SELECT CAST(:user AS text) FROM no_such_table"), {"user": "u-alice"}
        )
    assert "u-alice" not in str(told.value)


def test_two_apps_of_one_tenant_do_not_share_their_devices(
    keeper: StateKeeper, tables: Engine
) -> None:
    first, second = registered(10, "u1", "d1", "A"), registered(11, "u1", "d1-other", "B")
    second[2]["business_id"] = "other"
    app = apply(keeper, [first, second, logout(20, "u1", device_id="d1-other")])
    assert active(tables, app) == {("u1", "d1", "A")}
    assert active(tables, apply(keeper, [first])) == {("u1", "d1", "A")}


# ---------------------------------------------------------------- the command line


@pytest.fixture
def command(
    settings_with: Callable[..., Settings],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """Runs `pushfleet …` on this test's servers: exit code and what it said."""
    made = settings_with(DATABASE_URL=database_url)
    for name, value in (
        ("REDIS_URL", made.redis_url),
        ("DATABASE_URL", made.database_url),
        ("PREFIX", made.prefix),
    ):
        monkeypatch.setenv(f"PUSHFLEET_{name}", value)
    monkeypatch.setenv("PUSHFLEET_DATA_DIR", str(made.data_dir))

    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(words)
        told = capsys.readouterr()
        return code, told.out + told.err

    return call


def test_devices_are_listed_without_their_tokens_and_retired_and_restored_by_id_or_push_id(
    keeper: StateKeeper, tables: Engine, command: Callable[..., tuple[int, str]]
) -> None:
    token = "a1b2" + uuid.uuid4().hex
    first = registered(10, "u1", "d1", token, push_id="p1")
    app = apply(keeper, [first, registered(11, "u2", "d2", "other-token-of-u2")])
    code, said = command("device", "list", app, "u1", "--json")
    (row,) = json.loads(said)
    assert (code, row["device_id"], row["push_id"], row["state"]) == (0, "d1", "p1", "active")
    assert token not in said
    assert row["token"] == f"{token[:4]}…{token[-4:]}"
    assert token not in command("device", "list", app)[1]
    assert command("device", "retire", app, "u1", "p1")[0] == 0
    assert active(tables, app, "u1") == set()
    assert command("device", "restore", app, "u1", "d1")[0] == 0
    assert active(tables, app, "u1") == {("u1", "d1", token)}
    found = command("device", "retire", app, "u1", "nobody")
    assert found == (1, command("device", "retire", app, "u1", "nobody")[1])


def test_what_a_wrong_credential_retired_is_taken_back_by_lane_and_time(
    keeper: StateKeeper, tables: Engine, command: Callable[..., tuple[int, str]]
) -> None:
    app = apply(
        keeper, [registered(10, f"u{number}", "d", f"token-{number}") for number in range(1, 6)]
    )
    devices = Devices(tables)
    dead = [(app, f"u{number}", "d", f"token-{number}", 10, "BadDeviceToken") for number in (1, 2)]
    assert devices.retire(dead, "retired") == 2
    assert command("device", "retire", app, "u3", "d")[0] == 0
    apply(keeper, [registered(20, "u9", "d", "token-2"), logout(20, "u4", device_id="d")], app=app)
    assert command("device", "restore", app, "--lane", "fcm:other", "--since", "1h")[0] == 1
    code, said = command("device", "restore", app, "--lane", "fcm:ios", "--since", "1h")
    assert (code, said.split()[0]) == (0, "1")
    assert active(tables, app, *(f"u{number}" for number in range(1, 10))) == {
        ("u1", "d", "token-1"),
        ("u5", "d", "token-5"),
        ("u9", "d", "token-2"),
    }, "not what an operator did, what belongs to another now, or what logged out"
    for words in (
        ("--lane", "fcm:ios"),
        ("--since", "1h"),
        ("u1",),
        ("--lane", "fcm", "--since", "1h"),
        ("--lane", "fcm:ios", "--since", "soon"),
    ):
        assert command("device", "restore", app, *words)[0] == 2, words


@pytest.mark.parametrize("name", ["a:b", "8486:eu", "a b", "a/b", "é", "x" * 65])
def test_a_tenant_whose_name_could_share_keys_is_refused_and_an_old_one_may_still_be_changed(
    tables: Engine, command: Callable[..., tuple[int, str]], name: str
) -> None:
    code, said = command("app", "add", name)
    assert (code, "letters, digits" in said) == (2, True)
    if name == "a:b":
        Tenants(tables).add(Tenant(name, "", "zh", "Asia/Shanghai"))
        assert command("app", "add", name, "--lang", "en")[0] == 0


def test_a_presets_vendors_may_stand_as_in_an_event(
    tables: Engine, command: Callable[..., tuple[int, str]], tmp_path: Any
) -> None:
    app = "r" + uuid.uuid4().hex[:8]
    Tenants(tables).add(Tenant(app, "", "zh", "Asia/Shanghai"))
    file = tmp_path / "preset.json"
    file.write_text(
        json.dumps({"vendor": {"fcm": {"channel_id": "im"}}, "sound": {"ios": "a.caf"}})
    )
    assert command("strategy", "add", app, "one", str(file))[0] == 0
    (listed,) = json.loads(command("strategy", "list", app, "--json")[1])
    assert listed["preset"] == {"fcm": {"channel_id": "im"}, "sound": {"ios": "a.caf"}}


def test_a_token_that_is_too_long_for_its_index_is_no_database_that_is_away(tables: Engine) -> None:
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
    noise = "".join(random.Random(7).choices(letters, k=4_096))
    device = {
        **dict.fromkeys(registry.BROUGHT),
        "user": "u1",
        "device_id": "d1",
        "platform": "ios",
        "vendor": "apns",
        "token": noise,
    }
    with pytest.raises(DataError) as refused, tables.begin() as connection:
        registry.register(connection, [registry.Registration("a", device, 10, 10)])
    assert not isinstance(refused.value, sql.DATABASE_UNAVAILABLE)


def test_a_content_key_may_name_its_device_by_its_push_id(
    keeper: StateKeeper, tables: Engine
) -> None:
    content_key = {"device_id": "p1", "key": "quiet"}
    key = ("settings.updated", 20, {"user": "u1", "content_key": content_key})
    events = [registered(10, "u1", "d1", "A", push_id="p1"), registered(10, "u1", "d2", "B"), key]
    app = apply(keeper, events)
    devices = Devices(tables).of_users(app, ["u1"])["u1"]
    found = {device.device_id: device.content_key for device in devices}
    assert found == {"d1": "quiet", "d2": None}


@pytest.mark.parametrize(
    "since",
    [logout(20, "u1", device_id="d1"), registered(20, "u2", "d1", "A")],
    ids=["it logged out", "another user has the token"],
)
def test_nobody_restores_a_device_that_is_not_its_users_any_more(
    keeper: StateKeeper, tables: Engine, command: Callable[..., tuple[int, str]], since: Told
) -> None:
    app = apply(keeper, [registered(10, "u1", "d1", "A"), since])
    assert command("device", "retire", app, "u1", "d1")[0] == 1
    code, said = command("device", "restore", app, "u1", "d1")
    assert (code, "registration" in said) == (1, True)
    assert active(tables, app, "u1") == set()


PRESETS = {
    "a whole one": (
        {"apns": {"category": "CHAT"}, "sound": {"ios": "a.caf"}, "push_type": "silent"},
        0,
    ),
    "no object": ([], 2),
    "an unknown vendor": ({"nokia": {}}, 2),
    "a push type that is none": ({"push_type": "loud"}, 2),
    "a sound of a third kind": ({"sound": {"windows": "a"}}, 2),
    "a vendor without an object": ({"fcm": "im"}, 2),
    "a vendor's name for what it knows by another": ({"fcm": {"channelId": "im"}}, 2),
    "an override of another vendor": ({"vendor": {"meizu": {"channel_id": "im"}}}, 2),
    "every vendor's": (
        {
            one: dict.fromkeys([*spec.overrides, *COMMON_OVERRIDES], "1")
            for one, spec in VENDORS.items()
        },
        0,
    ),
}


@pytest.mark.parametrize(("preset", "code"), PRESETS.values(), ids=PRESETS)
def test_a_preset_is_checked_when_it_is_added(
    tables: Engine, command: Callable[..., tuple[int, str]], tmp_path: Any, preset: Any, code: int
) -> None:
    app = "r" + uuid.uuid4().hex[:8]
    Tenants(tables).add(Tenant(app, "", "zh", "Asia/Shanghai"))
    file = tmp_path / "preset.json"
    file.write_text(json.dumps(preset))
    assert command("strategy", "add", app, "one", str(file))[0] == code
    listed = json.loads(command("strategy", "list", app, "--json")[1])
    assert [row["preset"] for row in listed] == ([preset] if code == 0 else [])
    assert command("strategy", "remove", app, "one")[0] == (0 if code == 0 else 1)


def test_an_unknown_override_of_a_preset_is_named_with_those_that_there_are(
    command: Callable[..., tuple[int, str]], tmp_path: Any
) -> None:
    file = tmp_path / "preset.json"
    file.write_text(json.dumps({"oppo": {"category": "IM", "chanelId": "im"}}))
    code, said = command("strategy", "add", "any", "one", str(file))
    assert (code, said.count("\n")) == (2, 1)
    for part in ("oppo", "'chanelId'", "did you mean channel_id?", "notify_level"):
        assert part in said


def test_people_of_many_tenants_are_found_as_each_tenants_are(
    keeper: StateKeeper, tables: Engine
) -> None:
    mute = {"user": "u1", "mute": {"conversation": {"type": "c2c", "id": "ann"}, "mode": "all"}}
    change = ("settings.updated", 12, mute)
    told = [registered(10, "u1", "d1", "A"), registered(11, "u2", "d2", "B"), change]
    first = apply(keeper, told)
    apps = [first, apply(keeper, told), apply(keeper, [registered(10, "u3", "d3", "C")])]
    people = [(app, user) for app in apps for user in ("u1", "u2", "u3", "nobody")]
    found = Devices(tables).of_people(people)
    wishes = Preferences(tables).of_people(people, ["c2c:ann"])
    singly = {
        (app, user): devices
        for app in apps
        for user, devices in Devices(tables).of_users(app, ["u1", "u2", "u3"]).items()
    }
    assert found == singly
    assert set(found) == {
        (apps[0], "u1"),
        (apps[0], "u2"),
        (apps[1], "u1"),
        (apps[1], "u2"),
        (apps[2], "u3"),
    }
    assert wishes == {
        (app, "u1"): Preferences(tables).of_users(app, ["u1"], ["c2c:ann"])["u1"]
        for app in apps[:2]
    }
    assert list(wishes[apps[0], "u1"]) == ["mute:c2c:ann"]
