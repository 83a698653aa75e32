"""HPACK (RFC 7541) for lanes of one request per push. Pure.

Constant headers enter the peer's table once; answers are decoded within bounds.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Final

from hpack.table import HeaderTable

from workers.transport import huffman
from workers.transport.exchange import fault_of
from workers.transport.huffman import HeaderError
from workers.wire import Request, RequestColumns, is_visible

#: Size of either side's table in octets: what RFC 7541 gives, and all we use of a peer that offers
#: more.
TABLE_BYTES: Final = 4_096
#: Overhead of a table entry beside its octets (RFC 7541 §4.1).
ENTRY_BYTES: Final = 32
#: Most octets of an answer's decoded header list, counted as in the table. A few octets may repeat
#: a long entry of the table, so the bound applies to the output.
LIST_BYTES_MAX: Final = 65_536
#: No integer of an answer is longer: it is an index or a length.
INTEGER_MAX: Final = 1 << 21
#: Headers whose value changes with each push or message. They would only push the constant ones out
#: of the peer's table.
VOLATILE: Final = frozenset({"apns-id", "apns-collapse-id", "apns-expiration"})

_STATIC: Final = [(name.decode(), value.decode()) for name, value in HeaderTable.STATIC_TABLE]
_STATIC_COUNT: Final = len(_STATIC)
_STATIC_NAMES: Final = {name: place for place, (name, _) in reversed(list(enumerate(_STATIC, 1)))}
_STATUS_200: Final = 0x88
_METHOD_POST, _SCHEME_HTTPS, _PATH_NAME = b"\x83", b"\x87", b"\x04"
_QUICK_PATH: Final = _PATH_NAME.decode("latin-1")


class UnsendableError(ValueError):
    """A request that can't be written; the text is fault_of's."""


# ---------------------------------------------------------------- integers and strings


def integer(number: int, bits: int, first: int) -> bytes:
    """`number` with a prefix of `bits` bits, `first` above them (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((first | number,))
    octets = bytearray((first | most,))
    number -= most
    while number >= 128:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)


_LENGTHS: Final = [integer(length, 7, 0) for length in range(512)]
_QUICK_LENGTHS: Final = [octets.decode("latin-1") for octets in _LENGTHS]


def literal(text: str) -> bytes:
    """A string literal without Huffman coding: ASCII, so only the length is added."""
    raw = text.encode("ascii")
    return (_LENGTHS[len(raw)] if len(raw) < 512 else integer(len(raw), 7, 0)) + raw


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """(number, place behind it). HeaderError for half a one, or one over INTEGER_MAX."""
    most = (1 << bits) - 1
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in (0, 7, 14):
        if at >= len(block):
            raise HeaderError("an integer without its end")
        octet = block[at]
        at += 1
        number += (octet & 127) << shift
        if not octet & 128:
            if number <= INTEGER_MAX:
                return number, at
            break
    raise HeaderError("an integer too large")


#: Header names by their wire form, decoded once. A peer may send new ones without end: beyond the
#: bound none is kept.
_names: Final[dict[bytes, str]] = {}
_NAMES_MAX, _NAME_BYTES_MAX = 1024, 64


def _read_string(block: bytes, at: int) -> tuple[str, int]:
    """(text, place behind it); octets outside ASCII come as Latin-1."""
    if at >= len(block):
        raise HeaderError("a string without its length")
    first = block[at]
    coded, length = first & 128, first & 127
    if length == 127:
        length, at = _read_integer(block, at, 7)
    else:
        at += 1
    end = at + length
    if end > len(block):
        raise HeaderError("a string without its end")
    raw = block[at:end]
    return (huffman.decode(raw) if coded else raw.decode("latin-1")), end


def _read_name(block: bytes, at: int) -> tuple[str, int]:
    begun = at
    if at < len(block) and block[at] & 127 < 127:
        end = at + 1 + (block[at] & 127)
        known = _names.get(block[at:end])
        if known is not None:
            return known, end
    name, at = _read_string(block, at)
    name = name.lower()  # HTTP/2 has no capitals; who sends them means the same
    if at - begun <= _NAME_BYTES_MAX and len(_names) < _NAMES_MAX:
        _names[block[begun:at]] = name
    return name, at


