"""XML of an XMPP stream: stanzas as small trees, read incrementally and within bounds.

Only elements and text are accepted. Every user of a server may send its component a stanza of any
size and depth, and the server hands it on: what is over a bound is left out, and the stream goes
on. An end of the stream would cost others their pushes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

#: What is kept of one stanza: characters, elements, nested elements; characters of one text.
STANZA_CHARS_MAX: Final = 256 * 1024
ELEMENTS_MAX: Final = 2_000
DEPTH_MAX: Final = 24
TEXT_CHARS_MAX: Final = 64 * 1024
#: One tag: the parser keeps it whole. A server writes an apostrophe as six bytes.
TAG_BYTES_MAX: Final = 16 * 1024 * 1024


class XmlError(ValueError):
    """The stream can't go on. Shows nothing of it."""


@dataclass(slots=True)
class Node:
    """One element. name: `{namespace}local`; attrs: those without a prefix; text: its direct text,
    at most TEXT_CHARS_MAX. cut: of a stanza, parts of it were left out.
    """

    name: str
    attrs: dict[str, str] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    text: str = ""
    cut: bool = field(default=False, compare=False)

    def find(self, *names: str) -> Node | None:
        """The first descendant along these names."""
        here: Node | None = self
        for name in names:
            here = (
                next((child for child in here.children if child.name == name), None)
                if here is not None
                else None
            )
        return here

    def all(self, name: str) -> Iterator[Node]:
        return (child for child in self.children if child.name == name)

    def write(self, around: str = "") -> str:
        """The XML; around: the namespace already declared."""
        space, local = split(self.name)
        declared = f" xmlns={quoteattr(space)}" if space != around else ""
        attrs = "".join(f" {name}={quoteattr(value)}" for name, value in self.attrs.items())
        inner = escape(self.text) + "".join(child.write(space) for child in self.children)
        return (
            f"<{local}{declared}{attrs}>{inner}</{local}>"
            if inner
            else f"<{local}{declared}{attrs}/>"
        )


def split(name: str) -> tuple[str, str]:
    space, _, local = name[1:].partition("}") if name.startswith("{") else ("", "", name)
    return space, local


class StanzaReader:
    """Bytes of a stream -> its header, then its stanzas. header: attributes of `<stream:stream>`,
    None until it came.
    """

    def __init__(self) -> None:
        self.header: dict[str, str] | None = None
        self.closed = False
        self._done: list[Node] = []
        self._stack: list[Node] = []
        #: Of the stream and of each element in the stack: prefix -> namespace, "" for the default.
        self._spaces: list[dict[str, str]] = [{}]
        self._room, self._elements = STANZA_CHARS_MAX, 0
        self._left_out = 0  # elements that are open, from the first that is left out
        self._fed = 0
        # prefixes are resolved here: ejabberd drops the declarations of a stanza's own tag
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._chars
        parser.buffer_text = True
        for name in (
            "StartDoctypeDeclHandler",
            "EntityDeclHandler",
            "ProcessingInstructionHandler",
            "CommentHandler",
        ):
            setattr(parser, name, _forbidden)
        self._parser = parser

    def feed(self, data: bytes) -> list[Node]:
        """Stanzas that are complete now. XmlError."""
        self._fed += len(data)
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError:
            raise XmlError("not well-formed") from None
        if self._fed - self._parser.CurrentByteIndex > TAG_BYTES_MAX:
            raise XmlError("a tag is too large")
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attrs: dict[str, str]) -> None:
        plain = {key: value for key, value in attrs.items() if ":" not in key and key != "xmlns"}
        if self.header is None:
            self.header = plain
            self._spaces = [_declared({}, attrs)]
            return
        if self._left_out or (self._stack and not self._has_room(name, plain)):
            self._left_out += 1
            self._stack[0].cut = True
            return
        spaces = _declared(self._spaces[-1], attrs)
        prefix, _, local = name.rpartition(":")
        space = spaces.get(prefix, "")
        node = Node(f"{{{space}}}{local}" if space else name, plain)
        if self._stack:
            self._stack[-1].children.append(node)
        self._stack.append(node)
        self._spaces.append(spaces)

    def _has_room(self, name: str, attrs: dict[str, str]) -> bool:
        chars = len(name) + sum(len(key) + len(value) for key, value in attrs.items())
        if len(self._stack) >= DEPTH_MAX or self._elements >= ELEMENTS_MAX or chars > self._room:
            return False
        self._room -= chars
        self._elements += 1
        return True

    def _end(self, _name: str) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        if not self._stack:
            self.closed = True
            return
        node = self._stack.pop()
        self._spaces.pop()
        if not self._stack:
            self._done.append(node)
            self._room, self._elements = STANZA_CHARS_MAX, 0

    def _chars(self, text: str) -> None:
        if self._left_out or not self._stack:
            return
        node = self._stack[-1]
        kept = text[: TEXT_CHARS_MAX - len(node.text)]
        if len(kept) > self._room:
            kept, self._stack[0].cut = kept[: self._room], True
        self._room -= len(kept)
        node.text += kept


def _declared(around: dict[str, str], attrs: dict[str, str]) -> dict[str, str]:
    """The namespaces inside of a tag, by their prefixes."""
    own = {
        key.removeprefix("xmlns").removeprefix(":"): value
        for key, value in attrs.items()
        if key == "xmlns" or key.startswith("xmlns:")
    }
    return around | own if own else around


def _forbidden(*_: object) -> None:
    raise XmlError("XMPP has no such thing")
