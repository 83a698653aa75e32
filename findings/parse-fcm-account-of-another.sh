#!/bin/bash
# Guess: @parse/push-adapter sends to FCM with the firebaseServiceAccount that it was given, one for Android and another for iOS if there are two,
#   whatever else in the process uses Firebase (sign-in, Firestore).
# Behaviour: @parse/push-adapter 8.5.5 takes firebase-admin's default app if there is one, and looks at its own account only if there is none. Where
#   the process has an app of another project, or the adapter itself made one for the other platform, every push goes to that project under that
#   project's token, and nothing says so. FCM answers SENDER_ID_MISMATCH, which reads as if the phones' tokens were wrong.
# Versions: @parse/push-adapter 8.5.5, firebase-admin 13.9.0, Node 20. Date: 2026-11-29.
# Seen: "alone: iOS has the account of im-android; in a process that signs in with login: Android goes to login, iOS goes to login"
# Exits 1 when one of them goes to its own project. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @parse/push-adapter@8.5.5 firebase-admin@13.9.0 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl genrsa 2048 2>/dev/null | openssl pkcs8 -topk8 -nocrypt -out account.pem
cat > push.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";
import pushAdapter from "@parse/push-adapter";
import { deleteApp, getApp, initializeApp } from "firebase-admin/app";

const Adapter = pushAdapter.default ?? pushAdapter;
const [key, cert, account] = ["key.pem", "cert.pem", "account.pem"].map((name) => fs.readFileSync(name));
let project;
const fcm = http2.createSecureServer({ key, cert });
fcm.on("stream", (stream, headers) => {
  project = headers[":path"].split("/")[3];
  stream.resume().on("end", () => {
    stream.respond({ ":status": 200, "content-type": "application/json" });
    stream.end(JSON.stringify({ name: `projects/${project}/messages/1` }));
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
const firebaseServiceAccount = (projectId) => ({ projectId, clientEmail: `push@${projectId}.example`, privateKey: account.toString() });
const accounts = () => ({
  android: { firebaseServiceAccount: firebaseServiceAccount("im-android") },
  ios: { firebaseServiceAccount: firebaseServiceAccount("im-ios") },
});

const { ios: alone } = new Adapter(accounts()).senderMap;
const iosAlone = alone.sender.app.options.credential.projectId;
await deleteApp(getApp());
initializeApp({ credential: { getAccessToken: async () => ({ access_token: "a", expires_in: 3600 }) }, projectId: "login" });
const adapter = new Adapter(accounts());

async function goesTo(deviceType) {
  project = "none";
  await adapter.send({ data: { alert: "hello" } }, [{ deviceType, deviceToken: "d".repeat(120) }]);
  return project;
}

const [android, ios] = [await goesTo("android"), await goesTo("ios")];
console.log(`alone: iOS has the account of ${iosAlone}; in a process that signs in with login: Android goes to ${android}, iOS goes to ${ios}`);
process.exit(iosAlone === "im-android" && android === "login" && ios === "login" ? 0 : 1);
JS
timeout 120 node push.mjs 2>/dev/null
