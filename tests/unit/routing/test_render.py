"""What people read: prefixes, built-in words by language, titles, and what stands in place of a
hidden message.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.model import Kind
from tests.examples import examples
from tests.unit.routing.builders import group, message
from workers.routing.render import HiddenMode, Redaction, redaction_of, words
from workers.routing.texts import LANGS, TEXTS, CatalogueError, lang_of, read_catalogue, translate

OFF = {"display": {"nick_prefix": "off"}}


def lines_of(shown: Any) -> tuple[str | None, ...]:
    own = (shown.title, shown.subtitle, shown.body)
    return *own, shown.android_title, shown.sender_name, shown.text


def said(
    about: Any,
    lang: str = "en",
    redaction: Redaction | None = None,
    forced: bool = False,
    app_name: str = "Chat",
    **more: Any,
) -> Any:
    return words(about, lang, app_name, redaction=redaction, forced=forced, **more)


def by(
    nick: str | None = "Ann", card: str | None = None, team: str | None = "", **more: Any
) -> Any:
    """Ann's message; team: of a group of this name, None: of one without."""
    sender = {"id": "ann", "nick": nick, "group_card": card}
    if team == "":
        return message(sender=sender, **more)
    return group(sender=sender, conversation={"type": "group", "id": "g1", "name": team}, **more)


def shows(nick_prefix: str = "on", **display: Any) -> Any:
    return message(push={"display": {"nick_prefix": nick_prefix, **display}})


def of(*elements: dict[str, str]) -> Any:
    return message(elements=list(elements), push=OFF)


BODIES = {
    "peer with a nick": (by(), "Ann:hello"),
    "peer without a nick": (by(None), "hello"),
    "peer: the group card is not for here": (by(card="Card"), "Ann:hello"),
    "prefix off": (message(push=OFF), "hello"),
    "group: the card before the nick": (by(card="Card", team="Team"), "Card(Team):hello"),
    "group: the nick where there is no card": (group(), "Ann(Team):hello"),
    "group: no name of the sender": (by(None, team="Team"), "(Team):hello"),
    "group: no name of the group": (by(team=None), "Ann:hello"),
    "names of blanks": (by(" ", team=" "), "hello"),
    "a nick of blanks": (by(" "), "hello"),
    "group: no name at all": (by(None, team=None), "hello"),
    "the sender's body as it is": (shows("off", body="Look!"), "Look!"),
    "the sender's body with the prefix he asked for": (shows(body="Look!"), "Ann:Look!"),
    "elements are joined without anything between": (
        of({"type": "text", "text": "see "}, {"type": "image"}, {"type": "face"}),
        "see [Image][Face]",
    ),
    "a custom element shows its text": (of({"type": "custom", "text": "a gift"}), "a gift"),
    "an element's own text beside its placeholder": (of({"type": "file", "text": "a"}), "[File]"),
    "a body of blanks is none": (shows(body=" "), "Ann:hello"),
    "a body of signs that nobody sees is none": (
        shows(body="\u200b\u2060\U0001d173\U0001bca0"),
        "Ann:hello",
    ),
    "a nick of signs that nobody sees": (by("\u200e\u200d"), "hello"),
    "nothing to say": (of({"type": "text"}), "You have a new message"),
    "a call": (by(kind=Kind.CALL_INVITE, elements=[]), "Ann:Incoming call"),
    "a recall has words of its own": (by(kind=Kind.RECALL), "This message was recalled"),
    "what was read elsewhere is no recall": (
        by(kind=Kind.RECALL, ended_by="read_elsewhere"),
        "Read on another device",
    ),
    "the end of a call has words of its own": (by(kind=Kind.CALL_CANCEL), "The call has ended"),
}


@pytest.mark.parametrize(("about", "body"), BODIES.values(), ids=BODIES)
def test_the_body_reads(about, body):
    assert said(about).body == body


@pytest.mark.parametrize(
    "kind",
    [
        key
        for key in TEXTS
        if key in ("sound", "file", "image", "video", "face", "location", "merger")
    ],
)
@pytest.mark.parametrize("lang", sorted(LANGS))
def test_a_placeholder_is_in_the_language_of_the_receiver(kind, lang):
    assert said(message(elements=[{"type": kind}], push=OFF), lang).body == TEXTS[kind][lang]


TITLES = {
    "given: above the usual text": (shows(title="Hi"), "Hi", "Hi"),
    "none, peer: Android shows who wrote": (message(), "", "Ann"),
    "none, group: Android shows the group": (group(), "", "Team"),
    "none, group without a name: Android shows who wrote": (by(team=None), "", "Ann"),
    "nothing known: the app": (by(None), "", "Chat"),
    "a title of blanks is none": (shows(title=" "), "", "Ann"),
    "a name of blanks is none": (by(" ", team=" "), "", "Chat"),
}


