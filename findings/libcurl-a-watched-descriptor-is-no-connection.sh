#!/bin/bash
# Guess: with libcurl's multi socket interface what CURLMOPT_SOCKETFUNCTION asks the program to watch, and later (CURL_POLL_REMOVE) to leave, are the
#   sockets of its transfers. A descriptor that was left and is still open is a connection kept for the next push; bytes to read on it while nothing
#   is under way are the server's end of it, so the next push gets CURLOPT_FRESH_CONNECT (on an ended one libcurl might post twice).
# Behaviour: libcurl 8.23.0 has its own descriptors watched and left in the same way: an eventfd for its resolver's threads, announced with each push.
#   After one push two descriptors are left, one of them a connection. When a push is given up while its name is looked up, the answer comes when
#   nobody reads it any more, and the eventfd is readable at rest: the program takes a good connection for ended and opens another, and while one
#   vendor's name is slow in DNS kept connections of all others in the same multi go, a TLS handshake each time. Nothing but the link in /proc
#   (or fstat: no socket) tells the two apart.
# Versions: pycurl 7.49.0 (its wheel: libcurl 8.23.0), Python 3.11, Linux. Date: 2026-12-01.
# Seen: "after one push 2 descriptors are left: 1 eventfd, 1 socket; 60 good pushes, each after one given up in DNS: more than one connection;
#   sockets alone watched: 1 connection" (in one line)
# Exits 1 when only sockets are left, or one connection is enough. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q pycurl==7.49.0 2>/dev/null
cat > push.py <<'PY'
import os, select, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pycurl

connections = 0


class Vendor(BaseHTTPRequestHandler):
    """Answers each push and keeps its connections."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        global connections
        connections += 1
        super().setup()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


vendor = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
threading.Thread(target=vendor.serve_forever, daemon=True).start()


def kind(fd):
    """"socket", "eventfd" or "closed"."""
    try:
        return "socket" if (link := os.readlink(f"/proc/self/fd/{fd}")).startswith("socket:") else link.split("[")[-1][:-1]
    except OSError:
        return "closed"


class Program:
    """A small loop around a multi; `kinds`: which of the left descriptors it takes for kept connections."""

    def __init__(self, kinds):
        self.kinds, self.left, self.due, self.poll = kinds, set(), None, select.poll()
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self.watch)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self.timer)

    def watch(self, what, fd, *_):
        if what == pycurl.POLL_REMOVE:
            self.poll.unregister(fd)
            self.left.add(fd)
        else:
            self.left.discard(fd)
            bits = {pycurl.POLL_IN: select.POLLIN, pycurl.POLL_OUT: select.POLLOUT}
            self.poll.register(fd, bits.get(what, select.POLLIN | select.POLLOUT))

    def timer(self, milliseconds):
        self.due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def begin(self, host, fresh=False):
        curl = pycurl.Curl()
        curl.setopt(pycurl.URL, f"http://{host}:{vendor.server_port}/push")
        curl.setopt(pycurl.POSTFIELDS, '{"alert": "hello"}')
        curl.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)
        curl.setopt(pycurl.FRESH_CONNECT, fresh)
        self.multi.add_handle(curl)
        return curl

    def give_up(self):
        """A push to a name that is still looked up when its caller gives it up."""
        curl = self.begin("push.invalid")
        self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self.multi.remove_handle(curl)
        time.sleep(0.1)

    def ended(self):
        look = select.poll()
        for fd in self.left:
            if kind(fd) in self.kinds:
                look.register(fd, select.POLLIN)
        return any(event & select.POLLIN for _, event in look.poll(0))

    def push(self):
        curl, until = self.begin("127.0.0.1", self.ended()), time.monotonic() + 20
        while time.monotonic() < until:
            for fd, event in self.poll.poll(20):
                bits = (pycurl.CSELECT_IN if event & select.POLLIN else 0) | (
                    pycurl.CSELECT_OUT if event & select.POLLOUT else 0
                )
                self.multi.socket_action(fd, bits)
            if self.due is not None and time.monotonic() >= self.due:
                self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            _, good, bad = self.multi.info_read()
            if good or bad:
                assert curl in good and curl.getinfo(pycurl.RESPONSE_CODE) == 200
                self.multi.remove_handle(curl)
                return
        raise SystemExit("no answer")


def run(kinds, rounds=60):
    """What is left after the first push, and how many connections so many pushes took."""
    global connections
    connections, program = 0, Program(kinds)
    program.push()
    first = sorted(map(kind, program.left))
    for _ in range(rounds):
        program.give_up()
        program.push()
    return first, connections


(left, naive), (_, careful) = run({"socket", "eventfd"}), run({"socket"})
print(
    f"after one push {len(left)} descriptors are left: {left.count('eventfd')} eventfd, {left.count('socket')} socket; "
    f"60 good pushes, each after one given up in DNS: {'more than one connection' if naive > 1 else '1 connection'}; "
    f"sockets alone watched: {careful} connection"
)
sys.exit(0 if left == ["eventfd", "socket"] and naive > 1 and careful == 1 else 1)
PY
timeout 80 venv/bin/python push.py
