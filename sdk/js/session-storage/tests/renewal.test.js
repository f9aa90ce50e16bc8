/** Tokens that end, before a real service that may renew them at a Shopify of ours. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Session } from "@shopify/shopify-api";
import { MainstaySessionStorage } from "mainstay-session-storage";

const { MAINSTAY_URL, MAINSTAY_KEY, SHOPIFY_URL } = process.env;
const FIVE_MINUTES_MS = 300_000;
const storage = new MainstaySessionStorage(MAINSTAY_URL, MAINSTAY_KEY);

let shops = 0;

async function control(path, given = {}) {
  const body = JSON.stringify(given);
  return (await fetch(`${SHOPIFY_URL}/_ctl/${path}`, { method: "POST", body })).json();
}

/** A stored session whose token has so long to live, and Shopify knows its pair. */
async function ending(leftMs, more = {}) {
  shops += 1;
  const shop = `r${process.pid}-${shops}.myshopify.com`;
  const pair = await control(`shops/${shop}/pair`);
  const session = new Session({
    id: `offline_${shop}`,
    shop,
    state: "",
    isOnline: false,
    scope: "write_products",
    accessToken: pair.access_token,
    refreshToken: pair.refresh_token,
    expires: new Date(Date.now() + leftMs),
    refreshTokenExpires: new Date(Date.now() + 80 * 86_400_000),
    ...more,
  });
  await storage.storeSession(session);
  return session;
}

const load = ({ id }) => storage.loadSession(id);
const calls = async ({ shop }) => (await control("calls", { where: "token", shop })).count;
const fault = (shop, what) => control("faults", { script: [{ where: "token", shop, ...what }] });

// The second takes longer than the service has whoever holds a living token wait.
for (const [what, leftMs, delay_s] of [
  ["has ended", -1_000, 0.3],
  ["has three minutes", 180_000, 2.5],
]) {
  test(`a token that ${what} is renewed before anybody gets it, once for all`, async () => {
    const session = await ending(leftMs);
    await fault(session.shop, { delay_s });
    const loaded = await Promise.all(Array.from({ length: 20 }, () => load(session)));
    const tokens = new Set(loaded.map(({ accessToken }) => accessToken));
    assert.equal(tokens.size, 1);
    assert.ok(!tokens.has(session.accessToken));
    assert.ok(loaded.every((each) => each.refreshToken && !each.isExpired(FIVE_MINUTES_MS)));
    assert.equal(await calls(session), 1);
  });
}

test("a token with eight minutes is renewed, and one with more is not", async () => {
  const [soon, later] = [await ending(480_000), await ending(700_000)];
  assert.notEqual((await load(soon)).accessToken, soon.accessToken);
  assert.ok(later.equals(await load(later)));
  assert.equal(await calls(later), 0);
});

test("while Shopify does not answer the session is as it was", async () => {
  const session = await ending(180_000);
  await fault(session.shop, { status: 503, times: 100 });
  assert.ok(session.equals(await load(session)));
  assert.ok((await calls(session)) > 0);
});

test("a refresh token that is dead is handed out to nobody, and Shopify asked once", async () => {
  const session = await ending(-1_000, { refreshToken: "shprt_dead" });
  for (let times = 0; times < 3; times += 1) {
    const loaded = await load(session);
    assert.equal(loaded.accessToken, session.accessToken);
    assert.deepEqual([loaded.refreshToken, loaded.refreshTokenExpires], [undefined, undefined]);
  }
  assert.equal(await calls(session), 1);
});

test("an app may do it by itself", async () => {
  const alone = new MainstaySessionStorage(MAINSTAY_URL, MAINSTAY_KEY, { renews: false });
  const session = await ending(-1_000);
  assert.ok(session.equals(await alone.loadSession(session.id)));
  assert.equal(await calls(session), 0);
});
