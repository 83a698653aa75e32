"""XEP-0357 app server: what a stanza asks of it, and the answers. Pure.

An answer of type `cancel` makes a server end the phone's subscription: there is one for tokens that
a vendor declared dead, or that their owner took back, and for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from common.model import Vendor
from workers.gateway.xml import Node

COMPONENT: Final = "jabber:component:accept"
PUBSUB: Final = "http://jabber.org/protocol/pubsub"
PUSH: Final = "urn:xmpp:push:0"
COMMANDS: Final = "http://jabber.org/protocol/commands"
FORMS: Final = "jabber:x:data"
DISCO_INFO: Final = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS: Final = "http://jabber.org/protocol/disco#items"
PING: Final = "urn:xmpp:ping"
STANZAS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
ENCRYPTED: Final = "tigase:push:encrypt:0"
PRIORITY: Final = "tigase:push:priority:0"
#: Fixed texts by which servers replace a private body.
FIXED_WORDS: Final = frozenset({"New message", "New Message!", "New message!", "(encrypted)"})
ROOM_HOSTS: Final = frozenset({"conference", "muc", "rooms", "chat", "groups", "groupchat"})
COMMAND_NODES: Final = {f"register-push-{vendor}": vendor for vendor in Vendor}


@dataclass(frozen=True, slots=True)
class Publish:
    """One push. loud: it is shown. cipher: (encrypted, iv) for the app only. call: it rings."""

    node: str
    secret: str = field(repr=False)
    loud: bool
    call: bool
    sender: str
    body: str = field(repr=False)
    cipher: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def summary(self) -> str:
        """The parts by which two pushes of a moment are equal."""
        return "\0".join((self.sender, self.body, *(self.cipher or ())))


def publish_of(iq: Node) -> Publish | None:
    """The publish in an IQ, None where there is none. Fields that are absent are empty."""
    publish = iq.find(f"{{{PUBSUB}}}pubsub", f"{{{PUBSUB}}}publish")
    if publish is None:
        return None
    options = iq.find(f"{{{PUBSUB}}}pubsub", f"{{{PUBSUB}}}publish-options", f"{{{FORMS}}}x")
    item = publish.find(f"{{{PUBSUB}}}item", f"{{{PUSH}}}notification")
    summary = fields_of(item.find(f"{{{FORMS}}}x") if item is not None else None)
    sealed = item.find(f"{{{ENCRYPTED}}}encrypted") if item is not None else None
    priority = item.find(f"{{{PRIORITY}}}priority") if item is not None else None
    body = summary.get("last-message-body", "").strip()
    call = sealed is not None and sealed.attrs.get("type") == "voip"
    return Publish(
        node=publish.attrs.get("node", ""),
        secret=fields_of(options).get("secret", ""),
        loud=call or bool(body) or (priority is not None and priority.text.strip() == "high"),
        call=call,
        sender=summary.get("last-message-sender", "").strip(),
        body=body,
        cipher=(sealed.text.strip(), sealed.attrs.get("iv", "")) if sealed is not None else None,
    )


def fields_of(form: Node | None) -> dict[str, str]:
    """var -> value of a data form; a text of several lines has a value a line (`text-multi`)."""
    found: dict[str, str] = {}
    for one in form.all(f"{{{FORMS}}}field") if form is not None else ():
        values = [value.text for value in one.all(f"{{{FORMS}}}value")]
        if values and "var" in one.attrs:
            found[one.attrs["var"]] = "\n".join(values)
    return found


def bare(jid: str) -> str:
    return jid.partition("/")[0]


def domain_of(jid: str) -> str:
    return bare(jid).rpartition("@")[2]


def room_of(jid: str) -> str:
    """The room's name where the JID looks like an occupant's, "" for a person's."""
    host = domain_of(jid).partition(".")[0]
    return bare(jid).partition("@")[0] if "/" in jid and "@" in jid and host in ROOM_HOSTS else ""


# ---------------------------------------------------------------- answers


def result(iq: Node, *children: Node) -> Node:
    return _reply(iq, "result", *children)


def error(iq: Node, kind: str, condition: str) -> Node:
    """kind: wait, modify, cancel or auth."""
    what = Node(f"{{{COMPONENT}}}error", {"type": kind}, [Node(f"{{{STANZAS}}}{condition}")])
    return _reply(iq, "error", what)


def trouble(iq: Node) -> Node:
    """Ours, or the vendor's: the server is to try again and keep the subscription."""
    return error(iq, "wait", "resource-constraint")


def gone(iq: Node) -> Node:
    return error(iq, "cancel", "item-not-found")


def presence(probe: Node) -> Node:
    return Node(f"{{{COMPONENT}}}presence", _back(probe))


def _reply(stanza: Node, kind: str, *children: Node) -> Node:
    return Node(stanza.name, {"type": kind, **_back(stanza)}, list(children))


def _back(stanza: Node) -> dict[str, str]:
    """The addresses and the id of an answer."""
    ways = (("from", "to"), ("to", "from"), ("id", "id"))
    return {ours: stanza.attrs[theirs] for theirs, ours in ways if theirs in stanza.attrs}


def disco_info(node: str = "") -> Node:
    """node: as the question names it, and the answer repeats it (XEP-0030)."""
    features = (PUSH, COMMANDS, PING, DISCO_INFO, DISCO_ITEMS)
    identity = Node(
        f"{{{DISCO_INFO}}}identity", {"category": "pubsub", "type": "push", "name": "Pushfleet"}
    )
    children = [identity, *(Node(f"{{{DISCO_INFO}}}feature", {"var": name}) for name in features)]
    return Node(f"{{{DISCO_INFO}}}query", {"node": node} if node else {}, children)


def disco_items(domain: str, node: str) -> Node:
    names = [*COMMAND_NODES, "unregister-push"] if node == COMMANDS else []
    items = [
        Node(f"{{{DISCO_ITEMS}}}item", {"jid": domain, "node": name, "name": name})
        for name in names
    ]
    return Node(f"{{{DISCO_ITEMS}}}query", {"node": node} if node else {}, items)


def command_done(node: str, values: dict[str, str]) -> Node:
    """A completed ad-hoc command; values: the fields of its form."""
    fields = [
        Node(f"{{{FORMS}}}field", {"var": name}, [Node(f"{{{FORMS}}}value", text=text)])
        for name, text in values.items()
    ]
    form = [Node(f"{{{FORMS}}}x", {"type": "form"}, fields)] if values else []
    return Node(
        f"{{{COMMANDS}}}command", {"node": node, "status": "completed", "sessionid": "done"}, form
    )
