#!/bin/bash
# Guess: a job of the npm package cron at a fixed time of the day in a zone, timeZone: "Europe/Berlin", runs once a day. The two days of a year on which
#   clocks change are hard for times within the hour that comes twice (2:00 to 3:00 in Berlin); midnight in Cairo, or 3:00 in Berlin, are not.
# Behaviour: cron 4.4.0 (under @nestjs/schedule, too) runs what is due in the hour behind the change twice, and once an hour early: Berlin's job of 3:00 at
#   2:00 and at 3:00, New York's of 2:00 at 1:00 and at 2:00. Where clocks go back at midnight, Cairo, Beirut, Santiago, it is the job of midnight, at
#   23:00 of the day before and at 0:00: a digest is sent twice, and a day's quota of pushes that is set back at midnight is open again for
#   an hour that belonged to the day before. Times within the hour that comes twice run once. croner runs each of them once.
# Versions: cron 4.4.0, luxon 3.7.2, croner 11.0.1, @sinonjs/fake-timers 15.4.0, Node 20. Date: 2026-12-01.
# Seen: "Berlin 3:00: cron 02:00 03:00, croner 03:00; New York 2:00: cron 01:00 02:00, croner 02:00; Cairo 0:00: cron 23:00 00:00, croner 00:00;
#   Beirut 0:00: cron 23:00 00:00, croner 00:00; Berlin 2:30: cron 02:30, croner 02:30; the day after, Berlin 3:00: cron 03:00"
# Exits 1 when Berlin's job of 3:00 and Cairo's of midnight come once. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts cron@4.4.0 luxon@3.7.2 croner@11.0.1 @sinonjs/fake-timers@15.4.0 >/dev/null
cat > daily.mjs <<'JS'
import FakeTimers from "@sinonjs/fake-timers";
import { CronJob } from "cron";
import { Cron } from "croner";

/** When a daily job runs within a day from this moment, on the clocks of the zone. */
function runs(zone, expression, from, start) {
  const show = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" });
  const clock = FakeTimers.install({ now: new Date(from) });
  const seen = [];
  const stop = start(expression, zone, () => seen.push(new Date()));
  clock.tick("24:00:00");
  stop();
  clock.uninstall();
  return seen.map((moment) => show.format(moment)).join(" ");
}

const cron = (cronTime, timeZone, onTick) => {
  const job = CronJob.from({ cronTime, timeZone, onTick, start: true });
  return () => job.stop();
};
const croner = (expression, timezone, run) => {
  const job = new Cron(expression, { timezone }, run);
  return () => job.stop();
};
const days = [
  ["Berlin 3:00", "Europe/Berlin", "0 3 * * *", "2026-10-24T12:00Z"],
  ["New York 2:00", "America/New_York", "0 2 * * *", "2026-10-31T16:00Z"],
  ["Cairo 0:00", "Africa/Cairo", "0 0 * * *", "2026-10-29T12:00Z"],
  ["Beirut 0:00", "Asia/Beirut", "0 0 * * *", "2026-10-24T12:00Z"],
  ["Berlin 2:30", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00Z"],
];
const seen = days.map(([, ...day]) => [runs(...day, cron), runs(...day, croner)]);
const after = runs("Europe/Berlin", "0 3 * * *", "2026-10-25T12:00Z", cron);
const said = days.map(([name], at) => `${name}: cron ${seen[at][0]}, croner ${seen[at][1]}`);
console.log(`${said.slice(0, 3).join("; ")};\n  ${said.slice(3).join("; ")}; the day after, Berlin 3:00: cron ${after}`);
process.exit(seen[0][0] === "02:00 03:00" && seen[2][0] === "23:00 00:00" && seen[2][1] === "00:00" ? 0 : 1);
JS
timeout 60 node daily.mjs
