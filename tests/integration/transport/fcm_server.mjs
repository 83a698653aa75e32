// FCM's door on node's own http2, which none of us wrote. strict: everything RFC 9113 and Google's page ask for is checked, and what
// is wrong is named in the answer. lenient: a server that minds nothing, takes HTTP/1.1 too, and adds headers that nobody asked for.
import http2 from "node:http2";
import fs from "node:fs";

const [certificate, key, manner] = process.argv.slice(2);
const strict = manner === "strict";
const seen = [];
const HOP = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"];

function wrong(headers, body) {
  if (headers[":method"] !== "POST" || headers[":scheme"] !== "https") return "method or scheme";
  if (!headers[":authority"] || headers.host) return "authority";
  if (HOP.some((name) => name in headers)) return "a hop-by-hop header";
  if (Object.keys(headers).some((name) => name !== name.toLowerCase())) return "a header in capitals";
  if ("content-length" in headers && Number(headers["content-length"]) !== body.length) return "content-length";
  if (headers[":path"] === "/token") {
    if (headers["content-type"] !== "application/x-www-form-urlencoded") return "content-type of a form";
    return new URLSearchParams(body.toString()).get("assertion")?.split(".").length === 3 ? "" : "assertion";
  }
  if (!/^\/v1\/projects\/[a-z0-9-]+\/messages:send$/.test(headers[":path"])) return "path";
  if (headers.authorization !== "Bearer ya29.foreign") return "authorization";
  if (!/^application\/json(; ?charset=utf-8)?$/i.test(headers["content-type"] ?? "")) return "content-type";
  const text = new TextDecoder("utf-8", { fatal: true }).decode(body);
  const message = JSON.parse(text).message;
  return typeof message?.token === "string" && Object.values(message.data ?? {}).every((one) => typeof one === "string") ? "" : "message";
}

function told(headers, body) {
  let mistake = "";
  try {
    mistake = strict ? wrong(headers, body) : "";
  } catch (error) {
    mistake = String(error);
  }
  if (mistake) return [400, { error: { code: 400, status: "INVALID_ARGUMENT", message: mistake } }];
  if (headers[":path"] === "/token") return [200, { access_token: "ya29.foreign", expires_in: 3599, token_type: "Bearer" }];
  seen.push(JSON.parse(body.toString()).message.token);
  return [200, { name: `projects/demo-im/messages/0:${seen.length}` }];
}

const settings = strict ? { maxConcurrentStreams: 100, maxHeaderListSize: 8192, enablePush: false } : { initialWindowSize: 1 << 20 };
const server = http2.createSecureServer({
  cert: fs.readFileSync(certificate),
  key: fs.readFileSync(key),
  allowHTTP1: !strict,
  settings,
  strictFieldWhitespaceValidation: strict,
});
server.on("stream", (stream, headers) => {
  if (headers[":path"] === "/_seen") {
    stream.respond({ ":status": 200 });
    stream.end(JSON.stringify(seen));
    return;
  }
  const parts = [];
  stream.on("data", (part) => parts.push(part));
  stream.on("error", () => {});
  stream.on("end", () => {
    const [status, value] = told(headers, Buffer.concat(parts));
    const more = strict ? {} : { "x-padding": "x".repeat(4000), "alt-svc": 'h3=":443"', "set-cookie": ["a=1", "b=2"] };
    if (!strict) stream.additionalHeaders({ ":status": 103, link: "</style.css>; rel=preload" });
    stream.respond({ ":status": status, "content-type": "application/json; charset=UTF-8", ...more });
    const text = JSON.stringify(value);
    if (!strict) stream.write(" \n".repeat(50)); // white space before the value, in a frame of its own
    stream.end(text);
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
