/** Answers that are late, lost, refused or somebody else's, between the storage and real servers. */

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";

import { Session } from "@shopify/shopify-api";
import { ApiError, MainstaySessionStorage } from "mainstay-session-storage";

const { MAINSTAY_URL, MAINSTAY_KEY } = process.env;
const SHOP = `f${process.pid}-${Date.now().toString(36)}.myshopify.com`;
const SESSION = new Session({
  id: `offline_${SHOP}`, shop: SHOP, state: "state", isOnline: false, accessToken: "shpat_secret",
});

/** What comes first is done to one request each; the others pass. */
let faults = [];
let asked = [];
let storage;

const between = http.createServer(async (request, response) => {
  asked.push(request.method);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const fault = faults.shift();
  if (typeof fault === "function") return fault(request, response);
  const headers = { authorization: request.headers.authorization };
  if (chunks.length > 0) headers["content-type"] = request.headers["content-type"];
  const answer = await fetch(MAINSTAY_URL + request.url, {
    method: request.method, headers, body: chunks.length > 0 ? Buffer.concat(chunks) : undefined,
  });
  const body = Buffer.from(await answer.arrayBuffer());
  if (fault === "lost") return request.socket.destroy();
  response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(body);
});

before(async () => {
  await new Promise((listening) => between.listen(0, "127.0.0.1", listening));
  storage = new MainstaySessionStorage(`http://127.0.0.1:${between.address().port}`, MAINSTAY_KEY);
});

after(() => between.close());

const is = (status, headers = {}, body = "") => (_request, response) =>
  response.writeHead(status, headers).end(body);
const hangs = () => {};

async function during(given, ask) {
  faults = [...given];
  asked = [];
  try {
    return await ask();
  } finally {
    faults = [];
  }
}

test("a lost answer is asked for again, and nothing is stored twice", async () => {
  assert.equal(await during(["lost"], () => storage.storeSession(SESSION)), true);
  assert.deepEqual(asked, ["PUT", "PUT"]);
  assert.equal((await during(["lost"], () => storage.findSessionsByShop(SHOP))).length, 1);
});

test("what is busy or away for a moment is asked again after as long as it says", async () => {
  const began = performance.now();
  const given = [is(503, { "retry-after": "0.3" }), is(502), is(429)];
  const loaded = await during(given, () => storage.loadSession(SESSION.id));
  assert.ok(SESSION.equals(loaded));
  assert.equal(asked.length, 4);
  assert.ok(performance.now() - began >= 300);
});

test("what is away longer is an error after four tries, never an absent session", async () => {
  const given = Array(4).fill(is(503, {}, '{"code":"database_unavailable","detail":"away"}'));
  const thrown = await during(given, () => storage.loadSession(SESSION.id)).catch((error) => error);
  assert.ok(thrown instanceof ApiError);
  assert.deepEqual([thrown.status, thrown.code, asked.length], [503, "database_unavailable", 4]);
});

test("nobody waits longer than a call may take", async () => {
  const url = `http://127.0.0.1:${between.address().port}`;
  const hasty = new MainstaySessionStorage(url, MAINSTAY_KEY, { timeoutMs: 200 });
  const began = performance.now();
  for (const fault of [hangs, is(503, { "retry-after": "60" })]) {
    await assert.rejects(during([fault], () => hasty.loadSession(SESSION.id)), ApiError);
  }
  assert.ok(performance.now() - began < 2_000);
  between.closeAllConnections();
});

test("an answer that is nobody's we know is an error, and is not asked for again", async () => {
  for (const fault of [
    is(200, {}, "<html>"), is(200, {}, "null"), is(302, { location: "/elsewhere" }),
    is(404, {}, "<html>"), is(403, {}, '{"code":"missing_scope"}'),
  ]) {
    await assert.rejects(during([fault], () => storage.loadSession(SESSION.id)), ApiError);
    assert.equal(asked.length, 1);
  }
});

test("an error holds nothing of what was sent", async () => {
  const wrong = new Session({ ...SESSION, id: `offline_other-${SHOP}` });
  const thrown = await storage.storeSession(wrong).catch((error) => error);
  assert.ok(!`${thrown.stack} ${JSON.stringify(thrown)}`.includes("shpat_secret"));
});
