// Sends one notification to each token through firebase-admin and prints what it made of the answers:
// {hosts, results: [{token, id, code}], seconds}. stdin: {port, account, transport: http2 | http1, retry429, tokens}.
import fs from "node:fs";
import tls from "node:tls";

const wanted = JSON.parse(fs.readFileSync(0, "utf8"));
const hosts = new Set();

// firebase-admin knows no address but Google's: its connections to these end at the simulator, its own code is untouched.
const connect = tls.connect;
tls.connect = (...given) => {
  const options = given.find((one) => one !== null && typeof one === "object");
  hosts.add(options.servername || options.host);
  return connect({ ...options, host: "localhost", servername: "localhost", port: wanted.port });
};

const { initializeApp, cert } = await import("firebase-admin/app");
const { getMessaging } = await import("firebase-admin/messaging");

const messaging = getMessaging(initializeApp({ credential: cert(wanted.account) }));
if (wanted.transport === "http1") messaging.enableLegacyHttpTransport();
if (wanted.retry429) {
  // By itself it tries again after 503 only; its reader of Retry-After is the same for every status of this list.
  const { httpClient, http2Client } = messaging.messagingRequestHandler;
  for (const client of [httpClient, http2Client]) client.retry.statusCodes.push(429);
}
const began = performance.now();
const { responses } = await messaging.sendEach(
  wanted.tokens.map((token) => ({
    token, data: { push_id: token }, notification: { title: "Alice", body: "晚上八点开会 🚀" },
    android: { priority: "high", ttl: 3600_000, collapseKey: "im", notification: { tag: "m-1", channelId: "im_message" } },
  })),
);
const results = responses.map((one, place) => ({ token: wanted.tokens[place], id: one.messageId, code: one.error?.code }));
console.log(JSON.stringify({ hosts: [...hosts].sort(), results, seconds: (performance.now() - began) / 1000 }));
process.exit(0);
