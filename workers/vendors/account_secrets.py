"""Options and secret files of `credential add`, read and checked offline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workers.vendors.types import CredentialError


def require(options: Mapping[str, str], *names: str) -> None:
    """CredentialError that names the first missing option as the command line spells it."""
    for name in names:
        if not options.get(name):
            raise CredentialError(f"--{name.replace('_', '-')} is missing")


#: Secrets whose option names them, without `-file`.
_NAMED_FILES: Final = frozenset({"p8", "p12", "service_account"})
SECRET_BYTES_MAX: Final = 65_536
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def option_of(name: str) -> str:
    """The option of `credential add` that an account field is given with."""
    return "--" + name.removeprefix("vendor_").replace("_", "-")


def secret_option(name: str) -> str:
    """The option of `credential add` that names this secret's file."""
    return f"--{name.replace('_', '-')}" + ("" if name in _NAMED_FILES else "-file")


def secret_file_text(raw: bytes, option: str) -> str:
    """The text of a secret file, without byte order mark and blanks at its ends.

    Invisible characters at the ends are removed too. UTF-8, or UTF-16 with its mark, as Windows
    writes it. Raises CredentialError when empty, too large or no text.
    """
    if len(raw) > SECRET_BYTES_MAX:
        raise CredentialError(
            f"the file of {option} has more than {SECRET_BYTES_MAX} bytes: not a secret"
        )
    try:
        text = raw.decode("utf-16" if raw[:2] in _UTF16_MARKS else "utf-8-sig")
    except UnicodeDecodeError:
        raise CredentialError(f"the file of {option} is not text") from None
    if "\0" in text:
        raise CredentialError(f"the file of {option} is not text")
    text = re.sub(rf"\A(?:\s|{_INVISIBLE.pattern})+|(?:\s|{_INVISIBLE.pattern})+\Z", "", text)
    if not text:
        raise CredentialError(f"the file of {option} is empty")
    return text


def secret_text(files: Mapping[str, bytes], name: str, *, ascii_only: bool = False) -> str:
    """The one line of a secret file, without byte order mark and invisible characters.

    ascii_only: the secrets that vendors make are printable ASCII without blanks. Raises
    CredentialError with the remedy.
    """
    option = secret_option(name)
    if (raw := files.get(name)) is None:
        raise CredentialError(f"{option} is missing")
    text = secret_file_text(raw, option)
    if len(text.splitlines()) > 1:
        raise CredentialError(
            f"the file of {option} holds {len(text.splitlines())} lines: one line with "
            "nothing but the secret is wanted"
        )
    if ascii_only:
        text = _INVISIBLE.sub("", text)
    elif _INVISIBLE.search(text):
        raise CredentialError(
            f"the file of {option} holds an invisible character inside the secret: type it anew"
        )
    if not all(char.isprintable() for char in text):
        raise CredentialError(
            f"the file of {option} holds a control character: leave the secret alone in it"
        )
    if ascii_only and not re.fullmatch(r"[!-~]+", text):
        raise CredentialError(
            f"the file of {option} holds a blank or a character outside ASCII: one line is "
            "wanted, copied from the console"
        )
    return text
