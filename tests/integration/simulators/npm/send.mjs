// Sends one alert to each token through @parse/node-apn or apns2 and prints what the client made of the answers:
// [{token, status, reason, timestamp}]. stdin: {client, port, key, keyId, team, topic, tokens}.
import fs from "node:fs";

const wanted = JSON.parse(fs.readFileSync(0, "utf8"));
const ca = fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS);

async function byNodeApn() {
  const { default: apn } = await import("@parse/node-apn");
  const provider = new apn.Provider({
    token: { key: wanted.key, keyId: wanted.keyId, teamId: wanted.team },
    address: "localhost", port: wanted.port, production: true, ca,
  });
  const note = new apn.Notification({ topic: wanted.topic, alert: { title: "Alice", body: "晚上八点开会 🚀" }, pushType: "alert" });
  const { sent, failed } = await provider.send(note, wanted.tokens);
  await provider.shutdown();
  return [
    ...sent.map((one) => ({ token: one.device, status: 200 })),
    ...failed.map((one) => ({
      token: one.device, status: one.status, reason: one.response?.reason ?? String(one.error), timestamp: one.response?.timestamp,
    })),
  ];
}

async function byApns2() {
  const { ApnsClient, Notification } = await import("apns2");
  const { Pool } = await import("undici");
  const client = new ApnsClient({ team: wanted.team, keyId: wanted.keyId, signingKey: wanted.key, defaultTopic: wanted.topic, host: "localhost" });
  // apns2 knows no port but 443: the same pool as its own, elsewhere.
  client.client = new Pool(`https://localhost:${wanted.port}`, { connections: 1, allowH2: true, maxConcurrentStreams: 100, connect: { ca } });
  const results = await client.sendMany(wanted.tokens.map((token) => new Notification(token, { alert: { title: "Alice", body: "hi" } })));
  await client.destroy();
  return results.map((one, place) =>
    one.error
      ? { token: wanted.tokens[place], status: one.error.statusCode, reason: one.error.reason ?? String(one.error), timestamp: one.error.response?.timestamp }
      : { token: wanted.tokens[place], status: 200 },
  );
}

console.log(JSON.stringify(await (wanted.client === "node-apn" ? byNodeApn() : byApns2())));
process.exit(0);
