/** The client, the Limiter and the middleware before a real ratelimit-service. */

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { after, before, test } from "node:test";

import { Client, Invalid, Limited, Limiter, NotFound, Unavailable, rateLimit } from "../../src/index.js";

const { MAINSTAY_URL, MAINSTAY_KEY } = process.env;
const QUIET = { warn() {}, error() {} };
const SHOP = { shop: "a.myshopify.com" };

/** Between us and the service: passes, hangs or refuses. */
class Proxy {
  #server;
  #sockets = new Set();
  #hangs = false;

  async start(port = 0) {
    const target = new URL(MAINSTAY_URL);
    this.#hangs = false;
    this.#server = net.createServer((from) => {
      const to = net.connect(Number(target.port), target.hostname);
      for (const socket of [from, to]) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => this.#sockets.delete(socket));
      }
      from.on("data", (data) => this.#hangs || to.write(data));
      to.on("data", (data) => this.#hangs || from.write(data));
      from.on("close", () => to.destroy());
      to.on("close", () => from.destroy());
    });
    await new Promise((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    this.port = this.#server.address().port;
  }

  hang() {
    this.#hangs = true;
  }

  async refuse() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async pass() {
    await this.start(this.port);
  }
}

const proxy = new Proxy();
let client;
let direct;

async function put(policy, spec) {
  const response = await fetch(`${MAINSTAY_URL}/v1/ratelimits/policies/${policy}`, {
    method: "PUT",
    headers: { Authorization: `Bearer ${MAINSTAY_KEY}`, "Content-Type": "application/json" },
    body: JSON.stringify({ key: "shop_or_ip", rate: "1/h", ...spec }),
  });
  assert.equal(response.status, 200, await response.text());
}

async function until(isSo) {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** As Express calls a middleware. */
async function serving(middleware, run) {
  const server = http.createServer((req, res) => {
    middleware(req, res, (error) => {
      res.statusCode = error ? 500 : 200;
      res.end(JSON.stringify({ left: req.rateLimit?.limits[0]?.remaining ?? null }));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}/`;
  try {
    await run(async (headers = {}) => {
      const response = await fetch(url, { headers });
      return { status: response.status, headers: response.headers, body: await response.json() };
    });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

before(async () => {
  await proxy.start();
  client = new Client(`http://127.0.0.1:${proxy.port}`, MAINSTAY_KEY, { attempts: 1 });
  direct = new Client(MAINSTAY_URL, MAINSTAY_KEY);
});

after(() => proxy.refuse());

test("a burst passes, a denial is an answer, and enforce throws it", async () => {
  await put("js-check", { burst: 2 });
  assert.equal((await direct.check("js-check", SHOP)).limits[0].remaining, 1);
  assert.ok((await direct.check(["js-check"], SHOP)).allowed);
  const denied = await direct.check("js-check", SHOP);
  assert.ok(!denied.allowed && denied.retry_after_ms > 3_500_000);
  await assert.rejects(direct.enforce("js-check", SHOP), (error) =>
    error instanceof Limited && error.retryAfterMs > 3_500_000);
  await assert.rejects(direct.check("js-nope", SHOP), NotFound);
  await assert.rejects(direct.check("js-check", { user: "k" }), (error) =>
    error instanceof Invalid && error.errors.length > 0);
});

test("a slot lies ahead, and has a token", async () => {
  await put("js-pace", { key: "sender", rate: "1/m", burst: 1 });
  const slots = [];
  for (let n = 0; n < 2; n += 1) {
    slots.push(await direct.reserve("js-pace", { sender: "+30690" }, { maxWaitMs: 600_000 }));
  }
  assert.ok(slots.every((slot) => slot.allowed && slot.token));
  assert.ok(slots[1].wait_ms > 50_000);
});

test("checks that come together travel together, and a wrong one spoils no other", async () => {
  await put("js-batch", { burst: 30 });
  const sizes = [];
  const counting = {
    checkBatch(items, how) {
      sizes.push(items.length);
      return direct.checkBatch(items, how);
    },
  };
  const limiter = new Limiter(counting, { budgetMs: 2000, log: QUIET });
  const asked = Array.from({ length: 50 }, () => limiter.check("js-batch", SHOP));
  const decided = await Promise.all(asked);
  assert.equal(decided.filter((one) => one.allowed).length, 30);
  assert.deepEqual(sizes, [50]);
  const [good, bad] = await Promise.allSettled([
    limiter.check("js-batch", { shop: "b" }), limiter.check("js-batch", { user: "k" }),
  ]);
  assert.equal(good.value.limits[0].remaining, 29);
  assert.ok(bad.reason instanceof Invalid);
  assert.ok(!limiter.isAway);
});

test("while it is away what was left is what is left, and a denial is kept to", async () => {
  for (const fault of ["refuse", "hang"]) {
    const policy = `js-away-${fault}`;
    await put(policy, { burst: 10 });
    const limiter = new Limiter(client, { budgetMs: 1500, replicas: 2, pauseMs: 60_000, log: QUIET });
    assert.equal((await limiter.check(policy, SHOP, { cost: 4 })).limits[0].remaining, 6);
    await proxy[fault]();
    const first = await limiter.check(policy, SHOP);
    assert.deepEqual([first.allowed, first.backend, first.degraded], [true, "local", true]);
    const rest = await Promise.all(Array.from({ length: 9 }, () => limiter.check(policy, SHOP)));
    assert.equal(rest.filter((one) => one.allowed).length, 2);
    assert.ok(rest[8].retry_after_ms > 0);
    limiter.close();
    if (fault === "hang") await proxy.refuse();
    await proxy.pass();
  }
});

test("nothing is broken into a refusal, but where it is closed", async () => {
  await proxy.refuse();
  const how = { budgetMs: 1500, pauseMs: 60_000, rates: { x: { perS: 0.001, burst: 1 } }, log: QUIET };
  const open = new Limiter(client, { ...how, onFailure: "open" });
  const closed = new Limiter(client, { ...how, onFailure: "closed" });
  for (let n = 0; n < 3; n += 1) assert.ok((await open.check("x", SHOP)).allowed);
  await assert.rejects(closed.check("x", SHOP), Unavailable);
  open.close();
  closed.close();
  await proxy.pass();
});

test("the middleware tells what is left, and then when to come again", async () => {
  await put("js-site", { burst: 2 });
  const limit = rateLimit({
    client: direct, policies: ["js-site"], budgetMs: 2000, trustedHops: 1, log: QUIET,
    shop: (req) => (req.headers.cookie === "session=good" ? "a.myshopify.com" : null),
  });
  await serving(limit, async (get) => {
    const first = await get({ "x-forwarded-for": "6.6.6.6, 203.0.113.9" });
    assert.deepEqual([first.status, first.body], [200, { left: 1 }]);
    assert.equal(first.headers.get("ratelimit-policy"), '"js-site";q=2;w=7200');
    assert.equal(first.headers.get("ratelimit"), '"js-site";r=1;t=3600');
    assert.equal((await get({ "x-forwarded-for": "7.7.7.7, 203.0.113.9" })).body.left, 0);
    const refused = await get({ "x-forwarded-for": "203.0.113.9" });
    assert.equal(refused.status, 429);
    assert.equal(refused.headers.get("content-type"), "application/problem+json");
    assert.equal(refused.body.code, "rate_limited");
    const retryAfter = Number(refused.headers.get("retry-after"));
    assert.ok(retryAfter >= 3590 && retryAfter <= 3961, retryAfter);
    const verified = { cookie: "session=good", "x-forwarded-for": "203.0.113.9" };
    assert.equal((await get(verified)).body.left, 1);
    assert.equal((await get({ cookie: "session=forged", "x-forwarded-for": "203.0.113.9" })).status, 429);
  });
});

test("the middleware refuses nobody for a limiter that is away, unless it is closed", async () => {
  await put("js-mw", { burst: 100 });
  const how = { client, policies: "js-mw", budgetMs: 1500, pauseMs: 60_000, log: QUIET };
  await proxy.refuse();
  await serving(rateLimit(how), async (get) => {
    const { status, headers } = await get();
    assert.deepEqual([status, headers.get("degraded")], [200, "limits;local"]);
  });
  await serving(rateLimit({ ...how, onFailure: "closed" }), async (get) => {
    const { status, headers } = await get();
    assert.deepEqual([status, headers.get("retry-after")], [503, "1"]);
  });
  await proxy.pass();
});

test("who is on the deny list is not told to wait", async () => {
  const listed = {
    allowed: false, listed: "deny", limits: [], wait_ms: 0, retry_after_ms: null,
    backend: "postgres", degraded: false,
  };
  const limiter = { check: async () => listed };
  await serving(rateLimit({ limiter, policies: "js-site" }), async (get) => {
    const { status, body, headers } = await get();
    assert.deepEqual([status, body.code, headers.get("retry-after")], [403, "denied_by_list", null]);
  });
});

test("a policy that does not exist is logged, an error of the app is the app's", async () => {
  const told = [];
  const log = { ...QUIET, error: (message) => told.push(message) };
  await serving(rateLimit({ client: direct, policies: "js-typo", log }), async (get) => {
    assert.equal((await get()).status, 200);
  });
  assert.match(told[0], /js-typo/);
  const broken = rateLimit({
    client: direct, policies: "js-mw", log: QUIET,
    subject() {
      throw new Error("the session store is away");
    },
  });
  await serving(broken, async (get) => assert.equal((await get()).status, 500));
});
