"""A proxy that knows CONNECT, as a process of its own: python -m
tests.integration.transport.connect_proxy MANNER [user:password].

Prints its port, then a line a CONNECT. MANNER: open, deny (403), silent, close, junk, endless,
split (its answer octet by octet).
"""

import asyncio
import base64
import contextlib
import os
import sys

MANNER, LOGIN = [*sys.argv[1:], "", ""][:2]
GOOD = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def refused(writer: asyncio.StreamWriter) -> bool:
    """Whether this manner of proxy has done with the connection."""
    answers = {
        "deny": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "junk": b"220 mail.example.com ESMTP\r\n\r\n",
        "endless": b"HTTP/1.1 200 OK\r\n" + b"x-pad: 1\r\n" * 40_000,
        "close": b"",
    }
    if MANNER == "silent":
        await asyncio.sleep(3600)
    if MANNER in answers:
        writer.write(answers[MANNER])
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
    return MANNER in answers


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    print(
        head[0],
        *(line for line in head[1:] if not line.lower().startswith("proxy-authorization")),
        sep="|",
        flush=True,
    )
    given = [
        line.split(": ", 1)[1]
        for line in head[1:]
        if line.lower().startswith("proxy-authorization: ")
    ]
    if LOGIN and given != ["Basic " + base64.b64encode(LOGIN.encode()).decode()]:
        writer.write(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic "
            b'realm="x"\r\nContent-Length: 0\r\n\r\n'
        )
        writer.close()
        return
    if await refused(writer):
        return
    host, _, port = head[0].split(" ")[1].rpartition(":")
    try:
        there, back = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        return
    for piece in [GOOD[at : at + 1] for at in range(len(GOOD))] if MANNER == "split" else [GOOD]:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.001 if MANNER == "split" else 0)
    await asyncio.gather(pump(reader, back), pump(there, writer))


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # whoever is silent would be waited for


if __name__ == "__main__":
    asyncio.run(main())
