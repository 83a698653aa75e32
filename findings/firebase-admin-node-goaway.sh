#!/bin/sh
# Guess: sendEach of firebase-admin for Node resolves to one result a message, whatever becomes of single ones.
#   A server that ends its connection with GOAWAY and NO_ERROR still answers what it took (RFC 9113, 6.8), as servers do at each restart.
# Behaviour: firebase-admin 13.10.0 rejects the whole batch at the first GOAWAY, "Error while making requests: GOAWAY", Error code: 0, while FCM has
#   all its messages and answers each with 200. The results stand in error.pendingBatchResponse, a promise. Who takes the rejection for "not sent"
#   and repeats the batch, as around any other call, rings every phone of it twice.
# Versions: firebase-admin 13.10.0, Node 20. Date: 2026-11-29.
# Seen: "FCM read 5 of 5 and answers 200; sendEach rejects: GOAWAY; pendingBatchResponse: 5 sent"
# Exits 1 when sendEach resolves. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts firebase-admin@13.10.0 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > push.js <<'JS'
const fs = require("node:fs");
const http2 = require("node:http2");

const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
const tokens = ["t1", "t2", "t3", "t4", "t5"];
let read = 0;

const server = http2.createSecureServer({ key, cert });
server.on("stream", (stream) => {
  stream.resume().on("end", () => {
    read += 1;
    if (read === tokens.length) stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id);
    setTimeout(() => {
      stream.respond({ ":status": 200, "content-type": "application/json" });
      stream.end(JSON.stringify({ name: "projects/im/messages/1" }));
    }, 300);
  });
});

// The address of FCM is fixed in the package: its connections go to the server above. Node's server refuses its :scheme of "https:".
const connect = http2.connect;
http2.connect = (_, options) => {
  const session = connect(`https://localhost:${server.address().port}`, { ...options, ca: cert });
  const request = session.request.bind(session);
  session.request = (headers, more) => request({ ...headers, ":scheme": "https" }, more);
  return session;
};

server.listen(0, "localhost", async () => {
  const admin = require("firebase-admin");
  admin.initializeApp({ projectId: "im", credential: { getAccessToken: async () => ({ access_token: "a", expires_in: 3600 }) } });
  const messages = tokens.map((token) => ({ token, notification: { title: "hello" } }));
  const error = await admin.messaging().sendEach(messages).then(() => null, (error) => error);
  const later = (await error?.pendingBatchResponse)?.successCount;
  const named = error && /GOAWAY/.exec(error.message)?.[0];
  console.log(`FCM read ${read} of 5 and answers 200; sendEach ${error ? `rejects: ${named}` : "resolves"}; pendingBatchResponse: ${later} sent`);
  process.exit(named === "GOAWAY" && read === 5 && later === 5 ? 0 : 1);
});
JS
node push.js
