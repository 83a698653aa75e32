// How fast @parse/node-apn is: sends `count` alerts, each with words of its own, `inFlight` at once, and prints the pushes per second.
// stdin: {port, key, keyId, team, topic, count, inFlight}.
import fs from "node:fs";
import apn from "@parse/node-apn";

const wanted = JSON.parse(fs.readFileSync(0, "utf8"));
const ca = fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS);
const provider = new apn.Provider({
  token: { key: wanted.key, keyId: wanted.keyId, teamId: wanted.team },
  address: "localhost", port: wanted.port, production: true, ca,
});

async function send(number) {
  const note = new apn.Notification({
    topic: wanted.topic, alert: { title: "Sam", body: `Meeting moved to 20:00 (${number})` }, pushType: "alert", badge: 1, sound: "default",
  });
  const { failed } = await provider.send(note, number.toString(16).padStart(64, "a"));
  if (failed.length) throw new Error(JSON.stringify(failed[0]));
}

async function run(first, last) {
  let next = first;
  const worker = async () => { while (next < last) await send(next++); };
  await Promise.all(Array.from({ length: wanted.inFlight }, worker));
}

await run(0, 200);
const began = process.hrtime.bigint();
await run(200, 200 + wanted.count);
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
console.log(JSON.stringify({ pushes_per_second: wanted.count / seconds }));
process.exit(0);
