"""Title, body, data, and redaction. Pure and total: any message gives a text."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from common.contracts import Element, Message
from common.model import Kind
from common.values import Value
from common.visible_text import shows
from workers.routing.texts import NOTHING, READ, Catalogue, ending_of, translate, unbracketed


class Words(Value, frozen=True):
    """The visible text. title "": the vendor shows the app's name.

    android_title: for vendors that require a title. prefix: the name that `body` begins with, ""
    for none.
    """

    title: str
    subtitle: str | None
    body: str
    android_title: str
    sender_name: str
    text: str
    hidden: bool
    prefix: str = ""


class HiddenMode(StrEnum):
    """The part of its messages that a tenant shows to people who did not hide details."""

    FULL = "full"  # all of it
    SENDER = "sender"  # who wrote, not what
    TEXT = "text"  # a fixed text of the tenant
    ID = "id"  # a text of ours; of the message only its id travels


class Redaction(Value, frozen=True):
    """The replacement of a message's text. title: "" or the sender's name.

    everywhere: the text also replaces title, subtitle and names; else the app's name does, where a
    vendor requires one. ids_only: the sender's data are removed too, only ids remain.
    """

    text: str
    title: str = ""
    everywhere: bool = False
    ids_only: bool = False


def words(
    message: Message,
    lang: str,
    app_name: str,
    *,
    redaction: Redaction | None,
    forced: bool,
    own: Catalogue = NOTHING,
    brackets: bool = True,
) -> Words:
    """redaction: not None shows this and nothing of the message (contract §8, hidden detail). own:
    the tenant's catalogue. brackets: False names elements without them.
    """
    if message.kind in (Kind.RECALL, Kind.CALL_CANCEL):
        built_in = translate(_said_instead(message), lang, own)
        return Words("", None, built_in, app_name or built_in, app_name, built_in, hidden=False)
    if redaction is not None:
        return _redacted(message, redaction, app_name)
    display = message.push.display
    text = _text(message, lang, forced, own, brackets)
    prefix = _prefix(message) if display.nick_prefix == "on" else ""
    sender_name = _sender_name(message)
    spare = (
        sender_name
        if message.conversation.type == "c2c"
        else _shown(message.conversation.name) or sender_name
    )
    title = _shown(display.title)
    name = sender_name or title or app_name
    android_title = title or spare or app_name or prefix + text
    subtitle = _shown(display.subtitle)
    return Words(
        title,
        subtitle or None,
        prefix + text,
        android_title,
        name,
        text,
        hidden=False,
        prefix=prefix,
    )


def _said_instead(message: Message) -> str:
    """The key of the fleet's text that replaces a withdrawn push."""
    if message.kind == Kind.CALL_CANCEL:
        return ending_of(message.ended_by)
    return READ if message.ended_by == READ else message.kind


def _shown(text: str | None) -> str:
    """The text; "" for one that shows nothing, which counts as not given."""
    return text if shows(text) else ""


def _redacted(message: Message, redaction: Redaction, app_name: str) -> Words:
    """The redaction's text; a line that the message has not is not made up for it."""
    display = message.push.display
    title, subtitle = (
        redaction.text if redaction.everywhere and _shown(line) else ""
        for line in (display.title, display.subtitle)
    )
    name = redaction.title or (redaction.text if redaction.everywhere else app_name)
    return Words(
        redaction.title or title,
        subtitle or None,
        redaction.text,
        name or redaction.text,
        name,
        redaction.text,
        hidden=True,
    )


def _sender_name(message: Message) -> str:
    """The card in a group, else the nick."""
    sender = message.sender
    return (_shown(sender.group_card) if message.conversation.type == "group" else "") or _shown(
        sender.nick
    )


def _text(message: Message, lang: str, forced: bool, own: Catalogue, brackets: bool) -> str:
    force = message.push.force
    given = (_shown(force.body) if forced and force is not None else "") or _shown(
        message.push.display.body
    )
    if given:
        return given
    if message.kind == Kind.CALL_INVITE:
        return translate("call_invite", lang, own)
    alone = len(message.elements) == 1
    built = "".join(
        _element(one, lang, own) if brackets else _unbracketed(one, lang, own, alone)
        for one in message.elements
    )
    return _shown(built) or translate("hidden", lang, own)


#: Elements that are their own words.
_WORDS = frozenset({"text", "custom"})


def _element(one: Element, lang: str, own: Catalogue) -> str:
    return one.text or "" if one.type in _WORDS else translate(one.type, lang, own)


def _unbracketed(one: Element, lang: str, own: Catalogue, alone: bool) -> str:
    return one.text or "" if one.type in _WORDS else unbracketed(one.type, lang, own, alone=alone)


def _prefix(message: Message) -> str:
    """`Nick:` in a c2c chat; `name(group):` in a group, as far as known (im-dialects §2.4)."""
    name = _sender_name(message)
    group = _shown(message.conversation.name) if message.conversation.type == "group" else ""
    shown = f"{name}({group})" if group else name
    return f"{shown}:" if shown else ""


def redaction_of(
    message: Message,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    content_key: str | None,
    lang: str,
    own: Catalogue = NOTHING,
) -> Redaction | None:
    """The redaction for this person and device; None when the message may be shown.

    The person's own choice (`show_detail` false) hides all; a content key selects the tenant's text
    for it. The tenant's mode applies to everybody (HiddenMode).
    """
    mode = options.get("hidden_mode", HiddenMode.FULL)
    if mode == HiddenMode.FULL and settings.get("show_detail") is not False:
        return None
    keyed = (options.get("content_keys") or {}).get(content_key or "")
    hidden_text = translate("hidden", lang, own)
    hides = settings.get("show_detail") is False
    if hides or mode == HiddenMode.ID:
        return Redaction(
            str(keyed or hidden_text), everywhere=hides, ids_only=mode == HiddenMode.ID
        )
    if mode == HiddenMode.SENDER:
        return Redaction(hidden_text, title=_sender_name(message))
    if mode == HiddenMode.TEXT:
        return Redaction(str(options.get("hidden_text") or hidden_text))
    return None
