#!/bin/sh
# Guess: a component (XEP-0114) on slixmpp, the usual shape of a push gateway for XEP-0357, comes back by itself after its XMPP server restarted: it
#   tries again and again when the server is not up yet at its own start.
# Behaviour: slixmpp 1.17.0 retries only what never connected. After an end of the stream by the server, as at any restart, it emits session_end and
#   disconnected and does nothing more: the process lives, its event loop runs, and no push arrives any more until somebody restarts it. Who wants it
#   back calls connect() in a handler of "disconnected".
# Versions: slixmpp 1.17.0, Python 3.11. Date: 2026-11-29.
# Seen: "server up after 3 s: 1 session; after its restart: 1 session in 20 s; with connect() on disconnected it comes back"
# Exits 1 when it comes back by itself. Needs python3; takes a minute.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q slixmpp==1.17.0 2>/dev/null
venv/bin/python - <<'PY'
import asyncio, logging, socket, sys

import slixmpp

logging.disable()
STREAM = b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='push.example' id='1'>"
links = []


async def serve(reader, writer):
    """The accepting side of XEP-0114, which takes any handshake."""
    links.append(writer)
    seen = b""
    while part := await reader.read(4096):
        before, seen = seen, seen + part
        if b"<stream:stream" in seen and b"<stream:stream" not in before:
            writer.write(STREAM)
        if b"</handshake>" in seen and b"</handshake>" not in before:
            writer.write(b"<handshake/>")
        if b"</stream:stream>" in part:
            break
    writer.close()


async def start(port):
    return await asyncio.start_server(serve, "127.0.0.1", port)


async def stop(server):
    server.close()
    for link in links:
        link.write(b"</stream:stream>")
        link.close()
    links.clear()


async def sessions(again):
    """Sessions before and after a restart of the server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    component, begun = slixmpp.ComponentXMPP("push.example", "secret", "127.0.0.1", port), []
    component.add_event_handler("session_start", begun.append)
    if again:
        component.add_event_handler("disconnected", lambda _: component.connect())
    component.connect()
    await asyncio.sleep(3)
    server = await start(port)
    await asyncio.sleep(12)
    first = len(begun)
    await stop(server)
    await asyncio.sleep(1)
    server = await start(port)
    await asyncio.sleep(20)
    return first, len(begun)


async def main():
    (first, alone), (_, helped) = await asyncio.gather(sessions(False), sessions(True))
    print(f"server up after 3 s: {first} session; after its restart: {alone} session in 20 s; with connect() on disconnected it {'comes back' if helped > first else 'stays away'}")
    sys.exit(0 if first == alone == 1 < helped else 1)


asyncio.run(main())
PY
