"""Title, body, data; how much of the message may be shown. Pure and total: any message gives words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.contracts import Message
from common.model import Kind
from workers.routing.texts import say


@dataclass(frozen=True, slots=True)
class Words:
    """What a person will read. title "": the vendor shows the app's name, or `android_title` where it needs one."""

    title: str
    subtitle: str | None
    body: str
    android_title: str
    sender_name: str
    text: str
    hidden: bool


def words(message: Message, lang: str, app_name: str, *, hidden_text: str | None, forced: bool) -> Words:
    """hidden_text: not None shows this and nothing of the message (contract §8, hidden detail)."""
    if message.kind in (Kind.RECALL, Kind.CALL_CANCEL):
        said = say(message.kind, lang)
        return Words("", None, said, app_name or said, app_name, said, hidden=False)
    if hidden_text is not None:
        return Words("", None, hidden_text, app_name or hidden_text, app_name, hidden_text, hidden=True)
    display = message.push.display
    text = _text(message, lang, forced)
    body = _prefix(message) + text if display.nick_prefix == "on" else text
    sender_name = message.sender.group_card or message.sender.nick or ""
    spare = sender_name if message.conversation.type == "c2c" else message.conversation.name or sender_name
    title = display.title or ""
    return Words(title, display.subtitle, body, title or spare or app_name or body, sender_name or title or app_name, text, hidden=False)


def _text(message: Message, lang: str, forced: bool) -> str:
    force = message.push.force
    if forced and force is not None and force.body:
        return force.body
    if message.push.display.body:
        return message.push.display.body
    if message.kind == Kind.CALL_INVITE:
        return say("call_invite", lang)
    return "".join(_element(element.type, element.text, lang) for element in message.elements) or say("hidden", lang)


def _element(kind: str, text: str | None, lang: str) -> str:
    if kind in ("text", "custom"):
        return text or ""
    return say(kind, lang)


def _prefix(message: Message) -> str:
    """`Nick:` in a chat of two; `name(group):` in a group, as far as the names are known (im-dialects §2.4)."""
    sender = message.sender
    if message.conversation.type == "c2c":
        return f"{sender.nick}:" if sender.nick else ""
    name = sender.group_card or sender.nick or ""
    group = f"({message.conversation.name})" if message.conversation.name else ""
    return f"{name}{group}:" if name or group else ""


def hidden_words(settings: Mapping[str, Any], options: Mapping[str, Any], content_key: str | None, lang: str, sender: str) -> str | None:
    """What stands in place of the message for this person and device, None where the message itself may be shown.

    The person's own choice (`show_detail` false) hides all; a content key picks the tenant's text for it; the tenant's
    mode hides for everybody: `full` nothing, `sender` all but who wrote, `text` a fixed text, `id` the key's text only.
    """
    if settings.get("show_detail") is False:
        keyed = (options.get("content_keys") or {}).get(content_key or "")
        return str(keyed) if keyed else say("hidden", lang)
    mode = options.get("hidden_mode", "full")
    if mode == "sender":
        return f"{sender}: {say('hidden', lang)}" if sender else say("hidden", lang)
    if mode == "text":
        return str(options.get("hidden_text") or say("hidden", lang))
    if mode == "id":
        return str((options.get("content_keys") or {}).get(content_key or "") or say("hidden", lang))
    return None
