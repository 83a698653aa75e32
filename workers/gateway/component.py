"""One connection to an XMPP server as its external component (XEP-0114), with its answers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import quoteattr

from workers.gateway.stanzas import COMPONENT
from workers.gateway.xml import Node, StanzaReader, XmlError

log = logging.getLogger(__name__)

#: Waits of ours: to be connected and known, for a write to leave, between two keep-alives, and for
#: answers before we leave.
CONNECT_S: Final = 10.0
WRITE_S: Final = 15.0
KEEP_ALIVE_S: Final = 30.0
LEAVE_S: Final = 5.0
#: Between two tries; a server that was restarted is there again within a second or two.
AGAIN_FIRST_S: Final = 0.3
AGAIN_MAX_S: Final = 5.0
#: Stanzas of one connection that are being answered; more wait in the socket.
ANSWERING_MAX: Final = 500
READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class ComponentAddress:
    host: str
    port: int
    domain: str
    secret: str = field(repr=False)


class NotConnected(Exception):  # noqa: N818 - it reads as what it says
    """The server refused us, or ended the stream; the message is for the log."""


#: (stanza, name of its connection) -> the answer, None for none.
StanzaHandler = Callable[[Node, str], Awaitable[Node | None]]


class ComponentSession:
    """Holds one connection until stopped; each stanza is answered by a task of its own."""

    def __init__(self, address: ComponentAddress, answer: StanzaHandler) -> None:
        self._address = address
        self._answer = answer
        self._slots = asyncio.Semaphore(ANSWERING_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._stream = ""
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Runs until `stop`. After any end of a connection the next one is tried soon."""
        wait_s = AGAIN_FIRST_S
        while not self._stopping.is_set():
            try:
                await self._once()
                wait_s = AGAIN_FIRST_S
            except (NotConnected, XmlError, OSError, TimeoutError) as error:
                words = (
                    str(error)
                    if isinstance(error, NotConnected | XmlError)
                    else type(error).__name__
                )
                log.warning(
                    "an XMPP server is not connected",
                    extra={"reason": words, "url": f"xmpp:{self._address.domain}"},
                )
            except Exception as error:  # the connection must come back, whatever ended it
                log.exception("an XMPP connection broke", extra={"reason": type(error).__name__})
            if self.connected.is_set():
                self.connected.clear()
                wait_s = AGAIN_FIRST_S
            await self._pause(wait_s)
            wait_s = min(wait_s * 2, AGAIN_MAX_S)

    def stop(self) -> None:
        self._stopping.set()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _once(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        try:
            stanzas = StanzaReader()
            async with asyncio.timeout(CONNECT_S):
                early = await self._greet(stanzas, reader, writer)
            self._stream = secrets.token_hex(4)
            self.connected.set()
            log.info("connected to an XMPP server", extra={"url": f"xmpp:{self._address.domain}"})
            await self._serve(stanzas, early, reader, writer)
        finally:
            for task in self._tasks:
                task.cancel()
            writer.close()

    async def _greet(
        self, stanzas: StanzaReader, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> list[Node]:
        """The stream's head and the handshake; stanzas that came right behind it."""
        domain = quoteattr(self._address.domain)
        head = (
            f"<?xml version='1.0'?><stream:stream xmlns='{COMPONENT}' "
            f"xmlns:stream='http://etherx.jabber.org/streams' to={domain}>"
        )
        writer.write(head.encode())
        came: list[Node] = []
        while stanzas.header is None:
            came += await self._more(stanzas, reader)
        digest = hashlib.sha1(
            (stanzas.header.get("id", "") + self._address.secret).encode(), usedforsecurity=False
        ).hexdigest()
        writer.write(f"<handshake>{digest}</handshake>".encode())
        while not came:
            came += await self._more(stanzas, reader)
        if came[0].name != f"{{{COMPONENT}}}handshake":
            raise NotConnected("the server refused the component: " + _conditions(came[0]))
        return came[1:]

    async def _more(self, stanzas: StanzaReader, reader: asyncio.StreamReader) -> list[Node]:
        data = await reader.read(READ_BYTES)
        if not data:
            raise NotConnected("the server closed the connection")
        return stanzas.feed(data)

    async def _serve(
        self,
        stanzas: StanzaReader,
        early: list[Node],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        stop = asyncio.create_task(self._stopping.wait())
        try:
            for node in early:
                await self._begin(node, writer)
            while not stanzas.closed:
                read = asyncio.create_task(reader.read(READ_BYTES))
                await asyncio.wait(
                    {read, stop}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
                )
                if stop.done():
                    read.cancel()
                    await self._leave(writer)
                    return
                while not read.done():
                    await self._send(writer, b" ")  # a half-open connection is found by writing
                    await asyncio.wait(
                        {read, stop}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    if stop.done():
                        break
                if not read.done():
                    read.cancel()
                    continue
                data = read.result()
                if not data:
                    raise NotConnected("the server closed the connection")
                for node in stanzas.feed(data):
                    await self._begin(node, writer)
        finally:
            stop.cancel()

    async def _begin(self, node: Node, writer: asyncio.StreamWriter) -> None:
        if node.name.endswith("}error"):
            raise NotConnected("the server ended the stream: " + _conditions(node))
        await self._slots.acquire()
        task = asyncio.create_task(self._one(node, writer))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _one(self, node: Node, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(node, self._stream)
            if answer is not None:
                await self._send(writer, answer.write(COMPONENT).encode("utf-8", "replace"))
        except (
            OSError,
            TimeoutError,
        ) as error:  # the connection is gone: its reader sees that, too
            log.info("an answer did not leave", extra={"reason": type(error).__name__})

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(WRITE_S):
            await writer.drain()

    async def _leave(self, writer: asyncio.StreamWriter) -> None:
        """Answers running stanzas first: a server takes silence for an absent service."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=LEAVE_S)
        await self._send(writer, b"</stream:stream>")


def _conditions(error: Node) -> str:
    """`conflict`, `not-authorized`, …: RFC 6120's words, with the server's own."""
    return ", ".join(
        ": ".join(filter(None, (child.name.rpartition("}")[2], child.text.strip()[:200])))
        for child in error.children
    )
