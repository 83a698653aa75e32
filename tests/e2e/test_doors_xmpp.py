"""The XMPP door before a server of a few lines: registration, pushes, and that nothing of ours ever
costs a subscription.
"""

import asyncio
import dataclasses
import hashlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from common import metrics
from common.model import Vendor
from common.storage.node_pace import NODE_BURST, NODE_EACH_MS
from common.storage.vault import Vault
from common.tokens import token_user
from tests.e2e.conftest import Core, digits, wait_for
from tests.e2e.tenant import TOOK_EFFECT_S, device_token
from tests.e2e.town import Town
from workers.gateway import xmpp
from workers.gateway.component import ComponentAddress
from workers.gateway.feed import StreamFeed
from workers.gateway.stanzas import COMMANDS, COMPONENT, FORMS, fields_of
from workers.gateway.xml import TAG_BYTES_MAX, Node, StanzaReader, XmlError
from workers.gateway.xmpp import serve
from workers.runtime import Runtime

pytestmark = [pytest.mark.e2e]
HEAD = (
    "<stream:stream xmlns='jabber:component:accept' "
    "xmlns:stream='http://etherx.jabber.org/streams' from='{0}' id='{1}'>"
)
PUBLISH = (
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish "
    "node='{node}'><item><notification xmlns='urn:xmpp:push:0'>{inner}"
    "</notification></item></publish><publish-options><x xmlns='jabber:x:data' "
    "type='submit'><field var='secret'><value>{secret}</value>"
    "</field></x></publish-options></pubsub>"
)


class ComponentServer:
    """Takes components as XEP-0114 says, and asks them."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.lines: list[tuple[socket.socket, StanzaReader]] = []
        self.given: list[str] = []

    def accept(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Takes a component; meanwhile: what is done before it is told so."""
        self._listener.settimeout(20)
        line, _ = self._listener.accept()
        line.settimeout(20)
        reader, identity, came = StanzaReader(), uuid.uuid4().hex, list[Node]()
        while reader.header is None:
            came += reader.feed(line.recv(65_536))
        line.sendall(HEAD.format(reader.header["to"], identity).encode())
        while not came:
            came += reader.feed(line.recv(65_536))
        assert came[0].text == hashlib.sha1((identity + self._secret).encode()).hexdigest()
        meanwhile()
        line.sendall(b"<handshake/>")
        self.lines.append((line, reader))

    def ask(
        self, inner: str, sender: str = "bob@example.org/phone", kind: str = "set", line: int = 0
    ) -> Node:
        (answer,) = self.ask_all([inner], sender, kind, line)
        return answer

    def ask_all(
        self, inners: Sequence[str], sender: str, kind: str = "set", line: int = 0
    ) -> list[Node]:
        """The answers, in their order; all is asked before the first of them."""
        connection, reader = self.lines[line]
        names = [uuid.uuid4().hex for _ in inners]
        for name, inner in zip(names, inners, strict=True):
            connection.sendall(
                f"<iq type='{kind}' id='{name}' from='{sender}' "
                f"to='push.example.org'>{inner}</iq>".encode()
            )
        answers = dict[str, Node | None].fromkeys(names)
        while None in answers.values():
            for stanza in reader.feed(connection.recv(65_536)):
                if stanza.attrs.get("id") in answers:
                    answers[stanza.attrs["id"]] = stanza
        return [one for one in answers.values() if one is not None]

    def command(self, name: str, sender: str = "bob@example.org/phone", **fields: str) -> Node:
        form = "".join(
            f"<field var='{key.replace('_', '-')}'><value>{value}</value></field>"
            for key, value in fields.items()
        )
        return self.ask(
            f"<command xmlns='{COMMANDS}' node='{name}'><x xmlns='{FORMS}' "
            f"type='submit'>{form}</x></command>",
            sender,
        )

    def register(self, token: str, **more: Any) -> dict[str, str]:
        device_id = more.pop("device_id", uuid.uuid4().hex)
        answer = self.command("register-push-apns", token=token, device_id=device_id, **more)
        assert answer.attrs["type"] == "result", answer.write()
        return fields_of(answer.find(f"{{{COMMANDS}}}command", f"{{{FORMS}}}x"))

    def publish(
        self, told: dict[str, str], inner: str = "", sender: str = "example.org", **more: str
    ) -> Node:
        return self.ask(PUBLISH.format(**{**told, "inner": inner, **more}), sender)

    def close(self) -> None:
        for line, _ in self.lines:
            line.close()
        self._listener.close()


