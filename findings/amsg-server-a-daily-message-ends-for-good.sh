#!/bin/bash
# Guess: a message that amsg-server sends every day at 08:00 (recurrenceType "daily", its cron each minute) and that the push service refuses for the moment
#   (503, 429) is tried again some minutes later, is given up for that day at worst, and comes at 08:00 the next day.
# Behaviour: @rei-standard/amsg-server 2.5.1 keeps the time of the next try where the time of the message was, and the next day is 24 h from there: one 503
#   and the message comes at 08:02 for good, the next one puts it off to 08:04. After the fourth failure, twelve minutes of a push service's outage, it
#   is "failed": no message the next day, nor on any other, and the row is deleted after a week. And each try starts with the first sentence again
#   (it sends one push a sentence): three sentences whose third is refused once are five pushes.
# Versions: @rei-standard/amsg-server 2.5.1, web-push 3.6.7, Node 20. Date: 2026-12-01.
# Seen: "no 503: 08:00 08:00 08:00 08:00; a 503 on day 1 and one on day 3: 08:02 08:02 08:04 08:04; 15 minutes of 503 on day 1: -- -- -- -- (failed);
#   three sentences, a 503 for the third: One. Two. One. Two. Three."
# Exits 1 when the message of the third row comes on day 2. Needs node, npm and openssl; takes half a minute.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts --omit=peer @rei-standard/amsg-server@2.5.1 web-push@3.6.7 >/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat > push.mjs <<'JS'
import crypto from "node:crypto";
import fs from "node:fs";
import https from "node:https";
import { createReiServer } from "@rei-standard/amsg-server";
import ece from "http_ece";
import webpush from "web-push";

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const real = Date.now;
let now = Math.ceil(real() / DAY) * DAY + 8 * 60 * MINUTE;
const first = new Date(now).toISOString();
Date.now = () => now;

const browser = crypto.createECDH("prime256v1");
browser.generateKeys();
const auth = crypto.randomBytes(16);
let refuse = () => false;
let taken = [];
const options = { key: fs.readFileSync("key.pem"), cert: fs.readFileSync("cert.pem") };
const service = https.createServer(options, async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const push = JSON.parse(ece.decrypt(Buffer.concat(parts), { version: "aes128gcm", privateKey: browser, authSecret: auth }));
  const no = refuse(push.message);
  if (!no) taken.push({ day: Math.floor((now - Date.parse(first)) / DAY), at: new Date(now).toISOString().slice(11, 16), words: push.message });
  response.writeHead(no ? 503 : 201).end();
});
await new Promise((listening) => service.listen(0, "127.0.0.1", listening));

/** What a database does for amsg-server, on this script's clock. */
class Rows {
  rows = new Map();
  async initSchema() {
    return { columnsCreated: 0, indexesCreated: 0, indexesFailed: 0, columns: [], indexes: [] };
  }
  async createTask(row) {
    const task = { id: this.rows.size + 1, status: "pending", retry_count: 0, ...row };
    this.rows.set(task.id, task);
    return task;
  }
  async getPendingTasks() {
    return [...this.rows.values()].filter((row) => row.status === "pending" && Date.parse(row.next_send_at) <= now);
  }
  async updateTaskById(id, changes) {
    Object.assign(this.rows.get(id), changes);
  }
  async deleteTaskById(id) {
    this.rows.delete(id);
  }
  async cleanupOldTasks() {}
}

async function run(userMessage, recurrenceType, days, refuses) {
  const rows = new Rows();
  [now, taken, refuse] = [Date.parse(first) - 5 * MINUTE, [], refuses];
  const keys = webpush.generateVAPIDKeys();
  const server = await createReiServer({
    vapid: { email: "push@im.example", ...keys },
    tenant: { blobNamespace: crypto.randomUUID(), kek: "a", tokenSigningKey: "a", initSecret: "a", adapterFactory: () => rows },
  });
  const made = await server.handlers.initTenant.POST({ "x-init-secret": "a" }, { driver: "pg", databaseUrl: "postgres://a" });
  const { tenantToken, cronToken } = made.body.data;
  const user = { authorization: `Bearer ${tenantToken}`, "x-user-id": crypto.randomUUID() };
  const { userKey } = (await server.handlers.getUserKey.GET("", user)).body.data;
  const pushSubscription = {
    endpoint: `https://localhost:${service.address().port}/a`,
    keys: { auth: auth.toString("base64url"), p256dh: browser.getPublicKey().toString("base64url") },
  };
  const message = { contactName: "Anna", messageType: "fixed", userMessage, firstSendTime: first, recurrenceType, pushSubscription };
  const iv = crypto.randomBytes(12);
  const cipher = crypto.createCipheriv("aes-256-gcm", Buffer.from(userKey, "hex"), iv);
  const secret = Buffer.concat([cipher.update(JSON.stringify(message)), cipher.final()]);
  const body = { iv: iv.toString("base64"), authTag: cipher.getAuthTag().toString("base64"), encryptedData: secret.toString("base64") };
  const scheduled = await server.handlers.scheduleMessage.POST({ ...user, "x-payload-encrypted": "true", "x-encryption-version": "1" }, body);
  if (scheduled.status !== 201) throw new Error(JSON.stringify(scheduled.body));
  for (let day = 0; day < days; day++)
    for (let minute = 0; minute < 25; minute++) {
      now = Date.parse(first) + day * DAY + minute * MINUTE;
      await server.handlers.sendNotifications.POST({ authorization: `Bearer ${cronToken}` });
    }
  return [[0, 1, 2, 3].map((day) => taken.find((one) => one.day === day)?.at ?? "--"), [...rows.rows.values()].map((row) => row.status)];
}

/** Refuses the first push of each of these days. */
const once = (...days) => {
  const left = new Set(days);
  return () => left.delete(Math.floor((now - Date.parse(first)) / DAY) + 1);
};
const [good] = await run("Good morning", "daily", 4, () => false);
const [late] = await run("Good morning", "daily", 4, once(1, 3));
const [gone, state] = await run("Good morning", "daily", 4, () => now < Date.parse(first) + 15 * MINUTE);
let thirds = 0;
await run("One! Two! Three!", "none", 1, (words) => words.startsWith("Three") && thirds++ === 0);
const words = taken.map((one) => one.words.replace("!", ".")).join(" ");
console.log(
  `no 503: ${good.join(" ")}; a 503 on day 1 and one on day 3: ${late.join(" ")}; 15 minutes of 503 on day 1: ${gone.join(" ")} (${state});\n` +
    `  three sentences, a 503 for the third: ${words}`,
);
process.exit(good.every((at) => at === "08:00") && late[1] !== "08:00" && gone[1] === "--" ? 0 : 1);
JS
NODE_EXTRA_CA_CERTS=cert.pem timeout 100 node push.mjs