def _texts(raws: Sequence[bytes], *, coded: bool) -> list[str]:
    """The texts, in Huffman's code or not; ends before the first that is none."""
    if not coded:
        return [raw.decode("latin-1") for raw in raws]
    found = huffman.decode_alike(raws) if len(raws) > 1 else None
    if found is None:
        found = []
        with contextlib.suppress(HeaderError):
            for raw in raws:
                found.append(huffman.decode(raw))
    return found


# ---------------------------------------------------------------- what comes in


class HeaderDecoder:
    """The answers' side of one connection. list_bytes_max: HeaderError over it."""

    __slots__ = ("_bytes", "_entries", "_limit", "_list_bytes_max")

    def __init__(self, list_bytes_max: int = LIST_BYTES_MAX) -> None:
        self._entries: deque[tuple[str, str]] = deque()  # the youngest first
        self._bytes, self._limit, self._list_bytes_max = 0, TABLE_BYTES, list_bytes_max

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """The headers in their order, names as sent. HeaderError: the connection can't be read any
        further.
        """
        at, end, room = 0, len(block), self._list_bytes_max
        found: list[tuple[str, str]] = []
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = (first & 127, at + 1) if first != 255 else _read_integer(block, at, 7)
                pair = _STATIC[index - 1] if 0 < index <= _STATIC_COUNT else self._entry(index)
            elif first & 0x60 == 0x20:
                if found:
                    raise HeaderError("a table size inside a header block")
                size, at = _read_integer(block, at, 5)
                self._resize(size)
                continue
            else:
                pair, at = self._literal(block, at, first)
            room -= len(pair[0]) + len(pair[1]) + ENTRY_BYTES
            if room < 0:
                raise HeaderError(f"headers of more than {self._list_bytes_max} octets")
            found.append(pair)
        return found

    def plain(self, blocks: Sequence[bytes], first_at: int) -> list[tuple[str, str]]:
        """The only header beside 200 of each block, from one on; it is a literal of a known name,
        and of the same for all.

        Ends at the first other block, or unreadable one: by that nothing has changed, and `decode`
        reads it.
        """
        first = blocks[first_at]
        name = self._plain_name(first[1]) if len(first) > 3 and first[0] == _STATUS_200 else None
        if name is None:
            return []
        lead, coded, raws = first[:2], first[2] & 128, list[bytes]()
        for block in islice(blocks, first_at, None):
            size = len(block) - 3
            if not 0 < size < 127 or block[:2] != lead or block[2] != coded | size:
                break
            raws.append(block[3:])
        values = _texts(raws, coded=bool(coded))
        found = [(name, value) for value in values]
        if first[1] & 0xC0 == 0x40:
            self._entries.extendleft(found)
            self._bytes += len("".join(values)) + (len(name) + ENTRY_BYTES) * len(values)
            self._evict()
        return found

    def _plain_name(self, first: int) -> str | None:
        """The name of a literal with this first octet; None where `decode` has to tell, also where
        it is not that of the same literal again.
        """
        kept = first & 0xC0 == 0x40
        index = first & 63 if kept else first & 15
        if not index or index == (63 if kept else 15) or (not kept and first & 0xE0):
            return None
        if kept and index != _STATIC_COUNT + 1 and index > _STATIC_COUNT:
            return None
        try:
            name = self._entry(index)[0]
        except HeaderError:
            return None
        return None if name[:1] == ":" else name

    def _literal(self, block: bytes, at: int, first: int) -> tuple[tuple[str, str], int]:
        most = 63 if first & 0x40 else 15
        index = first & most
        if index == most:
            index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
        else:
            at += 1
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _read_name(block, at)
        size = block[at] if at < len(block) else 0xFF
        end = at + 1 + (size & 127)
        if size & 127 < 127 and end <= len(block):  # as _read_string, without the call
            raw = block[at + 1 : end]
            value, at = huffman.decode(raw) if size & 128 else raw.decode("latin-1"), end
        else:
            value, at = _read_string(block, at)
        pair = (name, value)
        if first & 0x40:
            self._entries.appendleft(pair)
            self._bytes += len(name) + len(value) + ENTRY_BYTES
            if self._bytes > self._limit:
                self._evict()
        return pair, at

    def _entry(self, index: int) -> tuple[str, str]:
        if 0 < index <= _STATIC_COUNT:
            return _STATIC[index - 1]
        place = index - _STATIC_COUNT - 1
        if not 0 <= place < len(self._entries):
            raise HeaderError("an index without an entry")
        return self._entries[place]

    def _resize(self, size: int) -> None:
        if size > TABLE_BYTES:
            raise HeaderError("a table larger than was offered")
        self._limit = size
        self._evict()

    def _evict(self) -> None:
        while self._bytes > self._limit:
            name, value = self._entries.pop()
            self._bytes -= len(name) + len(value) + ENTRY_BYTES


