"""XMPP without a socket: a stream becomes stanzas whatever its pieces, a stanza becomes a push, and
only a token that is gone is answered by what ends a subscription.
"""

import pytest

from common.model import Vendor
from workers.gateway import stanzas
from workers.gateway.stanzas import COMMANDS, FORMS, PUBSUB, PUSH, Publish, publish_of, room_of
from workers.gateway.xml import (
    DEPTH_MAX,
    ELEMENTS_MAX,
    STANZA_CHARS_MAX,
    TAG_BYTES_MAX,
    TEXT_CHARS_MAX,
    Node,
    StanzaReader,
    XmlError,
)

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
    b"xmlns:stream='http://etherx.jabber.org/streams' from='push.example.org' id='7'>"
)
IQ = "<iq type='set' id='p1' from='ejabberd.example.org' to='push.example.org'>%s</iq>"


def read(stanza: str) -> Node:
    (node,) = StanzaReader().feed(HEADER + stanza.encode())
    return node


def published(fields: str = "", item: str = "", options: str = "") -> Publish | None:
    summary = f"<x xmlns='{FORMS}'>{fields}</x>" if fields else ""
    node = read(
        IQ % f"<pubsub xmlns='{PUBSUB}'><publish node='n1'><item>"
        f"<notification xmlns='{PUSH}'>{summary}{item}</notification></item></publish>"
        f"<publish-options><x xmlns='{FORMS}'>{options}</x></publish-options></pubsub>"
    )
    return publish_of(node)


def field(name: str, value: str) -> str:
    return f"<field var='{name}'><value>{value}</value></field>"


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_a_stream_is_the_same_in_pieces_of_any_size(piece: int) -> None:
    reader = StanzaReader()
    stream = HEADER + (IQ % "<a x='1'>é&lt;</a>").encode() + b" <b/></stream:stream>"
    starts = range(0, len(stream), piece)
    found = [node for start in starts for node in reader.feed(stream[start : start + piece])]
    assert reader.header == {"from": "push.example.org", "id": "7"}
    assert reader.closed
    iq, b = found
    a = Node("{jabber:component:accept}a", {"x": "1"}, text="é<")
    assert (iq.attrs["id"], iq.children, b.name) == ("p1", [a], "{jabber:component:accept}b")


@pytest.mark.parametrize(
    "sent",
    [
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><stream/>",
        HEADER + b"<!-- hello -->",
        HEADER + b"<?php ?>",
        HEADER + b"<a></b>",
        HEADER + b"<a b='" + b"x" * TAG_BYTES_MAX,
    ],
    ids=["entities", "comment", "instruction", "not well-formed", "a tag without an end"],
)
def test_what_xmpp_forbids_and_what_has_no_bound_ends_the_stream(sent: bytes) -> None:
    with pytest.raises(XmlError):
        StanzaReader().feed(sent)


