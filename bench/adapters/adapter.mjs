// The verbs of adapter.py for contestants on Node; the packages are in BENCH_NODE/node_modules.
import { openSync, statSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

export const { BENCH_STORE: STORE = "", BENCH_RECORD: RECORD = "/dev/null" } = process.env;
export const IS_TUNED = Boolean(process.env.BENCH_TUNED);
export const KIND = "bench.noop";
export const CONCURRENCY = 20;
export const CONNECTIONS = 20;
export const require = createRequire(`${process.env.BENCH_NODE}/`);

const SHOPS = Number(process.env.BENCH_SHOPS ?? 200);
const WARM_UP = 200;
const IDLE_MS = 1000;
const CALLERS = 50;

let file;

/** A job has started. `began` is a string: such numbers of ns do not fit a double. */
export function record(began) {
  file ??= openSync(RECORD, "a");
  const entry = Buffer.alloc(16);
  entry.writeBigInt64LE(BigInt(began), 0);
  entry.writeBigInt64LE(process.hrtime.bigint(), 8);
  writeSync(file, entry);
}

function argsOf(number) {
  return {
    shop: `shop-${number % SHOPS}.myshopify.com`,
    to: "+306900000000",
    body: "x".repeat(120),
    t: String(process.hrtime.bigint()),
  };
}

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

function stopwatch() {
  const began = performance.now();
  const cpu = process.cpuUsage();
  const seconds = () => (performance.now() - began) / 1000;
  return {
    seconds,
    read(jobs) {
      const { user, system } = process.cpuUsage(cpu);
      return { jobs, seconds: seconds(), cpu_s: (user + system) / 1e6 };
    },
  };
}

async function calls(adapter, callers, goesOn) {
  let sent = 0;
  const caller = async () => {
    while (goesOn(sent)) {
      sent += 1;
      await adapter.enqueue(argsOf(sent));
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return sent;
}

const LOADS = {
  async single(adapter, jobs, callers, seconds) {
    await calls(adapter, callers, (sent) => sent < WARM_UP);
    const watch = stopwatch();
    const goesOn = (sent) => sent < jobs && watch.seconds() < seconds;
    return watch.read(await calls(adapter, callers, goesOn));
  },
  async bulk(adapter, jobs, piece, seconds) {
    const watch = stopwatch();
    let sent = 0;
    while (sent < jobs && watch.seconds() < seconds) {
      const first = sent;
      const many = Array.from({ length: Math.min(piece, jobs - sent) }, (_, n) => argsOf(first + n));
      await adapter.bulk(many);
      sent += many.length;
    }
    return watch.read(sent);
  },
  async paced(adapter, jobs, everyMs) {
    await calls(adapter, 1, (sent) => sent < WARM_UP);
    await sleep(IDLE_MS);
    const watch = stopwatch();
    for (let number = 0; number < jobs; number += 1) {
      await sleep(Math.max(0, number * everyMs - watch.seconds() * 1000));
      await adapter.enqueue(argsOf(number));
    }
    return watch.read(jobs);
  },
  async mixed(adapter, seconds, backlog) {
    const watch = stopwatch();
    let sent = 0;
    const caller = async () => {
      while (watch.seconds() < seconds) {
        if (sent - Math.floor(statSync(RECORD).size / 16) >= backlog) {
          await sleep(1);
          continue;
        }
        sent += 1;
        await adapter.enqueue(argsOf(sent));
      }
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
    return watch.read(sent);
  },
};

export async function main(adapter) {
  const [verb, ...numbers] = process.argv.slice(2);
  if (verb === "work") return adapter.work();
  if (verb === "prepare") await adapter.prepare();
  else {
    await adapter.open();
    const load = await LOADS[verb](adapter, ...numbers.map(Number));
    console.log(JSON.stringify(load));
  }
  process.exit(0);
}
