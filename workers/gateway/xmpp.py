"""placeholder"""

from __future__ import annotations

import threading
from typing import Any


def serve(_world: Any, stop: threading.Event) -> None:
    stop.wait()
