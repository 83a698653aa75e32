"""What a process does with signals."""

import subprocess
import sys

# One signal comes while the main thread is inside the event's own lock, as `wait` and `set` are
# for a moment; another follows while the first is being passed on.
_INSIDE_THE_LOCK = """
import signal, threading
from workers.processes import set_on_signals

stop = threading.Event()
set_on_signals(stop, (signal.SIGTERM, signal.SIGINT))
with stop._cond:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
print(stop.wait(30))
"""


def test_a_signal_inside_the_lock_of_what_it_sets_ends_the_process_all_the_same():
    argv = [sys.executable, "-c", _INSIDE_THE_LOCK]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


def test_the_handlers_that_stood_there_come_back():
    code = """
import signal, threading
from workers.processes import set_on_signals

signal.signal(signal.SIGHUP, signal.SIG_IGN)
before = set_on_signals(threading.Event(), (signal.SIGHUP,))
print(before == {signal.SIGHUP: signal.SIG_IGN})
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "True\n", ended.stderr