def test_many_stanzas_may_be_longer_together_than_one_may_be() -> None:
    reader = StanzaReader()
    reader.feed(HEADER)
    one = b"<a>" + b"x" * (STANZA_CHARS_MAX // 2) + b"</a>"
    assert [len(reader.feed(one)) for _ in range(4)] == [1] * 4


#: What any user may send to the component, and whether parts of it are left out.
HUGE = {
    "nested deep": ("<a>" * 50_000 + "</a>" * 50_000, True),
    "many elements": ("<a/>" * (3 * ELEMENTS_MAX), True),
    "much in attributes": (f"<a b='{'x' * 1000}'/>" * 1000, True),
    "many long texts": (f"<a>{'x' * TEXT_CHARS_MAX}</a>" * 20, True),
    "one long text": ("'" * 1_000_000, False),
    "a long attribute": (f"<a b='{'x' * 1_000_000}'/>", True),
}


@pytest.mark.parametrize(("inner", "is_cut"), HUGE.values(), ids=HUGE)
def test_a_stanza_over_the_bounds_is_cut_and_the_next_one_is_read(inner: str, is_cut: bool) -> None:
    reader, stream = StanzaReader(), HEADER + (IQ % inner).encode() + (IQ % "<b/>").encode()
    starts = range(0, len(stream), 65_536)
    huge, after = (node for start in starts for node in reader.feed(stream[start : start + 65_536]))
    assert (huge.attrs["id"], huge.cut) == ("p1", is_cut)
    assert len(huge.text) + sum(map(kept, huge.children)) <= STANZA_CHARS_MAX
    assert depth(huge) <= DEPTH_MAX
    assert (after.cut, [child.name for child in after.children]) == (
        False,
        ["{jabber:component:accept}b"],
    )


def kept(node: Node) -> int:
    own = len(node.text) + sum(len(key) + len(value) for key, value in node.attrs.items())
    return own + sum(map(kept, node.children))


def depth(node: Node) -> int:
    return 1 + max(map(depth, node.children), default=0)


def test_what_follows_a_long_text_is_kept() -> None:
    push = published(field("last-message-body", "x" * 900_000), "", field("secret", "s3"))
    assert push is not None
    assert (push.secret, len(push.body), push.loud) == ("s3", TEXT_CHARS_MAX, True)


#: A stanza's inner XML -> the names in it. ejabberd drops the declarations of a stanza's own tag.
SPACES = {
    "a prefix without its declaration": ("<q xmlns='urn:x' p:a='1'/>", ["{urn:x}q"]),
    "an element of such a prefix": ("<p:q p:a='1'><r/></p:q>", ["p:q"]),
    "a prefix of its own": (
        "<p:q xmlns:p='urn:p'/><p:q xmlns:p='urn:2'/>",
        ["{urn:p}q", "{urn:2}q"],
    ),
    "none": ("<q xmlns=''/>", ["q"]),
    "the stream's": ("<stream:q/>", ["{http://etherx.jabber.org/streams}q"]),
}


@pytest.mark.parametrize(("inner", "names"), SPACES.values(), ids=SPACES)
def test_namespaces_are_those_that_hold_there(inner: str, names: list[str]) -> None:
    assert [child.name for child in read(IQ % inner).children] == names


def test_an_attribute_with_a_prefix_is_not_the_plain_one() -> None:
    node = read("<iq id='1' type='get' xmlns:p='urn:p' p:id='2' p:type='result' xml:lang='en'/>")
    assert node.attrs == {"id": "1", "type": "get"}


def test_a_body_of_several_lines_has_a_value_a_line() -> None:
    lines = "<value>one</value><value>two</value><value/>"
    push = published(f"<field var='last-message-body' type='text-multi'>{lines}</field>")
    assert push is not None
    assert push.body == "one\ntwo"


def test_what_is_written_is_read_back() -> None:
    inner = Node("{urn:x}b", {"q": "\"'<&"}, [Node("{urn:y}c", text="<&>")])
    node = Node(f"{{{stanzas.COMPONENT}}}iq", {"id": "1"}, [inner, Node("{urn:x}d", text="喂")])
    assert read(node.write()) == node
    assert read(node.write(stanzas.COMPONENT)) == node
    assert node.find("{urn:x}b", "{urn:y}c") is inner.children[0]
    assert node.find("{urn:x}d", "{urn:y}c", "{urn:z}e") is None


BODY = field("last-message-body", " 喂 ") + field("last-message-sender", "bob@example.org/phone")
SEALED = "<encrypted xmlns='tigase:push:encrypt:0' iv='i' type='%s'> c </encrypted>"
HIGH = "<priority xmlns='tigase:push:priority:0'>high</priority>"
#: Form, what else the notification holds -> loud, call, body, cipher.
PUSHES = {
    "sender and words": (BODY, "", (True, False, "喂", None)),
    "a count only is silent": (field("message-count", "2"), "", (False, False, "", None)),
    "nothing is silent": ("", "", (False, False, "", None)),
    "no words, but high": ("", HIGH, (True, False, "", None)),
    "sealed words": ("", SEALED % "chat", (False, False, "", ("c", "i"))),
    "a sealed call rings": ("", SEALED % "voip", (True, True, "", ("c", "i"))),
}


@pytest.mark.parametrize(("fields", "item", "told"), PUSHES.values(), ids=PUSHES)
def test_a_publish_is_loud_by_what_it_holds(
    fields: str, item: str, told: tuple[bool, bool, str, tuple[str, str] | None]
) -> None:
    push = published(fields, item, field("secret", "s3") + "<field var='x'/>")
    assert push is not None
    assert (push.node, push.secret) == ("n1", "s3")
    assert (push.loud, push.call, push.body, push.cipher) == told
    assert "s3" not in repr(push)
    assert "喂" not in repr(push)


def test_equal_pushes_have_one_summary_and_others_another() -> None:
    pushes = [published(BODY), published(BODY), published("", SEALED % "chat"), published()]
    summaries = [push.summary for push in pushes if push is not None]
    assert summaries[0] == summaries[1]
    assert len(set(summaries)) == 3
    assert publish_of(read(IQ % "<ping xmlns='urn:xmpp:ping'/>")) is None


@pytest.mark.parametrize(
    ("sender", "room"),
    [
        ("team@conference.example.org/bob", "team"),
        ("team@muc.example.org", ""),
        ("bob@example.org/phone", ""),
        ("conference.example.org/x", ""),
    ],
)
def test_an_occupant_of_a_room_is_told_from_a_person(sender: str, room: str) -> None:
    assert room_of(sender) == room


def test_an_answer_goes_back_and_only_a_gone_token_ends_the_subscription() -> None:
    iq = read(IQ % "")
    back = {"id": "p1", "to": "ejabberd.example.org", "from": "push.example.org"}
    assert stanzas.result(iq).attrs == back | {"type": "result"}
    assert stanzas.result(read("<iq/>")).attrs == {"type": "result"}
    for answer, kind in ((stanzas.gone(iq), "cancel"), (stanzas.trouble(iq), "wait")):
        assert answer.attrs == back | {"type": "error"}
        assert [child.attrs["type"] for child in answer.children] == [kind]


def test_a_client_finds_push_and_the_commands_of_every_vendor() -> None:
    assert PUSH in {child.attrs.get("var") for child in stanzas.disco_info().children}
    commands = stanzas.disco_items("push.example.org", COMMANDS)
    found = {child.attrs["node"] for child in commands.children}
    assert found == {"unregister-push", *(f"register-push-{vendor}" for vendor in Vendor)}
    assert stanzas.disco_items("push.example.org", "").children == []
    assert stanzas.disco_info().attrs == {}
    assert stanzas.disco_info(COMMANDS).attrs == {"node": COMMANDS}


def test_a_command_hands_its_values_over_in_a_form() -> None:
    values = {"node": "n1", "secret": "<s>"}
    done = read(stanzas.command_done("register-push-apns", values).write())
    assert done.attrs["status"] == "completed"
    assert stanzas.fields_of(done.find(f"{{{FORMS}}}x")) == values
    assert stanzas.command_done("unregister-push", {}).children == []
