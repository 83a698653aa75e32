#!/bin/sh
# Guess: sendEach of firebase-admin for Node, which speaks HTTP/2, can be pointed at any HTTP/2 server: a stand-in for FCM in tests, a gateway for
#   egress that ends TLS.
# Behaviour: firebase-admin 13.10.0 sends the pseudo-header :scheme as "https:", with the colon of URL.protocol; RFC 9113 (8.3.1) wants the scheme,
#   "https". Google's servers and Python's h2 let it pass. A server built on nghttp2 (Node's own http2 among them) resets each stream with
#   PROTOCOL_ERROR before anybody's code sees it, and the caller hears app/network-error, as if the network were down; nginx 1.22 answers 400
#   ("invalid :scheme"), heard as messaging/invalid-argument, as if the message or its token were wrong.
# Versions: firebase-admin 13.10.0, Node 20 (nghttp2 1.61). Date: 2026-11-29.
# Seen: "firebase-admin's own request: app/network-error, NGHTTP2_PROTOCOL_ERROR, 0 read; the same with :scheme https: sent, 1 read"
# Exits 1 when the first is sent. Needs node, npm and openssl.
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
let [read, mended] = [0, false];

const server = http2.createSecureServer({ key, cert });
server.on("stream", (stream) => {
  stream.resume().on("end", () => {
    read += 1;
    stream.respond({ ":status": 200, "content-type": "application/json" });
    stream.end(JSON.stringify({ name: "projects/im/messages/1" }));
  });
});

// The address of FCM is fixed in the package: its connections go to the server above. With mended the scheme loses its colon.
const connect = http2.connect;
http2.connect = (_, options) => {
  const session = connect(`https://localhost:${server.address().port}`, { ...options, ca: cert });
  const request = session.request.bind(session);
  session.request = (headers, more) => request(mended ? { ...headers, ":scheme": "https" } : headers, more);
  return session;
};

server.listen(0, "localhost", async () => {
  const admin = require("firebase-admin");
  const credential = { getAccessToken: async () => ({ access_token: "a", expires_in: 3600 }) };
  admin.initializeApp({ projectId: "im", credential });
  const seen = [];
  for (mended of [false, true]) {
    read = 0;
    const { responses } = await admin.messaging().sendEach([{ token: "t", notification: { title: "hello" } }]);
    const { success, error } = responses[0];
    seen.push(`${success ? "sent" : `${error.code}, ${/NGHTTP2_\w+/.exec(error.message)}`}, ${read} read`);
  }
  console.log(`firebase-admin's own request: ${seen[0]}; the same with :scheme https: ${seen[1]}`);
  process.exit(seen[0].includes("NGHTTP2_PROTOCOL_ERROR, 0 read") && seen[1] === "sent, 1 read" ? 0 : 1);
});
JS
node push.js
