"""`pushfleet credential …`: accounts with the vendors (contract §6). Secrets come from files and
are never shown again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from common.clock import now_ms
from common.model import MessageClass, Vendor, Verdict
from common.storage.credentials import StoredCredential
from workers.cli.base import (
    CliError,
    NotThereError,
    at,
    check_tenant,
    check_zone,
    noted,
    opened,
    print_json,
    print_table,
)
from workers.delivery.access import FleetAccess
from workers.gateway.aliases import ALIAS, VOIP_ALIAS, aliases_of, overlap
from workers.receipts.readers import READERS
from workers.runtime import Runtime, lane_of
from workers.vendors import VENDORS
from workers.vendors.account_secrets import SECRET_BYTES_MAX, option_of, secret_text
from workers.vendors.types import AccessRefused, CredentialError
from workers.wire import NoAnswer

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
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
    text = (
        "; ".join(
            f"{', '.join(vendors)}{': ' if words else ''}{words}"
            for words, vendors in means.items()
        )
        + "."
    )
    kind = next(iter(FIELDS[name].values())).kind
    of_kind = {"file": _FILE, "secret": _FILE, "env": click.Choice(["production", "sandbox"])}.get(
        kind
    )
    return click.option(option_of(name), name, type=of_kind, help=text)


@click.group()
def credential() -> None:
    """Accounts with the vendors."""


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `add` and `rotate` share."""
    for option in reversed(
        [
            *(_account_option(name) for name in FIELDS),
            click.option(
                "--right",
                "rights",
                multiple=True,
                help="A right the vendor has granted, e.g. huawei.im.",
            ),
            click.option("--channel", "channels", multiple=True, metavar="CLASS=ID"),
            click.option(
                "--template", "templates", multiple=True, metavar="CLASS=ID[:sender,text]"
            ),
            click.option("--quota", "quotas", multiple=True, metavar="BUCKET=N"),
            click.option(
                "--quota-tz",
                metavar="TZ",
                help="Zone whose midnight ends the quotas' day.  [default: the vendor's]",
            ),
            click.option("--device-cap", "device_caps", multiple=True, metavar="BUCKET=N"),
            click.option("--reserve", "reserves", multiple=True, metavar="CLASS=P%"),
            click.option("--rate", metavar="N/s"),
            click.option(
                "--callback-user", help=f"{SIGNED}: user name of the receipts' signature."
            ),
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
    ):
        command = option(command)
    return command


@credential.command("add")
@click.argument("vendor", type=click.Choice([vendor.value for vendor in Vendor]))
@click.option("--app", "app_id", required=True)
@click.option("--business-id", required=True)
@_options
def add(vendor: str, app_id: str, business_id: str, **given: Any) -> None:
    """Check an account offline and store it."""
    with opened() as runtime:
        store(runtime, Vendor(vendor), app_id, business_id, given, old=None)
        noted(runtime, "account added", app_id, f"{vendor} {business_id}")
    print(
        f"credential {vendor} {business_id} of {app_id} is stored; prove it: pushfleet "
        f"credential check {app_id} {vendor} {business_id}"
    )


@credential.command("rotate")
@click.argument("app_id", metavar="APP")
@click.argument("vendor", type=click.Choice([vendor.value for vendor in Vendor]))
@click.argument("business_id")
@_options
def rotate(app_id: str, vendor: str, business_id: str, **given: Any) -> None:
    """Replace an account's secrets; what is not named stays. The old version lives on while the new
    one takes over.
    """
    with opened() as runtime:
        old = find(runtime, app_id, vendor, business_id)
        version = store(runtime, Vendor(vendor), app_id, business_id, given, old)
        noted(runtime, "account rotated", app_id, f"{vendor} {business_id}")
    print(f"credential {vendor} {business_id} of {app_id} is now version {version}")


def store(
    runtime: Runtime,
    vendor: Vendor,
    app_id: str,
    business_id: str,
    given: Mapping[str, Any],
    old: StoredCredential | None,
) -> int:
    if app_id not in runtime.tenants.all():
        raise CliError(
            f"no tenant {app_id}: pushfleet app add {app_id}"
        )  # an account that is refused
    if not re.fullmatch(r"[!-~]{1,32}", business_id) or set(business_id) & set("()[]{}<>"):
        raise CliError(
            "--business-id takes 1-32 printable ASCII characters without brackets or spaces"
        )
    if old is None and any(
        row["vendor"] == vendor and row["business_id"] == business_id
        for row in runtime.credentials.listed(app_id)
    ):
        raise CliError(
            f"{vendor} {business_id} is there already; to replace it: pushfleet credential "
            f"rotate {app_id} {vendor} {business_id}"
        )
    new = read_account(vendor, app_id, business_id, given, old)
    _check_aliases(runtime, new)
    version = runtime.credentials.add(new)
    runtime.catalog.changed()
    return version


def read_account(
    vendor: Vendor,
    app_id: str,
    business_id: str,
    given: Mapping[str, Any],
    old: StoredCredential | None,
) -> StoredCredential:
    """The given account, checked offline by contract §6; raises CliError with fault and remedy."""
    rights = frozenset(given["rights"]) or (old.rights if old else frozenset())
    channels = _pairs(given["channels"], "--channel", _class) or (old.channels if old else {})
    templates = {
        name: _template(value)
        for name, value in _pairs(given["templates"], "--template", _class).items()
    } or (old.templates if old else {})
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
        return {
            **{name: options[name] for name in (*KEPT, *extra) if name in options},
            **read,
        }, secrets
    except CredentialError as error:
        raise CliError(f"refused: {error}") from None


def _with_aliases(
    given: Mapping[str, Any], old: StoredCredential | None, options: Mapping[str, str]
) -> dict[str, str]:
    """With what doors call this account: as given, else as it was."""
    kept = {
        name: old.options[name]
        for name in (ALIAS, VOIP_ALIAS)
        if old is not None and name in old.options
    }
    return {
        **options,
        **kept,
        **{
            name: _joined(given[f"{name}es"])
            for name in (ALIAS, VOIP_ALIAS)
            if given.get(f"{name}es")
        },
    }


def _joined(aliases: Sequence[str]) -> str:
    for alias in aliases:
        if not re.fullmatch(r"[!-~]{1,128}", alias):
            raise CliError("--alias takes 1-128 printable ASCII characters without spaces")
    return " ".join(dict.fromkeys(aliases))


def _check_aliases(runtime: Runtime, new: StoredCredential) -> None:
    """Checks that an alias means one account of a tenant: a door could not choose otherwise."""
    mine = aliases_of(new.options)
    for row in runtime.credentials.listed(new.app):
        if (row["vendor"], row["business_id"]) == (new.vendor, new.business_id):
            continue
        for theirs in aliases_of(row["options"]):
            if any(overlap(own.glob, theirs.glob) for own in mine):
                raise CliError(
                    f"--alias: {row['vendor']} {row['business_id']} of {new.app} has "
                    f"{theirs.glob!r} already"
                )


def read_secret(path: Path | bytes) -> bytes:
    """A secret file's bytes, up to one byte beyond the bound."""
    if isinstance(path, bytes):
        return path[: SECRET_BYTES_MAX + 1]
    with path.open("rb") as file:
        return file.read(SECRET_BYTES_MAX + 1)


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
        try:
            key = secret_text({CALLBACK_KEY: read_secret(file)}, CALLBACK_KEY, ascii_only=True)
        except CredentialError as error:
            raise CliError(f"refused: {error}") from None
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
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/s)?", given["rate"])
        if match is None or float(match[1]) <= 0:
            raise CliError(f"--rate takes N/s, for instance 500/s, not {given['rate']!r}")
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


