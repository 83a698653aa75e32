"""Servers a transport is tried against: HTTP/2 on the h2 state machine, HTTP/2 frame by frame,
HTTP/1.1 by hand. Real sockets, real TLS.

Each runs its own asyncio loop in a thread. What a test wants to happen it says in a function that
is called for every request.
"""

import asyncio
import contextlib
import itertools
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

#: A request whose path ends so is answered by every H2Server at once and not written down.
WARM_UP = "/3/device/warm"


def headers_of(pairs: Any) -> dict[Any, Any]:
    return dict(pairs)


@dataclass
class Seen:
    """One request as the server read it."""

    connection: int
    stream: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def id(self) -> str:
        return self.headers.get("apns-id", "")

    @property
    def path(self) -> str:
        return self.headers.get(":path", "")


@dataclass
class Log:
    """What a server saw, in order. connections: how many were made; certificates: DER of each
    connection's client, None for none.
    """

    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    certificates: list[bytes | None] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [seen.id for seen in self.seen]


def server_context(certificate, key, alpn=("h2",), client_ca=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(list(alpn))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(client_ca)
    return context


class Server:
    """A listening socket on 127.0.0.1 in a loop of its own. `make`: gives the asyncio protocol of
    one connection.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.log = Log()
        self.context = context
        self.live: set[Any] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(
            target=self.loop.run_forever, name="test-server", daemon=True
        )
        self.thread.start()
        self.server = self.call(self._listen())
        self.port = self.server.sockets[0].getsockname()[1]

    @property
    def base(self) -> str:
        return f"{'https' if self.context else 'http'}://localhost:{self.port}"

    async def _listen(self):
        return await asyncio.get_running_loop().create_server(
            self.make, "127.0.0.1", 0, ssl=self.context, backlog=200
        )

    def make(self) -> asyncio.Protocol:
        raise NotImplementedError

    def connected(self, transport) -> int:
        self.live.add(transport)
        self.log.connections += 1
        tls = transport.get_extra_info("ssl_object")
        self.log.certificates.append(tls.getpeercert(binary_form=True) if tls else None)
        return self.log.connections

    def call(self, coroutine, timeout=10):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def soon(self, function, *arguments) -> None:
        self.loop.call_soon_threadsafe(function, *arguments)

    def drop_all(self) -> None:
        """Every connection is reset."""
        for transport in list(self.live):
            self.soon(transport.abort)

    def stop(self) -> None:
        async def end():
            self.server.close()
            for transport in list(self.live):
                transport.abort()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
            await asyncio.sleep(0.01)

        with contextlib.suppress(Exception):
            self.call(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        if not self.thread.is_alive():
            self.loop.close()


def echo(connection: "H2Connection", seen: Seen) -> None:
    """What APNs does with a good push."""
    connection.reply(seen.stream, 200, {"apns-id": seen.id})


class H2Server(Server):
    """HTTP/2 over TLS by h2. behave(connection, seen): called in the server's loop for each
    complete request.

    settings: sent at the start, in force once the client has acknowledged them. greet(connection):
    called for each new connection.
    """

    def __init__(
        self,
        context,
        behave: Callable[["H2Connection", Seen], None] = echo,
        settings=None,
        greet=None,
    ) -> None:
        self.behave, self.settings, self.greet = behave, settings or {}, greet
        self.agreed = 0  # SETTINGS that a client has acknowledged
        super().__init__(context)

    def make(self):
        return H2Connection(self)


class H2Connection(asyncio.Protocol):
    def __init__(self, server: H2Server) -> None:
        self.server = server
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.open: dict[int, Seen] = {}
        self.bodies: dict[int, bytearray] = {}  # answers that wait for the client's window
        self.answered = 0
        self.peak = 0

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.number = self.server.connected(transport)
        streams = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1000}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=streams)
        self.h2.initiate_connection()
        if self.server.settings:
            # in force once the client has agreed: h2 would punish what came before
            self.h2.update_settings(self.server.settings)
        self.flush()
        if self.server.greet:
            self.server.greet(self)

    def connection_lost(self, exc) -> None:
        self.server.live.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.flush()
            self.transport.abort()
            return
        for event in events:
            self.on(event)
        self.flush()

    def on(self, event) -> None:
        match event:
            case h2.events.RequestReceived():
                self.open[event.stream_id] = Seen(
                    self.number, event.stream_id, headers_of(event.headers)
                )
                self.peak = max(self.peak, len(self.open))
            case h2.events.DataReceived():
                self.open[event.stream_id].body += event.data
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self.pump()
            case h2.events.SettingsAcknowledged():
                self.server.agreed += 1
            case h2.events.StreamReset():
                self.open.pop(event.stream_id, None)
                self.bodies.pop(event.stream_id, None)
        if isinstance(event, h2.events.StreamEnded):
            seen = self.open[event.stream_id]
            if seen.path.endswith(WARM_UP):
                self.reply(seen.stream, 200, {"apns-id": seen.id})
                self.answered -= 1
                return
            self.server.log.seen.append(seen)
            self.server.behave(self, seen)

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    # ---- what a behaviour may do

    def reply(
        self, stream: int, status: int, headers=None, body: bytes = b"", interim: int = 0
    ) -> None:
        if stream not in self.open:
            return
        try:
            if interim:
                self.h2.send_headers(stream, [(":status", str(interim)), ("link", "</early>")])
            self.h2.send_headers(
                stream, [(":status", str(status)), *(headers or {}).items()], end_stream=not body
            )
        except h2.exceptions.StreamClosedError:
            return  # its reset was read together with it, and is told next
        self.answered += 1
        if body:
            self.bodies[stream] = bytearray(body)
            self.pump()
        else:
            self.open.pop(stream, None)
        self.flush()

    def pump(self) -> None:
        for stream, rest in list(self.bodies.items()):
            while rest:
                window = self.h2.local_flow_control_window(stream)
                room = min(window, self.h2.max_outbound_frame_size, len(rest))
                if room <= 0:
                    break
                self.h2.send_data(stream, bytes(rest[:room]), end_stream=room == len(rest))
                del rest[:room]
            if not rest:
                self.bodies.pop(stream)
                self.open.pop(stream, None)
        self.flush()

    def reset(self, stream: int, code: int) -> None:
        self.open.pop(stream, None)
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self.h2.reset_stream(stream, code)
        self.flush()

    def settings(self, **values: int) -> None:
        self.h2.update_settings(
            {getattr(h2.settings.SettingCodes, name): value for name, value in values.items()}
        )
        self.flush()

    def frame(self, frame: Frame) -> None:
        """A frame of the test's own making, behind the state machine's back."""
        self.flush()
        self.transport.write(frame.serialize())

    def later(self, seconds: float, function, *arguments) -> None:
        self.server.loop.call_later(seconds, function, *arguments)


class RawServer(Server):
    """HTTP/2 without a state machine: script(connection) is a coroutine that reads and writes each
    frame.
    """

    def __init__(self, context, script) -> None:
        self.script = script
        super().__init__(context)

    def make(self):
        return RawConnection(self)


class RawConnection(asyncio.Protocol):
    def __init__(self, server: RawServer) -> None:
        self.server = server
        self.buffer = bytearray()
        self.preface = self.gives_back = False
        self.frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.partial: dict[int, Seen] = {}

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.number = self.server.connected(transport)
        self.task = self.server.loop.create_task(self._run())

    async def _run(self) -> None:
        with contextlib.suppress(ConnectionError, EOFError, asyncio.CancelledError):
            await self.server.script(self)

    def connection_lost(self, exc) -> None:
        self.server.live.discard(self.transport)
        self.frames.put_nowait(None)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.preface:
            if len(self.buffer) < 24:
                return
            assert bytes(self.buffer[:24]) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            del self.buffer[:24]
            self.preface = True
        while len(self.buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(bytes(self.buffer[:9])))
            if len(self.buffer) < 9 + length:
                return
            frame.parse_body(memoryview(bytes(self.buffer[9 : 9 + length])))
            del self.buffer[: 9 + length]
            self.frames.put_nowait(frame)

    def send(self, *frames: Frame) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"".join(frame.serialize() for frame in frames))

    async def frame(self) -> Frame:
        frame = await self.frames.get()
        if frame is None:
            raise EOFError
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.send(SettingsFrame(0, flags=["ACK"]))
        if isinstance(frame, DataFrame) and self.gives_back and frame.flow_controlled_length:
            self.give(
                0 if "END_STREAM" in frame.flags else frame.stream_id, frame.flow_controlled_length
            )
        return frame

    async def request(self) -> Seen:
        """The next complete request; windows are given back by hand if the script wants that."""
        while True:
            frame = await self.frame()
            if isinstance(frame, HeadersFrame):
                self.partial[frame.stream_id] = Seen(
                    self.number, frame.stream_id, headers_of(self.decoder.decode(frame.data))
                )
            elif isinstance(frame, DataFrame):
                self.partial[frame.stream_id].body += frame.data
            elif isinstance(frame, RstStreamFrame):
                self.partial.pop(frame.stream_id, None)
            if "END_STREAM" in frame.flags and frame.stream_id in self.partial:
                seen = self.partial.pop(frame.stream_id)
                self.server.log.seen.append(seen)
                return seen

    def head(
        self, stream: int, status: int, headers=None, end: bool = True, pieces: int = 1
    ) -> None:
        """A header block in so many frames: HEADERS and CONTINUATIONs."""
        block = self.encoder.encode([(":status", str(status)), *(headers or {}).items()])
        size = max(-(-len(block) // pieces), 1)
        parts = [block[i : i + size] for i in range(0, len(block), size)]
        head = HeadersFrame(stream, parts[0])
        frames: list[Frame] = [head, *(ContinuationFrame(stream, part) for part in parts[1:])]
        if end:
            frames[0].flags.add("END_STREAM")
        frames[-1].flags.add("END_HEADERS")
        self.send(*frames)

    def give(self, stream: int, octets: int) -> None:
        """The connection's window, and the stream's unless it is 0."""
        self.send(
            WindowUpdateFrame(0, octets), *([WindowUpdateFrame(stream, octets)] if stream else [])
        )


class SayingServer(Server):
    """Says the same to everybody, reads nothing, and ends the connection or not."""

    def __init__(self, context, words: bytes, *, ends: bool) -> None:
        self.words, self.ends = words, ends
        super().__init__(context)

    def make(self):
        server = self

        class Saying(asyncio.Protocol):
            def connection_made(self, transport) -> None:
                server.connected(transport)
                transport.write(server.words)
                if server.ends:
                    transport.close()

        return Saying()


class H1Server(Server):
    """HTTP/1.1 by hand. behave(seen, number of this request on its connection) -> bytes of the
    answer, None for silence.

    An answer that ends with CLOSE is followed by the end of the connection, one that ends with
    RESET by its reset.
    """

    CLOSE, RESET = b"\0close", b"\0reset"

    def __init__(self, context, behave=None) -> None:
        self.behave = behave or (lambda seen, number: h1_answer(200, {"apns-id": seen.id}))
        self.peak = 0
        super().__init__(context)

    def make(self):
        reader = asyncio.StreamReader()
        return asyncio.StreamReaderProtocol(reader, self._serve)

    async def _serve(self, reader, writer) -> None:
        number = self.connected(writer.transport)
        self.peak = max(self.peak, len(self.live))
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError
        ):
            for count in itertools.count(1):
                answer = self.behave(await self._read(reader, number), count)
                if answer is None:
                    continue
                writer.write(answer.removesuffix(self.CLOSE).removesuffix(self.RESET))
                if answer.endswith(self.RESET):
                    writer.transport.abort()
                if answer.endswith(self.CLOSE):
                    break
                await writer.drain()
        self.live.discard(writer.transport)
        writer.close()
        await asyncio.sleep(
            0.02
            # asyncio would wait half a minute for the client's TLS goodbye; other servers end the
            # connection
        )
        writer.transport.abort()

    async def _read(self, reader, number: int) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _version = head[0].split(" ")
        headers = {":method": method, ":path": path}
        for line in head[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(number, 0, headers, body)
        self.log.seen.append(seen)
        return seen


def h1_answer(status: int, headers=None, body: bytes = b"") -> bytes:
    lines = [
        f"HTTP/1.1 {status} Whatever",
        *(f"{k}: {v}" for k, v in (headers or {}).items()),
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def by_connection(log: Log) -> dict[int, list[Seen]]:
    groups: dict[int, list[Seen]] = defaultdict(list)
    for seen in log.seen:
        groups[seen.connection].append(seen)
    return groups
