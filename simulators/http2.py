"""The simulators' HTTP/2 server: the `h2` state machine on asyncio, with the frames that a vendor
may send at an awkward time.

Made to misbehave on purpose: GOAWAY with a true last_stream_id, RST_STREAM,
REFUSED_STREAM, SETTINGS in the middle, answers in drips, answers larger than any window. Whatever
is refused, dropped or left is not handled, hence not recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame, SettingsFrame

from simulators.door import LINGER_S, Connection, Manners, Serving, tls_context
from simulators.hpack_speed import check_request, install
from simulators.http1 import BODY_BYTES_MAX, Http1, named, note_header
from simulators.misbehave import DRIP_S, Fate, answer, side_door
from simulators.simulator import Simulator, VendorCall, VendorReply

install()

STREAMS_UNBOUNDED = 2**31 - 1
CONNECTION_WINDOW = 1 << 24
SWEEP_EVERY = 256  # requests between two looks for closed streams: h2 would look at each

#: The values of Apple's SETTINGS as pushy once logged them. Source: vendors' page of APNs, section
#: 1.
SETTINGS = {
    SettingCodes.HEADER_TABLE_SIZE: 4096,
    SettingCodes.INITIAL_WINDOW_SIZE: 65535,
    SettingCodes.MAX_FRAME_SIZE: 16384,
}


class _Machine(H2Connection):
    """h2's state machine with two habits changed."""

    _requests = 0

    @property
    def open_inbound_streams(self) -> int:
        """h2 walks over all streams at each request to count them; the limit is kept by `Http2`,
        here they are only swept.
        """
        self._requests += 1
        return super().open_inbound_streams if self._requests % SWEEP_EVERY == 0 else 0

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:  # noqa: ARG002 (h2's signature)
        """h2 closes everything on the client's GOAWAY; RFC 9113, 6.8 lets the streams under way
        come to their end.
        """
        return [], [ConnectionTerminated()]


class _Stream:
    """One request: what came of it so far, then what is left to be sent."""

    __slots__ = ("body", "drip", "headers", "rest", "silent")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self.body = bytearray()
        self.rest = memoryview(b"")
        self.drip = self.silent = False