def summary(body: str, sender: str = "ann@example.org/laptop") -> str:
    fields = {
        "FORM_TYPE": "urn:xmpp:push:summary",
        "message-count": "1",
        "last-message-sender": sender,
        "last-message-body": body,
    }
    inside = "".join(f"<field var='{k}'><value>{v}</value></field>" for k, v in fields.items())
    return "<x xmlns='jabber:x:data'>" + inside + "</x>"


@pytest.fixture(scope="module")
def town(fleet: Core, tmp_path_factory: pytest.TempPathFactory) -> Town:
    made = Town(fleet, Path(tmp_path_factory.mktemp("accounts")), vendors=("apns", "vivo"))
    assert made.add("apns", "apns-x", "--alias", "register-push-apns")[0] == 0
    return made


@pytest.fixture(scope="module")
def server(
    fleet: Core, town: Town, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComponentServer]:
    secret = Path(tmp_path_factory.mktemp("secret")) / "secret"
    secret.write_text("the secret\n")
    made = ComponentServer("the secret")
    address = f"127.0.0.1:{made.port}"
    given = ["--server", address, "--component", "push.example.org", "--secret-file", str(secret)]
    made.given = given
    assert town.command("app", "xmpp", town.app, *given)[0] == 0
    runtime, stop = Runtime(dataclasses.replace(fleet.runtime.settings)), threading.Event()
    thread = threading.Thread(target=serve, args=(runtime, stop))
    thread.start()
    try:
        for _ in range(2):
            made.accept()
        yield made
    finally:
        stop.set()
        made.close()
        thread.join(30)
        runtime.close()


def kind_of(answer: Node) -> tuple[str, str]:
    """(result, "") or the error's type and condition."""
    what = next((child for child in answer.children if child.name.endswith("}error")), None)
    return (
        (answer.attrs["type"], "")
        if what is None
        else (what.attrs["type"], what.children[0].name.rpartition("}")[2])
    )


def pushed(town: Town, token: str, count: int = 1) -> list[dict[str, Any]]:
    found = wait_for(
        lambda: (
            town.core.pushes_to("apns", token)
            if len(town.core.pushes_to("apns", token)) >= count
            else None
        ),
        "a push",
    )
    return list(found)


def test_a_registration_and_a_loud_push_on_either_connection(
    town: Town, server: ComponentServer
) -> None:
    token = device_token("apns")
    told = server.register(token)
    assert (told["jid"], len(told["node"]) >= 12) == ("push.example.org", True)
    assert kind_of(server.publish(told, summary("lunch?"))) == ("result", "")
    (push,) = pushed(town, token)
    assert push["body"]["aps"]["alert"] == {"title": "ann@example.org", "body": "lunch?"}
    found = (push["collapse_id"], push["body"]["aps"]["thread-id"])
    assert found == (told["node"], "ann@example.org")
    assert "badge" not in push["body"]["aps"]
    assert kind_of(
        server.ask(PUBLISH.format(**told, inner=summary("again")), "example.org", line=1)
    ) == ("result", "")
    assert len(pushed(town, token, 2)) == 2


def test_the_same_summary_of_a_moment_is_one_push_and_fixed_words_are_none(
    town: Town, server: ComponentServer
) -> None:
    token = device_token("apns")
    told = server.register(token)
    for _ in range(3):
        assert kind_of(server.publish(told, summary("New Message!"))) == ("result", "")
    (push,) = pushed(town, token)
    assert "New Message!" not in str(push["body"])


