"""The XMPP door: components of ejabberd and Prosody with XEP-0357 pushes and app commands."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from common import metrics
from common.clock import now_ms
from common.storage.node_pace import NodePace, NodeTurn
from common.storage.unavailable import store_unavailable
from common.storage.vault import Vault
from common.tokens import declared_dead, token_user
from workers.gateway import stanzas
from workers.gateway.aliases import DoorAccount, Found, named, only
from workers.gateway.component import ComponentAddress, ComponentSession
from workers.gateway.directory import Directories, DoorStores
from workers.gateway.events import BODY_CHARS_MAX, as_name, as_text, direct_event, encoded
from workers.gateway.feed import StreamFeed, StreamUnavailable
from workers.gateway.secrets import XMPP
from workers.gateway.stanzas import COMMANDS, COMPONENT, DISCO_INFO, DISCO_ITEMS, PING, Publish
from workers.gateway.xml import Node

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from common.storage.push_nodes import PushNode

log = logging.getLogger(__name__)

#: Seconds between two looks at the tenants' servers.
LOOK_S: Final = 1.0
#: Longest end of one server's connections, seconds: all servers end at once, and a process has 15.
END_S: Final = 12.0
#: Longest life of connections with options that were replaced while no new one stands, seconds.
RELIEF_S: Final = 10.0
#: Longest wait of one stanza for our stores, seconds: a server takes 30 s of silence for an absent
#: service, and a store that hangs keeps all that wait behind it.
ANSWER_S_MAX: Final = 8.0
PURPOSE: Final = "xmpp push nodes"


@dataclass(frozen=True, slots=True)
class XmppServer:
    """One tenant's server. empty: what an empty notification does, silent or wake. domains: who may
    register and publish.
    """

    app: str
    address: ComponentAddress
    connections: int
    empty: str
    domains: tuple[str, ...]


class XmppStores(DoorStores, Protocol):
    @property
    def engine(self) -> Engine: ...


def server_of(app: str, options: Mapping[str, Any], vault: Vault) -> XmppServer | None:
    """As `app xmpp` stored it; None where the tenant has none."""
    given = options.get(XMPP)
    if not isinstance(given, Mapping):
        return None
    secret = vault.decrypt(str(given["secret"]).encode()).decode()
    address = ComponentAddress(str(given["host"]), int(given["port"]), str(given["domain"]), secret)
    return XmppServer(
        app, address, int(given["connections"]), str(given["empty"]), tuple(given["domains"])
    )


def serve(stores: XmppStores, stop: threading.Event) -> None:
    """Serves until `stop` is set: one connection or several to each tenant's server.

    Operators may change them meanwhile.
    """
    feed = StreamFeed(stores.core, stores.settings.event_streams[0])
    directories = Directories(stores.catalog, stores.vault)
    try:
        asyncio.run(_Sessions(stores, feed, directories).run(stop))
    finally:
        directories.close()
        feed.close()


Connections = list[tuple[ComponentSession, asyncio.Task[None]]]


class _Sessions:
    def __init__(self, stores: XmppStores, feed: StreamFeed, directories: Directories) -> None:
        self._stores = stores
        self._feed = feed
        self._directories = directories
        self._running: dict[XmppServer, Connections] = {}

    async def run(self, stop: threading.Event) -> None:
        ends = asyncio.create_task(asyncio.to_thread(stop.wait))
        try:
            await self._serve(stop, ends)
        finally:
            stop.set()  # else the loop waits for that thread, whatever broke

    async def _serve(self, stop: threading.Event, ends: asyncio.Task[bool]) -> None:
        leaving = set[asyncio.Task[None]]()
        while not stop.is_set():
            wanted = self._wanted()
            left = {one: self._running.pop(one) for one in self._running.keys() - wanted}
            for server in [one for one in left if one.connections == 1]:
                await leave(left.pop(server))  # a server that takes one refuses the next meanwhile
            for server in wanted - self._running.keys():
                self._running[server] = self._started(server)
            leaving |= {asyncio.create_task(self._relieved(*one)) for one in left.items()}
            leaving = {task for task in leaving if not task.done()}
            await asyncio.wait({ends}, timeout=LOOK_S)
        await asyncio.gather(*map(leave, self._running.values()), *leaving)

    def _started(self, server: XmppServer) -> Connections:
        service = PushService(self._stores, self._feed, self._directories, server)
        sessions = [
            ComponentSession(server.address, service.answer) for _ in range(server.connections)
        ]
        return [(session, asyncio.create_task(session.run())) for session in sessions]

    async def _relieved(self, server: XmppServer, pairs: Connections) -> None:
        """Leaves a server whose options changed, once a connection with the new ones stands: a push
        that finds no component costs its phone the subscription.
        """
        stand = [
            asyncio.create_task(session.connected.wait())
            for other, running in self._running.items()
            if other.app == server.app
            for session, _ in running
        ]
        if stand:
            await asyncio.wait(stand, timeout=RELIEF_S, return_when=asyncio.FIRST_COMPLETED)
        for task in stand:
            task.cancel()
        await leave(pairs)

    def _wanted(self) -> set[XmppServer]:
        found = set()
        for app, tenant in self._directories.tenants.items():
            try:
                server = server_of(app, tenant.options, self._stores.vault)
            except (ValueError, KeyError, TypeError) as error:
                log.warning(
                    "a tenant's XMPP server can't be read",
                    extra={"app": app, "reason": type(error).__name__},
                )
                continue
            if server is not None:
                found.add(server)
        return found


async def leave(pairs: Sequence[tuple[ComponentSession, asyncio.Task[None]]]) -> None:
    """Ends one connection after the other, so that the server keeps one until the last."""
    for session, task in pairs:
        session.stop()
        await asyncio.wait({task}, timeout=END_S / len(pairs))
        task.cancel()


class PushService:
    """Answers the stanzas of one tenant's server."""

    def __init__(
        self, stores: XmppStores, feed: StreamFeed, directories: Directories, server: XmppServer
    ) -> None:
        # a process without a server does without their libraries: 23 MiB
        from common.storage.direct_tokens import DirectTokens  # noqa: PLC0415
        from common.storage.push_nodes import PushNodes  # noqa: PLC0415

        self._stores = stores
        self._feed = feed
        self._directories = directories
        self._server = server
        self._nodes = PushNodes(stores.engine)
        self._pace = NodePace(stores.redis, stores.keys)
        self._tokens = DirectTokens(stores.engine)
        self._keys = stores.vault.derived(PURPOSE)

    async def answer(self, stanza: Node, stream: str) -> Node | None:
        """The answer; None for none. stream: the connection, in which ids of IQs are unique.

        Never raises, and never sends `cancel` for a failure of ours.
        """
        kind = stanza.attrs.get("type", "")
        if stanza.name != f"{{{COMPONENT}}}iq":
            return _other(stanza, kind)
        if kind not in ("get", "set"):
            return None
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await self._iq(stanza, kind, stream)
        except store_unavailable(StreamUnavailable) as error:
            log.warning("a push waits at its XMPP server", extra={"reason": type(error).__name__})
            answer = stanzas.trouble(stanza)
        except (
            Exception
        ) as error:  # whatever one stanza breaks must not cost a phone its subscription
            log.exception("a stanza broke the door", extra={"reason": type(error).__name__})
            answer = stanzas.trouble(stanza)
        what = next(
            (
                child.attrs.get("type", "error")
                for child in answer.children
                if child.name.endswith("}error")
            ),
            "result",
        )
        metrics.DOOR_REQUESTS.labels("xmpp", what).inc()
        return answer

    async def _iq(self, iq: Node, kind: str, stream: str) -> Node:
        if iq.cut:
            return stanzas.trouble(iq)  # what it asks is not known: it may be a push
        publish = stanzas.publish_of(iq) if kind == "set" else None
        if publish is not None:
            return await self._publish(iq, publish, stream)
        command = iq.find(f"{{{COMMANDS}}}command")
        if command is not None and kind == "set":
            return await self._command(iq, command)
        info = iq.find(f"{{{DISCO_INFO}}}query")
        if info is not None:
            return stanzas.result(iq, stanzas.disco_info(info.attrs.get("node", "")))
        items = iq.find(f"{{{DISCO_ITEMS}}}query")
        if items is not None:
            return stanzas.result(
                iq, stanzas.disco_items(self._server.address.domain, items.attrs.get("node", ""))
            )
        if iq.find(f"{{{PING}}}ping") is not None:
            return stanzas.result(iq)
        return stanzas.error(iq, "cancel", "service-unavailable")

    def _allowed(self, iq: Node) -> bool:
        domain = stanzas.domain_of(iq.attrs.get("from", "")).lower()
        names = [one.lower() for one in self._server.domains]
        return any(domain == one or domain.endswith("." + one) for one in names)

    # ------------------------------------------------------------ registration

    async def _command(self, iq: Node, command: Node) -> Node:
        name = command.attrs.get("node", "")
        if not self._allowed(iq):
            return stanzas.error(iq, "auth", "forbidden")
        owner = stanzas.bare(iq.attrs.get("from", ""))
        given = stanzas.fields_of(command.find(f"{{{stanzas.FORMS}}}x"))
        device = as_name(given.get("device-id") or given.get("android-id")) or "default"
        if name == "unregister-push":
            await asyncio.to_thread(
                self._nodes.unregister, self._server.app, owner, device, now_ms()
            )
            return stanzas.result(iq, stanzas.command_done(name, {}))
        vendor = stanzas.COMMAND_NODES.get(name)
        token = as_text(given.get("token"))
        if vendor is None:
            # a command that we have not, and no push
            return stanzas.error(iq, "cancel", "item-not-found")
        if not owner or not token or len(token) > 2048:
            return stanzas.error(iq, "modify", "bad-request")
        ours = self._directories.now.by_app.get(self._server.app, ())
        accounts = [one for one in ours if one.vendor == vendor]
        found = _account(accounts, given.get("app-id", ""), name)
        if found is None:
            return stanzas.error(iq, "modify", "not-acceptable")
        from common.storage.push_nodes import PushNode  # noqa: PLC0415 - loaded with the service

        new = PushNode(
            node=secrets.token_urlsafe(12),
            owner=owner,
            device_id=device,
            vendor=vendor,
            business_id=found.account.business_id,
            token=token,
            voip_token=as_text(given.get("voip-token")),
            created_ms=now_ms(),
        )
        node = await asyncio.to_thread(self._nodes.register, self._server.app, new)
        secret = self._secrets(node)[0]
        await asyncio.to_thread(self._nodes.told, self._server.app, node, _digest(secret), now_ms())
        values = {"jid": self._server.address.domain, "node": node, "secret": secret}
        return stanzas.result(iq, stanzas.command_done(name, values))

    def _secrets(self, node: str) -> list[str]:
        """Nothing to look up: the node's HMAC, with the newest of our keys first."""
        return [
            hmac.digest(key, f"{self._server.app}\0{node}".encode(), "sha256").hex()[:32]
            for key in self._keys
        ]

    # ------------------------------------------------------------ pushes

    async def _publish(self, iq: Node, publish: Publish, stream: str) -> Node:
        if not publish.node:
            return stanzas.error(iq, "modify", "bad-request")
        fits = [
            hmac.compare_digest(publish.secret.encode(), one.encode())
            for one in self._secrets(publish.node)
        ]
        if sum(fits) == 0:  # or it was told under a key that is gone from the file
            told = await asyncio.to_thread(self._nodes.digest, self._server.app, publish.node)
            fits.append(hmac.compare_digest(_digest(publish.secret), told))
        if not self._allowed(iq):
            if sum(fits) == 0:
                return stanzas.error(iq, "auth", "forbidden")
            # it was allowed when the phone registered: a list that an operator gave anew without
            # it costs no subscription
            log.warning("a push waits: its domain is not among the tenant's `--domain`")
            return stanzas.trouble(iq)
        if sum(fits) == 0:
            return stanzas.error(iq, "modify", "not-acceptable")
        known = await asyncio.to_thread(self._nodes.get, self._server.app, publish.node)
        if known is None:
            # issued by us, and not in this database: nobody took it back
            return stanzas.trouble(iq)
        if known.deleted or await asyncio.to_thread(self._is_dead, known):
            return stanzas.gone(iq)
        words = hashlib.sha256(publish.summary.encode("utf-8", "replace")).hexdigest()
        if not await self._may_go(publish, words):
            return stanzas.result(iq)
        try:
            await self._feed.put([encoded(self._event(iq, publish, known, stream))])
        except StreamUnavailable:
            await asyncio.to_thread(self._pace.forget, publish.node, words)
            raise
        return stanzas.result(iq)

    async def _may_go(self, publish: Publish, words: str) -> bool:
        """All pushes of a node share one place on the screen: each replaces the one before."""
        take = partial(self._pace.take, publish.node, words, folds=publish.loud, rings=publish.call)
        turn = await asyncio.to_thread(take)
        if turn is NodeTurn.EMPTY:
            metrics.DOOR_REQUESTS.labels(XMPP, "throttled").inc()
        return turn is NodeTurn.GO

    def _is_dead(self, known: PushNode) -> bool:
        """True when the vendor reported the token as dead and it was not registered since.

        The registry has it; the mass guard allowed it.
        """
        user = token_user(known.vendor, known.business_id, known.token)
        has = self._tokens.states([(self._server.app, user)]).get((self._server.app, user))
        return has is not None and declared_dead(has[0], has[3]) and has[1] >= known.created_ms

    def _event(self, iq: Node, publish: Publish, known: PushNode, stream: str) -> dict[str, Any]:
        command = stanzas.COMMAND_NODES[f"register-push-{known.vendor}"]
        account = DoorAccount(self._server.app, command, known.business_id, ())
        domain = stanzas.domain_of(iq.attrs.get("from", ""))
        # a server may count its ids from 1 again after a restart, and a stanza without one is
        # never a repeat
        stanza_id = iq.attrs.get("id") or secrets.token_hex(8)
        message_id = _within(f"xmpp:{domain}:{stanza_id}:{publish.node}")
        event_id = _within(f"{message_id}:{stream}")
        wakes = publish.loud or self._server.empty == "wake"
        data: dict[str, Any] = {
            "message_id": message_id,
            "kind": "call" if publish.call else "message",
        }
        data |= _about(publish)
        data["push"] = _push(publish, wakes)
        found = Found(account, voip=False)
        event = direct_event(
            found, event_id, known.token, now_ms(), data, since_ms=known.created_ms
        )
        if known.voip_token:
            event["data"]["target"]["voip_token"] = known.voip_token
        return event


