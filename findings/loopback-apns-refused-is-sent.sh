#!/bin/bash
# Guess: ApnsProvider of loopback4-notifications sends the subject (which it insists on) as the title; a push of which no badge is said leaves the icon's
#   number as it is; and publish rejects when Apple refuses the push, as the library under it (@parse/node-apn) tells each refusal.
# Behaviour: publish of loopback4-notifications 11.0.1 throws the library's results away: it resolves when Apple has refused every push, for a dead
#   token as for a key that was revoked, and nothing else tells of it. The subject is never sent, and each push without a badge in the provider's own
#   settings sets the icon to 3: whoever has read everything has "3" on the icon after the next message, and it stays 3 whatever comes.
# Versions: loopback4-notifications 11.0.1, @parse/node-apn 5.2.3, Node 20. Date: 2026-11-30.
# Seen: "403 InvalidProviderToken: publish resolves undefined; 410 Unregistered: publish resolves undefined; 200: badge 3, alert 'hello', no subject"
# Exits 1 when a refused push rejects or is told. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts loopback4-notifications@11.0.1 @parse/node-apn@5.2.3 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
cat > push.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";
import loopback from "loopback4-notifications/apns";

const [key, cert, p8] = ["key.pem", "cert.pem", "auth.p8"].map((name) => fs.readFileSync(name));
let answer = [];
const bodies = [];
const apple = http2.createSecureServer({ key, cert });
apple.on("stream", async (stream) => {
  let body = "";
  for await (const chunk of stream) body += chunk;
  bodies.push(body);
  const [status, reason] = answer;
  stream.respond({ ":status": status });
  stream.end(reason ? JSON.stringify({ reason }) : "");
});
await new Promise((up) => apple.listen(0, "localhost", up));
const token = { key: p8, keyId: "ABCDE12345", teamId: "ABCDE12345" };
const providerOptions = { token, address: "localhost", port: apple.address().port, ca: cert, production: true };
const push = new loopback.ApnsProvider({ providerOptions, options: { topic: "org.example.im" } }).value();

async function publish(...answered) {
  answer = answered;
  const receiver = { to: [{ type: 0, id: "0".repeat(64) }] };
  const message = { subject: "Anna", body: "hello", receiver, options: {} };
  return push.publish(message).then(
    (result) => `publish resolves ${JSON.stringify(result)}`,
    (error) => `publish rejects: ${error.message}`,
  );
}

const refused = [await publish(403, "InvalidProviderToken"), await publish(410, "Unregistered")];
const before = bodies.length;
await publish(200);
const { badge, alert } = JSON.parse(bodies.at(-1)).aps;
const subject = bodies.at(-1).includes("Anna") ? "with the subject" : "no subject";
console.log(
  `403 InvalidProviderToken: ${refused[0]}; 410 Unregistered: ${refused[1]}; 200: badge ${badge}, alert '${alert}', ${subject}`,
);
process.exit(before >= 2 && refused.every((one) => one === "publish resolves undefined") ? 0 : 1);
JS
timeout 60 node push.mjs 2>/dev/null
