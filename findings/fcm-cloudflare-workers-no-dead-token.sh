#!/bin/bash
# Guess: sendToTokens of fcm-cloudflare-workers "returns an array of tokens that are no longer registered": those that FCM answers with 404
#   UNREGISTERED, as it does for each app that was taken off its phone. When FCM refuses every push, it rejects.
# Behaviour: fcm-cloudflare-workers 2.0.1 never lists such a token. It looks for the words "not a valid FCM registration token" in a 400, which is
#   FCM's answer to something that never was a token, so the dead ones are sent to for ever. And it resolves whatever happened: every push refused
#   (a wrong project, a quota, an account without the right) is the same empty array as every push sent; what went wrong is on the console only.
# Versions: fcm-cloudflare-workers 2.0.1, Node 20. Date: 2026-11-29.
# Seen: "all sent: []; all 404 UNREGISTERED: []; all 403 SENDER_ID_MISMATCH: []; all 429 QUOTA_EXCEEDED: []; never a token: 3"
# Exits 1 when the dead tokens are listed or a refusal of all rejects. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts fcm-cloudflare-workers@2.0.1 >/dev/null
cat > push.js <<'JS'
const http = require("node:http");
const { FCM, FcmOptions } = require("fcm-cloudflare-workers");

const refusal = (code, status, errorCode, message) => ({
  code,
  body: { error: { code, status, message, details: [{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode }] } },
});
const answers = {
  "all sent": { code: 200, body: { name: "projects/p/messages/1" } },
  "all 404 UNREGISTERED": refusal(404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found."),
  "all 403 SENDER_ID_MISMATCH": refusal(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch"),
  "all 429 QUOTA_EXCEEDED": refusal(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded."),
  "never a token": refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"),
};
let answer;
const fcm = http.createServer((request, response) => {
  request.resume().on("end", () => {
    response.writeHead(answer.code, { "content-type": "application/json" });
    response.end(JSON.stringify(answer.body));
  });
});
console.error = () => {};
fcm.listen(0, "127.0.0.1", async () => {
  const kvStore = { get: async () => "an-access-token", put: async () => {} };
  const options = new FcmOptions({ serviceAccount: { project_id: "p" }, kvStore, kvCacheKey: "token" });
  const client = new FCM(options);
  client.fcmHost = `http://127.0.0.1:${fcm.address().port}`;
  const told = {};
  for (const [name, next] of Object.entries(answers)) {
    answer = next;
    const outcome = client.sendToTokens({ notification: { body: "hello" } }, ["t1", "t2", "t3"]);
    told[name] = await outcome.then((dead) => (dead.length ? dead.length : "[]"), () => "rejected");
  }
  console.log(Object.entries(told).map(([name, what]) => `${name}: ${what}`).join("; "));
  const same = Object.values(told).slice(0, 4).every((what) => what === "[]");
  process.exit(same && told["never a token"] === 3 ? 0 : 1);
});
JS
node push.js