def find(runtime: Runtime, app_id: str, vendor: str, business_id: str) -> StoredCredential:
    for stored in runtime.credentials.all():
        if (stored.app, stored.vendor, stored.business_id) == (app_id, vendor, business_id):
            return stored
    raise NotThereError(
        f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet credential list"
    )


@credential.command("list")
@click.argument("app", metavar="[APP", required=False)
@click.argument(
    "vendor",
    metavar="[VENDOR",
    type=click.Choice([vendor.value for vendor in Vendor]),
    required=False,
)
@click.argument("business_id", metavar="[BUSINESS_ID]]]", required=False)
@click.option("--app", "app_option", help="As the argument APP.")
@click.option("--json", "as_json", is_flag=True)
def listed(
    app: str | None,
    vendor: str | None,
    business_id: str | None,
    app_option: str | None,
    as_json: bool,
) -> None:
    """Accounts, without their secrets: all, or those of a tenant, of a vendor, or one."""
    with opened() as runtime:
        rows = [
            {
                **{
                    name: row[name]
                    for name in (
                        "app",
                        "vendor",
                        "business_id",
                        "version",
                        "paused",
                        "created_ms",
                        "expires_ms",
                    )
                },
                "env": row["options"].get("env"),
                "options": {
                    name: value for name, value in row["options"].items() if name != "expires_ms"
                },
                **{name: row[name] for name in ("rights", "channels", "templates", "limits")},
            }
            for row in runtime.credentials.listed(app or app_option)
            if vendor in (None, row["vendor"]) and business_id in (None, row["business_id"])
        ]
        check_tenant(runtime, app or app_option, rows, as_json=as_json)
    if as_json:
        print_json(rows)
    if business_id is not None and not rows:
        raise NotThereError(
            f"no credential {vendor} {business_id} of {app}; there are: pushfleet credential list"
        )
    if as_json:
        return
    shown = [
        {**row, "rights": " ".join(row["rights"]), "expires": at(row["expires_ms"])} for row in rows
    ]
    print_table(
        ["app", "vendor", "business_id", "version", "env", "paused", "rights", "expires"],
        shown,
        "no credential yet",
    )


