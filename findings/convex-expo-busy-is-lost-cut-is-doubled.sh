#!/bin/bash
# Guess: Convex's component for Expo's push service ("handle retrying delivery") sends a push again when Expo refused it for the moment (429, 503: nothing
#   was taken), and does not when nobody knows whether it was taken: "not safe to retry without delivering twice", says its schema of that state.
# Behaviour: @convex-dev/expo-push-notifications 0.3.1 does the opposite. Each answer other than 200 makes all pushes of that request (up to 100)
#   "maybe_delivered", which is the end of them: one 429 of Expo's 600 a second, and a hundred people hear nothing. A connection that ends after Expo
#   read the request is "failed", and all are sent again, five times in all, a quarter of a second apart: a hundred people hear it twice. The states
#   say it the wrong way round, too: the lost are "maybe_delivered", the doubled are "delivered".
# Versions: @convex-dev/expo-push-notifications 0.3.1, convex 1.48.0, convex-test 0.0.71, Node 20. Date: 2026-12-01.
# Seen: "200: Expo read 3 of 3 pushes, took 3, all delivered; 429: read 3, took 0, all maybe_delivered; 503: read 3, took 0, all maybe_delivered;
#   cut off once read: read 6, took 6, all delivered"
# Exits 1 when a 429 is sent again. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit --ignore-scripts @convex-dev/expo-push-notifications@0.3.1 convex@1.48.0 convex-test@0.0.71 >/dev/null
cat > push.mjs <<'JS'
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { convexTest } from "convex-test";

let read = 0;
let taken = 0;
let answers = [];
const expo = http.createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  const pushes = JSON.parse(body);
  const answer = answers.shift() ?? 200;
  read += pushes.length;
  if (answer === 200 || answer === "cut") taken += pushes.length;
  if (answer === "cut") return request.socket.destroy();
  response.writeHead(answer, { "content-type": "application/json" });
  const data = pushes.map((_, number) => ({ status: "ok", id: String(number) }));
  response.end(JSON.stringify(answer === 200 ? { data } : { errors: [{ code: "TOO_MANY_REQUESTS", message: "busy" }] }));
});
await new Promise((listening) => expo.listen(0, "127.0.0.1", listening));
const real = globalThis.fetch;
globalThis.fetch = (url, options) => real(String(url).replace("https://exp.host", `http://127.0.0.1:${expo.address().port}`), options);
console.error = () => {};

const component = path.resolve("node_modules/@convex-dev/expo-push-notifications/dist/component");
const modules = {};
for (const folder of ["", "_generated/"])
  for (const name of fs.readdirSync(path.join(component, folder)))
    if (name.endsWith(".js")) modules[`/component/${folder}${name}`] = () => import(path.join(component, folder, name));
const { default: schema } = await import(`${component}/schema.js`);
const { api } = await import(`${component}/_generated/api.js`);

async function run(first) {
  [read, taken, answers] = [0, 0, [first]];
  const convex = convexTest(schema, modules);
  for (const userId of ["anna", "ben", "cleo"]) {
    await convex.mutation(api.public.recordPushNotificationToken, { userId, pushToken: `ExponentPushToken[${userId}]`, logLevel: "ERROR" });
    await convex.mutation(api.public.sendPushNotification, { userId, notification: { title: "Dora", body: "hello" }, logLevel: "ERROR" });
  }
  await new Promise((over) => setTimeout(over, 4000));
  const rows = await convex.run((ctx) => ctx.db.query("notifications").collect());
  return [read, taken, [...new Set(rows.map((row) => row.state))].join(" ")];
}

const seen = [];
for (const first of [200, 429, 503, "cut"]) seen.push(await run(first));
const [good, busy, down, cut] = seen.map(([one, two, states], number) => `read ${one}${number ? "" : " of 3 pushes"}, took ${two}, all ${states}`);
console.log(`200: Expo ${good}; 429: ${busy}; 503: ${down};\n  cut off once read: ${cut}`);
process.exit(seen[0][1] === 3 && seen[1][0] === 3 && seen[1][1] === 0 && seen[3][1] === 6 ? 0 : 1);
JS
timeout 100 node push.mjs 2>/dev/null
