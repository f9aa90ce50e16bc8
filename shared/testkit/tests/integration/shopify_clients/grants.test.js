/** Shopify's own library is content with our token endpoint. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { HttpResponseError, RequestedTokenType, Session } from "@shopify/shopify-api";

import { control, newShop, sessionToken, shopify } from "./app.js";

const HOUR_MS = 3_600_000;

const isWithin = (date, fromNowMs) => assert.ok(Math.abs(date - Date.now() - fromNowMs) < 60_000);

async function exchange(shop, more = {}) {
  const { session } = await shopify.auth.tokenExchange({
    shop,
    sessionToken: await sessionToken(shop),
    requestedTokenType: RequestedTokenType.OfflineAccessToken,
    expiring: true,
    ...more,
  });
  return session;
}

const refresh = (shop, refreshToken) => shopify.auth.refreshToken({ shop, refreshToken });

async function isRefused(promise, status, error) {
  const thrown = await promise.then(assert.fail, (each) => each);
  assert.ok(thrown instanceof HttpResponseError, thrown);
  assert.deepEqual([thrown.response.code, thrown.response.body.error], [status, error]);
}

test("a session token is exchanged for a pair", async () => {
  const shop = newShop();
  const session = await exchange(shop);
  assert.ok(session instanceof Session);
  assert.equal(session.id, shopify.session.getOfflineId(shop));
  assert.ok(session.isActive(shopify.config.scopes));
  isWithin(session.expires, HOUR_MS);
  isWithin(session.refreshTokenExpires, 90 * 24 * HOUR_MS);
});

test("without expiring it is one that lasts", async () => {
  const session = await exchange(newShop(), { expiring: false });
  assert.deepEqual([session.expires, session.refreshToken], [undefined, undefined]);
  assert.ok(session.isActive(shopify.config.scopes));
});

test("an online token names its user and has no refresh token", async () => {
  const shop = newShop();
  const session = await exchange(shop, { requestedTokenType: RequestedTokenType.OnlineAccessToken });
  const { id } = session.onlineAccessInfo.associated_user;
  assert.equal(session.id, shopify.session.getJwtSessionId(shop, String(id)));
  assert.ok(session.isOnline);
  assert.equal(session.refreshToken, undefined);
  isWithin(session.expires, 24 * HOUR_MS);
});

test("a session token for another shop is refused in Shopify's words", async () => {
  const other = await sessionToken(newShop());
  await isRefused(exchange(newShop(), { sessionToken: other }), 400, "invalid_subject_token");
});

test("a session token of ours is one for Shopify's library", async () => {
  const shop = newShop();
  const claims = await shopify.session.decodeSessionToken(await sessionToken(shop));
  assert.equal(claims.dest, `https://${shop}`);
  const token = await sessionToken(shop, { secret: "another".repeat(8) });
  await assert.rejects(shopify.session.decodeSessionToken(token));
});

test("a pair is refreshed, and the one before is dead once the next is", async () => {
  const shop = newShop();
  const first = await exchange(shop);
  const { session: second } = await refresh(shop, first.refreshToken);
  assert.notEqual(second.accessToken, first.accessToken);
  assert.ok(second.isActive(shopify.config.scopes));
  await refresh(shop, second.refreshToken);
  await isRefused(refresh(shop, first.refreshToken), 401, "invalid_request");
});

test("a newer pair ends the one before", async () => {
  const shop = newShop();
  const first = await exchange(shop);
  await exchange(shop);
  await isRefused(refresh(shop, first.refreshToken), 401, "invalid_request");
});

test("a token that lasts is exchanged for a pair, once", async () => {
  const shop = newShop();
  const { accessToken: nonExpiringOfflineAccessToken } = await exchange(shop, { expiring: false });
  const migrate = () =>
    shopify.auth.migrateToExpiringToken({ shop, nonExpiringOfflineAccessToken });
  const { session } = await migrate();
  assert.ok(session.refreshToken);
  assert.equal((await migrate()).session.accessToken, session.accessToken);
  await refresh(shop, session.refreshToken);
  await isRefused(migrate(), 400, "invalid_subject_token");
});

test("client credentials are for shops of one's own organisation", async () => {
  const shop = newShop();
  await isRefused(shopify.auth.clientCredentials({ shop }), 400, "shop_not_permitted");
  await control(`shops/${shop}`, { own_organisation: true });
  const { session } = await shopify.auth.clientCredentials({ shop });
  isWithin(session.expires, 24 * HOUR_MS);
  assert.equal(session.refreshToken, undefined);
  await control(`shops/${shop}`, { installed: false });
  await isRefused(shopify.auth.clientCredentials({ shop }), 400, "app_not_installed");
});