_KEY = [
    click.argument("app_id", metavar="APP"),
    click.argument("vendor", type=click.Choice([vendor.value for vendor in Vendor])),
    click.argument("business_id"),
]


def _keyed(command: Callable[..., Any]) -> Callable[..., Any]:
    for argument in reversed(_KEY):
        command = argument(command)
    return command


@credential.command("check")
@_keyed
def check(app_id: str, vendor: str, business_id: str) -> None:
    """Ask the vendor whether the account works; nobody gets a push."""
    with opened() as runtime:
        print(prove(runtime, find(runtime, app_id, vendor, business_id)))


def prove(runtime: Runtime, stored: StoredCredential) -> str:
    """The vendor's answer about a working account.

    Raises CliError for another one, or when the vendor is away.
    """
    from common.storage.access import AccessStore

    lane = lane_of(stored, runtime.settings)
    if lane is None:
        raise CliError(f"this fleet does not know {stored.vendor}")
    world = runtime.delivery(lane.vendor)
    keeper = AccessStore(runtime.redis, runtime.keys, runtime.vault, world.deadline_s)
    access = FleetAccess(keeper, runtime.transport, now_ms, time.sleep, world.deadline_s).get(
        lane, now_ms()
    )
    if isinstance(access, AccessRefused):
        raise CliError(
            f"no access token: {access.verdict} {access.code} {access.words}".strip(), exit_code=1
        )
    if lane.spec.check is None or lane.spec.checked is None:
        return (
            "the vendor gave an access token; it has no further test call"
            if access
            else "the account was read; the vendor has no test call"
        )
    answer = lane.send_many(
        world.transport, [lane.spec.check(lane.credential, access)], world.deadline_s
    )[0]
    if isinstance(answer, NoAnswer):
        raise CliError(f"the vendor can't be reached: {answer.reason} {answer.words}", exit_code=3)
    verdict = lane.spec.checked(answer)
    if verdict != Verdict.ACCEPTED:
        raise CliError(f"the vendor says {verdict} (HTTP {answer.status})", exit_code=1)
    return "the account works"


@credential.command("receipts-url")
@_keyed
def receipts_url(app_id: str, vendor: str, business_id: str) -> None:
    """The address to enter in the vendor's console for receipts. Whoever knows it can send
    receipts: keep it as a secret.
    """
    with opened() as runtime:
        lane = lane_of(find(runtime, app_id, vendor, business_id), runtime.settings)
        url = runtime.receipts_url(lane) if lane and lane.vendor in READERS else None
    if lane and lane.vendor not in READERS:
        raise CliError(f"{vendor} sends no receipts", exit_code=1)
    if url is None:
        raise CliError(
            "PUSHFLEET_RECEIPTS_URL is not set: the public base URL of the receipts service"
        )
    print(url)


@credential.command("pause")
@_keyed
def pause(app_id: str, vendor: str, business_id: str) -> None:
    """Stop a lane: its pushes wait while their time allows."""
    _pause(app_id, vendor, business_id, paused=True)


@credential.command("resume")
@_keyed
def resume(app_id: str, vendor: str, business_id: str) -> None:
    """Let a paused lane flow again."""
    _pause(app_id, vendor, business_id, paused=False)


def _pause(app_id: str, vendor: str, business_id: str, *, paused: bool) -> None:
    with opened() as runtime:
        if not runtime.credentials.set_paused(app_id, vendor, business_id, paused):
            raise NotThereError(
                f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet "
                "credential list"
            )
        runtime.catalog.changed()
        noted(
            runtime, "lane paused" if paused else "lane resumed", app_id, f"{vendor} {business_id}"
        )
    print("paused" if paused else "flows again")


@credential.command("remove")
@_keyed
def remove(app_id: str, vendor: str, business_id: str) -> None:
    """Forget an account. Its devices' pushes become `no_credential`."""
    with opened() as runtime:
        if not runtime.credentials.remove(app_id, vendor, business_id):
            raise NotThereError(
                f"no credential {vendor} {business_id} of {app_id}; there are: pushfleet "
                "credential list"
            )
        runtime.catalog.changed()
        for one in runtime.shards:
            one.lane_queues.drop(f"{app_id}:{vendor}:{business_id}")
        noted(runtime, "account removed", app_id, f"{vendor} {business_id}")
    print("removed")
