#!/bin/bash
# Guess: the ttl of a web push is written as it was given, in each of npm's web push packages: 0 is a lifetime of its own in RFC 8030 (5.2), "deliver
#   now or drop", which is what a ringing call wants.
# Behaviour: @pushforge/builder 2.0.5 and @block65/webcrypto-web-push 1.0.2 take 0 for "not given". With pushforge the call that nobody should hear
#   of later is kept for the longest time that it knows, a day, and rings on the laptop that is opened the next morning; with block65 it is kept for
#   a minute. web-push 3.6.7 writes 0.
# Versions: @pushforge/builder 2.0.5, @block65/webcrypto-web-push 1.0.2, web-push 3.6.7, Node 20. Date: 2026-11-29.
# Seen: "ttl 0: pushforge TTL 86400, block65 TTL 60, web-push TTL 0; ttl 1: 1, 1, 1"
# Exits 1 when pushforge and block65 write 0. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @pushforge/builder@2.0.5 @block65/webcrypto-web-push@1.0.2 web-push@3.6.7 >/dev/null
cat > push.mjs <<'JS'
import crypto from "node:crypto";
import webPush from "web-push";
import { buildPushHTTPRequest } from "@pushforge/builder";
import { buildPushPayload } from "@block65/webcrypto-web-push";

const pair = () => crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
const privateJWK = pair().privateKey.export({ format: "jwk" });
const browser = pair().publicKey.export({ format: "jwk" });
const point = Buffer.concat([Buffer.from([4]), Buffer.from(browser.x, "base64url"), Buffer.from(browser.y, "base64url")]);
const subscription = {
  endpoint: "https://push.example.org/a",
  expirationTime: null,
  keys: { p256dh: point.toString("base64url"), auth: crypto.randomBytes(16).toString("base64url") },
};
const { publicKey, privateKey } = webPush.generateVAPIDKeys();
const vapid = { subject: "mailto:admin@example.org", publicKey, privateKey };

async function lifetimes(ttl) {
  const message = { payload: "Anna calls", adminContact: vapid.subject, options: { ttl, urgency: "high" } };
  const forged = await buildPushHTTPRequest({ privateJWK, subscription, message });
  const built = await buildPushPayload({ data: "Anna calls", options: { ttl } }, subscription, vapid);
  const plain = webPush.generateRequestDetails(subscription, "Anna calls", { TTL: ttl, vapidDetails: vapid });
  return [forged.headers.get("ttl"), built.headers.ttl, String(plain.headers.TTL)];
}

const [zero, one] = [await lifetimes(0), await lifetimes(1)];
console.log(`ttl 0: pushforge TTL ${zero[0]}, block65 TTL ${zero[1]}, web-push TTL ${zero[2]}; ttl 1: ${one.join(", ")}`);
process.exit(zero[0] === "86400" || zero[1] === "60" ? 0 : 1);
JS
node push.mjs
