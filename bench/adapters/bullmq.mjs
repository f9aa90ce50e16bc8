// Plain: 20 jobs at a time. Tuned: jobs are deleted when they are done.
import { CONCURRENCY, IS_TUNED, KIND, STORE, main, record, require } from "./adapter.mjs";

const { Queue, Worker } = require("bullmq");
const { hostname: host, port } = new URL(STORE);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const NAME = "bench";
let queue;

await main({
  async prepare() {},
  async open() {
    queue = new Queue(NAME, { connection });
    await queue.waitUntilReady();
  },
  enqueue: (args) => queue.add(KIND, args),
  bulk: (many) => queue.addBulk(many.map((data) => ({ name: KIND, data }))),
  work() {
    const tuned = IS_TUNED ? { removeOnComplete: { count: 0 } } : {};
    new Worker(NAME, async (job) => record(job.data.t), {
      connection,
      concurrency: CONCURRENCY,
      ...tuned,
    });
  },
});
