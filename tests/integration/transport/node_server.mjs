// A strict HTTP/2 server that none of us wrote: node's own http2 (nghttp2). Answers as APNs does, counts what it took.
import http2 from "node:http2";
import fs from "node:fs";

const [certificate, key, streams, goawayAfter] = process.argv.slice(2);
const seen = [];
let sessions = 0;
const server = http2.createSecureServer({
  cert: fs.readFileSync(certificate),
  key: fs.readFileSync(key),
  settings: { maxConcurrentStreams: Number(streams), initialWindowSize: 65535 },
});
server.on("session", (session) => {
  session.number = ++sessions;
  session.answered = 0;
});
server.on("stream", (stream, headers) => {
  if (headers[":path"] === "/_stats") {
    stream.respond({ ":status": 200 });
    stream.end(JSON.stringify({ seen, sessions }));
    return;
  }
  let length = 0;
  stream.on("data", (chunk) => (length += chunk.length));
  stream.on("error", () => {});
  stream.on("end", () => {
    seen.push(headers["apns-id"]);
    const session = stream.session;
    const bad = headers[":path"].endsWith("f");
    stream.respond({ ":status": bad ? 400 : 200, "apns-id": headers["apns-id"], "x-length": String(length) });
    stream.end(bad ? '{"reason":"BadDeviceToken"}' : undefined);
    if (session && ++session.answered === Number(goawayAfter)) session.close();
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
