#!/bin/sh
# Guess: spacetime, a library of dates "across timezones", knows the names of the time zone database: PST8PDT and EST5EDT are there, and mean Los
#   Angeles' and New York's clocks (links to them since 2024b); Java, PostgreSQL and Linux offer them, so they stand in people's profiles.
# Behaviour: spacetime 7.15.0 takes the 8 in PST8PDT for UTC+8, the clock of Shanghai (in such names it counts to the west): 16 hours off in winter, 15
#   in summer, and without summer time. Quiet hours from 22 to 8 then hold the day's messages back and let the night's ring. Nothing says so, while
#   a name that it does not know at all is an error.
# Versions: spacetime 7.15.0, Node 20. Date: 2026-11-29.
# Seen: "11:00 UTC on 1 December: America/Los_Angeles 3:00 (Intl: 3:00), PST8PDT 19:00 (Intl: 3:00), EST5EDT 16:00 (Intl: 6:00)"
#   and "quiet hours 22 to 8 at that moment: America/Los_Angeles quiet, PST8PDT rings"
# Exits 1 when PST8PDT is the clock of Los Angeles. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts spacetime@7.15.0 >/dev/null
cat > quiet.mjs <<'JS'
import spacetime from "spacetime";

const moment = Date.UTC(2026, 11, 1, 11);
const hour = (zone) => spacetime(moment, zone).hour();
const real = (zone) =>
  Number(new Intl.DateTimeFormat("en-US", { timeZone: zone, hour: "numeric", hourCycle: "h23" }).format(moment));
const word = (zone) => (hour(zone) >= 22 || hour(zone) < 8 ? "quiet" : "rings");
const zones = ["America/Los_Angeles", "PST8PDT", "EST5EDT"];
const told = zones.map((zone) => `${zone} ${hour(zone)}:00 (Intl: ${real(zone)}:00)`);
console.log(`11:00 UTC on 1 December: ${told.join(", ")}`);
console.log(`quiet hours 22 to 8 at that moment: ${zones[0]} ${word(zones[0])}, ${zones[1]} ${word(zones[1])}`);
process.exit(hour("PST8PDT") !== real("PST8PDT") ? 0 : 1);
JS
node quiet.mjs