@pytest.mark.parametrize(("about", "title", "android"), TITLES.values(), ids=TITLES)
def test_the_title_is_the_senders_and_android_always_has_one(about, title, android):
    shown = said(about)
    assert (shown.title, shown.android_title) == (title, android)


def test_without_even_a_name_of_the_app_android_shows_the_body_as_title():
    assert said(message(sender={"id": "ann"}), app_name="").android_title == "hello"
    assert said(message(kind=Kind.RECALL), app_name="").android_title == "This message was recalled"
    assert said(message(), redaction=Redaction("new"), app_name="").android_title == "new"


FORCE = {
    "forced, with a text for it": ({"on": True, "body": "Wake up"}, True, "Wake up"),
    "not forced: the usual text": ({"on": True, "body": "Wake up"}, False, "hello"),
    "forced without a text for it": ({"on": True}, True, "hello"),
    "forced with blanks for it": ({"on": True, "body": " "}, True, "hello"),
    "no such block": (None, True, "hello"),
}


@pytest.mark.parametrize(("force", "forced", "body"), FORCE.values(), ids=FORCE)
def test_only_a_forced_member_reads_the_forced_text(force, forced, body):
    assert said(group(push={**OFF, "force": force}), forced=forced).body == body


def test_a_subtitle_is_the_senders():
    assert said(message(push={"display": {"subtitle": "Work"}})).subtitle == "Work"


def test_a_template_gets_sender_and_text_apart():
    assert (said(message()).sender_name, said(message()).text) == ("Ann", "hello")
    found = said(message(sender={"id": "ann"}, push={"display": {"title": "Hi"}})).sender_name
    assert found == "Hi"


# ---------------------------------------------------------------- hidden

ZH, EN = "您收到一条新消息", "You have a new message"
KEYS = {"content_keys": {"k1": "来消息了"}}
HIDES = {"show_detail": False}
HIDDEN: list[tuple[dict[str, Any], dict[str, Any], str | None, Redaction | None]] = [
    ({}, {}, None, None),
    ({}, KEYS, "k1", None),  # a content key alone hides nothing
    ({"show_detail": True}, {"hidden_mode": "full"}, None, None),
    (HIDES, {}, None, Redaction(EN, everywhere=True)),
    (HIDES, KEYS, "k1", Redaction("来消息了", everywhere=True)),
    (HIDES, KEYS, "k2", Redaction(EN, everywhere=True)),
    (HIDES, {"hidden_mode": "sender"}, None, Redaction(EN, everywhere=True)),
    (HIDES, {"hidden_mode": "id"}, None, Redaction(EN, everywhere=True, ids_only=True)),
    ({}, {"hidden_mode": "sender"}, None, Redaction(EN, title="Ann")),
    ({}, {"hidden_mode": "text", "hidden_text": "Open"}, None, Redaction("Open")),
    ({}, {"hidden_mode": "text"}, None, Redaction(EN)),
    ({}, {"hidden_mode": "id"}, None, Redaction(EN, ids_only=True)),
    ({}, {"hidden_mode": "id", **KEYS}, "k1", Redaction("来消息了", ids_only=True)),
]


@pytest.mark.parametrize(("wishes", "options", "key", "redaction"), HIDDEN)
def test_what_stands_in_place_of_a_message(wishes, options, key, redaction):
    assert redaction_of(message(), wishes, options, key, "en") == redaction


def test_hidden_words_are_in_the_language_of_the_device():
    found = redaction_of(message(), {"show_detail": False}, {}, None, "zh")
    assert found == Redaction(ZH, everywhere=True)
    own = {"ja": {"hidden": "新着メッセージ"}}
    seen = redaction_of(message(), {"show_detail": False}, {}, None, "ja", own)
    assert seen == Redaction("新着メッセージ", everywhere=True)


def test_behind_a_veil_nothing_of_the_message_is_left():
    display = {"title": "secret", "subtitle": "secret", "body": "secret", "nick_prefix": "on"}
    about = group(push={"display": display})
    shown = said(about, redaction=Redaction("new"))
    assert lines_of(shown) == ("", None, "new", "Chat", "Chat", "new")
    shown = said(about, redaction=Redaction("new", title="Ann"))
    found = (shown.title, shown.body, shown.android_title, shown.sender_name)
    assert found == ("Ann", "new", "Ann", "Ann")
    assert shown.hidden


