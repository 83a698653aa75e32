"""TLS in front of a server that knows none: what a client says is handed on as it is."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from simulators.simulator import ensure_ca, issue
from tests.conftest import open_folder


class TlsDoor:
    """behind: the server's port on this machine."""

    def __init__(self, folder: Path) -> None:
        self.ca_file, self.behind = ensure_ca(folder), 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*issue(folder, "door"))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            outer = stack.enter_context(self._context.wrap_socket(raw, server_side=True))
            inner = stack.enter_context(socket.create_connection(("127.0.0.1", self.behind)))
            threading.Thread(target=_pump, args=(inner, outer), daemon=True).start()
            _pump(outer, inner)
            inner.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)


@contextlib.contextmanager
def tls_doors(count: int) -> Iterator[list[TlsDoor]]:
    with open_folder() as folder:
        doors = [TlsDoor(folder) for _ in range(count)]
        try:
            yield doors
        finally:
            for door in doors:
                door.close()
