"""Makes h2 quick enough for a simulator that takes thousands of requests a second: header checks
and Huffman decoding.

h2 looks at every character of every header in Python, and hpack walks through Huffman codes in half
bytes; together half of a request's time. Both are done here with the same outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import hpack.hpack
from h2.exceptions import ProtocolError
from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

_NAME = re.compile(rb":?[!-9;-@\[-~]+")  # printable, no upper case, a colon only in front
_BAD_VALUE = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_OF_HTTP1 = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_PSEUDO = frozenset({b":method", b":path", b":scheme", b":authority"})


@lru_cache(maxsize=8192)
def _name_fits(name: bytes) -> bool:
    return _NAME.fullmatch(name) is not None and name not in _OF_HTTP1


def check_request(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """ProtocolError for a header block that RFC 9113, 8.2 and 8.3 call malformed. No names or
    values in its text.
    """
    seen: set[bytes] = set()
    ordinary = named_host = False
    for name, value in headers:
        if not _name_fits(name) or _BAD_VALUE.search(value):
            raise ProtocolError("malformed header field")
        if name.startswith(b":"):
            if ordinary or name in seen or name not in _PSEUDO:
                raise ProtocolError("pseudo-header field unknown, repeated or too late")
            seen.add(name)
        else:
            ordinary = True
            if name == b"host":
                if named_host:
                    raise ProtocolError("host named twice")
                named_host = True
            if name == b"te" and value.lower() != b"trailers":
                raise ProtocolError("te other than trailers")
    if not seen.issuperset((b":method", b":path", b":scheme")) or not (
        named_host or b":authority" in seen
    ):
        raise ProtocolError("a mandatory pseudo-header field is missing")


_STEPS: dict[int, tuple[int, int, bytes]] = {}


def _step(key: int) -> tuple[int, int, bytes]:
    """The effect of a whole byte in a state: (next state, flags, decoded).

    key: state * 256 + byte. Kept once computed.
    """
    state, byte = divmod(key, 256)
    decoded = bytearray()
    failed = 0
    flags = 0
    for half in (byte >> 4, byte & 15):
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
        failed |= flags & HUFFMAN_FAIL
        if flags & HUFFMAN_EMIT_SYMBOL:
            decoded.append(symbol)
        if failed:
            break
    result = _STEPS[key] = (state, flags | failed, bytes(decoded))
    return result


@lru_cache(maxsize=1024)
def decode_huffman(data: bytes) -> bytes:
    """hpack's function of this name, a byte at a time; what came lately (a provider token) is
    remembered.
    """
    state, flags = 0, HUFFMAN_COMPLETE
    decoded = []
    steps = _STEPS
    for byte in data:
        key = state * 256 + byte
        state, flags, symbols = steps.get(key) or _step(key)
        if flags & HUFFMAN_FAIL:
            raise HPACKDecodingError("Invalid Huffman string")
        decoded.append(symbols)
    if not flags & HUFFMAN_COMPLETE:
        raise HPACKDecodingError("Incomplete Huffman string")
    return b"".join(decoded)


def _decode(data: bytes | bytearray | memoryview | None) -> bytes:
    return decode_huffman(bytes(data)) if data else b""


def install() -> None:
    """For all of this process: hpack has no other way in."""
    hpack.hpack.decode_huffman = _decode  # type: ignore[assignment,attr-defined]
