// Sends one message to a list of regids through push-xiaomi and prints what it made of the answer: {success, fail, ids}.
// stdin: {url, secret, package, list}. Its notify_id (a time in ms) is over int32 and its unset extras are empty texts, which Xiaomi
// refuses: both are mended on the way out, so that this is about answers only.
import fs from "node:fs";
import { createRequire } from "node:module";

const wanted = JSON.parse(fs.readFileSync(0, "utf8"));
const require = createRequire(import.meta.url);
const within = createRequire(require.resolve("push-xiaomi"));
within("axios").interceptors.request.use((config) => {
  if (config.method === "post") {
    const form = new URLSearchParams(config.data);
    for (const [name, value] of [...form]) if (value === "") form.delete(name);
    form.set("notify_id", "7");
    config.data = form.toString();
    config.headers["Content-Type"] = "application/x-www-form-urlencoded;charset=UTF-8";
  }
  return config;
});

const Xiaomi = require("push-xiaomi");
const client = new Xiaomi({ pushUrl: `${wanted.url}/v3/message/regid`, appSecret: wanted.secret, appPkgName: wanted.package });
const told = await new Promise((finish) =>
  client.push({ title: "张三", content: "晚上八点开会", payload: "{}", list: wanted.list, "extra.notify_effect": "1", sleep: 0, finish }),
);
console.log(JSON.stringify({ success: told.success_total, fail: told.fail_total, ids: told.traceIdList }));
process.exit(0);
