#!/bin/bash
# Guess: a push with Parse's expiration_time (or expiration_interval) of one hour from now lives for an hour on its way to an Android phone, too:
#   FCM reads "ttl": "3600s". Both libraries it goes through are typed and in wide use, and the iPhone's apns-expiration is right.
# Behaviour: @parse/push-adapter 8.5.5 computes the seconds and gives them to firebase-admin, whose android.ttl is in milliseconds: FCM reads
#   "3.600000000s". A phone that sleeps for four seconds never hears of the push, both calls report success, and the longest lifetime that there is
#   (the adapter's own bound of four weeks) is 40 minutes. Without an expiration_time FCM keeps the push for four weeks.
# Versions: @parse/push-adapter 8.5.5, firebase-admin 13.9.0, Node 20. Date: 2026-11-29.
# Seen: "expires in 1 hour: transmitted true, ttl 3.599000000s; in 28 days: transmitted true, ttl 2419.200000000s; never: transmitted true, no ttl"
# Exits 1 when the hour is an hour. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @parse/push-adapter@8.5.5 firebase-admin@13.9.0 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > push.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";
import pushAdapter from "@parse/push-adapter";
import { initializeApp } from "firebase-admin/app";

const Adapter = pushAdapter.default ?? pushAdapter;
const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
let read;
const fcm = http2.createSecureServer({ key, cert });
fcm.on("stream", (stream) => {
  let body = "";
  stream.on("data", (data) => (body += data));
  stream.on("end", () => {
    read = JSON.parse(body).message;
    stream.respond({ ":status": 200, "content-type": "application/json" });
    stream.end(JSON.stringify({ name: "projects/im/messages/1" }));
  });
});
await new Promise((up) => fcm.listen(0, "localhost", up));

// The address of FCM is fixed in firebase-admin: its connections go to the server above. Node's server refuses its :scheme of "https:".
const connect = http2.connect;
http2.connect = (_, options) => {
  const session = connect(`https://localhost:${fcm.address().port}`, { ...options, ca: cert });
  const request = session.request.bind(session);
  session.request = (headers, more) => request({ ...headers, ":scheme": "https" }, more);
  return session;
};
initializeApp({ credential: { getAccessToken: async () => ({ access_token: "a", expires_in: 3600 }) }, projectId: "im" });
const adapter = new Adapter({ android: { firebaseServiceAccount: {} } });

async function push(seconds) {
  const phone = { deviceType: "android", deviceToken: "d".repeat(120) };
  const push = { data: { alert: "hello" }, ...(seconds && { expiration_time: Date.now() + seconds * 1000 }) };
  const [result] = await adapter.send(push, [phone]);
  return `transmitted ${result.transmitted}, ${read.android.ttl ? `ttl ${read.android.ttl}` : "no ttl"}`;
}

const [hour, weeks, never] = [await push(3600), await push(28 * 86400 + 60), await push()];
console.log(`expires in 1 hour: ${hour}; in 28 days: ${weeks}; never: ${never}`);
process.exit(/ttl 3\.[56]\d*s$/.test(hour) && weeks.endsWith("ttl 2419.200000000s") ? 0 : 1);
JS
timeout 120 node push.mjs 2>/dev/null
