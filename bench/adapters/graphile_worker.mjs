// Plain: 20 jobs at a time. Tuned: its local queue of 500 and endings written in batches.
import {
  CONCURRENCY, CONNECTIONS, IS_TUNED, KIND, STORE, main, record, require,
} from "./adapter.mjs";

const { Logger, makeWorkerUtils, run } = require("graphile-worker");
const logger = new Logger(() => () => {});
const TUNED = {
  localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};
let utils;

async function open() {
  utils = await makeWorkerUtils({ connectionString: STORE, maxPoolSize: CONNECTIONS, logger });
}

await main({
  async prepare() {
    await open();
    await utils.migrate();
  },
  open,
  enqueue: (args) => utils.addJob(KIND, args),
  bulk: (many) => utils.addJobs(many.map((payload) => ({ identifier: KIND, payload }))),
  async work() {
    const worker = {
      connectionString: STORE,
      concurrentJobs: CONCURRENCY,
      maxPoolSize: CONNECTIONS + 2,
      logger,
      ...(IS_TUNED ? TUNED : {}),
    };
    await run({ preset: { worker }, taskList: { [KIND]: async (args) => record(args.t) } });
  },
});
