"""XML of an XMPP stream: stanzas as small trees, read incrementally and within bounds.

Only elements and text are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

STANZA_BYTES_MAX: Final = 256 * 1024
DEPTH_MAX: Final = 24


class XmlError(ValueError):
    """The stream can't go on. Shows nothing of it."""


@dataclass(slots=True)
class Node:
    """One element. name: `{namespace}local`; text: its direct text."""

    name: str
    attrs: dict[str, str] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    text: str = ""

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
        self._fed_since = 0
        parser = expat.ParserCreate(namespace_separator=" ")
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
        self._fed_since += len(data)
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError:
            raise XmlError("not well-formed") from None
        if self._fed_since > STANZA_BYTES_MAX:
            raise XmlError("a stanza is too large")
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attrs: dict[str, str]) -> None:
        if self.header is None:
            self.header = attrs
            return
        if len(self._stack) >= DEPTH_MAX:
            raise XmlError("nested too deep")
        space, _, local = name.rpartition(" ")
        plain = {key.rpartition(" ")[2]: value for key, value in attrs.items()}
        node = Node(f"{{{space}}}{local}" if space else local, plain)
        if self._stack:
            self._stack[-1].children.append(node)
        self._stack.append(node)

    def _end(self, _name: str) -> None:
        if not self._stack:
            self.closed = True
            return
        node = self._stack.pop()
        if not self._stack:
            self._done.append(node)
            self._fed_since = 0

    def _chars(self, text: str) -> None:
        if self._stack:
            self._stack[-1].text += text


def _forbidden(*_: object) -> None:
    raise XmlError("XMPP has no such thing")
