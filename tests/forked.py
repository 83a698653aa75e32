"""`pushfleet` for tests that type it dozens of times in a shell: a process that has loaded the
libraries once forks for each command (`python -m tests.forked SOCKET`).
"""

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from workers.cli import run

#: What the commands load, and what that loads when it is used.
LOADED = ("commands", "init", "publish", "why", "credentials", "dead_letters", "lanes", "doctor")
LATER = ("psycopg", "sqlalchemy.dialects.postgresql.psycopg", "workers.runtime")
#: Takes the place of `.venv/bin/pushfleet`: hands on its arguments, folder, environment and files.
SCRIPT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    told = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(told).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(told)
    sys.exit(server.recv(1)[0])
"""


@contextlib.contextmanager
def forked(script: Path) -> Iterator[None]:
    """While the block runs, this script is `pushfleet`."""
    address = script.with_suffix(".socket")
    argv = [sys.executable, "-m", "tests.forked", str(address)]
    process = subprocess.Popen(argv, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        script.write_text(SCRIPT.format(python=sys.executable, address=str(address)))
        script.chmod(0o755)
        yield
    finally:
        process.kill()
        process.communicate()


def serve(address: str) -> None:
    for name in (*(f"workers.cli.{one}" for one in LOADED), *LATER):
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            caller, _ = listener.accept()
            if not os.fork():
                answer(caller)
            caller.close()


def answer(caller: socket.socket) -> None:
    """Runs the command as its own process would, and ends."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        head, files, _, _ = socket.recv_fds(caller, 4, 3)
        with caller.makefile("rb") as said:
            sys.argv, folder, environ = json.loads(said.read(int.from_bytes(head, "big")))
        for number, file in enumerate(files):
            os.dup2(file, number)
        sys.stdin, sys.stdout, sys.stderr = (open(n, "w" if n else "r") for n in range(3))  # noqa: SIM115, PTH123
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        code = run(sys.argv[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        caller.sendall(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
