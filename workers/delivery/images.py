"""Images that a vendor reviews before they are sent (HarmonyOS): submitted once per fleet.

The push then carries the address that the vendor returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from workers.delivery.lane import Lane
from workers.delivery.results import Granted
from workers.vendors.types import AccessToken, ImageSpec
from workers.wire import HttpResponse, NoAnswer, Transport

#: Images shown in one round: the round's pushes wait for the answers.
AT_ONCE_MAX = 10
#: ... for this many seconds at most: with the send itself it must stay within a claim's lease.
WAIT_S = 1.5
KNOWN_MS_MAX = 86_400_000


class Images(Protocol):
    """The vendor's answers about images, shared by the fleet."""

    def known(self, lane: Lane, images: Sequence[str]) -> Mapping[str, str]:
        """Image -> the address to be sent in its place, "" where the vendor refuses it.

        Images without an answer are missing.
        """
        ...

    def keep(self, lane: Lane, image: str, given: str, life_ms: int) -> None: ...

    def room(self, lane: Lane, wanted: int, per_minute: int) -> int:
        """The number of `wanted` images that may be submitted now; they count from now on."""
        ...


class ImagePorts(Protocol):
    """The ports that this file needs."""

    @property
    def images(self) -> Images: ...
    @property
    def transport(self) -> Transport: ...
    @property
    def observe(self) -> Callable[[Lane, Sequence[HttpResponse | NoAnswer]], None]: ...
    @property
    def now_ms(self) -> Callable[[], int]: ...


def shown(granted: Granted, lane: Lane, access: AccessToken | None, ports: ImagePorts) -> Granted:
    """The batches, each with the address that the vendor returned for its image.

    An image without an answer stays as it was.
    """
    spec = lane.spec.images
    if spec is None:
        return granted
    wanted = [spec.wanted(batch, lane.credential) for batch, _ in granted]
    different = list(dict.fromkeys(image for image in wanted if image is not None))
    if not different:
        return granted
    given = dict(ports.images.known(lane, different))
    unknown = [image for image in different if image not in given][:AT_ONCE_MAX]
    if unknown:
        given |= _reviewed(
            unknown[: ports.images.room(lane, len(unknown), spec.per_minute)],
            spec,
            lane,
            access,
            ports,
        )
    return [
        (replace(batch, image=given[image]) if image in given else batch, works)
        for (batch, works), image in zip(granted, wanted, strict=True)
    ]


def _reviewed(
    unknown: Sequence[str],
    spec: ImageSpec,
    lane: Lane,
    access: AccessToken | None,
    ports: ImagePorts,
) -> dict[str, str]:
    """Image -> address, from the vendor's answers now; images without an answer are missing."""
    if not unknown:
        return {}
    requests = [spec.ask(image, lane.credential, access) for image in unknown]
    media = {}
    for image, answer in zip(
        unknown, lane.send_many(ports.transport, requests, WAIT_S), strict=True
    ):
        ports.observe(lane, [answer])
        now_ms = ports.now_ms()
        word = spec.read(answer, now_ms) if isinstance(answer, HttpResponse) else None
        if word is not None:
            media[image] = word[0]
            ports.images.keep(lane, image, word[0], min(word[1] - now_ms, KNOWN_MS_MAX))
    return media
