#!/bin/sh
# Guess: with a production and a development configuration for one app id (the form that Parse Server's guide shows), a push that production
#   refuses for a moment (503 ServiceUnavailable, 429) is reported with that reason; the development server is asked for its own tokens only.
# Behaviour: @parse/push-adapter 8.5.5 sends whatever failed, for whatever reason, once more to the next configuration and reports the last answer
#   alone. The development server knows no production token: "ServiceUnavailable" becomes "BadDeviceToken". Parse Server 9.10.0 (its
#   StatusHandler, with PARSE_SERVER_CLEANUP_INVALID_INSTALLATIONS) takes the token away on that reason: a bad minute of APNs silences iPhones.
# Versions: @parse/push-adapter 8.5.5, @parse/node-apn 8.1.0, Node 20. Date: 2026-11-29.
# Seen: "production alone: ServiceUnavailable; production and development: BadDeviceToken"
# Exits 1 when both are told alike. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @parse/push-adapter@8.5.5 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out auth.p8
cat > push.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";
import pushAdapter from "@parse/push-adapter";

const Adapter = pushAdapter.default ?? pushAdapter;
const [key, cert, p8] = ["key.pem", "cert.pem", "auth.p8"].map((name) => fs.readFileSync(name));

function apns(status, reason) {
  const server = http2.createSecureServer({ key, cert });
  server.on("stream", (stream) => {
    stream.resume().on("end", () => {
      stream.respond({ ":status": status });
      stream.end(JSON.stringify({ reason }));
    });
  });
  return new Promise((up) => server.listen(0, "localhost", () => up(server.address().port)));
}

function configuration(port, production) {
  const token = { key: p8, keyId: "ABCDE12345", teamId: "ABCDE12345" };
  return { token, topic: "org.example.im", production, address: "localhost", port, ca: cert };
}

async function reason(ios) {
  const phone = { deviceType: "ios", appIdentifier: "org.example.im", deviceToken: "0".repeat(64) };
  const [result] = await new Adapter({ ios }).send({ data: { alert: "hello" } }, [phone]);
  return result.response.error;
}

const production = configuration(await apns(503, "ServiceUnavailable"), true);
const development = configuration(await apns(400, "BadDeviceToken"), false);
const [alone, both] = [await reason([production]), await reason([production, development])];
console.log(`production alone: ${alone}; production and development: ${both}`);
process.exit(alone === "ServiceUnavailable" && both === "BadDeviceToken" ? 0 : 1);
JS
node push.mjs 2>/dev/null
