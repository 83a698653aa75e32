"""The console's forms: lanes, devices, accounts, dead letters, test pushes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from common.model import Vendor
from common.storage.audit import person_mark
from workers.console.accounts import given
from workers.console.form_fields import FormFields
from workers.console.frame import Frame, Visitor
from workers.console.look import ConsoleStores, Ports
from workers.console.pages import Narrowed, Pages

log = logging.getLogger(__name__)

#: Seconds of work on a group of letters; the rest waits for the next press.
GROUP_S_MAX: Final = 8.0
GROUP_MAX: Final = 5_000


class Actions:
    """What a person with the right to act may do; each is noted."""

    def __init__(self, frame: Frame, stores: ConsoleStores, ports: Ports, pages: Pages) -> None:
        self._frame = frame
        self._stores = stores
        self._ports = ports
        self._pages = pages

    def pause(self, request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        return self._set_paused(request, visitor, fields, paused=True)

    def resume(self, request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        return self._set_paused(request, visitor, fields, paused=False)

    def _set_paused(
        self, request: Request, visitor: Visitor, fields: Mapping[str, str], *, paused: bool
    ) -> Response:
        if not visitor.may_act:
            return self._frame.refusal(visitor, "not_allowed", 403)
        key = fields.get("app", ""), fields.get("vendor", ""), fields.get("business_id", "")
        there = self._stores.credentials.set_paused(*key, paused)
        if there:
            words = "paused" if paused else "resumed"
            self._note(visitor, f"lane {words}", key[0], f"{key[1]} {key[2]}")
            if not self._stores.catalog.announce():
                return _back("/credentials", "done_later")  # the page of lanes asks Redis
            self._stores.lane_states.hold(":".join(key), paused)
            log.warning(
                "a lane was %s in the console",
                words,
                extra={"app": key[0], "vendor": key[1], "business_id": key[2]},
            )
        said = ("done_paused" if paused else "done_resumed") if there else "gone"
        return _back(f"/lanes{Narrowed.read(request).query}", said)

    def replay(self, _request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        if not visitor.may_act:
            return self._frame.refusal(visitor, "not_allowed", 403)
        said = self._ports.replay(fields.get("id", ""))
        self._note(visitor, "letter replayed", "", fields.get("id", "")[:32], said or "done")
        log.warning("a dead letter was replayed in the console", extra={"reason": said or "done"})
        return _back("/dead-letters", said or "done_replayed")

    def whole_group(
        self, _request: Request, visitor: Visitor, fields: Mapping[str, str]
    ) -> Response:
        """All letters of one stage and kind of reason: replayed, or dropped."""
        if not visitor.may_act:
            return self._frame.refusal(visitor, "not_allowed", 403)
        ids, doing = (
            self._stores.dead_letters.ids_of(
                fields.get("stage", ""), fields.get("kind", ""), GROUP_MAX
            ),
            fields.get("do", ""),
        )
        if doing not in ("replay", "drop") or not ids:
            return _back("/dead-letters", "gone")
        count = self._stores.dead_letters.drop(ids) if doing == "drop" else self._replay_all(ids)
        group = f"{fields.get('stage', '')}: {fields.get('kind', '')}"
        self._note(visitor, f"letters {doing}", "", group, f"{count} of {len(ids)}")
        words = "dropped" if doing == "drop" else "replayed"
        log.warning("dead letters were %s in the console", words, extra={"count": count})
        said = "done_dropped" if doing == "drop" else "done_replayed"
        return _back("/dead-letters", said if count == len(ids) < GROUP_MAX else "done_part")

    def _replay_all(self, ids: Sequence[str]) -> int:
        until, count = time.monotonic() + GROUP_S_MAX, 0
        for letter_id in ids:
            if time.monotonic() > until:
                break
            count += self._ports.replay(letter_id) is None
        return count

    def set_device(
        self, _request: Request, visitor: Visitor, fields: Mapping[str, str]
    ) -> Response:
        if not visitor.may_act:
            return self._frame.refusal(visitor, "not_allowed", 403)
        app, user, device = (fields.get(name, "") for name in ("app", "user", "device"))
        state = {"retire": "retired", "restore": "active"}.get(fields.get("do", ""))
        done = state is not None and self._ports.set_device(app, user, device, state)
        words = f"device {state or 'unchanged'}"
        self._note(visitor, words, app, person_mark(app, user), "done" if done else "gone")
        log.warning(
            "a device was changed in the console", extra={"app": app, "reason": state or "nothing"}
        )
        return RedirectResponse(
            f"/people?{urlencode({'app': app, 'user': user, 'done': 'done_device' if done else 'gone'})}",  # noqa: E501
            303,
        )

    def push(self, _request: Request, visitor: Visitor, fields: Mapping[str, str]) -> Response:
        """A test push to a person, the way of every message."""
        app, user = fields.get("app", ""), fields.get("user", "")
        if not visitor.may_act:
            return self._frame.refusal(visitor, "not_allowed", 403)
        message_id = self._ports.test_push(app, user) if user else None
        self._note(visitor, "test push", app, person_mark(app, user), message_id or "gone")
        if message_id is None:
            return _back("/people", "gone")
        devices = self._ports.person(app, user)["devices"]
        nobody = devices and not any(one["state"] == "active" for one in devices)
        done = "done_push_nobody" if nobody else "done_push"
        return RedirectResponse(
            f"/messages?{urlencode({'id': message_id, 'app': app, 'user': user, 'done': done})}",
            303,
        )

    def check_account(
        self, request: Request, visitor: Visitor, fields: Mapping[str, str]
    ) -> Response:
        """Asks the vendor whether an account works; nobody gets a push."""
        if not visitor.may_act:
            return self._frame.refusal(visitor, "not_allowed", 403)
        key = fields.get("app", ""), fields.get("vendor", ""), fields.get("business_id", "")
        good, words = self._ports.check_account(*key)
        self._note(visitor, "account checked", key[0], f"{key[1]} {key[2]}", words)
        return self._pages.credentials(request, visitor, {"key": key, "good": good, "words": words})

    def store_account(self, request: Request, visitor: Visitor, fields: FormFields) -> Response:
        """Stores a new account, or new secrets of a known one; errors are shown above the form."""
        if not visitor.may_admin:
            return self._frame.refusal(visitor, "not_allowed", 403)
        vendor, app, business_id = (
            fields.get("vendor", ""),
            fields.get("app", "").strip(),
            fields.get("business_id", "").strip(),
        )
        if vendor not in set(Vendor):
            return self._frame.refusal(visitor, "gone", 404)
        rotate = fields.get("do") == "rotate"
        wrong = self._ports.store_account(
            vendor, app, business_id, given(Vendor(vendor), fields, fields.files), rotate
        )
        action = "account rotated" if rotate else "account added"
        self._note(visitor, action, app, f"{vendor} {business_id}", wrong or "done")
        if wrong is not None:
            return self._pages.account_page(request, visitor, wrong, fields)
        return _back("/credentials", "done_account")

    def _note(
        self, visitor: Visitor, action: str, app: str, subject: str, result: str = "done"
    ) -> None:
        self._stores.audit.note(visitor.name or "", action, app, subject, result)


def _back(path: str, done: str) -> Response:
    sign = "&" if "?" in path else "?"
    return RedirectResponse(f"{path}{sign}{urlencode({'done': done})}", 303)
