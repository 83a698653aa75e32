"""A real Chromium, driven over a pipe (--remote-debugging-pipe): no port, no driver program, no
package.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_S = 100.0


class Chrome:
    """One browser with one page. Errors of the page (its console, its content security policy) are
    kept in `errors`.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._number = 0
        self._rest = b""
        self._folder = tempfile.mkdtemp(prefix="pushfleet-chrome-")
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        os.set_blocking(self._read, False)
        argv = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--disable-dev-shm-usage",
        ]
        argv += [f"--user-data-dir={self._folder}", "--no-first-run", "about:blank"]
        # the pipe's ends must be 3 and 4 in the child
        shell = f'exec 3<&{commands} 4>&{answers}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chrome", *argv],  # type: ignore[list-item]
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._folder, ignore_errors=True)

    def cookies(self, base: str, named: dict[str, str]) -> None:
        """These and no others."""
        self._call("Network.clearBrowserCookies")
        for name, value in named.items():
            self._call(
                "Network.setCookie", {"url": base, "name": name, "value": value, "httpOnly": True}
            )

    def open(self, url: str, *, width: int = 1400, dark: bool = False) -> None:
        """Goes there and waits until the page and its charts stand."""
        self.errors.clear()
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.run("window.left = true")
        self._call("Page.navigate", {"url": url})
        until = time.monotonic() + _S
        while not self.run(
            f"!window.left && document.readyState === 'complete' "
            f"&& document.URL.startsWith({url!r}.split('?')[0])"
        ):
            assert time.monotonic() < until, f"{url} does not load"
            time.sleep(0.02)
        while not self.run(
            "!document.querySelector('figure[data-series]') || document.body.dataset.drawn === '1'"
        ):
            assert time.monotonic() < until, f"{url} does not draw: {self.errors}"
            time.sleep(0.02)

    def offline(self, away: bool) -> None:
        """Whether no server can be reached from here."""
        speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self._call("Network.emulateNetworkConditions", {"offline": away, **speed})

    def run(self, script: str) -> Any:
        """The value of a script, awaited."""
        told = self._call(
            "Runtime.evaluate", {"expression": script, "awaitPromise": True, "returnByValue": True}
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def picture(self, path: Path) -> None:
        height = int(self.run("Math.ceil(document.documentElement.scrollHeight)"))
        width = int(self.run("window.innerWidth"))
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 6000), "scale": 1}
        told = self._call("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(told["data"]))

    def _call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if getattr(self, "_session", None) and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _S
        while True:
            told = self._next(until)
            if told.get("id") == self._number:
                assert "error" not in told, told
                return dict(told["result"])
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            self.errors.append(told["params"]["entry"]["text"])
        if told.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(told["params"]["exceptionDetails"]))

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert time.monotonic() < until, "the browser does not answer"
            try:
                self._rest += os.read(self._read, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
        one, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(one)
        return found
