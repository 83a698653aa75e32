"""The Huffman code of RFC 7541 appendix B: the texts of answers. Pure.

A text is decoded by zlib where it can be: DEFLATE (RFC 1951) takes any canonical code of up to 15
bits for a block, and this code is canonical. An id of a vendor takes zlib half the time of a loop
here. The loop is exact: it decodes what zlib can't, and refuses what is no text.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH


class HeaderError(ValueError):
    """A header block that RFC 7541 or one of our bounds forbids. The tables differ from now on: the
    connection ends.
    """


def decode(raw: bytes) -> str:
    """The text, octets outside ASCII as Latin-1. HeaderError for what is none."""
    block = _BLOCK.copy()
    try:
        text = block.decompress(raw.translate(_REVERSED) + _END, _TEXT_BYTES_MAX)
    except zlib.error:
        return _steps.decode(raw)
    unread = len(block.unused_data)
    # Read but for one octet: the padding is of seven bits at most, or it is a whole octet of ones.
    if block.eof and (not unread or (unread == 1 and raw[-1:] != b"\xff")):
        return text.decode("latin-1")
    return _steps.decode(raw)


def decode_alike(raws: Sequence[bytes]) -> list[str] | None:
    """The texts of all, at least one, where they are equally long and none has a letter of
    _SEAM_STARTS, as ids have it; read by one call. None: `decode` has to read each.

    Between the texts stands _SEAM: whatever the padding before it, both are read as three letters,
    the first of _SEAM_STARTS. These letters are those of a whole text, of its padding and of a seam
    only: there are as many of them as texts, each where a text ends.
    """
    block = _BLOCK.copy()
    count, packed = len(raws), b"".join(chain.from_iterable(zip(raws, repeat(_SEAM), strict=False)))
    try:
        whole = block.decompress(packed.translate(_REVERSED) + _END)
    except zlib.error:
        return None
    stride = len(whole) // count
    size = stride - 3
    if not block.eof or block.unused_data or size < 1 or stride * count != len(whole):
        return None
    starts = len(whole) - len(whole.translate(None, _SEAM_STARTS))
    parts = (whole[size + at :: stride] for at in range(3))
    seams = {*zip(*parts, strict=False)}
    if starts != count or not seams <= _SEAMS:
        return None
    text = whole.decode("latin-1")
    return [text[at : at + size] for at in range(0, len(text), stride)]


# ---------------------------------------------------------------- the exact loop


_Row = list["tuple[_Row, str] | None"]


class _Steps:
    """The code of RFC 7541 appendix B as steps of a whole octet, each made when it is first met.

    A row is a place in the code's tree: octet -> (next row, the text that was completed on the
    way).
    """

    def __init__(self) -> None:
        # a child: >= 0 a node, < 0 symbol -1 - child
        self._nodes: list[list[int | None]] = [[None, None]]
        for symbol, (code, length) in enumerate(
            zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)
        ):
            self._plant(symbol, code, length)
        self._rows: dict[int, _Row] = {}
        self._node_of: dict[int, int] = {}
        self._start = self._row(0)
        self._ends = {id(self._row(node)) for node in self._padding()}

    def _plant(self, symbol: int, code: int, length: int) -> None:
        node = 0
        for place in range(length - 1, -1, -1):
            bit = code >> place & 1
            if not place:
                self._nodes[node][bit] = -1 - symbol
                return
            child = self._nodes[node][bit]
            if child is None:
                self._nodes.append([None, None])
                child = self._nodes[node][bit] = len(self._nodes) - 1
            node = child

    def _row(self, node: int) -> _Row:
        row = self._rows.get(node)
        if row is None:
            row = self._rows[node] = [None] * 256
            self._node_of[id(row)] = node
        return row

    def _padding(self) -> list[int]:
        """Places where a string may end: up to seven bits of ones since the last symbol (§5.2)."""
        places, node = [0], 0
        for _ in range(7):
            # the end of string is the only symbol that begins so, and it has thirty
            node = self._nodes[node][1] or 0
            places.append(node)
        return places

    def decode(self, raw: bytes) -> str:
        row, text = self._start, ""
        for octet in raw:
            try:
                row, piece = row[octet]  # type: ignore[misc]  # None: a step that was not met before
            except TypeError:
                row, piece = self._step(row, octet)
            text += piece
        if id(row) not in self._ends:
            raise HeaderError("a Huffman string without its end")
        return text

    def _step(self, row: _Row, octet: int) -> tuple[_Row, str]:
        node, text = self._node_of[id(row)], ""
        for place in range(7, -1, -1):
            child = self._nodes[node][octet >> place & 1]
            # no code, or the end of string, which must not stand in one
            if child is None or child == -257:
                raise HeaderError("no Huffman code")
            if child < 0:
                text, node = text + chr(-1 - child), 0
            else:
                node = child
        step = row[octet] = (self._row(node), text)
        return step


_steps: Final = _Steps()


# ---------------------------------------------------------------- the same code as DEFLATE has it

#: DEFLATE reads an octet from its low end, HPACK from its high end.
_REVERSED: Final = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
#: Longest code of DEFLATE. Fifteen ones, with which all longer codes and every padding begin, end
#: a block: fifteen and no more, so that they complete no code that the text breaks off.
_BITS_MAX: Final = 15
_END: Final = b"\xff\x7f"
#: Longer texts are the loop's: an answer's text is read into memory of this size first.
_TEXT_BYTES_MAX: Final = 512


def _block_head() -> bytes:
    """The head of a block with this code (RFC 1951 §3.2.7), filled up to a whole octet.

    Each length of a code is written in four bits. Empty blocks before it do the filling.
    """
    lengths = [length if length <= _BITS_MAX else 0 for length in REQUEST_CODES_LENGTH[:256]]
    bits = ""
    head = "1" + "01" + "00000" + "00000" + "1111"  # the last block, dynamic; 257 codes, 1, 19
    sizes = "000" * 3 + "001" * 16  # of the lengths 16 to 18 no code, of 0 to 15 four bits each
    codes = "".join([f"{length:04b}" for length in [*lengths, _BITS_MAX, 1]])
    while (len(bits) + len(head + sizes + codes)) % 8:
        bits += "010" + "0000000"  # an empty block with the fixed code
    bits += head + sizes + codes
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


#: After the head of a block: each text is decoded by a copy.
_BLOCK: Final = zlib.decompressobj(-9)
_BLOCK.decompress(_block_head())

#: Two octets that follow a text (see decode_alike), as HPACK has them, and what they are read as
#: behind 0 to 7 bits of padding. Found by trying all; tests/unit/workers/transport/test_huffman.py
#: tries them again.
_SEAM: Final = b"\x30\x5c"
_SEAMS: Final = {
    tuple(one) for one in (b"i16", b"g16", b"K16", b"Y0:", b"x=:", b"*=:", b"XE:", b'"=:')
}
_SEAM_STARTS: Final = bytes(first for first, *_ in _SEAMS)