def _account(accounts: list[DoorAccount], app_id: str, command: str) -> Found | None:
    """The account by the form's `app-id`, else by the command's name, else the only one."""
    if app_id:
        return only(named(accounts, app_id))
    return only(named(accounts, command)) or (
        Found(accounts[0], voip=False) if len(accounts) == 1 else None
    )


def _about(publish: Publish) -> dict[str, Any]:
    """The conversation: the sender's bare JID, else the node."""
    sender = as_name(stanzas.bare(publish.sender))
    if not sender:
        return {"conversation": {"type": "c2c", "id": publish.node}, "sender": {"id": publish.node}}
    room = as_name(stanzas.room_of(publish.sender))
    if not room:
        return {"conversation": {"type": "c2c", "id": sender}, "sender": {"id": sender}}
    nick = as_name(publish.sender.partition("/")[2])
    who = {"id": as_name(publish.sender), "nick": nick} if nick else {"id": sender}
    return {"conversation": {"type": "group", "id": sender, "name": room}, "sender": who}


def _push(publish: Publish, wakes: bool) -> dict[str, Any]:
    """collapse id: the node, as servers announce the same messages again after minutes. A call
    has a place of its own: it replaces no message.
    """
    push: dict[str, Any] = {
        "collapse_key": f"{publish.node}.call" if publish.call else publish.node,
        "display": {},
        "thread_id": as_name(stanzas.bare(publish.sender)) or publish.node,
    }
    if not wakes:
        return {**push, "push_type": "silent"}
    body = as_text(publish.body)[:BODY_CHARS_MAX]
    if body and body not in stanzas.FIXED_WORDS:
        room = as_name(stanzas.room_of(publish.sender))
        push["display"] = {
            "title": room or as_name(stanzas.bare(publish.sender)) or body[:40],
            "body": body,
        }
    if publish.cipher is not None:
        push["blob"] = {"encrypted": publish.cipher[0], "iv": publish.cipher[1]}
        push["vendor"] = {"apns": {"mutable_content": True}}
    return push


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _within(name: str) -> str:
    """An id within the bound of an event's."""
    if len(name.encode("utf-8", "replace")) > 128:
        name = "xmpp:" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
    return as_text(name)


def _other(stanza: Node, kind: str) -> Node | None:
    """The answer to what is no IQ."""
    if stanza.name == f"{{{COMPONENT}}}presence" and kind == "probe":
        return stanzas.presence(stanza)
    if stanza.name == f"{{{COMPONENT}}}message" and kind not in ("error", "headline"):
        return stanzas.error(stanza, "cancel", "service-unavailable")
    return None
