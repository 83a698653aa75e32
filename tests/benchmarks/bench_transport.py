"""Requests per second and CPU per request of the transports beside a bare pycurl loop, on the same
server in the same minute.

    python -m tests.benchmarks.bench_transport [--url https://localhost:9443 --ca ca.pem]
    [--in-flight 100,500] [--requests 20000]

Without --url an HTTP/2 server of ours runs in a process of its own; it is Python, slower than every
client here, so read CPU µs, not requests per second. A server in C tells both. A round prints one
line per client; the machine is shared: compare within a round.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pycurl

from simulators.simulator import ensure_ca, issue
from tests.builders import present
from tests.integration.transport.servers import H2Server, server_context
from workers.transport.aioapns import AioapnsTransport
from workers.transport.curl import CurlTransport
from workers.transport.engine import Http2Transport
from workers.wire import HttpResponse, Request, Route

BODY = (
    b'{"aps":{"alert":{"title":"Alice","body":"Meeting moved to 20:00"},"badge":7,'
    b'"sound":"default","thread-id":"group_10086"}}'
)
DEADLINE_S = 60.0


def requests(count: int, first: int) -> list[Request]:
    constant = {
        "authorization": "bearer " + "x" * 184,
        "apns-topic": "com.example.chat",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1900000000",
    }
    return [
        Request(
            "A",
            f"/3/device/{n:064x}",
            {**constant, "apns-id": str(uuid.UUID(int=n)), "apns-collapse-id": f"m-{n}"},
            BODY,
        )
        for n in range(first, first + count)
    ]


class BarePycurl:
    """The least that pycurl can do: handles made once, one multi handle, perform and select in the
    caller's thread. No care taken.
    """

    def __init__(self, base: str, ca: Path, in_flight: int) -> None:
        self.base = base
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self.multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
        self.multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, 1000)
        self.handles = [self._handle(ca) for _ in range(in_flight)]

    @staticmethod
    def _handle(ca: Path):
        easy = pycurl.Curl()
        easy.lines, easy.chunks = [], []
        for option, value in (
            (pycurl.CAINFO, str(ca)),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE),
            (pycurl.PIPEWAIT, 1),
            (pycurl.POST, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.HEADERFUNCTION, easy.lines.append),
            (pycurl.WRITEFUNCTION, easy.chunks.append),
        ):
            easy.setopt(option, value)
        return easy

    def send(self, batch: Sequence[Request]) -> int:
        for easy, request in zip(self.handles, batch, strict=True):
            easy.lines.clear()
            easy.chunks.clear()
            easy.setopt(pycurl.URL, self.base + request.path)
            headers = [*(f"{k}: {v}" for k, v in request.headers.items()), "Content-Type:"]
            easy.setopt(pycurl.HTTPHEADER, headers)
            easy.setopt(pycurl.POSTFIELDS, request.body)
            self.multi.add_handle(easy)
        good = left = len(batch)
        while left:
            self.multi.perform()
            more = 1
            while more:
                more, done, failed = self.multi.info_read(1000)
                for easy in done:
                    good -= easy.getinfo(pycurl.RESPONSE_CODE) != 200
                good -= len(failed)
                for easy in [*done, *(f[0] for f in failed)]:
                    self.multi.remove_handle(easy)
                    left -= 1
            if left:
                self.multi.select(1.0)
        return good


def transport_sender(transport, base: str) -> Callable[[Sequence[Request]], int]:
    where = Route("bench", {"A": base}, True, connections_max=1)
    return lambda batch: sum(
        isinstance(a, HttpResponse) and a.status == 200
        for a in transport.send_many(where, batch, DEADLINE_S)
    )


def measure(
    send: Callable[[Sequence[Request]], int], in_flight: int, count: int
) -> tuple[float, float]:
    """(requests/s, CPU µs per request) with `in_flight` at once; RuntimeError when one was not
    answered with 200.
    """
    batches = [requests(in_flight, 1 + in_flight * n) for n in range(max(count // in_flight, 1))]
    send(batches[0])
    begun, cpu = time.perf_counter(), time.process_time()
    good = sum(send(batch) for batch in batches)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    sent = in_flight * len(batches)
    if good != sent:
        raise RuntimeError(f"{sent - good} of {sent} were not answered with 200")
    return sent / seconds, cpu / sent * 1e6


def rounds(base: str, ca: Path, in_flights: Sequence[int], count: int, repeat: int) -> None:
    print(
        f"{pycurl.version}\n{'client':10} {'in flight':>9} {'requests/s':>11} {'CPU µs':>7} "
        f"{'CPU / bare':>10}"
    )
    for _ in range(repeat):
        for in_flight in in_flights:
            reference = 0.0
            for name in ("pycurl", "engine", "curl", "aioapns"):
                per_second, cpu = one(
                    name, base, ca, in_flight, count if name != "aioapns" else count // 5
                )
                reference = reference or cpu
                print(
                    f"{name:10} {in_flight:9} {per_second:11.0f} {cpu:7.1f} "
                    f"{cpu / reference:10.2f}",
                    flush=True,
                )


def one(name: str, base: str, ca: Path, in_flight: int, count: int) -> tuple[float, float]:
    """One client, made for this and gone after it, so that nobody pays for another's objects."""
    gc.collect()
    if name == "pycurl":
        return measure(BarePycurl(base, ca, in_flight).send, in_flight, count)
    clients: dict[str, Callable[[Path], Any]] = {
        "engine": lambda ca: Http2Transport(ca, CurlTransport(ca)),
        "curl": CurlTransport,
        "aioapns": AioapnsTransport,
    }
    transport = clients[name](ca)
    try:
        return measure(transport_sender(transport, base), in_flight, count)
    finally:
        transport.close()


def serve(folder: Path) -> None:
    server = H2Server(server_context(*issue(folder, "bench")))
    print(server.base, flush=True)
    sys.stdin.read()
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", help="an HTTP/2 server that answers POST /3/device/… with 200")
    parser.add_argument("--ca", type=Path, help="the authority of its certificate, PEM")
    parser.add_argument("--in-flight", default="100,500")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    in_flights = [int(n) for n in chosen.in_flight.split(",")]
    if chosen.url:
        if chosen.ca is None:
            parser.error("--url needs --ca")
        rounds(chosen.url, chosen.ca, in_flights, chosen.requests, chosen.repeat)
        return
    with tempfile.TemporaryDirectory() as folder:
        ca = ensure_ca(Path(folder))
        command = [sys.executable, "-m", "tests.benchmarks.bench_transport", "--serve", folder]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                base = present(process.stdout).readline().strip()
                rounds(base, ca, in_flights, chosen.requests, chosen.repeat)
            finally:
                present(process.stdin).close()


if __name__ == "__main__":
    main()
