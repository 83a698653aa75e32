"""A whole fleet with simulators, one tenant, and the doors as processes of their own."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from common.config import Settings
from common.running_fleet import resolve
from tests.conftest import open_folder
from tests.e2e.conftest import Core, wait_for
from tests.e2e.house import House
from workers.cli.fleet import migrate_settings
from workers.cli.up import free_ports, in_background
from workers.runtime import Runtime

PROCFILE = Path(__file__).parents[1] / "e2e" / "Procfile"


class Doors:
    """core, house: the fleet and its tenant. url: of the gateway."""

    def __init__(self, core: Core, house: House, folder: Path) -> None:
        self.core, self.house, self.folder = core, house, folder
        self.gateway_port = free_ports(1)
        self.url = f"http://127.0.0.1:{self.gateway_port}"

    def command(self, *arguments: str) -> str:
        """`pushfleet …` on this fleet; what it prints."""
        argv = self._argv(*arguments)
        return subprocess.run(
            argv, env=self._env(), check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def alias(self, business_id: str, vendor: str, name: str, option: str = "--alias") -> None:
        self.command("credential", "rotate", self.house.app, vendor, business_id, option, name)

    def process(self, line: str, name: str | None = None) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name or line}.log").open("ab")
        return subprocess.Popen(self._argv("worker", line), env=self._env(), stdout=log, stderr=log)

    @contextlib.contextmanager
    def running(self, lines: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
        processes = [self.process(line) for line in lines]
        if "gateway" in lines:
            wait_for(self._answers, "the gateway answers", 90)
        try:
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(90)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz").status_code == 200
        return False

    def _argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "workers", *arguments]

    def _env(self) -> dict[str, str]:
        data = {
            "PUSHFLEET_DATA_DIR": str(self.core.runtime.settings.data_dir),
            "PUSHFLEET_GATEWAY_ADDR": f"127.0.0.1:{self.gateway_port}",
        }
        return {**os.environ, **data}


@contextlib.contextmanager
def doors() -> Iterator[Doors]:
    os.environ.pop("PUSHFLEET_METRICS_PORT", None)
    with open_folder() as folder:
        settings = Settings.load(
            {"PUSHFLEET_DATA_DIR": str(folder / "var"), "PUSHFLEET_RETRY_FIRST_S": "0.3"}
        )
        with in_background(settings, {}, True, migrate=migrate_settings, procfile_path=PROCFILE):
            runtime = Runtime(resolve(settings))
            (folder / "accounts").mkdir()
            try:
                core = Core(runtime)
                made = Doors(core, House(core, folder / "accounts"), folder)
                time.sleep(0.5)
                yield made
            finally:
                runtime.close()