def test_a_node_that_is_announced_again_and_again_gets_so_many_pushes_and_its_calls(
    town: Town, server: ComponentServer
) -> None:
    token, voip = device_token("apns"), device_token("apns")
    told, other = server.register(token, voip_token=voip), device_token("apns")
    began, before = time.monotonic(), left_out()
    for number in range(2 * NODE_BURST):
        assert kind_of(server.publish(told, summary(f"old message {number}"))) == ("result", "")
    server.publish(
        told, "<encrypted xmlns='tigase:push:encrypt:0' iv='aXY=' type='voip'>Y2lwaGVy</encrypted>"
    )
    server.publish(server.register(other), summary("another phone"))
    for one in (token, voip, other):
        pushed(town, one)
    refilled = (time.monotonic() - began) * 1000 / NODE_EACH_MS
    assert NODE_BURST - refilled - 1 <= left_out() - before <= NODE_BURST


def left_out() -> float:
    return metrics.DOOR_REQUESTS.labels("xmpp", "throttled")._value.get()


def test_a_call_that_leaves_first_replaces_no_message(town: Town, server: ComponentServer) -> None:
    token, voip = device_token("apns"), device_token("apns")
    told, runtime = server.register(token, voip_token=voip), town.core.runtime

    def pause(paused: bool) -> None:
        runtime.credentials.set_paused(town.app, Vendor.APNS, "apns-x", paused)
        runtime.catalog.changed()

    pause(True)
    time.sleep(TOOK_EFFECT_S)
    server.publish(told, summary("before the call"))
    server.publish(
        told, "<encrypted xmlns='tigase:push:encrypt:0' iv='aXY=' type='voip'>Y2lwaGVy</encrypted>"
    )
    town.core.settled()
    pause(False)
    assert pushed(town, voip)[0]["push_type"] == "voip"
    assert pushed(town, token)[0]["body"]["aps"]["alert"]["body"] == "before the call"


def test_an_empty_push_is_silent(town: Town, server: ComponentServer) -> None:
    token = device_token("apns")
    assert kind_of(server.publish(server.register(token))) == ("result", "")
    (push,) = pushed(town, token)
    assert push["body"]["aps"] == {"content-available": 1}


def test_a_room_is_a_group_and_a_call_rings_by_the_voip_token(
    town: Town, server: ComponentServer
) -> None:
    token, voip = device_token("apns"), device_token("apns")
    told = server.register(token, voip_token=voip)
    server.publish(told, summary("hi all", "team@conference.example.org/Ann"))
    (push,) = pushed(town, token)
    assert push["body"]["aps"]["alert"]["title"] == "team"
    server.publish(
        told, "<encrypted xmlns='tigase:push:encrypt:0' iv='aXY=' type='voip'>Y2lwaGVy</encrypted>"
    )
    (call,) = pushed(town, voip)
    found = (call["push_type"], call["body"]["encrypted"], call["body"]["iv"])
    assert found == ("voip", "Y2lwaGVy", "aXY=")


def test_cancel_is_for_what_is_dead_and_for_nothing_else(
    town: Town, server: ComponentServer
) -> None:
    token = device_token("apns")
    told = server.register(token, device_id="one")
    assert kind_of(server.publish({**told, "secret": "0" * 32})) == ("modify", "not-acceptable")
    found = kind_of(server.ask(PUBLISH.format(node="", secret="x", inner="")))
    assert found == ("modify", "bad-request")
    dead = server.register("dead" + digits()[:60])
    assert kind_of(server.publish(dead, summary("x"))) == ("result", "")
    wait_for(
        lambda: (
            kind_of(server.publish(dead, summary(uuid.uuid4().hex))) == ("cancel", "item-not-found")
        ),
        "the dead token's cancel",
    )
    server.command("unregister-push", device_id="one")
    assert kind_of(server.publish(told)) == ("cancel", "item-not-found")