# ---------------------------------------------------------------- what goes out


class HeaderEncoder:
    """The encoder of one connection, whose requests share one authority.

    A header whose value repeats costs one octet after its first time, a volatile one its value. The
    peer never evicts an entry: before its table would overflow, the table is emptied at the start
    of a block, and filled again.
    """

    def __init__(self, authority: str) -> None:
        self._authority = (":authority", authority)
        self._limit = TABLE_BYTES
        self._last_path = ""
        self._full = False
        self._resizes: list[int] = []  # table sizes to announce at the start of the next block
        self._clear()

    def _clear(self) -> None:
        self._bytes = 0
        self._order: list[tuple[str, str]] = []
        self._known: dict[tuple[str, str], bytes] = {}
        self._names: dict[str, bytes] = {}  # of volatile ones
        # the same as text, each octet a character: it is joined with the values and encoded at once
        self._quick_prefix = ""
        self._quick_known: dict[tuple[str, str], str] = {}
        self._quick_names: dict[str, str] = {}
        self._quick_paths: dict[str, str] = {}  # of those in the table

    def limit(self, table_bytes: int) -> None:
        """Applies the peer's SETTINGS_HEADER_TABLE_SIZE (RFC 7541 §4.2).

        A table smaller than before is announced.
        """
        size = min(table_bytes, TABLE_BYTES)
        if size != self._limit:
            self._limit = size
            self._empty()

    def _empty(self) -> None:
        self._clear()
        self._full = False
        self._resizes = [0, self._limit] if self._limit else [0]

    def block(self, request: Request) -> bytes:
        """The header block of a request. UnsendableError for what fault_of finds; nothing has
        changed then.
        """
        path, known, names = request.path, self._quick_known, self._quick_names
        if not self._quick_prefix or request.method != "POST":
            return self._careful(request)
        loose, parts = "", [self._quick_prefix, self._quick_paths.get(path, "")]
        if not parts[1]:
            if path == self._last_path or len(path) >= 512:
                return self._careful(request)
            loose = path
            parts[1] = f"{_QUICK_PATH}{_QUICK_LENGTHS[len(path)]}{path}"
        for item in request.headers.items():
            found = known.get(item)
            if found is not None:
                parts.append(found)
                continue
            name, value = item
            index = names.get(name)
            if index is None or len(value) >= 512:
                return self._careful(request)
            loose += value
            parts += (index, _QUICK_LENGTHS[len(value)], value)
        if not is_visible(loose):
            return self._careful(request)
        self._last_path = path
        return "".join(parts).encode("latin-1")

    def blocks(self, columns: RequestColumns, first: int, end: int) -> Iterator[str] | None:
        """The header blocks of these requests, an octet per character, as `block` makes them.

        An odd request's block is meaningless. None when a header has to be added to the table
        first, or cannot be written: `block` does that, one by one.
        """
        form = columns.form
        parts, own = [self._quick_prefix], list[Sequence[str]]()
        common = [self._common(*item) for item in form.headers.items()]
        if not self._quick_prefix or None in common:
            return None
        if form.path[1]:
            own.append(columns.paths[first:end])
            parts.append(_QUICK_PATH)
        elif (path := self._quick_paths.get(form.path[0] % ())) is not None:
            parts[0] += path
        else:
            return None
        for name, value in form.own_headers.items():
            index = self._quick_names.get(name)
            if index is None:
                return None
            own.append(columns.columns[value][first:end])
            parts.append(index)
        if not _plain(list(chain.from_iterable(own))):
            return None
        return _blocks(parts, own, "".join(filter(None, common)), end - first)

    def _common(self, name: str, value: str) -> str | None:
        """A header that all requests of a form have; None when `block` has to write it."""
        known, index = self._quick_known.get((name, value)), self._quick_names.get(name)
        if known is not None or index is None or not _plain([value]):
            return known
        return f"{index}{_QUICK_LENGTHS[len(value)]}{value}"

    def _careful(self, request: Request) -> bytes:
        """As `block` for new headers: checked as a whole first.

        Otherwise an error would leave the peer's table half changed.
        """
        fault = fault_of(request)
        if fault is not None:
            raise UnsendableError(fault)
        if self._full:
            self._empty()
        parts = [integer(size, 5, 0x20) for size in self._resizes]
        self._resizes = []
        method = _METHOD_POST if request.method == "POST" else b"\x02" + literal(request.method)
        parts += (
            method,
            _SCHEME_HTTPS,
            self._known.get(self._authority) or self._insert(self._authority),
        )
        parts.append(self._path(request.path))
        for name, value in request.headers.items():
            parts.append(self._header((name.lower(), value)))
        self._index()
        return b"".join(parts)

    def _path(self, path: str) -> bytes:
        item = (":path", path)
        repeats, self._last_path = path == self._last_path, path
        return self._known.get(item) or (
            self._insert(item) if repeats else _PATH_NAME + literal(path)
        )

    def _header(self, item: tuple[str, str]) -> bytes:
        known = self._known.get(item)
        if known is not None:
            return known
        name, value = item
        if name in self._names:
            return self._names[name] + literal(value)
        return self._insert(item)

    def _insert(self, item: tuple[str, str]) -> bytes:
        """A literal that the peer puts into its table. Every place in it moves by one, also for
        what follows in this block.
        """
        name, value = item
        place = _STATIC_NAMES.get(name)
        size = len(name) + len(value) + ENTRY_BYTES
        if self._bytes + size > self._limit:
            # one long value is no reason to forget the others
            self._full = self._full or size <= self._limit // 4
            return (integer(place, 4, 0) if place else b"\x00" + literal(name)) + literal(value)
        self._bytes += size
        self._order.append(item)
        self._index()
        return (integer(place, 6, 0x40) if place else b"\x40" + literal(name)) + literal(value)

    def _index(self) -> None:
        newest = _STATIC_COUNT + len(self._order)
        self._known = {item: integer(newest - at, 7, 0x80) for at, item in enumerate(self._order)}
        self._names = {
            item[0]: integer(newest - at, 4, 0)
            for at, item in enumerate(self._order)
            if item[0] in VOLATILE
        }
        authority = self._known.get(self._authority)
        usable = authority is not None and not self._full and not self._resizes
        self._quick_prefix = (
            (_METHOD_POST + _SCHEME_HTTPS + (authority or b"")).decode("latin-1") if usable else ""
        )
        self._quick_known = {item: octets.decode("latin-1") for item, octets in self._known.items()}
        self._quick_names = {name: octets.decode("latin-1") for name, octets in self._names.items()}
        self._quick_paths = {
            value: self._quick_known[name, value] for name, value in self._order if name == ":path"
        }


def _plain(values: list[str]) -> bool:
    """True when each may be a header value unchanged, with its length in one or two octets."""
    visible = is_visible("".join(values))
    return visible and all(values) and max(map(len, values), default=0) < len(_QUICK_LENGTHS)


def _blocks(
    parts: Sequence[str], own: Sequence[Sequence[str]], shared: str, count: int
) -> Iterator[str]:
    """Joins each request's block: the first part; a part, a length and a value of each of `own`;
    what is shared.
    """
    pieces, text = list[Iterable[str]](), parts[0]
    for part, values in zip(parts[1:], own, strict=True):
        text += part
        sizes = set(map(len, values))
        if len(sizes) == 1:
            pieces += (repeat(text + _QUICK_LENGTHS[sizes.pop()]), values)
        else:
            pieces += (repeat(text), [_QUICK_LENGTHS[len(value)] for value in values], values)
        text = ""
    return map("".join, zip(*pieces, repeat(text + shared, count), strict=False))
