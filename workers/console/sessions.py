"""Sessions: a signed cookie with the person's name, and a token for our own forms. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

PURPOSE: Final = "console-session"
COOKIE: Final = "pushfleet"
LIFE_S: Final = 12 * 3600
COOKIE_CHARACTERS_MAX: Final = 1024
#: Of what is sealed, which may have the address of a page in it; a browser keeps no more.
SEALED_CHARACTERS_MAX: Final = 4096


class ConsoleSession(msgspec.Struct, frozen=True, array_like=True):
    """mark: of the current password (common/storage/users.py): a new one ends old sessions."""

    name: str
    mark: str
    ends_ms: int
    #: The role by an OpenID provider; "": a person of our own.
    role: str = ""


@dataclass(frozen=True, slots=True)
class Signer:
    """keys: the first signs, all are taken."""

    keys: Sequence[bytes] = field(repr=False)

    def cookie(self, session: ConsoleSession) -> str:
        sealed_text = _text(msgspec.json.encode(session))
        return f"{sealed_text}.{_sign(self.keys[0], 'session', sealed_text)}"

    def read(self, cookie: str, now_ms: int) -> ConsoleSession | None:
        """The session, if we signed it and it has not ended."""
        sealed_text, _, signature = cookie[:COOKIE_CHARACTERS_MAX].partition(".")
        if not any(
            hmac.compare_digest(
                _sign(key, "session", sealed_text).encode(), signature.encode("utf-8", "replace")
            )
            for key in self.keys
        ):
            return None
        try:
            session = msgspec.json.decode(
                base64.urlsafe_b64decode(sealed_text + "=" * (-len(sealed_text) % 4)),
                type=ConsoleSession,
            )
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            return None
        return session if session.ends_ms > now_ms else None

    def sealed(self, kind: str, raw: bytes) -> str:
        """For a cookie that only this fleet can have made, and only for this."""
        text = _text(raw)
        return f"{text}.{_sign(self.keys[0], kind, text)}"

    def opened(self, kind: str, cookie: str) -> bytes | None:
        """The input of `sealed`; None for a cookie that it did not make."""
        text, _, signature = cookie[:SEALED_CHARACTERS_MAX].partition(".")
        if not any(
            hmac.compare_digest(
                _sign(key, kind, text).encode(), signature.encode("utf-8", "replace")
            )
            for key in self.keys
        ):
            return None
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    def form_token(self, cookie: str) -> str:
        """Goes into each form of this session; another site can't know it."""
        return _sign(self.keys[0], "form", cookie)

    def form_token_valid(self, cookie: str, given: str) -> bool:
        return any(
            hmac.compare_digest(
                _sign(key, "form", cookie).encode(), given.encode("utf-8", "replace")
            )
            for key in self.keys
        )


def _sign(key: bytes, purpose: str, sealed_text: str) -> str:
    return _text(hmac.digest(key, f"{purpose}\0{sealed_text}".encode("utf-8", "replace"), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
