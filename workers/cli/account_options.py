"""The options of `credential add` and `rotate`, and the account that they describe."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from common.clock import now_ms
from common.model import MessageClass, Vendor
from common.storage.credentials import StoredCredential
from workers.cli.arguments import check_zone
from workers.cli.errors import CliError
from workers.gateway.aliases import ALIAS, VOIP_ALIAS
from workers.receipts.readers import READERS
from workers.vendors import VENDORS
from workers.vendors.account_secrets import SECRET_BYTES_MAX, option_of, secret_text
from workers.vendors.types import CredentialError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
#: `--rate`, a second: no vendor takes more, and a slower lane would rather be paused.
RATE_MIN, RATE_MAX = 0.001, 1_000_000
#: Every vendor's account fields, by name, each with the vendors that have it.
FIELDS = {
    name: {vendor: spec.account[name] for vendor, spec in VENDORS.items() if name in spec.account}
    for name in dict.fromkeys(name for spec in VENDORS.values() for name in spec.account)
}


def _named(*kinds: str) -> tuple[str, ...]:
    return tuple(
        name for name, fields in FIELDS.items() if next(iter(fields.values())).kind in kinds
    )


#: Options of `add` that name a file -> name under which the vendor file finds its bytes.
FILES = {name: name.removesuffix("_file") for name in _named("file", "secret")}
TEXTS = _named("text", "env")
#: Secrets that are stored as their file was, so that `rotate` may change an option beside them
#: without being given the file again.
AS_GIVEN = frozenset(
    FILES[name] for name in FILES if any(field.as_given for field in FIELDS[name].values())
)
#: The one secret that no vendor file knows: it signs receipts.
CALLBACK_KEY = "callback_key"
#: Options that no vendor file reads at the door, but the fleet does later; they stay through a
#: rotation.
KEPT = tuple(
    dict.fromkeys(reader.callback_option for reader in READERS.values() if reader.callback_option)
)
SIGNED = ", ".join(vendor for vendor, reader in READERS.items() if reader.signed)


def _account_option(name: str) -> Callable[..., Any]:
    """The command-line option of an account field; its help names the vendors and the use."""
    means: dict[str, list[str]] = {}
    for vendor, one in FIELDS[name].items():
        means.setdefault(one.means, []).append(vendor)
    listed = "; ".join(
        f"{', '.join(vendors)}{': ' if words else ''}{words}" for words, vendors in means.items()
    )
    text = listed + "."
    kind = next(iter(FIELDS[name].values())).kind
    of_kind = {"file": _FILE, "secret": _FILE, "env": click.Choice(["production", "sandbox"])}.get(
        kind
    )
    return click.option(option_of(name), name, type=of_kind, help=text)


def account_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `add` and `rotate` share."""
    options = [
        *(_account_option(name) for name in FIELDS),
        click.option(
            "--right",
            "rights",
            multiple=True,
            help="A right the vendor has granted, e.g. huawei.im.",
        ),
        click.option("--channel", "channels", multiple=True, metavar="CLASS=ID"),
        click.option("--template", "templates", multiple=True, metavar="CLASS=ID[:sender,text]"),
        click.option("--quota", "quotas", multiple=True, metavar="BUCKET=N"),
        click.option(
            "--quota-tz",
            metavar="TZ",
            help="Zone whose midnight ends the quotas' day.  [default: the vendor's]",
        ),
        click.option("--device-cap", "device_caps", multiple=True, metavar="BUCKET=N"),
        click.option("--reserve", "reserves", multiple=True, metavar="CLASS=P%"),
        click.option("--rate", metavar="N/s"),
        click.option("--callback-user", help=f"{SIGNED}: user name of the receipts' signature."),
        click.option(
            "--callback-key-file", type=_FILE, help=f"{SIGNED}: key of the receipts' signature."
        ),
        click.option(
            "--alias",
            "aliases",
            multiple=True,
            metavar="NAME",
            help="What a door calls it (glob), e.g. a Matrix app_id.",
        ),
        click.option(
            "--voip-alias",
            "voip_aliases",
            multiple=True,
            metavar="NAME",
            help="The same, of VoIP tokens (Apple).",
        ),
        click.option(
            "--option",
            "extra",
            multiple=True,
            metavar="NAME=VALUE",
            help="A vendor's own option, see docs/vendors.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_account(
    vendor: Vendor,
    app_id: str,
    business_id: str,
    given: Mapping[str, Any],
    old: StoredCredential | None,
) -> StoredCredential:
    """The given account, checked offline by contract §6; raises CliError with fault and remedy."""
    _check_fields(vendor, given)
    rights = frozenset(given["rights"]) or (old.rights if old else frozenset())
    channels = _pairs(given["channels"], "--channel", _class) or (old.channels if old else {})
    pairs = _pairs(given["templates"], "--template", _class).items()
    templates = {name: _template(value) for name, value in pairs} or (old.templates if old else {})
    _check_rights(vendor, rights, channels, templates)
    stored_options, secrets = _with_callback(vendor, given, old, *_read(vendor, given, old))
    stored_options = _with_aliases(given, old, stored_options)
    expires = stored_options.get("expires_ms")
    return StoredCredential(
        app=app_id,
        vendor=vendor,
        business_id=business_id,
        version=0,
        options=stored_options,
        secrets=secrets,
        rights=rights,
        channels=channels,
        templates=templates,
        limits=_limits(given, old.limits if old else {}),
        paused=old.paused if old else False,
        created_ms=now_ms(),
        expires_ms=int(expires) if expires else None,
    )


def _check_fields(vendor: Vendor, given: Mapping[str, Any]) -> None:
    """Checks that no option of another vendor is named: it would be dropped without a word.

    Names are shown, values never: one may be a secret in the wrong place.
    """
    for name, fields in FIELDS.items():
        if given.get(name) is not None and vendor not in fields:
            takes = ", ".join(option_of(own) for own in VENDORS[vendor].account)
            raise CliError(f"{option_of(name)} is no option of {vendor}, which takes {takes}")
    known = _extra_options(vendor)
    for name in _pairs(given["extra"], "--option", str):
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise CliError(f"--option {name} is no option of {vendor}, which takes {takes}")
    if given.get("voip_aliases") and VENDORS[vendor].platform != "ios":
        raise CliError(f"--voip-alias is no option of {vendor}: only Apple has VoIP tokens")


def _extra_options(vendor: Vendor) -> frozenset[str]:
    """What `--option` takes: the vendor's further options, and those of its account that are no
    files.
    """
    own = {name.removeprefix("vendor_") for name in TEXTS if name in VENDORS[vendor].account}
    reader = READERS.get(vendor)
    callback = {reader.callback_option} if reader and reader.callback_option else set()
    return VENDORS[vendor].options | own | callback


def _read(
    vendor: Vendor, given: Mapping[str, Any], old: StoredCredential | None
) -> tuple[dict[str, str], dict[str, str]]:
    """(options, secrets) in the vendor file's stored form; with `old`, unnamed ones are kept."""
    files = {
        name: read_secret(given[option])
        for option, name in FILES.items()
        if given.get(option) is not None
    }
    options = {name.removeprefix("vendor_"): str(given[name]) for name in TEXTS if given.get(name)}
    extra = _pairs(given["extra"], "--option", str)
    options |= extra
    if old is not None and not files:
        if all(old.options.get(name) == value for name, value in options.items()):
            return dict(old.options), dict(old.secrets)
        if not old.secrets.keys() <= AS_GIVEN | {CALLBACK_KEY}:
            fields = VENDORS[vendor].account.items()
            file = " with ".join(
                option_of(name) for name, one in fields if name in FILES and not one.as_given
            )
            raise CliError(
                f"--{min(options).replace('_', '-')} is checked against the account's file: "
                f"name that again ({file})"
            )
        files = {name: secret.encode() for name, secret in old.secrets.items() if name in AS_GIVEN}
    if old is not None:
        options = {
            **{name: value for name, value in old.options.items() if name != "expires_ms"},
            **options,
        }
    try:
        read, secrets = VENDORS[vendor].read_credential(options, files, now_ms())
        kept = {**{name: options[name] for name in (*KEPT, *extra) if name in options}, **read}
        return kept, secrets
    except CredentialError as error:
        raise CliError(f"refused: {error}") from None


def _with_aliases(
    given: Mapping[str, Any], old: StoredCredential | None, options: Mapping[str, str]
) -> dict[str, str]:
    """With what doors call this account: as given, else as it was."""
    names = (ALIAS, VOIP_ALIAS)
    kept = {name: old.options[name] for name in names if old is not None and name in old.options}
    named = {
        name: _joined(given[f"{name}es"]) for name in (ALIAS, VOIP_ALIAS) if given.get(f"{name}es")
    }
    return {**options, **kept, **named}


def _joined(aliases: Sequence[str]) -> str:
    for alias in aliases:
        if not re.fullmatch(r"[!-~]{1,128}", alias):
            raise CliError("--alias takes 1-128 printable ASCII characters without spaces")
    return " ".join(dict.fromkeys(aliases))


def read_secret(path: Path | bytes) -> bytes:
    """A secret file's bytes, up to one byte beyond the bound."""
    if isinstance(path, bytes):
        return path[: SECRET_BYTES_MAX + 1]
    with path.open("rb") as file:
        return file.read(SECRET_BYTES_MAX + 1)


def secret_of(path: Path | bytes, name: str, *, ascii_only: bool = False) -> str:
    """The one line of the file of `--<name>-file`, as an editor of any system has written it."""
    try:
        return secret_text({name: read_secret(path)}, name, ascii_only=ascii_only)
    except CredentialError as error:
        raise CliError(f"refused: {error}") from None


def _with_callback(
    vendor: Vendor,
    given: Mapping[str, Any],
    old: StoredCredential | None,
    options: Mapping[str, str],
    secrets: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """With what signs this account's receipts: as given, else as it was."""
    user, file = given.get("callback_user"), given.get("callback_key_file")
    if (user or file) and not (vendor in READERS and READERS[vendor].signed):
        raise CliError("--callback-user and --callback-key-file: only Huawei signs receipts")
    user = user or (old.options.get("callback_user") if old else None)
    key = old.secrets.get(CALLBACK_KEY) if old else None
    if file is not None:
        key = secret_of(file, CALLBACK_KEY, ascii_only=True)
    if bool(user) != bool(key):
        raise CliError(
            "--callback-user and --callback-key-file go together: Huawei signs with both or "
            "not at all"
        )
    if not user or not key:
        return dict(options), dict(secrets)
    return {**options, "callback_user": user}, {**secrets, CALLBACK_KEY: key}


def _check_rights(
    vendor: Vendor,
    rights: frozenset[str],
    channels: Mapping[str, str],
    templates: Mapping[str, Any],
) -> None:
    known, need_template = VENDORS[vendor].rights, VENDORS[vendor].rights_need_template
    for right in sorted(rights):
        if right not in known:
            takes = ", ".join(sorted(known)) or "none: this vendor has no rights"
            raise CliError(f"--right {right} is unknown; {vendor} takes {takes}")
        for name in need_template.get(right, ()):
            if name not in channels or name not in templates:
                raise CliError(
                    f"--right {right} needs --channel {name}=ID and --template {name}=ID"
                )


def _pairs(given: tuple[str, ...], option: str, check: Callable[[str], str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or not name or not value:
            raise CliError(f"{option} takes NAME=VALUE, not {one!r}")
        pairs[check(name)] = value
    return pairs


def _class(name: str) -> str:
    if name not in set(MessageClass):
        raise CliError(f"{name} is no message class; there are {', '.join(MessageClass)}")
    return name


def bucket_of(name: str) -> str:
    if name not in ("private", "public"):
        raise CliError(f"BUCKET is private or public, not {name!r}")
    return name


def _template(value: str) -> list[str]:
    """`ID` or `ID:sender,text`."""
    identity, _, names = value.partition(":")
    if not names:
        return [identity]
    parts = [part.strip() for part in names.split(",")]
    if len(parts) != 2 or not all(parts):
        raise CliError(
            "--template takes CLASS=ID or CLASS=ID:sender,text with the vendor's names of "
            "the two variables"
        )
    return [identity, *parts]


def _limits(given: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    limits = dict(old)
    for name, option in (("quota", "--quota"), ("device_cap", "--device-cap")):
        pairs = _pairs(given["quotas" if name == "quota" else "device_caps"], option, bucket_of)
        if pairs:
            limits[name] = {
                **(limits.get(name) or {}),
                **{bucket: whole(value, option) for bucket, value in pairs.items()},
            }
    reserves = _pairs(given["reserves"], "--reserve", _class)
    if reserves:
        limits["reserve"] = {name: _share(value) for name, value in reserves.items()}
        if sum(limits["reserve"].values()) > 1:
            raise CliError("--reserve: the shares add up to more than 100%")
    if given["rate"]:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)/s", given["rate"])
        if match is None or not RATE_MIN <= float(match[1]) <= RATE_MAX:
            raise CliError(
                f"--rate takes N/s, for instance 500/s, from {RATE_MIN} to {RATE_MAX:,}, "
                f"not {given['rate'][:40]!r}"
            )
        limits["rate"] = float(match[1])
    if given.get("quota_tz"):
        check_zone(given["quota_tz"], "--quota-tz")
        limits["quota_tz"] = given["quota_tz"]
    return limits


def whole(value: str, option: str) -> int:
    if not re.fullmatch(r"\d{1,12}", value):
        raise CliError(f"{option} takes a whole number, not {value!r}")
    return int(value)


def _share(value: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", value)
    if match is None or float(match[1]) > 100:
        raise CliError(f"--reserve takes CLASS=P%, for instance chat=30%, not {value!r}")
    return float(match[1]) / 100
