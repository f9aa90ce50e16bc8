/** What an app may expect of its session storage, with Shopify's own Session, before real servers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Session } from "@shopify/shopify-api";
import { ApiError, MainstaySessionStorage } from "mainstay-session-storage";

const { MAINSTAY_URL, MAINSTAY_KEY } = process.env;
const HOUR_MS = 3_600_000;
const storage = new MainstaySessionStorage(MAINSTAY_URL, MAINSTAY_KEY, { renews: false });

let shops = 0;

/** Of this test alone, also when it runs again before the same servers. */
function newShop(suffix = "myshopify.com") {
  shops += 1;
  return `s${process.pid}-${Date.now().toString(36)}-${shops}.${suffix}`;
}

function offline(shop, more = {}) {
  return new Session({
    id: `offline_${shop}`,
    shop,
    state: "state",
    isOnline: false,
    scope: "read_products,write_orders",
    accessToken: "shpat_token",
    ...more,
  });
}

const USER = {
  id: 902_541_635,
  first_name: "Μαρία",
  last_name: "O'Neil",
  email: "maria@example.com",
  email_verified: true,
  account_owner: false,
  locale: "el",
  collaborator: true,
};

function online(shop, more = {}) {
  return new Session({
    id: `${shop}_${USER.id}`,
    shop,
    state: "state",
    isOnline: true,
    scope: "read_products",
    accessToken: "shpua_token",
    expires: new Date(Date.now() + HOUR_MS),
    onlineAccessInfo: {
      expires_in: 3600,
      associated_user_scope: "read_products",
      associated_user: { ...USER },
    },
    ...more,
  });
}

async function stored(session) {
  assert.equal(await storage.storeSession(session), true);
  const loaded = await storage.loadSession(session.id);
  assert.ok(loaded instanceof Session);
  return loaded;
}

async function assertKept(session) {
  const loaded = await stored(session);
  assert.ok(session.equals(loaded), `${JSON.stringify(loaded)} for ${JSON.stringify(session)}`);
  return loaded;
}

for (const [what, expires] of [
  ["that ends", new Date(Date.now() + HOUR_MS)],
  ["whose end is null", null],
  ["whose end is undefined", undefined],
  ["without an end", "absent"],
]) {
  for (const make of [offline, online]) {
    test(`a session ${what}, ${make.name}, is kept, found active, and gone when deleted`, async () => {
      const session = make(newShop(), expires === "absent" ? {} : { expires });
      if (expires === "absent") delete session.expires;
      const loaded = await assertKept(session);
      assert.ok(loaded.isActive(session.scope));
      assert.equal(await storage.deleteSession(session.id), true);
      assert.equal(await storage.loadSession(session.id), undefined);
      assert.equal(await storage.deleteSession(session.id), true);
    });
  }
}

test("members that nobody knows are taken, and given back", async () => {
  const loaded = await assertKept(offline(newShop(), { colour: "blue", nested: { a: [1, null] } }));
  assert.deepEqual([loaded.colour, loaded.nested], ["blue", { a: [1, null] }]);
});

test("all that is known of a user is kept, also what has no column elsewhere", async () => {
  const session = online(newShop());
  const loaded = await assertKept(session);
  assert.deepEqual(loaded.onlineAccessInfo, session.onlineAccessInfo);
});

test("an id that nobody stored is undefined", async () => {
  assert.equal(await storage.loadSession("offline_nobody.myshopify.com"), undefined);
});

test("a shop's sessions are found, and no others", async () => {
  const [shop, other] = [newShop("myshopify.io"), newShop("myshopify.io")];
  const sessions = [offline(shop), online(shop)];
  await Promise.all([...sessions, offline(other)].map((each) => storage.storeSession(each)));
  const found = await storage.findSessionsByShop(shop);
  assert.deepEqual(found.map(({ id }) => id).sort(), sessions.map(({ id }) => id).sort());
  for (const session of sessions) assert.ok(found.some((each) => session.equals(each)));
  assert.deepEqual(await storage.findSessionsByShop(newShop()), []);
});

test("many are deleted at once, and then there are none", async () => {
  const shop = newShop();
  const sessions = [offline(shop), online(shop)];
  await Promise.all(sessions.map((each) => storage.storeSession(each)));
  assert.equal(await storage.deleteSessions([...sessions.map(({ id }) => id), "nobody"]), true);
  assert.deepEqual(await storage.findSessionsByShop(shop), []);
});

test("a shop need not look like one", async () => {
  const shop = `shop-${newShop()}`.replaceAll(".", "");
  await assertKept(new Session({ ...offline(shop), id: `my_${shop}` }));
});

