"""A replica that stands still for a moment, as on a busy machine, while intake commits."""

import signal
import threading
from collections.abc import Callable

from common.storage import commits
from tests.integration.test_core_elsewhere import Core
from tests.waiting import wait_for
from workers.cli.worker import intake_loop
from workers.runtime import Runtime


class Behind:
    """send: sends the replica of the fleet's keys a signal."""

    def __init__(self, runtime: Runtime, send: Callable[[int], None]) -> None:
        self.runtime, self._send = runtime, send
        self.core, self.intake = Core(runtime), intake_loop(runtime)
        self.core.phone("alice")
        wait_for(self._all_taken_in, "intake works")

    def _all_taken_in(self) -> bool:
        self.intake.once(block_ms=10)
        return not self.runtime.core.xlen(self.core.stream)

    def stays_with_the_core(self) -> None:
        reader = threading.Thread(target=self.intake.once)
        self._send(signal.SIGSTOP)
        try:
            self.core.phone("bob")
            reader.start()
            reader.join(8 * commits.REPLICA_MS / 1000)
            assert self.runtime.core.xlen(self.core.stream) == 1
        finally:
            self._send(signal.SIGCONT)
            if reader.ident:
                reader.join(60)
        assert not reader.is_alive()
        assert not self.runtime.core.xlen(self.core.stream)
