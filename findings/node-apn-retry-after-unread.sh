#!/bin/bash
# Guess: @parse/node-apn, which repeats a push that Apple refused for the moment (429, 503), waits as Retry-After says ("Obey servers request to try
#   after a specific time", says its code), and repeats refusals of that kind only: a push that was read and not answered is reported.
# Behaviour: @parse/node-apn 8.1.0 looks for "Retry-After"; Node gives names of HTTP/2 fields in small letters, so it never finds one and asks four
#   times within milliseconds: four times the load for a server that asked for less. And once in its repetitions it repeats after whatever comes: a
#   push that was read and not answered is sent twice more (it alone would be reported after one), a dead token is asked for again and again.
# Versions: @parse/node-apn 8.1.0, Node 20. Date: 2026-11-29.
# Seen: "503, Retry-After 30: asked 4 times in 0.0 s; 503, then silence: 3 pushes read and not refused; silence alone: 1; 503, then 410: 3 times 410"
# Exits 1 when it waits, or silence behind a 503 is no longer repeated. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
npm init -y >/dev/null
npm install --silent --no-fund --no-audit --ignore-scripts @parse/node-apn@8.1.0 >/dev/null
cat > push.cjs <<'JS'
const apn = require("@parse/node-apn");
const fs = require("node:fs");
const http2 = require("node:http2");

const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
const busy = [503, { reason: "ServiceUnavailable" }];
const dead = [410, { reason: "Unregistered", timestamp: 1700000000000 }];
const silence = [];
let answers = [];
let asked = [];
const server = http2.createSecureServer({ key, cert });
server.on("stream", (stream) => {
  stream.on("error", () => {});
  stream.resume().on("end", () => {
    const [status, body] = answers[Math.min(asked.length, answers.length - 1)];
    asked.push({ status, at: Date.now() });
    if (!status) return;
    stream.respond({ ":status": status, ...(status === 503 && { "retry-after": "30" }) });
    stream.end(JSON.stringify(body));
  });
});
server.listen(0, "localhost", async () => {
  const token = { key: "auth.p8", keyId: "ABCDE12345", teamId: "ABCDE12345" };
  const settings = { token, address: "localhost", port: server.address().port, ca: cert, production: true, requestTimeout: 1000 };
  const push = async (...next) => {
    [answers, asked] = [next, []];
    const provider = new apn.Provider(settings);
    await provider.send(new apn.Notification({ topic: "org.example.im", alert: "hello" }), "0".repeat(64));
    return asked;
  };
  const again = await push(busy);
  const seconds = (again.at(-1).at - again[0].at) / 1000;
  const unanswered = (await push(busy, silence)).filter(({ status }) => !status).length;
  const alone = (await push(silence)).length;
  const gone = (await push(busy, dead)).filter(({ status }) => status === 410).length;
  console.log(
    `503, Retry-After 30: asked ${again.length} times in ${seconds.toFixed(1)} s; 503, then silence: ${unanswered} pushes read and ` +
      `not refused; silence alone: ${alone}; 503, then 410: ${gone} times 410`,
  );
  process.exit(again.length > 1 && seconds < 10 && unanswered > 1 ? 0 : 1);
});
JS
timeout 180 node push.cjs
