#!/bin/bash
# Guess: axios with httpVersion: 2 rejects when the server goes away before it has answered, as it does over HTTP/1.1 ("socket hang up"), and with a
#   timeout it rejects at the latest when that is over: a worker that waits for a push's answer goes on.
# Behaviour: the promise of axios 1.21.1 stays open for ever. When the vendor's process is killed and its connection ends (without a TCP reset), the
#   stream of Node's http2 closes without an error; axios listens for an error only, and its timeout, a timer of the stream, ends with the stream.
#   Every push under way when a server or a proxy dies holds its place in the worker until somebody restarts it: a pool of 20 stands still, with
#   nothing in the log. The timeout is kept as long as the server lives. An answer that is cut off in its middle is a success with half a body. A
#   signal (AbortSignal.timeout) ends the wait.
# Versions: axios 1.21.1, Node 20. Date: 2026-11-30.
# Seen: "server killed, 20 under way, timeout 2 s, after 8 s: HTTP/2: 0 of 20 settled; HTTP/2 with a signal: 20; HTTP/1.1: 20"
#   and "server silent: HTTP/2: ECONNABORTED; killed within its answer: HTTP/2: 200 'half of', HTTP/1.1: ERR_BAD_RESPONSE"
# Exits 1 when the 20 settle over HTTP/2. Needs node, npm and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts axios@1.21.1 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > vendor.mjs <<'JS'
import fs from "node:fs";
import http2 from "node:http2";

const [key, cert] = ["key.pem", "cert.pem"].map((name) => fs.readFileSync(name));
let read = 0;
const vendor = http2.createSecureServer({ key, cert, allowHTTP1: true }, (request, response) => {
  request.resume().on("end", () => {
    read += 1;
    if (request.url === "/half") {
      response.writeHead(200, { "content-type": "text/plain", "content-length": "20" });
      response.write("half of", () => setTimeout(() => process.kill(process.pid, "SIGKILL"), 500));
    } else if (request.url === "/killed" && read === 20) setTimeout(() => process.kill(process.pid, "SIGKILL"), 500);
  });
});
vendor.listen(0, "localhost", () => console.log(vendor.address().port));
JS
cat > push.mjs <<'JS'
import { spawn } from "node:child_process";
import axios from "axios";

// What becomes of so many pushes to a vendor of their own within 8 s.
async function outcomes(count, path, options) {
  const vendor = spawn(process.execPath, ["vendor.mjs"], { stdio: ["ignore", "pipe", "inherit"] });
  const port = Number(await new Promise((up) => vendor.stdout.once("data", up)));
  const settled = [];
  for (let i = 0; i < count; i += 1) {
    axios
      .post(`https://localhost:${port}/${path}`, { alert: "hello" }, { timeout: 2000, ...options() })
      .then((response) => `${response.status} '${response.data}'`, (error) => error.code ?? error.message)
      .then((outcome) => settled.push(outcome));
  }
  await new Promise((over) => setTimeout(over, 8000));
  vendor.kill("SIGKILL");
  return settled;
}

const two = await outcomes(20, "killed", () => ({ httpVersion: 2 }));
const signalled = await outcomes(20, "killed", () => ({ httpVersion: 2, signal: AbortSignal.timeout(4000) }));
const one = await outcomes(20, "killed", () => ({}));
const silent = await outcomes(1, "silent", () => ({ httpVersion: 2 }));
const [halfTwo, halfOne] = [await outcomes(1, "half", () => ({ httpVersion: 2 })), await outcomes(1, "half", () => ({}))];
console.log(
  `server killed, 20 under way, timeout 2 s, after 8 s: HTTP/2: ${two.length} of 20 settled; ` +
    `HTTP/2 with a signal: ${signalled.length}; HTTP/1.1: ${one.length}`,
);
console.log(`server silent: HTTP/2: ${silent}; killed within its answer: HTTP/2: ${halfTwo}, HTTP/1.1: ${halfOne}`);
process.exit(two.length === 0 && one.length === 20 && silent.length === 1 ? 0 : 1);
JS
NODE_EXTRA_CA_CERTS="$here/cert.pem" timeout 120 node push.mjs
