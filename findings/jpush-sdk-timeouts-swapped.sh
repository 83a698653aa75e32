#!/bin/bash
# Guess: JPush's own client for Node tells a push that was perhaps taken ("Response timeout. Your request to the server may have already
#   received", isResponseTimeout true: look before you send it again) from one that never left ("Connect timeout. Please retry later.", false),
#   and tries the second kind again as often as retryTimes says.
# Behaviour: jpush-sdk 3.5.0 has the two the wrong way round. It asks for ETIMEDOUT without syscall "connect"; the library under it (request) says
#   ESOCKETTIMEDOUT for an answer that does not come and ETIMEDOUT, without a syscall, for a connection that is not made. So a push that JPush has
#   read is told as "Please retry later", and who does so rings the phone twice. retryTimes has no effect: the code reads another name.
# Versions: jpush-sdk 3.5.0, request 2.88.2, Node 20. Date: 2026-11-29.
# Seen: "no answer: Connect timeout. Please retry later., isResponseTimeout false, read 1"
#   and "no connection: Response timeout. Your request to the server may have already received, ..., isResponseTimeout true, read 0"
#   and "connection refused, retryTimes 5: 1 tries"
# Exits 1 when one of the three is as guessed. Needs node, npm, openssl and python3.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts jpush-sdk@3.5.0 request@2.88.2 >/dev/null 2>&1
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=api.jpush.cn \
  -addext subjectAltName=DNS:api.jpush.cn 2>/dev/null
cat > push.js <<'JS'
const fs = require("node:fs");
const https = require("node:https");
const net = require("node:net");
const JPush = require("jpush-sdk");

const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
let [read, tries, connect] = [0, 0, null];
// JPush's address is fixed in the client: its connections are led to the port that is tried.
const plain = https.request;
https.request = (options, done) => {
  tries += 1;
  return plain({ ...options, ...connect, agent: undefined, servername: "api.jpush.cn" }, done);
};
const push = (what) => {
  [read, tries] = [0, 0];
  const client = JPush.buildClient({ appKey: "a".repeat(24), masterSecret: "b".repeat(24), retryTimes: 5, readTimeOut: 1500 });
  const payload = client.push().setPlatform(JPush.ALL).setAudience(JPush.registration_id("r1")).setNotification("hello");
  return new Promise((told) => payload.send((error) => told({ what, error, read, tries })));
};
const listening = (server, ...where) => new Promise((up) => server.listen(...where, () => up(server.address().port)));

(async () => {
  const silent = https.createServer({ key, cert }, (request) => request.resume().on("end", () => (read += 1)));
  connect = { host: "127.0.0.1", port: await listening(silent, 0, "127.0.0.1") };
  const noAnswer = await push("no answer");

  connect = { host: "127.0.0.1", port: Number(process.argv[2]) };
  const noConnection = await push("no connection");

  const closed = net.createServer();
  connect = { host: "127.0.0.1", port: await listening(closed, 0, "127.0.0.1") };
  await new Promise((gone) => closed.close(gone));
  const refused = await push("connection refused");

  for (const { what, error, read: taken } of [noAnswer, noConnection]) {
    console.log(`${what}: ${error.message}, isResponseTimeout ${error.isResponseTimeout}, read ${taken}`);
  }
  console.log(`connection refused, retryTimes 5: ${refused.tries} tries`);
  const swapped = noAnswer.read === 1 && !noAnswer.error.isResponseTimeout && noConnection.error.isResponseTimeout;
  process.exit(swapped && refused.tries === 1 ? 0 : 1);
})();
JS
# A port whose queue of connections is full: a new one is not made, as behind a firewall that drops.
mkfifo port
python3 -c '
import socket, time
full = socket.socket()
full.bind(("127.0.0.1", 0))
full.listen(0)
waiting = [socket.socket() for _ in range(4)]
for one in waiting:
    one.setblocking(False)
    one.connect_ex(full.getsockname())
time.sleep(0.5)
print(full.getsockname()[1], flush=True)
time.sleep(120)
' > port &
full=$!
trap 'kill $full 2>/dev/null || true; rm -rf "$here"' EXIT
read -r port_full < port
NODE_EXTRA_CA_CERTS="$here/cert.pem" timeout 120 node push.js "$port_full"
