#!/bin/bash
# Guess: a Pool of undici with allowH2, one connection and pipelining 100 has up to 100 pushes under way on it as streams of HTTP/2. Its page says so of
#   pipelining: "the amount of concurrent requests sent over a single HTTP/2 session".
# Behaviour: so it is for GET. A POST waits in undici 7.30.2 until the connection has nothing else under way, a rule made for pipelining in HTTP/1.1: on
#   an HTTP/2 connection pushes go one after another, each a round trip of its own, and fetch with allowH2 has a TLS connection for each instead if
#   connections has no bound. With a vendor that answers in 100 ms that is 10 pushes a second where the vendor allows 1000. Nothing tells it, the
#   server's limit of streams is never reached, and a load test with GET is quick. "idempotent: true" at the request lets it go at once.
# Versions: undici 7.30.2, Node 20. Date: 2026-11-30.
# Seen: "30 GET: 30 under way at most; 30 POST: 1; 30 POST with fetch: 1; 30 POST with fetch, connections without bound: 30 connections;
#   30 POST with idempotent: true: 30" (in one line)
# Exits 1 when more than one POST is under way on a connection. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts undici@7.30.2 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > push.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";
import { Agent, Pool, fetch } from "undici";

const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
let underWay, most, connections, read;
const vendor = http2.createSecureServer({ key, cert });
vendor.on("session", () => (connections += 1));
vendor.on("stream", (stream) => {
  underWay += 1;
  most = Math.max(most, underWay);
  stream.resume().on("end", () => {
    read += 1;
    setTimeout(() => {
      underWay -= 1;
      stream.respond({ ":status": 200 });
      stream.end("{}");
    }, 100);
  });
});
await new Promise((listening) => vendor.listen(0, "localhost", listening));
const origin = `https://localhost:${vendor.address().port}`;
const one = { allowH2: true, connections: 1, pipelining: 100, connect: { ca: cert } };
const bounded = new Agent(one);
const unbounded = new Agent({ allowH2: true, pipelining: 100, connect: { ca: cert } });
const pool = new Pool(origin, one);
const push = { method: "POST", body: '{"aps": {"alert": "hello"}}' };
const byPool = async (options) => (await pool.request({ path: "/3/device/ab", ...options })).body.dump();
const byFetch = async (dispatcher) => (await fetch(`${origin}/3/device/ab`, { ...push, dispatcher })).text();

async function thirty(send) {
  [underWay, most, connections, read] = [0, 0, 0, 0];
  await Promise.all(Array.from({ length: 30 }, send));
  if (read !== 30) throw new Error(`the vendor read ${read} of 30`);
  return { most, connections };
}

const get = await thirty(() => byPool({ method: "GET" }));
const post = await thirty(() => byPool(push));
const fetched = await thirty(() => byFetch(bounded));
const free = await thirty(() => byFetch(unbounded));
const marked = await thirty(() => byPool({ ...push, idempotent: true }));
console.log(
  `30 GET: ${get.most} under way at most; 30 POST: ${post.most}; 30 POST with fetch: ${fetched.most}; ` +
    `30 POST with fetch, connections without bound: ${free.connections} connections; ` +
    `30 POST with idempotent: true: ${marked.most}`,
);
process.exit(get.most > 1 && post.most === 1 && fetched.most === 1 ? 0 : 1);
JS
timeout 60 node push.mjs
