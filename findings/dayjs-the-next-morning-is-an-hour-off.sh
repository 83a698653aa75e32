#!/bin/bash
# Guess: what a quiet time ends at, 8:00 of the next morning where the user lives, is dayjs.tz(...).add(1, "day") in Day.js with its timezone plugin: add
#   of a day keeps the time of the clock, on the two days of a year with 23 or 25 hours, too, as Luxon's plus({ days: 1 }) does.
# Behaviour: Day.js 1.11.23 adds the day on the clock of the machine and keeps the offset of the day before. On a server in UTC the pushes that a quiet time
#   held ring at 7:00 on the morning on which the clocks went back, and at 9:00 on the one on which they went forward; on a server in New York the
#   user in Shanghai, where no clock ever changes, gets them at 9:00. hour() and format() of the value say 8 o'clock, so a log shows nothing: only
#   the offset in it ("08:00:00-04:00" in a November New York) is one that nobody there has.
# Versions: dayjs 1.11.23, luxon 3.7.2, Node 20. Date: 2026-11-30.
# Seen: "server in UTC: New York, 31 October 8:00 + 1 day: Day.js says 8, rings at 07:00, Luxon 08:00; Berlin, 27 March: Day.js says 8, rings at 09:00,
#   Luxon 08:00; Shanghai: Day.js says 8, rings at 08:00, Luxon 08:00; server in New York: Shanghai, 31 October: Day.js says 8, rings at 09:00,
#   Luxon 08:00" (in one line)
# Exits 1 when Day.js rings at 8. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts dayjs@1.11.23 luxon@3.7.2 >/dev/null
cat > push.mjs <<'JS'
import dayjs from "dayjs";
import timezone from "dayjs/plugin/timezone.js";
import utc from "dayjs/plugin/utc.js";
import { DateTime } from "luxon";

dayjs.extend(utc);
dayjs.extend(timezone);

function morning(evening, zone) {
  const clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, timeStyle: "short" });
  const day = dayjs.tz(evening, zone).add(1, "day");
  const luxon = DateTime.fromISO(evening, { zone }).plus({ days: 1 });
  return { says: day.hour(), rings: clock.format(day.toDate()), luxon: clock.format(luxon.toJSDate()) };
}

process.env.TZ = "UTC";
const back = morning("2026-10-31T08:00", "America/New_York");
const forth = morning("2027-03-27T08:00", "Europe/Berlin");
const still = morning("2026-10-31T08:00", "Asia/Shanghai");
process.env.TZ = "America/New_York";
const far = morning("2026-10-31T08:00", "Asia/Shanghai");
const text = ({ says, rings, luxon }) => `Day.js says ${says}, rings at ${rings}, Luxon ${luxon}`;
console.log(
  `server in UTC: New York, 31 October 8:00 + 1 day: ${text(back)}; Berlin, 27 March: ${text(forth)}; ` +
    `Shanghai: ${text(still)}; server in New York: Shanghai, 31 October: ${text(far)}`,
);
process.exit(back.rings === "07:00" && forth.rings === "09:00" && back.luxon === "08:00" && far.luxon === "08:00" ? 0 : 1);
JS
node push.mjs
