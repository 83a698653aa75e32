"""A client that knows HTTP/2's frames and nothing else: what it was sent is what it says."""

import socket
import ssl
import time
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from tests.builders import present

BODY = b'{"aps":{"alert":{"body":"hi"}}}'


class Client:
    """One connection. answers: stream -> (status, headers, body) of those that ended; resets:
    stream -> code; goaway: last_stream_id.
    """

    def __init__(self, ca_file: str, port: int, window: int | None = None) -> None:
        context = ssl.create_default_context(cafile=ca_file)
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), 60), server_hostname="localhost"
        )
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.answers: dict[int, Any] = {}
        self.resets: dict[int, Any] = {}
        self.half: dict[int, Any] = {}
        self.limits: list[Any] = []
        self.goaway: tuple[int | None, int] | None = None
        self.pieces: list[Any] = []
        self.acknowledging = self.open = True
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def ask(
        self, path: str, headers, body: bytes = BODY, method: str = "POST", end: bool = True
    ) -> int:
        stream = self.h2.get_next_available_stream_id()
        authority = (":authority", "localhost")
        pseudo = [(":method", method), (":path", path), (":scheme", "https"), authority]
        self.h2.send_headers(stream, [*pseudo, *headers], end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        return stream

    def until(self, done, seconds: float = 60.0) -> None:
        """Reads until the condition holds; AssertionError when it does not in time."""
        ends = time.monotonic() + seconds
        while not done():
            left = ends - time.monotonic()
            assert left > 0, (
                f"still waiting: answers {sorted(self.answers)}, resets {self.resets}, "
                f"goaway {self.goaway}"
            )
            assert self.read(left), "the connection ended"

    def read(self, seconds: float) -> bool:
        """One read, of at most so many seconds. False: the server has closed."""
        self.socket.settimeout(max(0.01, seconds))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return True
        except OSError:
            data = b""
        if not data:
            self.open = False
            return False
        for event in self.h2.receive_data(data):
            self._event(event)
        if self.open:
            self.flush()
        return True

    def _event(self, event) -> None:
        if (
            isinstance(event, RemoteSettingsChanged)
            and SettingCodes.MAX_CONCURRENT_STREAMS in event.changed_settings
        ):
            self.limits.append(
                event.changed_settings[SettingCodes.MAX_CONCURRENT_STREAMS].new_value
            )
        elif isinstance(event, ResponseReceived):
            headers: dict[str, str] = {str(name): str(value) for name, value in event.headers}
            self.half[event.stream_id] = (int(headers.pop(":status")), headers, bytearray())
        elif isinstance(event, DataReceived):
            self.half[event.stream_id][2].extend(event.data)
            self.pieces.append((event.stream_id, len(event.data)))
            if self.acknowledging:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            status, headers, body = self.half.pop(event.stream_id)
            self.answers[event.stream_id] = (status, headers, bytes(body))
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goaway = (event.last_stream_id, int(present(event.error_code)))

    def close(self) -> None:
        self.socket.close()
