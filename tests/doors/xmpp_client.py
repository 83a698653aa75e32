"""An XMPP client of a few lines: SASL PLAIN over plain TCP on this machine, one resource, IQs and
messages.
"""

import base64
import socket
import time
import uuid
from typing import Any

from workers.gateway.stanzas import COMMANDS, FORMS, fields_of
from workers.gateway.xml import Node, StanzaReader

CLIENT = "jabber:client"
MANAGEMENT = "urn:xmpp:sm:3"
OWNER = "http://jabber.org/protocol/muc#owner"
OPTIONS = "http://jabber.org/protocol/pubsub#publish-options"


class XmppClient:
    def __init__(
        self, port: int, domain: str, user: str, password: str, resource: str = "phone"
    ) -> None:
        self.domain, self.jid = domain, f"{user}@{domain}"
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self._open()
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.send(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>"
        )
        answer = self._next()
        assert answer.name.endswith("}success"), answer.name
        self._open()
        words = (
            f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>"
        )
        self.iq("set", words)
        self.iq("set", "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>")

    def _open(self) -> None:
        self._reader, self._came = StanzaReader(), list[Node]()
        self.send(
            "<stream:stream xmlns='jabber:client' "
            f"xmlns:stream='http://etherx.jabber.org/streams' to='{self.domain}' "
            "version='1.0'>"
        )
        features = self._next()
        assert features.name.endswith("}features"), features.name

    def send(self, xml: str) -> None:
        self._socket.sendall(xml.encode())

    def _next(self, seconds: float = 15) -> Node:
        end = time.monotonic() + seconds
        while not self._came:
            self._socket.settimeout(max(end - time.monotonic(), 0.01))
            data = self._socket.recv(65_536)
            assert data, "the server closed"
            self._came += self._reader.feed(data)
        return self._came.pop(0)

    def iq(self, kind: str, inner: str, to: str = "") -> Node:
        """The answer, whatever else comes before it."""
        identity = uuid.uuid4().hex
        address = f" to='{to}'" if to else ""
        self.send(f"<iq type='{kind}' id='{identity}'{address}>{inner}</iq>")
        while True:
            stanza = self._next()
            if stanza.name == f"{{{CLIENT}}}iq" and stanza.attrs.get("id") == identity:
                return stanza

    def command(self, to: str, node: str, **fields: str) -> dict[str, str]:
        form = "".join(
            f"<field var='{name.replace('_', '-')}'><value>{value}</value></field>"
            for name, value in fields.items()
        )
        inner = (
            f"<command xmlns='{COMMANDS}' node='{node}' action='execute'><x xmlns='{FORMS}' "
            f"type='submit'>{form}</x></command>"
        )
        answer = self.iq("set", inner, to)
        assert answer.attrs["type"] == "result", answer.write()
        return fields_of(answer.find(f"{{{COMMANDS}}}command", f"{{{FORMS}}}x"))

    def enable(self, told: dict[str, str]) -> None:
        form = (
            f"<field var='FORM_TYPE'><value>{OPTIONS}</value></field><field "
            f"var='secret'><value>{told['secret']}</value></field>"
        )
        form = f"<x xmlns='{FORMS}' type='submit'>{form}</x>"
        answer = self.iq(
            "set",
            f"<enable xmlns='urn:xmpp:push:0' jid='{told['jid']}' "
            f"node='{told['node']}'>{form}</enable>",
        )
        assert answer.attrs["type"] == "result", answer.write()

    def presence(self) -> None:
        self.send("<presence/>")

    def say(self, to: str, body: str, **attrs: Any) -> None:
        self.send(
            f"<message to='{to}' type='{attrs.get('type', 'chat')}' "
            f"id='{uuid.uuid4().hex}'><body>{body}</body></message>"
        )

    def propose_call(self, to: str) -> None:
        """XEP-0353: rings the other's clients."""
        inner = "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/>"
        inner = (
            "<propose xmlns='urn:xmpp:jingle-message:0' "
            f"id='{uuid.uuid4().hex}'>{inner}</propose><store xmlns='urn:xmpp:hints'/>"
        )
        self.send(f"<message to='{to}' type='chat' id='{uuid.uuid4().hex}'>{inner}</message>")

    def join(self, room: str, nick: str) -> None:
        """Into a room, which comes into being with its first one."""
        self.send(
            f"<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        )
        while True:
            stanza = self._next()
            if stanza.name.endswith("}presence") and stanza.attrs.get("from") == f"{room}/{nick}":
                assert stanza.attrs.get("type") != "error", stanza.write()
                break
        form = f"<query xmlns='{OWNER}'><x xmlns='{FORMS}' type='submit'/></query>"
        self.iq("set", form, room)  # the owner opens a new room; from the others it is an error

    def hibernate(self) -> None:
        """The phone loses its network: stream management holds the session, and nobody says
        goodbye.
        """
        self.send(f"<enable xmlns='{MANAGEMENT}' resume='true'/>")
        while not self._next().name.endswith("}enabled"):
            pass
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def close(self) -> None:
        self.send("</stream:stream>")
        self._socket.close()
