"""The definition of an absent person. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from common.contracts import Device, Message, Recipient
from common.model import Decision
from common.ports import Session
from common.values import Value
from common.whole_seconds import latest_ms

DESKTOPS = frozenset({"windows", "mac", "linux", "web"})


class Verdicts(Value, frozen=True):
    """The presence of one person: decided rows, and the devices that are away.

    waits: nothing is registered yet, look again.
    """

    rows: tuple[tuple[Device | None, Decision], ...]
    away: Recipient | None
    waits: bool = False


#: The result for people without devices.
_ONLINE: Final = Verdicts(((None, Decision.ONLINE),), None)
_NO_DEVICE: Final = Verdicts(((None, Decision.NO_DEVICE),), None)
_WAITS: Final = Verdicts((), None, waits=True)


def sent_ms(message: Message) -> int:
    """The message's time, to which its recipients' states are compared."""
    return latest_ms(message.ts_ms, message.received_ms)


def in_front(session: Session, ts_ms: int) -> bool:
    """True when the app was in front at the message's time; a later state does not count."""
    if session.since_ms is not None and session.since_ms > ts_ms:
        return not session.foreground
    return session.foreground


def judge(
    message: Message, user: str, sessions: Sequence[Session], devices: Sequence[Device]
) -> Verdicts:
    """One recipient of one message (contract §4)."""
    if user == message.sender.id:
        return Verdicts(_each(devices, Decision.SENDER), None)
    if devices and not sessions:
        return Verdicts((), Recipient(user, tuple(devices), desktop=False))
    if not devices:
        ts_ms = sent_ms(message)
        if any(in_front(session, ts_ms) for session in sessions):
            return _ONLINE
        return _NO_DEVICE if message.second_look else _WAITS
    ts_ms = sent_ms(message)
    front = {session.device_id: in_front(session, ts_ms) for session in sessions}
    away = tuple(device for device in devices if not _front(device, front))
    online = tuple((device, Decision.ONLINE) for device in devices if _front(device, front))
    if not away:
        return Verdicts(online, None)
    desktop = any(session.platform in DESKTOPS and front[session.device_id] for session in sessions)
    return Verdicts(online, Recipient(user, away, desktop))


def _front(device: Device, front: Mapping[str, bool]) -> bool:
    """A gateway may know a device by either of its names."""
    return front.get(device.device_id, False) or (
        device.push_id is not None and front.get(device.push_id, False)
    )


def _each(
    devices: Sequence[Device], decision: Decision
) -> tuple[tuple[Device | None, Decision], ...]:
    return tuple((device, decision) for device in devices) or ((None, decision),)
