#!/bin/sh
# Guess: a keyword of Matrix's push rules means the same to the server, which rings the phone, and to the client, which marks the message: what is
#   marked in the browser has rung, in Chinese as in English.
# Behaviour: both look for whole words, and differ in what a letter is. To Synapse 1.163.2 Chinese characters are letters, so the keyword 发票 in
#   请开发票吧 stands within a word: no push where only mentions and keywords ring, as Chinese has no blanks between words; beside
#   punctuation it is found. To matrix-js-sdk 37.5.0 only a-z, 0-9 and _ are letters, so it marks that message, and one with chalé for the
#   keyword "chal"; neither rang.
# Versions: matrix-synapse 1.163.2, matrix-js-sdk 37.5.0, Node 20, Python 3.11. Date: 2026-11-30.
# Seen: "keyword 发票 in 请开发票吧: Synapse no, matrix-js-sdk yes; in 发票，谢谢: yes, yes; chal in chalé: no, yes; chal in challenge: no, no"
# Exits 1 when the two agree on the first. Needs node, npm and python3; takes minutes.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q matrix-synapse==1.163.2 2>/dev/null
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts matrix-js-sdk@37.5.0 >/dev/null 2>&1
cat > server.py <<'PY'
import sys

from synapse.synapse_rust.push import PushRuleEvaluator

keyword, body = sys.argv[1:]
event = {"type": "m.room.message", "sender": "@ann:a.org", "content.msgtype": "m.text"}
flat = {**event, "content.body": body}
rules = PushRuleEvaluator(flat, False, 9, 0, {}, {}, False, (), False, False, False)
condition = {"kind": "event_match", "key": "content.body", "pattern": keyword}
print("yes" if rules.matches(condition, "@me:a.org", None) else "no")
PY
cat > client.mjs <<'JS'
import { PushProcessor } from "matrix-js-sdk/lib/pushprocessor.js";

const [pattern, body] = process.argv.slice(2);
const rule = { rule_id: "k", pattern, enabled: true, default: false, actions: ["notify", { set_tweak: "highlight" }] };
const global = { override: [], content: [rule], room: [], sender: [], underride: [] };
const me = "@me:a.org";
const client = {
  credentials: { userId: me },
  getUserId: () => me,
  getSafeUserId: () => me,
  supportsIntentionalMentions: () => false,
  pushRules: { global },
  getRoom: () => null,
};
const event = {
  getId: () => "$1",
  getRoomId: () => "!r:a.org",
  getType: () => "m.room.message",
  getSender: () => "@ann:a.org",
  getContent: () => ({ msgtype: "m.text", body }),
  event: { type: "m.room.message", content: { body } },
};
console.log(new PushProcessor(client).actionsForEvent(event).tweaks?.highlight ? "yes" : "no");
JS
both() { echo "$(venv/bin/python server.py "$1" "$2") $(node client.mjs "$1" "$2")"; }
first=$(both 发票 请开发票吧) second=$(both 发票 发票，谢谢) third=$(both chal chalé) fourth=$(both chal challenge)
echo "keyword 发票 in 请开发票吧: Synapse ${first% *}, matrix-js-sdk ${first#* }; in 发票，谢谢: ${second% *}, ${second#* };" \
  "chal in chalé: ${third% *}, ${third#* }; chal in challenge: ${fourth% *}, ${fourth#* }"
[ "$first" = "no yes" ]