class Http2:
    """One connection. `received` reads a batch, handles its requests, and writes once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._serving = connection.serving
        self._streams: dict[int, _Stream] = {}
        self._ready: list[tuple[int, VendorCall, Fate]] = []
        self._out: list[bytes] = []
        self._answered = self._highest = 0
        self._last: int | None = None  # of our GOAWAY
        self._gone = False
        simulator = self._serving.simulator
        self._alone = (
            bool(getattr(simulator, "first_stream_alone", False)) and connection.certificate is None
        )
        self._announced: deque[int] = deque([self._wanted_streams()])
        self._limit = STREAMS_UNBOUNDED  # until the client has acknowledged the first SETTINGS
        self._h2 = self._machine(self._announced[0])
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            RequestReceived: self._request,
            DataReceived: self._data,
            StreamEnded: self._ended,
            StreamReset: self._reset,
            WindowUpdated: self._window,
            SettingsAcknowledged: self._settings_known,
        }

    def _wanted_streams(self) -> int:
        return (
            1
            if self._alone
            else self._serving.simulator.faults.max_streams or self._serving.manners.max_streams
        )

    @staticmethod
    def _machine(max_streams: int) -> _Machine:
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,  # check_request does it
            normalize_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        machine = _Machine(config)
        initial = {**SETTINGS, SettingCodes.MAX_CONCURRENT_STREAMS: max_streams}
        machine.local_settings = Settings(client=False, initial_values=initial)
        machine.initiate_connection()
        # From here on the limit is ours to keep: h2 would end the whole connection over one stream
        # too many.
        machine.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = STREAMS_UNBOUNDED
        machine.local_settings.acknowledge()
        machine.increment_flow_control_window(CONNECTION_WINDOW)
        return machine

    # ---- the Speaker

    def received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                handler = self._handlers.get(type(event))
                if handler:
                    handler(event)
        except ProtocolError:
            # Only h2's GOAWAY can still be sent here, which is among the outgoing bytes.
            self.lost()
            self._connection.close(after_s=0.05)
        self._begin_ready()

    def taken(self) -> bytes:
        self._out.append(self._h2.data_to_send())
        out = b"".join(self._out)
        self._out.clear()
        return out

    def lost(self) -> None:
        self._gone = True
        self._streams.clear()

    def faults_changed(self) -> None:
        self._announce()

    # ---- what came in

    def _request(self, event: RequestReceived) -> None:
        if self._last is not None:
            # above the last_stream_id of our GOAWAY: the client knows that it was not looked at
            return
        try:
            check_request(event.headers)
        except ProtocolError:
            self._h2.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        if len(self._streams) >= self._limit:
            self._serving.simulator.record.count("streams over the limit")
            self._h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self._streams[event.stream_id] = _Stream(event.headers)

    def _data(self, event: DataReceived) -> None:
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.body += event.data
        if len(stream.body) > BODY_BYTES_MAX:
            self._drop(event.stream_id, ErrorCodes.ENHANCE_YOUR_CALM)

    def _ended(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        call = self._call(stream)
        reply = side_door(self._serving.simulator, self._serving.shares, call)
        if reply is not None:
            self._send(event.stream_id, reply, drip=False)
            return
        self._connection.door_only = False
        fate = self._serving.shares.fate()
        if fate.kind == "silent":
            stream.silent = True
        elif fate.kind in ("reset", "refuse"):
            code = ErrorCodes.INTERNAL_ERROR if fate.kind == "reset" else ErrorCodes.REFUSED_STREAM
            self._drop(event.stream_id, code)
        else:
            self._ready.append((event.stream_id, call, fate))

    def _reset(self, event: StreamReset) -> None:
        self._streams.pop(event.stream_id, None)
        self._linger_if_done()

    def _window(self, event: WindowUpdated) -> None:
        if event.stream_id:
            self._pump(event.stream_id)
        else:
            for stream_id in [one for one, stream in self._streams.items() if stream.rest]:
                self._pump(stream_id)

    def _settings_known(self, _event: SettingsAcknowledged) -> None:
        if self._announced:
            self._limit = self._announced.popleft()

    def _call(self, stream: _Stream) -> VendorCall:
        headers: dict[str, str] = {}
        repeated: list[str] = []
        for name, value in stream.headers:
            note_header(headers, repeated, name, value)
        path, _, query = headers.get(":path", "").partition("?")
        connection = self._connection
        return VendorCall(
            headers.get(":method", ""),
            path,
            query,
            named(headers, repeated),
            bytes(stream.body),
            connection.id,
            connection.certificate,
        )

    # ---- what goes out

    def _begin_ready(self) -> None:
        """All requests of one read at once: one timer, one write."""
        if not self._ready:
            return
        batch, self._ready = self._ready, []
        now = [one for one in batch if not one[2].delay_s]
        late = [one for one in batch if one[2].delay_s]
        if late:
            self._connection.loop.call_later(late[0][2].delay_s, self._answer_all, late)
        self._answer_all(now)

    def _answer_all(self, batch: list[tuple[int, VendorCall, Fate]]) -> None:
        for stream_id, call, fate in batch:
            # else the client took it back, or our GOAWAY left it out, while it waited
            if stream_id in self._streams:
                self._answer(stream_id, call, fate)
        if not self._gone:
            self._connection.wake()

    def _answer(self, stream_id: int, call: VendorCall, fate: Fate) -> None:
        reply = answer(self._serving.simulator, call, fate)
        self._answered += 1
        self._highest = max(self._highest, stream_id)
        self._send(stream_id, reply, fate.drip)
        if self._alone and reply.status != 403:
            self._alone = False
            self._announce()
        after = self._serving.simulator.faults.goaway_after
        if (
            after
            and self._answered >= after
            and self._last is None
            and self._serving.shares.hit("goaway_after", 1.0)
        ):
            self._go_away()

    def _send(self, stream_id: int, reply: VendorReply, drip: bool) -> None:
        headers = [(b":status", b"%d" % reply.status)]
        headers += [(name.encode("ascii"), value.encode()) for name, value in reply.headers.items()]
        self._h2.send_headers(stream_id, headers, end_stream=not reply.body and not drip)
        stream = self._streams[stream_id]
        stream.rest, stream.drip = memoryview(reply.body), drip
        if drip:
            self._drip(stream_id)
        elif reply.body:
            self._pump(stream_id)
        else:
            self._finished(stream_id)

    def _pump(self, stream_id: int) -> None:
        """As much of the body as the client's windows take; the rest waits for its
        WINDOW_UPDATE.
        """
        stream = self._streams.get(stream_id)
        if stream is None or not stream.rest or stream.drip:
            return
        while stream.rest:
            window = self._h2.local_flow_control_window(stream_id)
            size = min(window, self._h2.max_outbound_frame_size, len(stream.rest))
            if size <= 0:
                return
            piece, stream.rest = bytes(stream.rest[:size]), stream.rest[size:]
            self._h2.send_data(stream_id, piece, end_stream=not stream.rest)
        self._finished(stream_id)

    def _drip(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.rest or self._h2.local_flow_control_window(stream_id) > 0:
            piece, stream.rest = bytes(stream.rest[:1]), stream.rest[1:]
            self._h2.send_data(stream_id, piece, end_stream=not stream.rest)
            self._connection.wake()
            if not stream.rest:
                self._finished(stream_id)
                return
        self._connection.loop.call_later(DRIP_S, self._drip, stream_id)

    def _finished(self, stream_id: int) -> None:
        del self._streams[stream_id]
        self._linger_if_done()

    def _drop(self, stream_id: int, code: ErrorCodes) -> None:
        self._streams.pop(stream_id, None)
        self._h2.reset_stream(stream_id, code)
        self._linger_if_done()

    # ---- frames of our own, beside h2

    def _raw(self, frame: Frame) -> None:
        self._out.append(self._h2.data_to_send())  # what was said before it stays before it
        self._out.append(frame.serialize())

    def _announce(self) -> None:
        """Sends a changed SETTINGS_MAX_CONCURRENT_STREAMS; in force once acknowledged."""
        wanted = self._wanted_streams()
        if wanted == (self._announced[-1] if self._announced else self._limit):
            return
        self._announced.append(wanted)
        self._raw(SettingsFrame(0, settings={int(SettingCodes.MAX_CONCURRENT_STREAMS): wanted}))

    def _go_away(self) -> None:
        """Graceful: the highest answered stream is the last; lower ones come to their end, higher
        ones were never looked at.
        """
        last = self._last = self._highest
        self._raw(GoAwayFrame(0, last_stream_id=last, error_code=int(ErrorCodes.NO_ERROR)))
        for stream_id in [one for one in self._streams if one > last]:
            del self._streams[stream_id]
        self._linger_if_done()

    def _linger_if_done(self) -> None:
        if self._last is not None and all(stream.silent for stream in self._streams.values()):
            self._connection.close(after_s=LINGER_S)


async def serve_port(
    simulator: Simulator,
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    *,
    manners: Manners | None = None,
) -> Serving:
    """Opens the port (0: a free one) for HTTP/2, HTTP/1.1 and `/_sim/…`, with TLS and without.
    OSError when the port is taken.

    certificate None: without TLS only. Close it with `await serving.close()`; its number is
    `serving.port`.
    """
    manners = manners or Manners()
    tls = tls_context(certificate, key, manners) if certificate and key else None
    serving = Serving(simulator, Http1, Http2, manners, tls, never_down=False)
    await serving.open(host, port)
    return serving


async def serve_side_door(simulator: Simulator, host: str, port: int = 0) -> Serving:
    """A port of its own for `/_sim/…`, plain HTTP, which stays open while the vendor is `down`."""
    serving = Serving(simulator, Http1, Http2, Manners(), None, never_down=True)
    await serving.open(host, port)
    return serving
