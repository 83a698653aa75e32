"""The client's side of one HTTP/2 connection (RFC 9113), without I/O. Pure.

Octets in, octets out, answers into their `StreamSending`. Written for many small requests and
smaller answers. All input of a peer is bounded: frames, header blocks, bodies, frames without
progress. A fault of the peer ends the connection; what was written then is uncertain, what was not
is sent again elsewhere.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from math import inf
from typing import Final, Literal

from workers.transport.exchange import BODY_BYTES_MAX
from workers.transport.header_codec import HeaderDecoder, HeaderEncoder
from workers.transport.huffman import HeaderError
from workers.wire import (
    HttpResponse,
    NoAnswer,
    PlainAnswer,
    Request,
    RequestColumns,
    RequestParts,
)

(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
ACK, END_STREAM, END_HEADERS, PADDED, PRIORITISED = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = (
    0,
    1,
    3,
    6,
    7,
    8,
)
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11

#: Octets of a frame's payload, either way: we ask for no more, and few servers take more.
FRAME_BYTES_MAX: Final = 16_384
#: Octets of one header block, and frames it may come in.
BLOCK_BYTES_MAX, BLOCK_FRAMES_MAX = 65_536, 64
#: Frames in a row that bring no answer nearer (SETTINGS, PING, windows, resets of nothing, empty
#: data): over it the peer plays.
IDLE_FRAMES_MAX: Final = 10_000
#: Octets of our own frames (acknowledgements, resets) that a peer may leave unread.
CONTROL_BYTES_MAX: Final = 262_144
#: The window of a connection, given back when a quarter of it is used.
WINDOW_BYTES: Final = 1 << 24
WINDOW_MAX: Final = (1 << 31) - 1
#: Octets of bodies kept for one call: after it each answer keeps SPARSE_BYTES. 500 answers of 1 MiB
#: would be half a gigabyte.
SENDING_BYTES_MAX, SPARSE_BYTES = 1 << 25, 16_384
#: Streams assumed for a server that has not sent its SETTINGS (RFC 9113 §6.5.2).
STREAMS_UNASKED: Final = 100
#: A lane for more streams sends one request first: APNs allows one stream until it has accepted a
#: token. After this many seconds the rest is sent too.
FIRST_ANSWER_S: Final = 0.5
#: Times that a request which no server processed is begun again.
REPLAYS_MAX: Final = 3
#: The last stream id of a connection.
STREAM_ID_MAX: Final = (1 << 31) - 1

_head = struct.Struct(">IBI")
_pack, _unpack = _head.pack, _head.unpack_from
_u32, _setting = struct.Struct(">I"), struct.Struct(">HI")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _pack(len(payload) << 8 | kind, flags, stream) + payload


class ConnectionFault(Exception):  # noqa: N818 - the peer's fault, sent to it with `code`
    """A connection that cannot continue. words: the reason, without any content of the peer."""

    def __init__(self, words: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(words)
        self.words, self.code = words, code


class StreamSending:
    """One call of send_many: requests of one or more lanes and their answers, in order.

    begun, ends: seconds of the monotonic clock. left: missing answers. bodies: octets of answers
    kept so far. in_columns: requests of one form are among them; only then there are PlainAnswers.
    """

    __slots__ = ("answers", "begun", "bodies", "ends", "in_columns", "left", "replays", "requests")

    def __init__(self, requests: Sequence[Request], deadline_s: float) -> None:
        self.requests = requests
        self.in_columns = isinstance(requests, RequestColumns | RequestParts)
        self.begun = time.monotonic()
        self.ends = self.begun + deadline_s
        self.answers: list[HttpResponse | NoAnswer | PlainAnswer | None] = [None] * len(requests)
        self.left, self.bodies = len(requests), 0
        self.replays: dict[int, int] = {}

    def columns_at(self, index: int) -> tuple[RequestColumns, int] | None:
        """The columns with this request, and the index of their first; None: it is in none."""
        part, first = self.requests, 0
        if isinstance(part, RequestParts):
            part, first = part.part_at(index)
        return (part, first) if isinstance(part, RequestColumns) else None

    def put(self, index: int, answer: HttpResponse | NoAnswer) -> None:
        """One answer an index, the first counts."""
        if self.answers[index] is None:
            self.answers[index] = answer
            self.left -= 1

    def fail(
        self,
        index: int,
        reason: Literal["timeout", "refused", "reset"],
        sent: bool,
        words: str,
        now: float,
    ) -> None:
        self.put(index, NoAnswer(reason, sent, words, now - self.begun))

    def may_repeat(self, index: int) -> bool:
        """Counts a replay of a request that was not processed; False after REPLAYS_MAX."""
        count = self.replays[index] = self.replays.get(index, 0) + 1
        return count <= REPLAYS_MAX


Job = tuple[StreamSending, int]
#: (sending, index, when it was written, how many octets of the connection had been put out at its
#: end; inf: not all of it is).
_Stream = tuple[StreamSending, int, float, float]


class Http2Connection:
    """The HTTP/2 state of one connection, without I/O.

    The owner calls `begin` for requests while `room` allows it, writes `take_out()`, passes data to
    `receive`, and then collects `returned`. sent: octets that surely went to the network, kept up
    to date by the owner. returned: jobs that the server did not process. draining: takes no new
    streams. heard_at: start of the last answer.
    """

    def __init__(
        self, authority: str, streams_max: int, body_bytes_max: int = BODY_BYTES_MAX
    ) -> None:
        self.streams_max, self.body_bytes_max = streams_max, body_bytes_max
        self.streams: dict[int, _Stream] = {}
        self.returned: list[Job] = []
        self.draining = self.settled = self.met = False
        self.heard_at, self.first_by, self.sent = 0.0, inf, 0.0
        self._encoder, self._decoder = HeaderEncoder(authority), HeaderDecoder()
        self._next_id, self._peer_streams = 1, STREAMS_UNASKED
        self._window = self._stream_window = 65_535
        self._frame_max = FRAME_BYTES_MAX
        self._stalled: dict[
            int, tuple[memoryview, int]
        ] = {}  # what is left of a body, and its stream's window
        self._heads: dict[int, tuple[int, dict[str, str]]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._rest, self._block, self._block_of, self._block_flags, self._block_frames = (
            b"",
            b"",
            0,
            0,
            0,
        )
        self._unacked = self._idle = self._control = 0
        self._pump_due = False
        self._out: list[bytes] = []
        self.queued = 0.0
        window = max(body_bytes_max + 1, 65_535)
        settings = b"".join(
            _setting.pack(*pair) for pair in ((2, 0), (4, window), (6, BLOCK_BYTES_MAX))
        )
        self._put(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame(SETTINGS, 0, 0, settings))
        self._put(frame(WINDOW_UPDATE, 0, 0, _u32.pack(WINDOW_BYTES - 65_535)))

    # ---- out

    def _put(self, *pieces: bytes) -> None:
        self._out += pieces
        self.queued += sum(map(len, pieces))

    def _answer_control(self, piece: bytes) -> None:
        self._control += len(piece)
        if self._control > CONTROL_BYTES_MAX:
            raise ConnectionFault("the server does not read", ENHANCE_YOUR_CALM)
        self._put(piece)

    def take_out(self) -> bytes:
        """All octets to be written, once. The owner asks again only when these are written."""
        self._control = 0
        out = b"".join(self._out)
        self._out.clear()
        return out

    def has_out(self) -> bool:
        return bool(self._out)

    def room(self, now: float) -> int:
        """The number of streams that may begin now."""
        if self.draining or self._window <= 0:
            return 0
        if not self.met:
            if not self.streams and (self._next_id == 1 or now < self.first_by):
                return 1
            if now < self.first_by and not (self.settled and self.streams_max <= STREAMS_UNASKED):
                return 0
            self.met = True
        ids = (STREAM_ID_MAX - self._next_id) // 2 + 1
        return min(min(self.streams_max, self._peer_streams) - len(self.streams), ids)

    def limit(self) -> int:
        """The number of streams that this connection takes at once, as far as known."""
        return max(min(self.streams_max, self._peer_streams), 1)

    def full(self) -> bool:
        """True when streams are missing, not octets of a window."""
        return self.met and len(self.streams) >= self.limit()

    def begin(self, sending: StreamSending, index: int, request: Request, now: float) -> int:
        """Puts a request out on a stream of its own; gives its octets. UnsendableError for what
        can't be written.
        """
        block = self._encoder.block(request)
        stream, size, length = self._next_id, len(block), len(request.body)
        self._next_id += 2
        if self._next_id > STREAM_ID_MAX:
            self.draining = True
        if self.first_by == inf:
            self.first_by = now + FIRST_ANSWER_S
        if (
            length > self._window
            or length > self._stream_window
            or max(length, size) > self._frame_max
            or not length
        ):
            return self._begin_slowly(stream, sending, index, block, request.body, now)
        self._out += (
            _pack(size << 8 | HEADERS, END_HEADERS, stream),
            block,
            _pack(length << 8 | DATA, END_STREAM, stream),
            request.body,
        )
        self._window -= length
        size += length + 18
        self.queued += size
        self.streams[stream] = (sending, index, now, self.queued)
        return size

    def begin_alike(
        self, sending: StreamSending, first: int, end: int, octets_max: int, now: float
    ) -> tuple[int, int]:
        """As `begin` for the requests of one form that can be written the quick way.

        All are of one lane. Up to about octets_max octets. Returns their number and octets. 0: the
        first one needs `begin`.
        """
        found = sending.columns_at(first) if self.met else None
        if found is None:
            return 0, 0
        columns, start = found
        # about as many as octets_max lets through: blocks of the others are made in their turn
        end = min(end, first + octets_max // (len(columns.bodies[first - start]) + 1) + 1)
        blocks = self._encoder.blocks(columns, first - start, end - start)
        if blocks is None:
            return 0, 0
        odd, answers, out, streams = columns.odd, sending.answers, self._out, self.streams
        most, window, stream, total, queued = (
            min(self._stream_window, self._frame_max),
            self._window,
            self._next_id,
            0,
            self.queued,
        )
        index = first
        for index, block, body in zip(
            range(first, end), blocks, columns.bodies[first - start : end - start], strict=True
        ):
            length, size = len(body), len(block)
            if (
                index - start in odd
                or length > most
                or length > window
                or not length
                or answers[index] is not None
                or total > octets_max
            ):
                break
            out += (
                _pack(size << 8 | HEADERS, END_HEADERS, stream),
                block.encode("latin-1"),
                _pack(length << 8, END_STREAM, stream),
                body,
            )
            window -= length
            size += length + 18
            total += size
            queued += size
            streams[stream] = (sending, index, now, queued)
            stream += 2
        else:
            index = end
        self._window, self._next_id, self.queued = window, stream, queued
        self.draining = self.draining or stream > STREAM_ID_MAX
        return index - first, total

    def _begin_slowly(
        self, stream: int, sending: StreamSending, index: int, block: bytes, body: bytes, now: float
    ) -> int:
        """Begins a request without a body, or one that exceeds the current frames and windows."""
        before = self.queued
        ended = 0 if body else END_STREAM
        pieces = [block[at : at + self._frame_max] for at in range(0, len(block), self._frame_max)]
        for place, piece in enumerate(pieces):
            flags = (END_HEADERS if place == len(pieces) - 1 else 0) | (0 if place else ended)
            self._put(frame(CONTINUATION if place else HEADERS, flags, stream, piece))
        self.streams[stream] = (sending, index, now, inf if body else self.queued)
        if body:
            self._stalled[stream] = (memoryview(body), self._stream_window)
            self._pump(stream)
        return int(self.queued - before)

    def _pump(self, stream: int) -> None:
        """As much of a body as the windows let through."""
        rest, window = self._stalled[stream]
        while rest:
            size = min(len(rest), window, self._window, self._frame_max)
            if size <= 0:
                self._stalled[stream] = (rest, window)
                return
            self._idle = 0
            last = size == len(rest)
            self._put(frame(DATA, END_STREAM if last else 0, stream, bytes(rest[:size])))
            rest, window, self._window = rest[size:], window - size, self._window - size
        del self._stalled[stream]
        sending, index, written_at, _ = self.streams[stream]
        self.streams[stream] = (sending, index, written_at, self.queued)

    def _reset(self, stream: int, code: int) -> None:
        self._answer_control(frame(RST_STREAM, 0, stream, _u32.pack(code)))

    # ---- what becomes of streams

    def _drop(self, stream: int) -> _Stream:
        """Forgets a stream; resets it if part of its body is unsent."""
        found = self.streams.pop(stream)
        self._heads.pop(stream, None)
        self._bodies.pop(stream, None)
        if self._stalled.pop(stream, None) is not None:
            self._reset(stream, CANCEL)
        return found

    def _give_back(self, stream: int, words: str, now: float) -> None:
        """Returns a request that the server did not process: any connection may begin it again."""
        sending, index, _, _ = self._drop(stream)
        if sending.may_repeat(index):
            self.returned.append((sending, index))
        else:
            sending.fail(index, "reset", False, words, now)

    def expire(self, sending: StreamSending, now: float) -> bool:
        """Ends the streams of a call whose deadline passed. False: the connection must be closed,
        as it holds octets of such a one that were not written yet, and must never be.
        """
        clean = True
        for stream in [stream for stream, one in self.streams.items() if one[0] is sending]:
            stalled = stream in self._stalled
            _, index, written_at, end = self._drop(stream)
            if not stalled:
                self._reset(stream, CANCEL)
            sent = end <= self.sent
            clean = clean and (sent or stalled)
            if self.heard_at < written_at:
                # no answer at all since it was written: a peer that is not there
                self.draining = True
            sending.fail(index, "timeout", sent, "the deadline passed", now)
        return clean

    def lose(self, words: str, now: float) -> None:
        """Ends the connection: written requests may have been read, unwritten ones were not."""
        self.draining = True
        self._stalled.clear()
        for stream, (sending, index, _, end) in list(self.streams.items()):
            if end <= self.sent:
                sending.fail(index, "reset", True, words, now)
            else:
                self._give_back(stream, words, now)
        self.streams.clear()

    # ---- in

    def receive(self, data: bytes, now: float) -> None:
        """Reads data of the network. Raises ConnectionFault: the connection is to be closed."""
        if self._rest:
            data = self._rest + data
        at, have, streams = 0, len(data), self.streams
        ids, blocks = list[int](), list[bytes]()  # answers of one frame each, not read yet
        while have - at >= 9:
            word, flags, stream = _unpack(data, at)
            end = at + 9 + (word >> 8)
            if end > have:
                break
            if (
                word & 255 == HEADERS
                and flags & 45 == END_HEADERS | END_STREAM
                and stream in streams
                and not self._block_of
            ):
                ids.append(stream)
                blocks.append(data[at + 9 : end])
            else:
                self._whole_answers(ids, blocks, now)
                ids, blocks = [], []
                self._frame(word & 255, flags, stream & WINDOW_MAX, data[at + 9 : end], now)
            at = end
        self._whole_answers(ids, blocks, now)
        if have - at >= 9 and word >> 8 > FRAME_BYTES_MAX:
            raise ConnectionFault(_strange(data[at : at + 9], self.settled), FRAME_SIZE_ERROR)
        self._rest = data[at:]
        if self._pump_due:
            self._pump_due = False
            self._pump_all()

    def _pump_all(self) -> None:
        for stream in list(self._stalled):
            if self._window <= 0:
                return
            self._pump(stream)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        if len(payload) > FRAME_BYTES_MAX:
            raise ConnectionFault(
                _strange(_pack(len(payload) << 8 | kind, flags, stream), self.settled),
                FRAME_SIZE_ERROR,
            )
        if (kind == CONTINUATION) != bool(self._block_of) or (
            self._block_of and stream != self._block_of
        ):
            raise ConnectionFault("a header block is interrupted")
        self._idle += 1
        if self._idle > IDLE_FRAMES_MAX:
            raise ConnectionFault("the server sends frames without end", ENHANCE_YOUR_CALM)
        if kind == DATA:
            self._data(flags, stream, payload, now)
        elif kind in (HEADERS, CONTINUATION):
            self._piece(kind, flags, stream, payload, now)
        elif kind == RST_STREAM:
            self._reset_by_peer(stream, payload, now)
        elif kind == SETTINGS:
            self._settings(flags, stream, payload)
        elif kind == PING:
            self._ping(flags, stream, payload)
        elif kind == GOAWAY:
            self._goaway(stream, payload, now)
        elif kind == WINDOW_UPDATE:
            self._window_update(stream, payload)
        elif kind == PUSH_PROMISE:
            raise ConnectionFault("the server pushes")  # we said that it must not

    def _known(self, stream: int) -> None:
        """ConnectionFault for a frame on a stream that was never ours."""
        if not stream & 1 or stream >= self._next_id:
            raise ConnectionFault("a frame on a stream that nobody opened")

    def _piece(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        """A frame of a header block."""
        if kind == HEADERS:
            self._known(stream)
            payload = _unpadded(flags, payload)
            payload = payload[5:] if flags & PRIORITISED else payload
            self._block, self._block_flags, self._block_frames = b"", flags, 0
        self._block_of = stream
        self._block += payload
        self._block_frames += 1
        if len(self._block) > BLOCK_BYTES_MAX or self._block_frames > BLOCK_FRAMES_MAX:
            raise ConnectionFault("headers without end", ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            block, self._block, self._block_of = self._block, b"", 0
            self._headers(stream, block, bool(self._block_flags & END_STREAM), now)

    def _whole_answers(self, ids: Sequence[int], blocks: Sequence[bytes], now: float) -> None:
        """Reads answers of one frame each, given their streams and header blocks."""
        at = 0
        while at < len(ids):
            if not self._heads and not self._stalled:
                pairs = self._decoder.plain(blocks, at)
                self._take_plain(ids[at : at + len(pairs)], pairs, now)
                at += len(pairs)
            if at < len(ids):
                self._headers(ids[at], blocks[at], True, now)
                at += 1

    def _take_plain(self, ids: Sequence[int], pairs: Sequence[tuple[str, str]], now: float) -> None:
        """Takes the answers with 200 and this header each."""
        if not pairs:
            return
        self.heard_at, self._idle, self.met = now, 0, True
        streams = self.streams
        for stream, (name, value) in zip(ids, pairs, strict=True):
            if stream not in streams:  # the same stream twice
                continue
            sending, index, _, _ = streams.pop(stream)
            if sending.answers[index] is None:
                seconds = now - sending.begun
                sending.answers[index] = (
                    (name, value, seconds)
                    if sending.in_columns
                    else HttpResponse(200, {name: value}, b"", seconds)
                )
                sending.left -= 1

    def _headers(self, stream: int, block: bytes, ended: bool, now: float) -> None:
        """A whole header block: an interim answer, the answer's head, or its trailers."""
        try:
            pairs = self._decoder.decode(block)
        except (HeaderError, IndexError) as error:
            raise ConnectionFault(f"unreadable headers: {error}", COMPRESSION_ERROR) from None
        if stream not in self.streams:
            return  # nobody waits for it any more; the table had to be kept in step
        head = self._heads.get(stream) if self._heads else None
        if head is None:
            head = _head_of(pairs)
            if not head[0] or (head[0] < 200 and ended):
                self._malformed(stream, "an answer without a status", now)
                return
            if head[0] < 200:
                return
            self.heard_at, self._idle = now, 0
            self.met = True
            if not ended:
                self._heads[stream] = head
                return
        elif not ended:
            self._malformed(stream, "headers in the middle of an answer", now)
            return
        self._finish(stream, head, now)

    def _finish(self, stream: int, head: tuple[int, dict[str, str]], now: float) -> None:
        body = bytes(self._bodies.get(stream, b"")) if self._bodies else b""
        if body:
            length = head[1].get("content-length", "")
            if length.isdecimal() and len(length) < 12 and int(length) > len(body):
                self._malformed(stream, "half a body", now)
                return
        sending, index, _, _ = (
            self._drop(stream) if self._heads or self._stalled else self.streams.pop(stream)
        )
        sending.put(index, HttpResponse(head[0], head[1], body, now - sending.begun))

    def _malformed(self, stream: int, words: str, now: float) -> None:
        """The answer makes no sense, the connection may."""
        stalled = stream in self._stalled
        sending, index, _, _ = self._drop(stream)
        if not stalled:
            self._reset(stream, PROTOCOL_ERROR)
        sending.fail(index, "reset", True, words, now)

    def _data(self, flags: int, stream: int, payload: bytes, now: float) -> None:
        self._known(stream)
        self._unacked += len(payload)
        if self._unacked > WINDOW_BYTES // 4:
            self._put(frame(WINDOW_UPDATE, 0, 0, _u32.pack(self._unacked)))
            self._unacked = 0
        if stream not in self.streams:
            return
        head = self._heads.get(stream)
        if head is None:
            self._malformed(stream, "a body without a head", now)
            return
        self._keep(stream, _unpadded(flags, payload), head, now)
        if flags & END_STREAM and stream in self.streams:
            self._finish(stream, head, now)

    def _keep(
        self, stream: int, piece: bytes, head: tuple[int, dict[str, str]], now: float
    ) -> None:
        """Keeps a piece of a body; beyond the bound the rest is not wanted."""
        if not piece:
            return
        self._idle = 0
        body = self._bodies.get(stream)
        if body is None:
            body = self._bodies[stream] = bytearray()
        sending = self.streams[stream][0]
        most = (
            self.body_bytes_max
            if sending.bodies < SENDING_BYTES_MAX
            else min(SPARSE_BYTES, self.body_bytes_max)
        )
        before = len(body)
        body += piece[: max(most - before, 0)]
        sending.bodies += len(body) - before
        if before + len(piece) > most:
            stalled = stream in self._stalled
            _, index, _, _ = self._drop(stream)
            if not stalled:
                self._reset(stream, CANCEL)
            sending.put(index, HttpResponse(head[0], head[1], bytes(body), now - sending.begun))

    def _reset_by_peer(self, stream: int, payload: bytes, now: float) -> None:
        self._known(stream)
        if len(payload) != 4:
            raise ConnectionFault("a frame of a wrong size", FRAME_SIZE_ERROR)
        if stream not in self.streams:
            return
        code = _u32.unpack(payload)[0]
        began = stream in self._heads
        self._stalled.pop(stream, None)  # it is closed: no frame concerns it any more
        if code == REFUSED_STREAM and not began:
            self._give_back(stream, "the server refused the stream", now)
        else:
            sending, index, _, _ = self._drop(stream)
            sending.fail(index, "reset", True, f"the server reset the stream ({code})", now)

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFault("SETTINGS of a wrong size", FRAME_SIZE_ERROR)
        if flags & ACK:
            return
        for at in range(0, len(payload), 6):
            self._set(*_setting.unpack_from(payload, at))
        self.settled = self._pump_due = True
        self._answer_control(frame(SETTINGS, ACK, 0))

    def _set(self, name: int, value: int) -> None:
        if name == 1:
            self._encoder.limit(value)
        elif name == 3:
            self._peer_streams = value
        elif name == 4:
            if value > WINDOW_MAX:
                raise ConnectionFault("a window too large", FLOW_CONTROL_ERROR)
            change, self._stream_window = value - self._stream_window, value
            self._stalled = {
                stream: (rest, window + change) for stream, (rest, window) in self._stalled.items()
            }
        elif name == 5:
            if not 16_384 <= value <= 16_777_215:
                raise ConnectionFault("a frame size out of bounds")
            self._frame_max = min(value, FRAME_BYTES_MAX)

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise ConnectionFault("a PING of a wrong size", FRAME_SIZE_ERROR)
        if not flags & ACK:
            self._answer_control(frame(PING, ACK, 0, payload))

    def _goaway(self, stream: int, payload: bytes, now: float) -> None:
        """No new streams; those above the last id were not processed, the others are waited for."""
        if stream or len(payload) < 8:
            raise ConnectionFault("a GOAWAY of a wrong size", FRAME_SIZE_ERROR)
        self.draining = True
        last = _u32.unpack_from(payload)[0] & WINDOW_MAX
        for one in [one for one in self.streams if one > last]:
            self._give_back(one, "the server went away before the stream", now)

    def _window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault("a WINDOW_UPDATE of a wrong size", FRAME_SIZE_ERROR)
        more = _u32.unpack(payload)[0] & WINDOW_MAX
        if not stream:
            self._window += more
            if not more or self._window > WINDOW_MAX:
                raise ConnectionFault("a window out of bounds", FLOW_CONTROL_ERROR)
            self._pump_due = self._pump_due or bool(self._stalled)
            return
        self._known(stream)
        stalled = self._stalled.get(stream)
        if stalled is not None:
            if not more or stalled[1] + more > WINDOW_MAX:
                raise ConnectionFault("a window out of bounds", FLOW_CONTROL_ERROR)
            self._stalled[stream] = (stalled[0], stalled[1] + more)
            self._pump_due = True


def _head_of(pairs: Sequence[tuple[str, str]]) -> tuple[int, dict[str, str]]:
    """Status, 0 for none, and headers, repeats joined by ", "."""
    status = 0
    headers: dict[str, str] = {}
    for name, value in pairs:
        if name == ":status":
            status = int(value) if len(value) == 3 and value.isascii() and value.isdecimal() else 0
        elif name in headers:
            headers[name] = f"{headers[name]}, {value}"
        elif name[:1] != ":":
            headers[name] = value
    return status, headers


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault("padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def _strange(head: bytes, settled: bool) -> str:
    """The error message for a frame over the bound: most likely no frame at all."""
    if not settled and head.startswith((b"HTTP/", b"\x15\x03", b"<")):
        return "the server does not speak HTTP/2"
    return "a frame over the size that we take"