def test_for_one_who_hides_the_neutral_text_stands_for_every_line_and_name_that_the_message_has():
    every = Redaction("new", everywhere=True)
    shown = said(
        group(push={"display": {"title": "secret", "subtitle": "secret"}}), redaction=every
    )
    assert lines_of(shown) == ("new",) * 6
    plain = said(group(), redaction=every)
    found = (plain.title, plain.subtitle, plain.body, plain.android_title, plain.sender_name)
    assert found == ("", None, "new", "new", "new")


CANARY = "qXcanaryX"
hostile = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["", "\x00", "\ud800", "👨‍👩‍👧‍👦" * 40, "\u202e", "{", "%s", "a" * 5000]),
).map(lambda text: text + CANARY + text)
messages = st.builds(
    lambda kind, two, nick, card, name, display, force, elements: message(
        kind=kind,
        conversation={"type": "c2c" if two else "group", "id": "x", "name": name},
        sender={"id": "ann", "nick": nick, "group_card": card},
        push={"display": display, "force": force},
        elements=elements,
    ),
    st.sampled_from(Kind),
    st.booleans(),
    st.none() | hostile,
    st.none() | hostile,
    st.none() | hostile,
    st.fixed_dictionaries(
        {"nick_prefix": st.sampled_from(["on", "off"])},
        optional={"title": hostile, "subtitle": hostile, "body": hostile},
    ),
    st.none() | st.fixed_dictionaries({"on": st.booleans()}, optional={"body": hostile}),
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["text", "custom", "image", "merger"])},
            optional={"text": hostile},
        ),
        max_size=4,
    ),
)


@settings(max_examples=examples(100), deadline=None)
@given(
    about=messages,
    lang=st.sampled_from(["zh", "en", "ja", ""]),
    forced=st.booleans(),
    mode=st.sampled_from(["", *HiddenMode]),
)
def test_any_message_gives_words_and_a_hidden_one_never_its_own(about, lang, forced, mode):
    options = {"hidden_mode": mode or "full", "hidden_text": "fixed"}
    redaction = redaction_of(about, {"show_detail": mode != ""}, options, None, lang)
    shown = said(about, lang, redaction, forced)
    assert shown.body
    assert shown.android_title
    if redaction is not None and mode != HiddenMode.SENDER:
        assert CANARY not in repr(shown)
    elif redaction is not None:
        assert CANARY not in shown.body + shown.text + (shown.subtitle or "")


# ---------------------------------------------------------------- languages

LANGUAGES = {
    "as it is": ("en", "zh", "en"),
    "with a region": ("en-US", "zh", "en"),
    "with a script, underscores, capitals": ("ZH_Hans_CN", "en", "zh"),
    "unknown: the tenant's": ("fr-FR", "en", "en"),
    "none: the tenant's": (None, "en", "en"),
    "both unknown: the default": ("fr", "de", "zh"),
    "empty": ("", "", "zh"),
}


@pytest.mark.parametrize(("wish", "fallback", "lang"), LANGUAGES.values(), ids=LANGUAGES)
def test_the_language_is_the_devices_where_we_speak_it(wish, fallback, lang):
    assert lang_of(wish, fallback) == lang


def test_a_tenants_catalogue_adds_languages_and_changes_words():
    own = read_catalogue(
        {"ja": {"image": "[画像]"}, "zh-Hant": {"image": "[圖片]"}, "en": {"image": "[Picture]"}}
    )
    found = [lang_of(wish, "en", own) for wish in ("ja-JP", "zh-Hant-TW", "zh-CN", "en")]
    assert found == ["ja", "zh-hant", "zh", "en"]
    seen = [translate("image", lang, own) for lang in ("ja", "zh-hant", "zh", "en")]
    assert seen == ["[画像]", "[圖片]", "[图片]", "[Picture]"]
    # no word of its own: English, or the bare language
    assert [translate("hidden", lang, own) for lang in ("ja", "zh-hant")] == [EN, ZH]
    assert said(message(elements=[{"type": "image"}], push=OFF), "ja", own=own).body == "[画像]"


BAD = {
    "no object": [],
    "empty": {},
    "no language tag": {"日本": {"image": "x"}},
    "too long a tag": {"a" * 17: {"image": "x"}},
    "texts are no object": {"ja": "x"},
    "a text is no text": {"ja": {"image": 1}},
    "an empty text": {"ja": {"image": ""}},
    "too long a text": {"ja": {"image": "x" * 201}},
    "a key that nobody says": {"ja": {"secret": "x"}},
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_a_catalogue_that_can_t_be_used_is_refused_without_showing_its_texts(value):
    with pytest.raises(CatalogueError) as refused:
        read_catalogue(value)
    assert "secret" not in str(refused.value)


def test_every_text_is_there_in_every_language_of_ours():
    assert all(set(texts) == LANGS for texts in TEXTS.values())
