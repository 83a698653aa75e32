#!/bin/bash
# Guess: a closed CircuitBreaker of pybreaker ("Thread-safe", and to be kept as one for each integration point) only counts: ten threads that send through it
#   wait for a slow vendor side by side, as they do without it.
# Behaviour: pybreaker 1.4.1 holds its lock for as long as the call lasts, so one breaker lets one call be under way in a process. Ten threads send one push
#   after another, and a vendor that is slow, which is when a breaker is wanted, holds all senders up behind the slowest answer; five timeouts of
#   10 s are seen one by one, and it opens after 50 s instead of 10. Its decorator is the same. Its context manager, calling(), is not: that one gives
#   the lock back before the block begins. Nothing in its page tells the two apart.
# Versions: pybreaker 1.4.1, Python 3.11. Date: 2026-12-01.
# Seen: "10 threads, a vendor that takes 0.3 s; no breaker: 1 round; with calling(): 1; call(): 10, the decorator: 10; 5 timeouts of 0.3 s until it opens,
#   call(): 5 rounds, calling(): 1"
# Exits 1 when the ten of call() are under way together. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q pybreaker==1.4.1 2>/dev/null
cat > push.py <<'PY'
import concurrent.futures, contextlib, sys, time

import pybreaker

ANSWER_S = 0.3


def send():
    time.sleep(ANSWER_S)


def time_out():
    time.sleep(ANSWER_S)
    raise TimeoutError


def breaker():
    return pybreaker.CircuitBreaker(fail_max=5, reset_timeout=60)


def through(one, what):
    with one.calling():
        what()


def rounds(what, threads=10):
    """How many answers' time it takes until all of the threads have sent a push in this way."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for sent in [pool.submit(what) for _ in range(threads)]:
            with contextlib.suppress(TimeoutError, pybreaker.CircuitBreakerError):
                sent.result()
    return round((time.monotonic() - began) / ANSWER_S)


one, other = breaker(), breaker()
bare, around = rounds(send), rounds(lambda: through(other, send))
call, decorated = rounds(lambda: one.call(send)), rounds(breaker()(send))
opens = rounds(lambda: one.call(time_out), 5)
opens_around = rounds(lambda: through(other, time_out), 5)
assert one.current_state == other.current_state == "open"
print(
    f"10 threads, a vendor that takes {ANSWER_S} s; no breaker: {bare} round; with calling(): {around}; call(): {call}, the decorator: {decorated}; "
    f"5 timeouts of {ANSWER_S} s until it opens,\n  call(): {opens} rounds, calling(): {opens_around}"
)
sys.exit(0 if bare < 3 and around < 3 and call > 8 and decorated > 8 else 1)
PY
timeout 60 venv/bin/python push.py