test("scopes and tokens of any length are kept", async () => {
  const scope = Array.from({ length: 600 }, (_, n) => `read_things_${n}`).join(",");
  const session = offline(newShop(), { scope, accessToken: "t".repeat(3000) });
  const loaded = await assertKept(session);
  assert.equal(loaded.accessToken, session.accessToken);
});

test("a refresh token is kept, then another with its end", async () => {
  const shop = newShop();
  await assertKept(offline(shop, { refreshToken: "shprt_1" }));
  const refreshTokenExpires = new Date(Date.now() + 2160 * HOUR_MS);
  const next = { accessToken: "shpat_2", refreshToken: "shprt_2", refreshTokenExpires };
  const loaded = await assertKept(offline(shop, next));
  assert.equal(loaded.refreshToken, "shprt_2");
  assert.ok(loaded.refreshTokenExpires instanceof Date);
});

test("to delete nothing is done at once", async () => {
  assert.equal(await storage.deleteSessions([]), true);
});

test("a date is kept to the millisecond, and beyond the year 2038", async () => {
  const expires = new Date("2051-03-04T05:06:07.089Z");
  const loaded = await assertKept(offline(newShop(), { expires }));
  assert.equal(loaded.expires.getTime(), expires.getTime());
});

test("what the next session of an id lacks is not left from the one before", async () => {
  const shop = newShop();
  const expires = new Date(Date.now() + HOUR_MS);
  await stored(offline(shop, { expires, colour: "blue" }));
  const loaded = await assertKept(offline(shop, { accessToken: "shpat_next", scope: undefined }));
  assert.deepEqual([loaded.expires, loaded.colour, loaded.scope], [undefined, undefined, undefined]);
});

test("ids are texts of any kind", async () => {
  const tail = newShop();
  const odd = ["a/b c?d#e%2F&=+", "Ω🙂", " ", "..a", "%00", "x".repeat(500 - tail.length)];
  for (const start of odd) {
    const session = new Session({ ...offline(newShop()), id: `${start}-${tail}` });
    await assertKept(session);
    await storage.deleteSession(session.id);
    assert.equal(await storage.loadSession(session.id), undefined);
  }
});

test("an id that was never one is undefined, deleted without ado, and not stored", async () => {
  for (const id of ["", ".", "..", "a\0b", "\ud800", "x".repeat(513), undefined]) {
    assert.equal(await storage.loadSession(id), undefined);
    assert.equal(await storage.deleteSessions([id]), true);
    const session = new Session({ ...offline(newShop()), id });
    await assert.rejects(storage.storeSession(session), TypeError);
  }
});

test("a user whose number is beyond what JavaScript can hold is kept as it was said", async () => {
  const shop = newShop();
  const session = online(shop, { id: `${shop}_9223372036854775807` });
  session.onlineAccessInfo.associated_user.id = "9223372036854775807";
  const loaded = await assertKept(session);
  assert.equal(loaded.onlineAccessInfo.associated_user.id, "9223372036854775807");
});

test("more sessions than a page holds, stored at once, are all found", async () => {
  const shop = newShop();
  const ids = Array.from({ length: 201 }, (_, n) => `${shop}_${n + 1}`);
  await Promise.all(ids.map((id) => storage.storeSession(online(shop, { id }))));
  const found = await storage.findSessionsByShop(shop);
  assert.deepEqual(found.map(({ id }) => id).sort(), ids.sort());
  await storage.deleteSessions(ids);
});

test("a session whose id names another shop is refused, and says so", async () => {
  const session = new Session({ ...offline(newShop()), id: `offline_${newShop()}` });
  await assert.rejects(
    storage.storeSession(session),
    (error) => error instanceof ApiError && error.status === 422 && error.errors[0].pointer === "/shop",
  );
});

test("a key that does not serve is an error, not an absent session, and is not told", async () => {
  const stranger = new MainstaySessionStorage(MAINSTAY_URL, "msk_secret");
  for (const ask of [() => stranger.loadSession("a"), () => stranger.findSessionsByShop("a")]) {
    const error = await ask().then(assert.fail, (thrown) => thrown);
    assert.equal(error.status, 401);
    assert.ok(!JSON.stringify([error.message, error.stack, error]).includes("msk_secret"));
  }
});

test("an address without a deployment is an error, not an absent session", async () => {
  const nowhere = new MainstaySessionStorage(`${MAINSTAY_URL}/v2`, MAINSTAY_KEY);
  await assert.rejects(nowhere.loadSession("a"), ApiError);
  await assert.rejects(nowhere.findSessionsByShop("a"), ApiError);
});