def test_a_token_that_an_operator_retired_stays_subscribed(
    town: Town, server: ComponentServer
) -> None:
    token = device_token("apns")
    told = server.register(token)
    server.publish(told, summary("first"))
    pushed(town, token)
    user = token_user("apns", "apns-x", token)
    assert town.command("device", "retire", town.app, user, "")[0] == 0
    assert kind_of(server.publish(told, summary("second"))) == ("result", "")


def test_a_secret_that_was_told_under_a_key_that_is_gone_fits(
    town: Town, server: ComponentServer
) -> None:
    told, runtime = server.register(device_token("apns")), town.core.runtime
    names = ("engine", "redis", "keys", "core", "settings", "catalog")
    parts = {name: getattr(runtime, name) for name in names}
    stores = cast(Any, SimpleNamespace(vault=Vault([Fernet.generate_key().decode()]), **parts))
    address = ComponentAddress("127.0.0.1", 1, "push.example.org", "")
    where = xmpp.XmppServer(town.app, address, 1, "silent", ("example.org",))
    feed = StreamFeed(runtime.core, runtime.settings.event_streams[0])
    service = xmpp.PushService(stores, feed, cast(Any, None), where)

    def answered(secret: str) -> tuple[str, str]:
        inner = PUBLISH.format(node=told["node"], secret=secret, inner=summary(secret))
        iq = f"<iq xmlns='{COMPONENT}' type='set' id='1' from='example.org'>{inner}</iq>"
        (node,) = StanzaReader().feed(b"<s>" + iq.encode())
        answer = asyncio.run(service.answer(node, "s"))
        assert answer is not None
        return kind_of(answer)

    try:
        assert answered("0" * 32) == ("modify", "not-acceptable")
        assert answered(told["secret"]) == ("result", "")
    finally:
        feed.close()


def test_a_node_that_this_database_does_not_know_waits(town: Town, server: ComponentServer) -> None:
    told = server.register(device_token("apns"))
    with town.core.runtime.engine.begin() as connection:
        query = text("DELETE FROM settings WHERE app = :app AND field = 'registration'")
        connection.execute(query, {"app": town.app})
    assert kind_of(server.publish(told)) == ("wait", "resource-constraint")


