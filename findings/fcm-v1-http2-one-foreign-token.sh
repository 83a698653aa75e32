#!/bin/sh
# Guess: sendMulticast of fcm-v1-http2 gives the push to each of many tokens and resolves to those that FCM calls UNREGISTERED, to be deleted; a
#   token of another sender (403 SENDER_ID_MISMATCH, common after an app changed its Firebase project) concerns that one phone.
# Behaviour: fcm-v1-http2 1.0.12 ends the batch at the first answer that is neither 200, UNREGISTERED nor 5xx: all tokens that were not yet begun
#   get nothing, sendMulticast rejects with that one answer (without its token), and the list of the dead is lost. Sent again, the phones before
#   it ring twice, and those behind it still get nothing.
# Versions: fcm-v1-http2 1.0.12, Node 20. Date: 2026-11-29.
# Seen: "of 300 tokens FCM was asked for 30; the caller got SENDER_ID_MISMATCH, not the 2 dead tokens"
# Exits 1 when all are asked for. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts fcm-v1-http2@1.0.12 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > push.js <<'JS'
const fs = require("node:fs");
const http2 = require("node:http2");

const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
const refused = (code, status, errorCode) => {
  const details = [{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode }];
  return { error: { code, status, message: errorCode, details } };
};
const answers = { gone: refused(404, "NOT_FOUND", "UNREGISTERED"), foreign: refused(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH") };
let asked = 0;

const server = http2.createSecureServer({ key, cert });
server.on("stream", (stream) => {
  let text = "";
  stream.on("data", (part) => (text += part));
  stream.on("end", () => {
    asked += 1;
    const answer = answers[JSON.parse(text).message.token.split("-")[0]] ?? { name: "projects/im/messages/1" };
    setTimeout(() => {
      stream.respond({ ":status": answer.error?.code ?? 200 });
      stream.end(JSON.stringify(answer));
    }, 50);
  });
});

server.listen(0, "localhost", async () => {
  // Both addresses are fixed in the package: its requests go to the server above, its access token needs no request.
  const connect = http2.connect;
  http2.connect = (_, options) => connect(`https://localhost:${server.address().port}`, { ...options, ca: cert });
  require("googleapis").google.auth.JWT.prototype.authorize = (done) => done(null, { access_token: "a" });
  const Client = require("fcm-v1-http2");
  const client = new Client({ serviceAccount: { project_id: "im" }, maxConcurrentConnections: 1, maxConcurrentStreamsAllowed: 10 });
  const tokens = Array.from({ length: 300 }, (_, at) => `t-${at}`);
  [tokens[3], tokens[20], tokens[250]] = ["gone-1", "foreign-1", "gone-2"];
  const got = await client.sendMulticast({ notification: { title: "hello" } }, tokens).catch((error) => error.details[0].errorCode);
  await new Promise((later) => setTimeout(later, 1000));
  console.log(`of 300 tokens FCM was asked for ${asked}; the caller got ${got}, not the 2 dead tokens`);
  process.exit(got === "SENDER_ID_MISMATCH" && asked < 100 ? 0 : 1);
});
JS
node push.js
