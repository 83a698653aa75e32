#!/bin/bash
# Guess: scheduleNotification of Microsoft's own client for Notification Hubs (Apple, FCM, Xiaomi, Baidu, browsers) with the tag expression of an empty
#   list of people, which its createTagExpression([]) makes without a word, reaches nobody or is refused: there is a scheduleBroadcastNotification
#   beside it for all. So it is with sendNotification, which writes the empty expression into the request.
# Behaviour: @azure/notification-hubs 2.1.0 leaves an empty expression out, and what is left is the request of scheduleBroadcastNotification, letter by
#   letter: at the time that was set every phone of the app rings. A call for the members of a group that is empty, or whose list could not be read,
#   at 8 in the morning, is a call to all. azure-notification-hub-unofficial 0.1.0, the client for Python, does so in send_notification, too: at once.
# Versions: @azure/notification-hubs 2.1.0, azure-notification-hub-unofficial 0.1.0, Node 20, Python 3.11. Date: 2026-12-01.
# Seen: "sendNotification to nobody: the tags are ''; scheduleNotification to nobody: no tags, as scheduleBroadcastNotification; Python,
#   send_notification to nobody: no tags, as send_broadcast_notification"
# Exits 1 when what is scheduled for nobody differs from what is scheduled for all. Needs node, npm, python3 and openssl.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @azure/notification-hubs@2.1.0 >/dev/null
python3 -m venv venv
venv/bin/pip install -q azure-notification-hub-unofficial==0.1.0 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > push.py <<'PY'
import sys

from azure_notification_hub import NotificationHubsClient, create_browser_notification

client = NotificationHubsClient(f"Endpoint=sb://localhost:{sys.argv[1]}/;SharedAccessKeyName=a;SharedAccessKey=YWJj", "hub")
words = create_browser_notification({"title": "Anna", "body": "hello"})
client.send_notification(words, tag_expression=" || ".join([]))
client.send_broadcast_notification(words)
PY
cat > push.mjs <<'JS'
import { spawn } from "node:child_process";
import fs from "node:fs";
import https from "node:https";
import { createAppleNotification, createTagExpression, NotificationHubsClient } from "@azure/notification-hubs";

const got = [];
const hub = https.createServer({ key: fs.readFileSync("key.pem"), cert: fs.readFileSync("cert.pem") }, async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  const fields = Object.fromEntries(Object.entries(request.headers).filter(([name]) => name.startsWith("servicebusnotification-")));
  got.push({ path: request.url, fields, body });
  response.writeHead(201, { location: "https://localhost/hub/messages/1" }).end();
});
await new Promise((listening) => hub.listen(0, "127.0.0.1", listening));
const { port } = hub.address();
const client = new NotificationHubsClient(`Endpoint=sb://localhost:${port};SharedAccessKeyName=a;SharedAccessKey=YWJj`, "hub");
const words = createAppleNotification({ body: JSON.stringify({ aps: { alert: "hello" } }), headers: { "apns-push-type": "alert" } });
const nobody = { tagExpression: createTagExpression([]) };
const morning = new Date(Date.now() + 8 * 3600 * 1000);
await client.sendNotification(words, nobody);
await client.scheduleNotification(morning, words, nobody);
await client.scheduleBroadcastNotification(morning, words);
const ended = await new Promise((end) => {
  const environment = { ...process.env, SSL_CERT_FILE: "cert.pem" };
  spawn("venv/bin/python", ["push.py", String(port)], { env: environment, stdio: "inherit" }).on("close", end);
});
hub.close();
hub.closeAllConnections();
const [now, later, laterAll, python, pythonAll] = got;
const tags = (request) => request?.fields["servicebusnotification-tags"];
const say = (request, all, name) => {
  const said = tags(request) === undefined ? "no tags" : `the tags are '${tags(request)}'`;
  return JSON.stringify(request) === JSON.stringify(all) ? `${said}, as ${name}` : said;
};
console.log(
  `sendNotification to nobody: ${say(now)}; scheduleNotification to nobody: ${say(later, laterAll, "scheduleBroadcastNotification")}; Python,\n` +
    `  send_notification to nobody: ${say(python, pythonAll, "send_broadcast_notification")}`,
);
process.exit(ended === 0 && got.length === 5 && tags(now) === "" && JSON.stringify(later) === JSON.stringify(laterAll) ? 0 : 1);
JS
NODE_EXTRA_CA_CERTS=cert.pem timeout 60 node push.mjs