def test_while_a_store_hangs_every_push_is_told_to_wait(
    town: Town, server: ComponentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pushes than there are threads for the database: those behind them are answered, too."""
    monkeypatch.setattr(xmpp, "ANSWER_S_MAX", 3.0)
    told = server.register(device_token("apns"))
    with town.core.runtime.engine.begin() as connection:
        connection.execute(text("LOCK TABLE settings IN ACCESS EXCLUSIVE MODE"))
        pushes = [PUBLISH.format(**told, inner=summary(f"push {number}")) for number in range(40)]
        answers = server.ask_all(pushes, "example.org")
    assert set(map(kind_of, answers)) == {("wait", "resource-constraint")}
    wait_for(lambda: kind_of(server.publish(told)) == ("result", ""), "the database is back")


def test_a_token_moves_to_its_newest_owner_and_a_device_keeps_its_node(
    server: ComponentServer,
) -> None:
    token = device_token("apns")
    mine = server.register(token, device_id="same")
    assert server.register(token, device_id="same") == mine
    answer = server.command(
        "register-push-apns", sender="eve@example.org/x", token=token, device_id="hers"
    )
    assert answer.attrs["type"] == "result"
    assert kind_of(server.publish(mine)) == ("cancel", "item-not-found")


def test_a_phone_that_names_no_device_takes_back_its_own_registration_only(
    server: ComponentServer,
) -> None:
    carol = "carol@example.org/x"
    token, nameless = device_token("apns"), device_token("apns")
    tablet = server.command("register-push-apns", carol, token=token, device_id="tablet")
    phone = server.command("register-push-apns", carol, token=nameless)
    assert kind_of(server.command("unregister-push", carol)) == ("result", "")
    told = [
        fields_of(one.find(f"{{{COMMANDS}}}command", f"{{{FORMS}}}x")) for one in (tablet, phone)
    ]
    assert [kind_of(server.publish(one, summary("x"))) for one in told] == [
        ("result", ""),
        ("cancel", "item-not-found"),
    ]


def test_registrations_of_a_moment_leave_a_token_one_node(server: ComponentServer) -> None:
    """A client that asks again before it was answered, or an account on two connections."""
    token = device_token("apns")
    fields = f"<field var='token'><value>{token}</value></field>"
    command = (
        f"<command xmlns='{COMMANDS}' node='register-push-apns'><x xmlns='{FORMS}' "
        f"type='submit'>{fields}</x></command>"
    )
    answers = server.ask_all([command] * 12, "bob@example.org/phone")
    forms = [answer.find(f"{{{COMMANDS}}}command", f"{{{FORMS}}}x") for answer in answers]
    told = {node["node"]: node for node in map(fields_of, forms)}
    pushes = [kind_of(server.publish(one, summary("x"))) for one in told.values()]
    assert pushes.count(("result", "")) == 1


def test_strangers_and_other_questions(server: ComponentServer) -> None:
    assert kind_of(
        server.command("register-push-apns", sender="eve@evil.example/x", token="aa", device_id="d")
    ) == ("auth", "forbidden")
    told = PUBLISH.format(**server.register(device_token("apns")), inner=summary("x"))
    # a domain that is allowed no more: the phones that registered from it stay subscribed
    assert kind_of(server.ask(told, "evil.example")) == ("wait", "resource-constraint")
    forged = PUBLISH.format(node="n", secret="0" * 32, inner=summary("x"))
    assert kind_of(server.ask(forged, "evil.example")) == ("auth", "forbidden")
    assert kind_of(server.ask(told, "Example.ORG")) == ("result", "")
    found = kind_of(server.command("register-push-apns", token="", device_id="d"))
    assert found == ("modify", "bad-request")
    info = server.ask("<query xmlns='http://jabber.org/protocol/disco#info'/>", kind="get")
    assert "urn:xmpp:push:0" in info.write()
    assert 'type="push"' in info.write()
    assert kind_of(server.ask("<ping xmlns='urn:xmpp:ping'/>", kind="get")) == ("result", "")
    seen = kind_of(server.ask("<query xmlns='jabber:iq:version'/>", kind="get"))
    assert seen == ("cancel", "service-unavailable")


#: What any user may send to the component: ejabberd and Prosody hand all of it on.
OF_USERS = {
    "nested deep": "<q>" * 100 + "</q>" * 100,
    "a long text": "<q>" + "&apos;" * 300_000 + "</q>",
    "a prefix whose declaration ejabberd drops": "<q p:a='1'><p:r/></q>",
}


@pytest.mark.parametrize("inner", OF_USERS.values(), ids=OF_USERS)
def test_no_stanza_of_a_user_ends_the_connection(server: ComponentServer, inner: str) -> None:
    """Each ended it; ejabberd takes the subscription of a push that finds no component."""
    assert server.ask(inner, "eve@evil.example/x", "get").attrs["type"] == "error"
    assert kind_of(server.ask("<ping xmlns='urn:xmpp:ping'/>", kind="get")) == ("result", "")


def test_a_push_with_very_many_words_is_cut_and_one_with_very_many_parts_waits(
    town: Town, server: ComponentServer
) -> None:
    token = device_token("apns")
    told = server.register(token)
    assert kind_of(server.publish(told, summary("x" * 500_000))) == ("result", "")
    (push,) = pushed(town, token)
    assert push["body"]["aps"]["alert"]["body"].startswith("xxx")
    assert kind_of(server.publish(told, "<a/>" * 20_000)) == ("wait", "resource-constraint")


def test_ids_that_a_restarted_server_counts_anew_are_no_repeats(
    town: Town, server: ComponentServer
) -> None:
    """RFC 6120: an id is unique within its stream. A stanza without one is never a repeat."""
    token = device_token("apns")
    told = server.register(token)
    sent = [(0, " id='1'", 1), (0, " id='1'", 1), (1, " id='1'", 2), (0, "", 3), (0, "", 4)]
    for line, name, count in sent:  # one after the other: a later one replaces what waits
        connection, _ = server.lines[line]
        inner = PUBLISH.format(**told, inner=summary(uuid.uuid4().hex))
        connection.sendall(
            f"<iq type='set'{name} from='example.org' to='push.example.org'>{inner}</iq>".encode()
        )
        pushed(town, token, count)
    town.core.settled()
    assert len(town.core.pushes_to("apns", token)) == 4


def test_a_message_is_told_that_nobody_reads_it(server: ComponentServer) -> None:
    connection, reader = server.lines[0]
    for kind in ("error", "headline", "chat"):
        connection.sendall(
            f"<message type='{kind}' id='{kind}' from='bob@example.org/phone' "
            "to='push.example.org'><body>hi</body></message>".encode()
        )
    answers = list[Node]()
    while not answers:
        came = reader.feed(connection.recv(65_536))
        answers += [one for one in came if one.name == f"{{{COMPONENT}}}message"]
    assert [(one.attrs["id"], kind_of(one)) for one in answers] == [
        ("chat", ("cancel", "service-unavailable"))
    ]


HOSTILE = [
    b"<a>",
    b"<?xml version='1.0'?><!DOCTYPE a><s>",
    b"<s><a b='",
    b"<s><a b='" + b"x" * TAG_BYTES_MAX,
]


@pytest.mark.parametrize("xml", HOSTILE)
def test_a_stream_within_bounds(xml: bytes) -> None:
    reader = StanzaReader()
    try:
        for start in range(0, len(xml), 65_536):
            reader.feed(xml[start : start + 65_536])
    except XmlError:
        return
    assert len(xml) < 20


def test_a_connection_that_ends_comes_back(server: ComponentServer, town: Town) -> None:
    line, _ = server.lines.pop()
    line.close()
    server.accept()
    found = kind_of(server.ask("<ping xmlns='urn:xmpp:ping'/>", kind="get", line=1))
    assert found == ("result", "")
    time.sleep(0.1)


def stands(line: socket.socket) -> bool:
    """False once the stream's end came, or the connection's; answers that nobody read may come."""
    line.settimeout(0.5)
    try:
        while got := line.recv(65_536):
            if b"</stream" in got:
                return False
    except TimeoutError:
        return True
    return False


def test_other_options_of_the_server_take_no_connection_before_a_new_one_stands(
    town: Town, server: ComponentServer
) -> None:
    """ejabberd takes the subscription of a push that finds no component."""
    old, server.lines = server.lines, []

    def stand() -> None:
        assert all(stands(line) for line, _ in old)

    more = ["--domain", "example.org", "--domain", "example.net"]
    assert town.command("app", "xmpp", town.app, *server.given, *more)[0] == 0
    for _ in old:
        server.accept(stand if not server.lines else lambda: None)
    for line, _ in old:
        line.settimeout(20)
        assert line.recv(65_536).strip() == b"</stream:stream>"
        line.close()
    found = kind_of(server.ask("<ping xmlns='urn:xmpp:ping'/>", kind="get"))
    assert found == ("result", "")


def test_whatever_breaks_the_door_ends_it_at_once() -> None:
    """And not after the five minutes that asyncio waits for a thread: its process would live on."""
    broken, stop = SimpleNamespace(tenants={"a": None}), threading.Event()
    sessions = xmpp._Sessions(cast(Any, None), cast(Any, None), cast(Any, broken))
    began = time.monotonic()
    with pytest.raises(AttributeError):
        asyncio.run(sessions.run(stop))
    assert time.monotonic() - began < 60
