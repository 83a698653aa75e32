#!/bin/sh
# Guess: one Notification of @parse/node-apn whose body and badge are set anew before each send carries the new ones each time.
# Behaviour: @parse/node-apn 8.1.0 compiles the body at the first send and keeps it, while headers are made anew: the second person gets the
#   first one's text and badge under the second one's collapse id, and both calls report success.
# Versions: @parse/node-apn 8.1.0, node 18 and later. Date: 2026-11-29.
# Seen: "2 sent: [a: hello Anna, badge 1] [b: hello Anna, badge 1]"
# Exits 1 when the second body is the second text. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @parse/node-apn@8.1.0
cat >look.cjs <<'JS'
const apn = require("@parse/node-apn");
const fs = require("fs");
const http2 = require("http2");

const seen = [];
const server = http2.createSecureServer({ key: fs.readFileSync("key.pem"), cert: fs.readFileSync("cert.pem") });
server.on("stream", (stream, headers) => {
  let body = "";
  stream.on("data", (data) => (body += data));
  stream.on("end", () => {
    const { aps } = JSON.parse(body);
    seen.push({ id: headers["apns-collapse-id"], alert: aps.alert, badge: aps.badge });
    stream.respond({ ":status": 200 });
    stream.end();
  });
});
server.listen(0, "localhost", async () => {
  const token = { key: "auth.p8", keyId: "ABCDE12345", teamId: "ABCDE12345" };
  const address = "localhost";
  const provider = new apn.Provider({ token, address, port: server.address().port, ca: fs.readFileSync("cert.pem"), production: true });
  const note = new apn.Notification({ topic: "org.example.im" });
  let sent = 0;
  for (const [id, alert, badge] of [["a", "hello Anna", 1], ["b", "hello Ben", 2]]) {
    note.collapseId = id;
    note.alert = alert;
    note.badge = badge;
    sent += (await provider.send(note, "0".repeat(64))).sent.length;
  }
  console.log(`${sent} sent: ${seen.map((push) => `[${push.id}: ${push.alert}, badge ${push.badge}]`).join(" ")}`);
  process.exit(sent === 2 && seen[1].id === "b" && seen[1].alert === "hello Anna" ? 0 : 1);
});
JS
node look.cjs
