#!/bin/sh
# Guess: one PushNotifications object with FCM settings asks Google for an access token once an hour, as firebase-admin under it does.
# Behaviour: node-pushnotifications 6.0.0 makes a new firebase-admin app in every send and drops it, so each push to a phone first fetches an OAuth
#   token: a request to another host, signed with RSA, with a quota of its own. Ten pushes are ten tokens; when Google's token endpoint is slow or
#   refuses, no push goes out although the token of a second ago was good. (One HTTP/2 connection a call is firebase-admin's own way.)
# Versions: node-pushnotifications 6.0.0, firebase-admin 13.10.0, Node 20. Date: 2026-11-29.
# Seen: "node-pushnotifications: 10 pushes, 10 access tokens, 10 connections; firebase-admin alone: 10 pushes, 1 access tokens, 10 connections"
# Exits 1 when the ten pushes need one token. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts node-pushnotifications@6.0.0 firebase-admin@13.10.0 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > push.js <<'JS'
const fs = require("node:fs");
const http2 = require("node:http2");

const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
let [pushes, tokens, connections] = [0, 0, 0];

const server = http2.createSecureServer({ key, cert });
server.on("stream", (stream) => {
  stream.resume().on("end", () => {
    pushes += 1;
    stream.respond({ ":status": 200, "content-type": "application/json" });
    stream.end(JSON.stringify({ name: "projects/im/messages/1" }));
  });
});

// The address of FCM is fixed in the package: its connections go to the server above. Node's server refuses its :scheme of "https:".
const connect = http2.connect;
http2.connect = (_, options) => {
  connections += 1;
  const session = connect(`https://localhost:${server.address().port}`, { ...options, ca: cert });
  const request = session.request.bind(session);
  session.request = (headers, more) => request({ ...headers, ":scheme": "https" }, more);
  return session;
};

const credential = {
  getAccessToken: async () => {
    tokens += 1;
    return { access_token: "a", expires_in: 3600 };
  },
};

async function tenTimes(push) {
  [pushes, tokens, connections] = [0, 0, 0];
  for (let at = 0; at < 10; at += 1) await push();
  return [pushes, tokens, `${pushes} pushes, ${tokens} access tokens, ${connections} connections`];
}

server.listen(0, "localhost", async () => {
  const PushNotifications = require("node-pushnotifications");
  const admin = require("firebase-admin");
  const sender = new PushNotifications({ fcm: { credential, projectId: "im", appName: "im" }, isAlwaysUseFCM: true });
  const device = "d".repeat(120);
  const through = await tenTimes(() => sender.send([device], { title: "hello", body: "you" }));
  admin.initializeApp({ credential, projectId: "im" });
  const alone = await tenTimes(() => admin.messaging().sendEach([{ token: device, notification: { title: "hello" } }]));
  console.log(`node-pushnotifications: ${through[2]}; firebase-admin alone: ${alone[2]}`);
  process.exit(through[0] === 10 && through[1] === 10 && alone[1] === 1 ? 0 : 1);
});
JS
node push.js
