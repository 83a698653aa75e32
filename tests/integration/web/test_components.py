"""Connections to XMPP servers end within the time that a process has."""

import asyncio
import time

import pytest

from workers.gateway import component, xmpp
from workers.gateway.component import ComponentAddress, ComponentSession
from workers.gateway.xml import Node

SERVERS, EACH = 8, 2
LEAVE_S = 0.75


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that takes every component and asks it one thing."""
    await reader.readuntil(b">")
    writer.write(
        b"<stream:stream xmlns='jabber:component:accept' "
        b"xmlns:stream='http://etherx.jabber.org/streams' from='push.example.org' id='1'>"
    )
    await reader.readuntil(b"</handshake>")
    writer.write(b"<handshake/><iq type='get' id='1' from='example.org' to='push.example.org'/>")
    await reader.read(-1)
    writer.close()


async def ended_s() -> float:
    """Seconds until all have left whose answers never come."""
    asked = asyncio.Semaphore(0)

    async def never(_stanza: Node, _stream: str) -> Node | None:
        asked.release()
        await asyncio.Event().wait()
        return None

    listener = await asyncio.start_server(greets, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    address = ComponentAddress("127.0.0.1", port, "push.example.org", "secret")
    servers = []
    for _ in range(SERVERS):
        sessions = [ComponentSession(address, never) for _ in range(EACH)]
        servers.append([(session, asyncio.create_task(session.run())) for session in sessions])
    async with asyncio.timeout(60):
        for _ in range(SERVERS * EACH):
            await asked.acquire()
    began = time.monotonic()
    await asyncio.gather(*map(xmpp.leave, servers))
    took = time.monotonic() - began
    listener.close()
    return took


def test_all_servers_are_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "LEAVE_S", LEAVE_S)
    assert asyncio.run(ended_s()) < SERVERS * EACH * LEAVE_S - 2


def test_a_connection_that_does_not_leave_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(component, "LEAVE_S", 60.0)
    monkeypatch.setattr(xmpp, "END_S", 1.0)
    assert asyncio.run(ended_s()) < 30
