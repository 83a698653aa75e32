#!/bin/bash
# Guess: the workers of django-tasks-db, the database behind Django's own tasks, run what is due in the order in which it became due, where the priority is
#   the same: a call that was queued without run_after, for now, is due when it is queued, and goes before whatever comes due later.
# Behaviour: django-tasks-db 0.13.0 keeps "now" as a run_after on the first day of the year 9999, and sorts by run_after. So what was queued for now comes
#   behind everything that was put off and is due: behind the morning's pushes, which came due after it, and behind each retry that a task queues for
#   itself. As long as there is always one of those, the call never rings. It does not look late anywhere, it is READY. Among themselves those
#   for now keep their order; run_after=timezone.now() brings the call before the morning's, and so does a priority of 1.
# Versions: django-tasks-db 0.13.0, django-tasks 0.12.0, Django 5.2.8 (SQLite), Python 3.11. Date: 2026-12-01.
# Seen: "a call for now, then 100 pushes come due: the call is number 101; with run_after of the moment: 1; with priority 1: 1; with a push that is
#   put off by 20 ms again and again, 50 times: the call comes behind the 50"
# Exits 1 when the call that was due first is sent first. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q 'django-tasks-db[compat]==0.13.0' django-tasks==0.12.0 Django==5.2.8 2>/dev/null
cat > sender.py <<'PY'
import datetime, time

from django.utils import timezone
from django_tasks import task

sent = []


@task()
def push(to):
    sent.append(to)


@task()
def busy_vendor(times):
    """A push that is refused for the moment, and put off a little, so many times."""
    sent.append("refused")
    if times > 1:
        busy_vendor.using(run_after=timezone.now() + datetime.timedelta(milliseconds=20)).enqueue(times - 1)
        time.sleep(0.05)  # by then it is due again
PY
cat > push.py <<'PY'
import datetime, sys, time

import django
from django.conf import settings

database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "tasks.sqlite3"}
apps = ["django_tasks", "django_tasks_db"]
settings.configure(USE_TZ=True, DATABASES={"default": database}, INSTALLED_APPS=apps, TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}})
django.setup()

from django.core.management import call_command
from django.utils import timezone

import sender

call_command("migrate", verbosity=0)


def place(call, queue_more):
    """As which one the call is sent that was queued, for now, before these others came due."""
    sender.sent.clear()
    call.enqueue("the call")
    queue_more()
    time.sleep(1.2)
    call_command("db_worker", batch=True, startup_delay=False, verbosity=0)
    return sender.sent.index("the call") + 1


def morning():
    eight = sender.push.using(run_after=timezone.now() + datetime.timedelta(seconds=1))
    for number in range(100):
        eight.enqueue(f"person {number}")


now = place(sender.push, morning)
moment = place(sender.push.using(run_after=timezone.now()), morning)
urgent = place(sender.push.using(priority=1), morning)
busy = place(sender.push, lambda: sender.busy_vendor.using(run_after=timezone.now()).enqueue(50))
print(
    f"a call for now, then 100 pushes come due: the call is number {now}; with run_after of the moment: {moment}; with priority 1: {urgent}; "
    f"with a push that is\n  put off by 20 ms again and again, 50 times: the call comes {'behind the 50' if busy == 51 else f'as number {busy}'}"
)
sys.exit(0 if (now, moment, urgent, busy) == (101, 1, 1, 51) else 1)
PY
timeout 90 venv/bin/python push.py
