#!/bin/bash
# Guess: one TokenConnector of hapns, which speaks HTTP/2, sends many pushes at once as streams of one connection, as Apple asks of a provider
#   (a connection kept open, many pushes on it; many connections opened and closed look like an attack).
# Behaviour: hapns 1.0.2 gives its pool of undici pipelining: 1, and undici 7.30.2 takes that for HTTP/2, too: one stream a connection. Pushes that
#   are under way together have a TLS connection each, without a bound, and none is shared: 200 at once are 200 handshakes, held open until they
#   idle out. One after another they share one or two, so a test sees nothing of it.
# Versions: hapns 1.0.2, undici 7.30.2, Node 20. Date: 2026-11-29.
# Seen: "20 one after another: 2 connections; 200 at once: 200 connections; undici's pool with pipelining 100: 2 connections"
# Exits 1 when the 200 need fewer than 100 connections. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts hapns@1.0.2 undici@7.30.2 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
cat > push.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";
import { TokenConnector } from "hapns/connectors/token";
import { AlertNotification } from "hapns/notifications/AlertNotification";
import { send } from "hapns/send";
import { Device } from "hapns/targets/device";
import { Pool } from "undici";

const [key, cert, p8] = ["key.pem", "cert.pem", "auth.p8"].map((name) => fs.readFileSync(name));
let connections = 0;
const apns = http2.createSecureServer({ key, cert });
apns.on("session", () => (connections += 1));
apns.on("stream", (stream) => {
  stream.resume().on("end", () => {
    setTimeout(() => {
      stream.respond({ ":status": 200, "apns-id": "00000000-0000-0000-0000-000000000000" });
      stream.end();
    }, 100);
  });
});
await new Promise((listening) => apns.listen(0, "127.0.0.1", listening));
const origin = `https://localhost:${apns.address().port}`;
const device = { ...Device("ab".repeat(32)), getBaseUrl: () => origin };
const notification = AlertNotification("org.example.im", { payload: { alert: { title: "Anna", body: "hello" } } });
const newConnector = () => TokenConnector({ key: new Uint8Array(p8), keyId: "ABCDE12345", teamIdentifier: "TEAM123456" });
const counted = async (work) => {
  connections = 0;
  await work();
  return connections;
};

const first = newConnector();
const inTurn = await counted(async () => {
  for (let i = 0; i < 20; i += 1) await send(first, notification, device);
});
const second = newConnector();
const atOnce = await counted(() => Promise.all(Array.from({ length: 200 }, () => send(second, notification, device))));
const pool = new Pool(origin, { allowH2: true, pipelining: 100, connections: 2 });
const request = { method: "POST", path: "/3/device/ab", body: "{}" };
const shared = await counted(() => Promise.all(Array.from({ length: 200 }, () => pool.request(request))));
console.log(
  `20 one after another: ${inTurn} connections; 200 at once: ${atOnce} connections; ` +
    `undici's pool with pipelining 100: ${shared} connections`,
);
process.exit(inTurn <= 2 && atOnce >= 100 ? 0 : 1);
JS
NODE_EXTRA_CA_CERTS="$here/cert.pem" timeout 120 node push.mjs
