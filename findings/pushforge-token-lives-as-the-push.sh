#!/bin/bash
# Guess: the ttl of a push says how long the push service keeps it; the VAPID token that signs the request has a lifetime of its own, some hours, so
#   that the two clocks need not agree (RFC 8292, 2: at most 24 hours from the request).
# Behaviour: @pushforge/builder 2.0.5 lets the token expire when the push does. A call with ttl 10 bears a token of 10 s: on a server whose clock is
#   half a minute slow every such push is refused (expired) while chat goes through, and one that waited 10 s for its try again never gets in. Without
#   a ttl the token is of exactly 24 h, the limit: a clock two seconds fast, and a push service that keeps to the RFC refuses each push.
# Versions: @pushforge/builder 2.0.5, web-push 3.6.7, Node 20. Date: 2026-11-29.
# Seen: "pushforge: token of 10 s for ttl 10 (30 s slow: expired), of 86400 s for none (2 s fast: over 24 h); web-push: 43200 s for both (good, good)"
# Exits 1 when the token's lifetime no longer follows the push's. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @pushforge/builder@2.0.5 web-push@3.6.7 >/dev/null
cat > push.mjs <<'JS'
import crypto from "node:crypto";
import webPush from "web-push";
import { buildPushHTTPRequest } from "@pushforge/builder";

const pair = () => crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
const privateJWK = pair().privateKey.export({ format: "jwk" });
const browser = pair().publicKey.export({ format: "jwk" });
const point = Buffer.concat([Buffer.from([4]), Buffer.from(browser.x, "base64url"), Buffer.from(browser.y, "base64url")]);
const subscription = {
  endpoint: "https://push.example.org/a",
  keys: { p256dh: point.toString("base64url"), auth: crypto.randomBytes(16).toString("base64url") },
};
const { publicKey, privateKey } = webPush.generateVAPIDKeys();
const vapidDetails = { subject: "mailto:admin@example.org", publicKey, privateKey };

const now = Date.now;
// Both packages read Date: the sender's clock is set aside by so many seconds, the push service's is the true one.
async function asSeen(skew_s, authorization) {
  Date.now = () => now() + skew_s * 1000;
  const RealDate = globalThis.Date;
  globalThis.Date = class extends RealDate {
    constructor(...args) { super(...(args.length ? args : [now() + skew_s * 1000])); }
  };
  const header = await authorization();
  globalThis.Date = RealDate;
  Date.now = now;
  const claims = JSON.parse(Buffer.from(header.match(/t=[^.]*\.([^.]*)\./)[1], "base64url"));
  const left = claims.exp - Math.floor(now() / 1000);
  return { left: left - skew_s, word: left <= 0 ? "expired" : left > 86400 ? "over 24 h" : "good" };
}
const forged = (options) => async () => {
  const message = { payload: "hello", adminContact: vapidDetails.subject, options };
  return (await buildPushHTTPRequest({ privateJWK, subscription, message })).headers.get("authorization");
};
const plain = (options) => async () =>
  webPush.generateRequestDetails(subscription, "hello", { ...options, vapidDetails }).headers.Authorization;

const [call, chat] = [await asSeen(-30, forged({ ttl: 10 })), await asSeen(2, forged({}))];
const [plainCall, plainChat] = [await asSeen(-30, plain({ TTL: 10 })), await asSeen(2, plain({}))];
console.log(
  `pushforge: token of ${call.left} s for ttl 10 (30 s slow: ${call.word}), of ${chat.left} s for none (2 s fast: ${chat.word}); ` +
    `web-push: ${plainCall.left === plainChat.left ? `${plainCall.left} s for both` : "two lengths"} (${plainCall.word}, ${plainChat.word})`,
);
process.exit(call.word === "expired" || chat.word === "over 24 h" ? 0 : 1);
JS
node push.mjs
