#!/bin/sh
# Guess: the `aps` object that is given to several notifications of the npm package apns2 is a template; it is read, and each body is its own.
# Behaviour: apns2 12.2.0 writes alert, badge, sound, category, thread-id and content-available of each notification into the object that was
#   given. What the first person's notification had stays for the next one that does not name it: their badge, and their text on the phone of
#   somebody who was to be woken silently.
# Versions: npm apns2 12.2.0, node 18 and later. Date: 2026-11-29.
# Seen: "second: {"aps":{"sound":"default","alert":"hello Anna","badge":7,"content-available":1}}"
# Exits 1 when the second body has nothing of the first. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit apns2@12.2.0
cat >look.mjs <<'JS'
import { Notification } from "apns2";

const aps = { sound: "default" };
const first = new Notification("0".repeat(64), { aps, alert: "hello Anna", badge: 7 });
const second = new Notification("1".repeat(64), { aps, contentAvailable: true });
JSON.stringify(first.buildApnsOptions());
const body = second.buildApnsOptions();
console.log(`second: ${JSON.stringify(body)}`);
process.exit(body.aps.alert === "hello Anna" && body.aps.badge === 7 ? 0 : 1);
JS
node look.mjs
